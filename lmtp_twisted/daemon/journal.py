"""What became of each message, and who came and went, as lines of the log."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from zope.interface import implementer

from lmtp_twisted.daemon.lines import one_line
from lmtp_twisted.daemon.logs import Log
from lmtp_twisted.envelope import Envelope, Outcome, Recipient, Sender
from lmtp_twisted.interfaces import ISessionObserver
from lmtp_twisted.limits import Limit
from lmtp_twisted.session import SessionInfo
from lmtp_twisted.wire.addresses import Address
from lmtp_twisted.wire.replies import Reply


@implementer(ISessionObserver)
class Journal:
    """
    One line for each final reply at ``info``, and for each session's start and end, its login and the limits that it
    reaches at ``debug``::

        f3k9z2q1a0x7c4.1.1 from=<a@example.net> to=<b@example.org> size=4096 seconds=0.003 reply=250 2.0.0 Delivered

    The first word is the id that stands in the reply; the text of the reply comes last, since it may hold anything.

    :param log: which of these it has is asked once.
    """

    def __init__(self, log: Log) -> None:
        self._say = log.say
        self._has_deliveries = log.has("info")
        self._has_sessions = log.has("debug")

    def sessionStarted(self, session: SessionInfo) -> None:
        """See :class:`~lmtp_twisted.interfaces.ISessionObserver`."""
        if self._has_sessions:
            self._say("debug", f"{session.id} session started, peer={one_line(session.peer_name)}")

    def sessionSecured(self, session: SessionInfo) -> None:
        """Not in the log: it shows in the Received line."""

    def sessionAuthenticated(self, session: SessionInfo) -> None:
        """See :class:`~lmtp_twisted.interfaces.ISessionObserver`."""
        if self._has_sessions:
            self._say("debug", f"{session.id} session authenticated, user={one_line(str(session.user))}")

    def authenticationFailed(self, session: SessionInfo, mechanism: str) -> None:
        """Not here: the session itself warns of it."""

    def senderRefused(self, session: SessionInfo, sender: Sender | None, reply: Reply) -> None:
        """Not in the log: the client has its reply."""

    def recipientRefused(
        self, session: SessionInfo, sender: Sender, recipient: Recipient | None, reply: Reply, backend: Any
    ) -> None:
        """Not in the log: the client has its reply."""

    def limitReached(self, session: SessionInfo, limit: Limit) -> None:
        """See :class:`~lmtp_twisted.interfaces.ISessionObserver`."""
        if self._has_sessions:
            self._say("debug", f"{session.id} limit reached: {limit.value}")

    def transactionEnded(self, session: SessionInfo, envelope: Envelope, outcomes: tuple[Outcome, ...]) -> None:
        """See :class:`~lmtp_twisted.interfaces.ISessionObserver`."""
        if not (outcomes and self._has_deliveries):
            return
        address = envelope.sender.address
        sender = "" if address is None else _spelled(address.local, address.domain)
        lines: list[str] = []
        seconds, reply, end = -1.0, None, ""
        for outcome in outcomes:
            # Recipients that were answered together have the same words at the end.
            if outcome.reply is not reply or outcome.seconds != seconds:
                seconds, reply = outcome.seconds, outcome.reply
                # What went over the wire is printable ASCII, and the replies that come again and again keep it.
                end = f"size={outcome.size} seconds={seconds:.3f} reply={str(reply.encoded[:-2], 'ascii')}"
            address = outcome.recipient.address
            lines.append(f"{outcome.reply_id} from=<{sender}> to=<{_spelled(address.local, address.domain)}> {end}")
        self._say("info", *lines)

    def sessionEnded(self, session: SessionInfo) -> None:
        """See :class:`~lmtp_twisted.interfaces.ISessionObserver`."""
        if self._has_sessions:
            self._say("debug", f"{session.id} session ended")


# The same addresses come again and again, and hashing two strings costs less than hashing an Address.
@lru_cache(maxsize=4096)
def _spelled(local: str, domain: str) -> str:
    return one_line(str(Address(local, domain)))
