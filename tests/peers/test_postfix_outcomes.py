"""Postfix's view of each recipient's outcome: its log says for each what the backend said, and in time."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import pytest_twisted
from mailboxes import Kind, fifty_mailboxes, scripted
from private_postfix import Attempt, Postfix, domain_of
from real_servers import Serve
from scripts import ByMailbox
from twisted.internet.defer import Deferred

from lmtp_twisted import PermanentFailure
from lmtp_twisted.testing import ScriptedDeliveries

pytestmark = pytest.mark.peer("postfix")


def assert_as_scripted(attempts: list[Attempt], mailboxes: dict[str, Kind]) -> None:
    """Each mailbox has one attempt, which ended as its kind says."""
    assert sorted(attempt.local for attempt in attempts) == list(mailboxes)
    for attempt in attempts:
        kind = mailboxes[attempt.local]
        name = rf"<{re.escape(attempt.recipient)}> [0-9a-z]{{14}}\.\d+\.\d+"
        assert (attempt.dsn, attempt.status, attempt.command) == (kind.dsn, kind.status, kind.command), attempt
        assert re.fullmatch(re.escape(kind.reply).replace("NAME", name), attempt.reply), attempt


@pytest_twisted.ensureDeferred
async def test_fifty_recipients_have_the_outcomes_that_the_backend_gave_them(
    postfix: Postfix, serve: Serve, where: int | Path
) -> None:
    """RFC 2033 §4.2: one reply for each recipient after the dot, and it is that recipient's own."""
    mailboxes = fifty_mailboxes()
    server = await serve(where, scripted(mailboxes))
    domain = domain_of(server.where)
    queue_id = await postfix.submit([f"{name}@{domain}" for name in mailboxes])
    attempts = await postfix.attempts(queue_id, 50)
    assert_as_scripted(attempts, mailboxes)
    assert len({attempt.relay for attempt in attempts}) == 1
    (transaction,) = await server.sessions.until("transactionEnded", 1)
    assert len(transaction.outcomes) == 40


@pytest_twisted.ensureDeferred
async def test_a_connection_is_in_step_for_the_message_after_fifty_mixed_outcomes(
    postfix: Postfix, serve: Serve, where: int | Path
) -> None:
    """Postfix keeps the connection, asks with RSET whether it is alive, and sends the next message over it."""
    mailboxes = fifty_mailboxes()
    server = await serve(where, scripted(mailboxes))
    domain = domain_of(server.where, kept=True)
    for _ in range(2):
        queue_id = await postfix.submit([f"{name}@{domain}" for name in mailboxes])
        assert_as_scripted(await postfix.attempts(queue_id, 50), mailboxes)
        # The connection is put aside before the message is.
        await postfix.deferred(queue_id)
    await server.sessions.until("transactionEnded", 2)
    assert len(server.sessions.named("sessionStarted")) == 1


@pytest_twisted.ensureDeferred
async def test_postfix_hears_of_a_recipient_while_the_next_one_is_still_being_delivered(
    postfix: Postfix, serve: Serve
) -> None:
    """RFC 2033 §4.2: a reply is sent as soon as it and all before it are known."""
    slow: Deferred[str] = Deferred()
    server = await serve(0, ScriptedDeliveries(ByMailbox({"b": slow})))
    domain = domain_of(server.where)
    queue_id = await postfix.submit([f"a@{domain}", f"b@{domain}", f"c@{domain}"])
    assert [attempt.local for attempt in await postfix.attempts(queue_id, 1)] == ["a"]
    slow.callback("At last")
    attempts = await postfix.attempts(queue_id, 3)
    assert [attempt.local for attempt in attempts] == ["a", "b", "c"]
    assert attempts[1].reply.endswith(" At last")


@pytest_twisted.ensureDeferred
async def test_a_bounce_comes_back_with_the_null_sender(postfix: Postfix, serve: Serve) -> None:
    """RFC 5321 §4.5.5: the sender of a notification is <>."""
    deliveries = ScriptedDeliveries(ByMailbox({"refused": PermanentFailure("Not wanted", enhanced="5.7.1")}))
    server = await serve(0, deliveries)
    domain = domain_of(server.where)
    queue_id = await postfix.submit([f"refused@{domain}"], sender=f"author@{domain}")
    await postfix.removed(queue_id)
    await server.sessions.until("transactionEnded", 2)
    _, bounce = deliveries.messages
    assert bounce.envelope.sender.address is None
    assert [str(recipient) for recipient in bounce.recipients] == [f"author@{domain}"]
    assert bounce.trace().startswith(b"Return-Path: <>\r\n")
    assert b"Not wanted" in bounce.read()


@pytest_twisted.ensureDeferred
async def test_a_refused_sender_is_refused_for_all_recipients(postfix: Postfix, serve: Serve) -> None:
    """RFC 2920 §3.1: MAIL, all RCPT and DATA come in one burst, and each has its reply."""
    deliveries = ScriptedDeliveries(
        senders={"spammer@discard.example": PermanentFailure("Go away", code=550, enhanced="5.7.1")}
    )
    server = await serve(0, deliveries)
    domain = domain_of(server.where)
    queue_id = await postfix.submit([f"{index:02}@{domain}" for index in range(50)], sender="spammer@discard.example")
    attempts = await postfix.attempts(queue_id, 50)
    assert {(attempt.dsn, attempt.status, attempt.reply) for attempt in attempts} == {
        ("5.7.1", "bounced", "550 5.7.1 Go away")
    }
    assert {attempt.command for attempt in attempts} == {"MAIL FROM command"}
    await postfix.removed(queue_id)
