"""What became of each message, who came and went, and what was refused, as records of the log."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from time import time
from typing import Any

from twisted.logger import Logger
from zope.interface import implementer

from lmtp_twisted.daemon.logs import Log
from lmtp_twisted.daemon.ration import SECONDS, Ration
from lmtp_twisted.envelope import Envelope, Outcome, Recipient, Sender
from lmtp_twisted.interfaces import ISessionObserver
from lmtp_twisted.limits import Limit
from lmtp_twisted.session import SessionInfo
from lmtp_twisted.wire.replies import Reply

_log = Logger(namespace="lmtp_twisted")

#: Messages whose records are made together. In the midst of a session's work each takes twice as long as in a row.
TOGETHER = 32

# When, the session's id, its peer, the queue id, the sender, and what became of each recipient.
_Ended = tuple[float, str, str, str, Any, tuple[Outcome, ...]]


@implementer(ISessionObserver)
class Journal:
    """
    At ``info`` a record for each final reply, and for each refused sender and recipient and each limit that was
    reached, of which there are only so many in a time (:mod:`~lmtp_twisted.daemon.ration`). At ``debug`` one for each
    session's start and end, its login, and each transaction that came to nothing.

    :param log: which of these it has is asked once.
    :param clock: an :class:`~twisted.internet.interfaces.IReactorTime`.
    :param label_of: what a backend is called; empty for ``None``.
    """

    def __init__(self, log: Log, clock: Any, label_of: Callable[[Any], str] = lambda _: "") -> None:
        self._log = log
        self._waiting: deque[_Ended] = deque()
        self._form = log.form
        self._has_deliveries = log.has("info")
        self._has_sessions = log.has("debug")
        self._label_of = label_of
        self._refusals, self._limits = (
            Ration(clock, partial(self._leave_out, what)) for what in ("refusals", "limits")
        )

    def close(self) -> None:
        """There are no sessions any more."""
        self._refusals.close()
        self._limits.close()

    def sessionStarted(self, session: SessionInfo) -> None:
        """See :class:`~lmtp_twisted.interfaces.ISessionObserver`."""
        if self._has_sessions:
            self._record("debug", "session started", session, peer=session.peer_name)

    def sessionSecured(self, session: SessionInfo) -> None:
        """Not in the log: it shows in the Received line."""

    def sessionAuthenticated(self, session: SessionInfo) -> None:
        """See :class:`~lmtp_twisted.interfaces.ISessionObserver`."""
        if self._has_sessions:
            self._record("debug", "session authenticated", session, peer=session.peer_name, user=str(session.user))

    def authenticationFailed(self, session: SessionInfo, mechanism: str) -> None:
        """Is in the log already."""

    def limitReached(self, session: SessionInfo, limit: Limit) -> None:
        """See :class:`~lmtp_twisted.interfaces.ISessionObserver`."""
        if self._has_deliveries and self._limits.allows_one():
            self._record("info", "limit reached", session, peer=session.peer_name, limit=limit.value)

    def senderRefused(self, session: SessionInfo, sender: Sender | None, reply: Reply) -> None:
        """See :class:`~lmtp_twisted.interfaces.ISessionObserver`."""
        if self._has_deliveries and self._refusals.allows_one():
            self._refused("sender refused", session, reply, **_sender(sender))

    def recipientRefused(
        self, session: SessionInfo, sender: Sender, recipient: Recipient | None, reply: Reply, backend: Any
    ) -> None:
        """See :class:`~lmtp_twisted.interfaces.ISessionObserver`."""
        if self._has_deliveries and self._refusals.allows_one():
            self._refused(
                "recipient refused",
                session,
                reply,
                **_sender(sender),
                recipient="" if recipient is None else str(recipient),
                backend=self._label_of(backend),
            )

    def transactionEnded(self, session: SessionInfo, envelope: Envelope, outcomes: tuple[Outcome, ...]) -> None:
        """See :class:`~lmtp_twisted.interfaces.ISessionObserver`."""
        if not outcomes:
            if self._has_sessions:
                self._record("debug", "message given up", session, peer=session.peer_name, **_sender(envelope.sender))
            return
        if not self._has_deliveries:
            return
        waiting = self._waiting
        queue = session.xforward.get("IDENT", "")
        waiting.append((time(), session.id, session.peer_name, queue, envelope.sender.address, outcomes))
        if len(waiting) == 1:
            self._log.promise(self._say_deliveries)
        elif len(waiting) >= TOGETHER:
            self._say_deliveries()

    def _say_deliveries(self) -> None:
        """In any thread: what waits is taken from a deque, so each is said once."""
        waiting, form, start = self._waiting, self._form, self._form.delivery
        while True:
            try:
                now, session, peer, queue, sender, outcomes = waiting.popleft()
            except IndexError:
                return
            origin = form.origin(session, peer, queue, outcomes[0].message_id, sender)
            bodies: list[str] = []
            seconds, reply, result, backend, label = -1.0, None, "", None, ""
            for outcome in outcomes:
                # Recipients that were answered together have the same words at the end, and most have one backend.
                if outcome.reply is not reply or outcome.seconds != seconds:
                    seconds, reply = outcome.seconds, outcome.reply
                    # What went over the wire is printable ASCII, and the replies that come again and again keep it.
                    result = form.result(outcome.size, seconds, str(reply.encoded[:-2], "ascii"))
                if outcome.backend is not backend:
                    backend = outcome.backend
                    label = self._label_of(backend)
                address = outcome.recipient.address
                bodies.append(
                    f"{start}{outcome.reply_id}{origin}{form.target(address.local, address.domain, label)}{result}"
                )
            self._log.say("info", *bodies, seconds=now)

    def sessionEnded(self, session: SessionInfo) -> None:
        """See :class:`~lmtp_twisted.interfaces.ISessionObserver`."""
        if self._has_sessions:
            self._record("debug", "session ended", session, peer=session.peer_name)

    def _refused(self, event: str, session: SessionInfo, reply: Reply, **fields: str) -> None:
        queue = session.xforward.get("IDENT", "")
        said = str(reply.encoded[:-2], "ascii")
        self._record("info", event, session, peer=session.peer_name, queue=queue, **fields, reply=said)

    def _record(self, level: str, event: str, session: SessionInfo, **fields: str) -> None:
        self._log.say(level, self._form.body(event, session.id, fields))

    def _leave_out(self, what: str, count: int) -> None:
        _log.warn("{count} {what} of the last {seconds:.0f} s were left out", count=count, what=what, seconds=SECONDS)


def _sender(sender: Sender | None) -> dict[str, str]:
    """Where the grammar did not take it there is none; the null reverse-path is one that is empty."""
    return {} if sender is None else {"sender": str(sender)}
