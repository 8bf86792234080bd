"""Exim's view of each recipient's outcome: its log says for each what the backend said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import pytest_twisted
from mailboxes import DOT, fifty_mailboxes, scripted
from private_exim import Attempt, Exim, domain_of
from real_servers import Serve
from scripts import ByMailbox
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from lmtp_twisted import PermanentFailure
from lmtp_twisted.testing import ScriptedDeliveries

pytestmark = pytest.mark.peer("exim")

#: What Exim's log says of the command to which a negative reply was the reply.
_AFTER_THE_CONTENT = r"LMTP error after (?:BDAT \d+ LAST|DATA|end of data): "
_AFTER_RCPT = r"(?:SMTP error from remote mail server|LMTP error) after RCPT TO:<.*>: "

#: By which transport mail comes over TCP, and by which over a Unix socket.
WAYS = [("tcp", ""), ("tcp", "data"), ("unix", ""), ("unix", "piped")]


@pytest.mark.parametrize(("where", "kind"), WAYS, indirect=["where"])
@pytest_twisted.ensureDeferred
async def test_fifty_recipients_have_the_outcomes_that_the_backend_gave_them(
    exim: Exim, serve: Serve, where: int | Path, kind: str
) -> None:
    """RFC 2033 §4.2: one reply for each recipient after the content, and it is that recipient's own."""
    mailboxes = fifty_mailboxes()
    server = await serve(where, scripted(mailboxes))
    domain = domain_of(server.where, kind)
    message = await exim.submit([f"{name}@{domain}" for name in mailboxes])
    attempts = exim.attempts(message)
    assert sorted(attempt.local for attempt in attempts) == list(mailboxes)
    for attempt in attempts:
        mailbox = mailboxes[attempt.local]
        assert attempt.status == mailbox.status, attempt
        name = rf"<{re.escape(attempt.recipient)}> [0-9a-z]{{14}}\.1\.\d+"
        reply = re.escape(mailbox.reply).replace("NAME", name)
        if mailbox.command is not None:
            reply = (_AFTER_THE_CONTENT if mailbox.command == DOT else _AFTER_RCPT) + reply
        assert re.fullmatch(reply, attempt.reply), attempt
    # By DATA, Exim tries those once more in the same session whom RCPT has deferred, and is told the same.
    transactions = await server.sessions.until("transactionEnded", 1)
    assert [len(transaction.outcomes) for transaction in transactions if transaction.outcomes] == [40]


@pytest.mark.parametrize(("where", "kind"), WAYS, indirect=["where"])
@pytest_twisted.ensureDeferred
async def test_a_refused_sender_is_refused_for_all_recipients(
    exim: Exim, serve: Serve, where: int | Path, kind: str
) -> None:
    """RFC 2920 §3.1: over TCP, MAIL, all RCPT and the content come in one burst, and each has its reply."""
    refusal = PermanentFailure("Go away", code=550, enhanced="5.7.1")
    server = await serve(where, ScriptedDeliveries(senders={"spammer@discard.example": refusal}))
    domain = domain_of(server.where, kind)
    message = await exim.submit([f"{index}@{domain}" for index in range(50)], sender="spammer@discard.example")
    attempts = exim.attempts(message)
    assert len(attempts) == 50
    assert {attempt.status for attempt in attempts} == {"bounced"}
    assert all(attempt.reply.endswith(": 550 5.7.1 Go away") for attempt in attempts)
    assert exim.is_done_with(message)


@pytest.mark.parametrize(("where", "kind"), WAYS, indirect=["where"])
@pytest_twisted.ensureDeferred
async def test_a_connection_that_ends_after_the_content_defers_just_those_without_an_answer(
    exim: Exim, serve: Serve, where: int | Path, kind: str
) -> None:
    """RFC 2033 §4.2: what was answered 250 is the server's; all others are tried again, and cancelled here."""
    cancelled: list[Deferred[None]] = []
    never: Deferred[None] = Deferred(cancelled.append)

    def end_soon() -> Deferred[None]:
        # The replies that are known leave at the end of this turn of the reactor, which is before the end of the next.
        reactor.callLater(0, reactor.callLater, 0, end)
        return never

    def end() -> None:
        for session in list(server.factory.sessions):
            session.transport.loseConnection()

    server = await serve(where, ScriptedDeliveries(ByMailbox({"c": end_soon})))
    domain = domain_of(server.where, kind)
    message = await exim.submit([f"{name}@{domain}" for name in "abcde"])
    assert [(attempt.local, attempt.status) for attempt in exim.attempts(message)] == [
        ("a", "sent"),
        ("b", "sent"),
        ("c", "deferred"),
        ("d", "deferred"),
        ("e", "deferred"),
    ]
    assert cancelled == [never]


@pytest_twisted.ensureDeferred
async def test_what_was_deferred_is_tried_again_for_those_recipients_alone(
    exim: Exim, serve: Serve, where: int | Path
) -> None:
    """RFC 5321 §4.5.4.1: a later attempt."""
    mailboxes = fifty_mailboxes()
    server = await serve(where, scripted(mailboxes))
    domain = domain_of(server.where)
    message = await exim.submit([f"{name}@{domain}" for name in mailboxes])
    await server.stop()
    if isinstance(server.where, Path):
        server.where.unlink(missing_ok=True)
    again = ScriptedDeliveries()
    await serve(server.where, again)
    await exim.run_queue()
    deferred = [name for name, mailbox in mailboxes.items() if mailbox.status == "deferred"]
    later: list[Attempt] = exim.attempts(message)[50:]
    assert sorted((attempt.local, attempt.status) for attempt in later) == [(name, "sent") for name in deferred]
    assert exim.is_done_with(message)
    (second,) = again.messages
    assert sorted(recipient.address.local for recipient in second.recipients) == deferred


@pytest_twisted.ensureDeferred
async def test_a_bounce_comes_back_with_the_null_sender(exim: Exim, serve: Serve, where: int | Path) -> None:
    """RFC 5321 §4.5.5: the sender of a notification is <>."""
    deliveries = ScriptedDeliveries(ByMailbox({"refused": PermanentFailure("Not wanted", enhanced="5.7.1")}))
    server = await serve(where, deliveries)
    domain = domain_of(server.where)
    message = await exim.submit([f"refused@{domain}"], sender=f"author@{domain}")
    assert exim.is_done_with(message)
    _, bounce = deliveries.messages
    assert bounce.envelope.sender.address is None
    assert [str(recipient) for recipient in bounce.recipients] == [f"author@{domain}"]
    assert b"Not wanted" in bounce.read()
