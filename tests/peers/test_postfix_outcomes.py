"""Postfix's view of each recipient's outcome: its log says for each what the backend said, and in time."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from private_postfix import Attempt, Postfix, domain_of
from real_servers import Serve
from scripts import ByMailbox
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from lmtp_twisted import PermanentFailure, Reply, TemporaryFailure
from lmtp_twisted.testing import ScriptedDeliveries

pytestmark = pytest.mark.peer("postfix")


@attrs.frozen
class Kind:
    """
    A kind of mailbox.

    :ivar recipient: the answer to RCPT.
    :ivar outcome: the outcome after the dot.
    :ivar dsn: what Postfix logs as the enhanced status code.
    :ivar status: as what.
    :ivar reply: the reply that it logs, with ``NAME`` for the recipient and the id.
    :ivar command: to what it was the reply.
    """

    recipient: Any
    outcome: Any
    dsn: str
    status: str
    reply: str
    command: str | None


class LastFirst:
    """
    Outcomes that come after all others, the last recipient's first.

    :param number: how many of them a message has.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._waiting: list[Deferred[None]] = []

    def __call__(self) -> Deferred[None]:
        """One more."""
        outcome: Deferred[None] = Deferred()
        self._waiting.append(outcome)
        if len(self._waiting) == self._number:
            reactor.callLater(0, self._fire)
        return outcome

    def _fire(self) -> None:
        waiting, self._waiting = self._waiting, []
        for outcome in reversed(waiting):
            outcome.callback(None)


_DOT = "end of DATA command"
_RCPT = "RCPT TO command"
_DELIVERED = "250 2.0.0 NAME Delivered"


def kinds(number: int) -> list[Kind]:
    """
    :param number: how many mailboxes of each kind there will be.
    """
    unknown = PermanentFailure("No such mailbox", enhanced="5.1.1")
    busy = TemporaryFailure("Busy", code=452, enhanced="4.2.1")
    unwanted = PermanentFailure("Not wanted", code=550, enhanced="5.7.1")
    disk_full = TemporaryFailure("Disk is full", code=452, enhanced="4.3.1")
    return [
        Kind(None, None, "2.0.0", "sent", _DELIVERED, None),
        Kind(unknown, None, "5.1.1", "bounced", "550 5.1.1 No such mailbox", _RCPT),
        Kind(busy, None, "4.2.1", "deferred", "452 4.2.1 Busy", _RCPT),
        Kind(None, unwanted, "5.7.1", "bounced", "550 5.7.1 NAME Not wanted", _DOT),
        Kind(None, disk_full, "4.3.1", "deferred", "452 4.3.1 NAME Disk is full", _DOT),
        Kind(None, LastFirst(number), "2.0.0", "sent", _DELIVERED, None),
        Kind(
            None,
            Reply(251, "2.1.5", "Sent on to a friend"),
            "2.1.5",
            "sent",
            "251 2.1.5 NAME Sent on to a friend",
            None,
        ),
        Kind(None, Reply(552, "5.2.2", "Quota used up"), "5.2.2", "bounced", "552 5.2.2 NAME Quota used up", _DOT),
        Kind(None, lambda: deferToThread(str, "In a thread"), "2.0.0", "sent", "250 2.0.0 NAME In a thread", None),
        Kind(None, ValueError(), "4.3.0", "deferred", "451 4.3.0 NAME Internal error, try again later", _DOT),
    ]


def fifty_mailboxes() -> dict[str, Kind]:
    """Mailboxes of all kinds, in the order in which Postfix names them, which is that of their names."""
    return {f"{index:02}": kind for index, kind in enumerate(kinds(5) * 5)}


def scripted(mailboxes: dict[str, Kind]) -> ScriptedDeliveries:
    """Deliveries that do with each mailbox as its kind says."""
    return ScriptedDeliveries(
        ByMailbox({name: kind.outcome for name, kind in mailboxes.items()}),
        recipients=ByMailbox({name: kind.recipient for name, kind in mailboxes.items()}),
    )


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
