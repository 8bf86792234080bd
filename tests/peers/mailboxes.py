"""Mailboxes of many kinds, whose outcomes a mail server must make of each what the backend said."""

from __future__ import annotations

from typing import Any

import attrs
from scripts import ByMailbox
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from lmtp_twisted import PermanentFailure, Reply, TemporaryFailure
from lmtp_twisted.testing import ScriptedDeliveries


@attrs.frozen
class Kind:
    """
    A kind of mailbox.

    :ivar recipient: the answer to RCPT.
    :ivar outcome: the outcome after the dot.
    :ivar dsn: the enhanced status code of its reply.
    :ivar status: what Postfix makes of it: ``sent``, ``bounced`` or ``deferred``.
    :ivar reply: the reply, with ``NAME`` for the recipient and the id.
    :ivar command: what it is the reply to, if it is negative: :data:`RCPT` or :data:`DOT`.
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


#: To what a negative reply is the reply, in the words of Postfix's log.
DOT = "end of DATA command"
RCPT = "RCPT TO command"
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
        Kind(unknown, None, "5.1.1", "bounced", "550 5.1.1 No such mailbox", RCPT),
        Kind(busy, None, "4.2.1", "deferred", "452 4.2.1 Busy", RCPT),
        Kind(None, unwanted, "5.7.1", "bounced", "550 5.7.1 NAME Not wanted", DOT),
        Kind(None, disk_full, "4.3.1", "deferred", "452 4.3.1 NAME Disk is full", DOT),
        Kind(None, LastFirst(number), "2.0.0", "sent", _DELIVERED, None),
        Kind(
            None,
            Reply(251, "2.1.5", "Sent on to a friend"),
            "2.1.5",
            "sent",
            "251 2.1.5 NAME Sent on to a friend",
            None,
        ),
        Kind(None, Reply(552, "5.2.2", "Quota used up"), "5.2.2", "bounced", "552 5.2.2 NAME Quota used up", DOT),
        Kind(None, lambda: deferToThread(str, "In a thread"), "2.0.0", "sent", "250 2.0.0 NAME In a thread", None),
        Kind(None, ValueError(), "4.3.0", "deferred", "451 4.3.0 NAME Internal error, try again later", DOT),
    ]


def fifty_mailboxes() -> dict[str, Kind]:
    """Mailboxes of all kinds, in the order of their names, in which mail servers name them."""
    return {f"{index:02}": kind for index, kind in enumerate(kinds(5) * 5)}


def scripted(mailboxes: dict[str, Kind]) -> ScriptedDeliveries:
    """Deliveries that do with each mailbox as its kind says."""
    return ScriptedDeliveries(
        ByMailbox({name: kind.outcome for name, kind in mailboxes.items()}),
        recipients=ByMailbox({name: kind.recipient for name, kind in mailboxes.items()}),
    )
