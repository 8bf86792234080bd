"""``memory:`` keeps the latest messages in memory: for tests, and to look at what a server receives."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.backends.description import refuse_argument
from lmtp_twisted.envelope import Envelope, Recipient, Sender
from lmtp_twisted.errors import PermanentFailure
from lmtp_twisted.interfaces import ILMTPDelivery, ILMTPDeliveryFactory, IReceivedMessage
from lmtp_twisted.session import SessionInfo, TLSInfo
from lmtp_twisted.threads import default_pool

#: Octets of all messages together.
MOST_OCTETS = 64 * 1024 * 1024


@attrs.frozen
class Origin:
    """
    Who brought a message, as it was then.

    :ivar peer: the client's address, or ``unix``.
    :ivar lhlo_name: what it called itself.
    :ivar tls: the facts of TLS, where it was on.
    :ivar user: as whom it had authenticated, if it had.
    """

    peer: str
    lhlo_name: str
    tls: TLSInfo | None
    user: str | None


@attrs.frozen
class KeptMessage:
    """
    A message that was received.

    :ivar key: what no other message that is kept has: its id, and a number behind it where the same came again.
    :ivar id: its id, which begins its reply ids.
    :ivar envelope: the sender and the recipients with their parameters.
    :ivar content: its octets as received.
    :ivar trace: ``Return-Path:`` and ``Received:``, as they would stand before it.
    :ivar origin: who brought it.
    :ivar time: when it was kept, in seconds since the epoch.
    :ivar notes: what those who show it have found in it, and need not look for again.
    """

    key: str
    id: str
    envelope: Envelope
    content: bytes = attrs.field(repr=False)
    trace: bytes = attrs.field(repr=False)
    origin: Origin
    time: float
    notes: dict[str, str] = attrs.field(factory=dict, init=False, repr=False, eq=False)

    @property
    def sender(self) -> str:
        """The sender's address, ``""`` for the null reverse-path."""
        return str(self.envelope.sender)

    @property
    def recipients(self) -> tuple[str, ...]:
        """The recipients' addresses."""
        return tuple(str(recipient) for recipient in self.envelope.recipients)


@implementer(ILMTPDeliveryFactory, ILMTPDelivery)
class MemoryBackend:
    """
    Its own delivery, since it keeps nothing of a message before ``deliver``.

    :param keep: how many messages; older ones go. So do they where all together have more than ``most_octets``.
    :param most_octets: a message that alone has more is refused.
    :param reactor: the global reactor by default.
    :param pool: reads large messages; by default the one that factories without a spool of their own use.

    :ivar revision: another number each time that something has changed.
    """

    def __init__(
        self, keep: int = 100, *, most_octets: int = MOST_OCTETS, reactor: Any = None, pool: ThreadPool | None = None
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self._reactor: Any = reactor
        self._pool = pool or default_pool(reactor)
        self._keep = keep
        self._most_octets = most_octets
        # By their keys, the latest last.
        self._messages: dict[str, KeptMessage] = {}
        self._octets = 0
        self.revision = 0
        self._waiting: list[tuple[Callable[[KeptMessage], bool], int, Deferred[list[KeptMessage]]]] = []

    @property
    def messages(self) -> tuple[KeptMessage, ...]:
        """What is kept, the latest last."""
        return tuple(self._messages.values())

    def message(self, key: str) -> KeptMessage | None:
        """The message with a key, while it is kept."""
        return self._messages.get(key)

    def clear(self) -> None:
        """Forget all messages."""
        self._messages.clear()
        self._octets = 0
        self.revision += 1

    def wait_for(
        self, count: int = 1, matching: Callable[[KeptMessage], bool] = lambda message: True
    ) -> Deferred[list[KeptMessage]]:
        """
        For tests in this process.

        :param count: how many messages.
        :param matching: which of them count.
        :returns: fires with those that match once there are so many, at once where there are already. Give it a time
            limit by its ``addTimeout``.
        """
        found: Deferred[list[KeptMessage]] = Deferred()
        self._waiting.append((matching, count, found))
        self._look()
        return found

    def _look(self) -> None:
        waiting, self._waiting = self._waiting, []
        for matching, count, found in waiting:
            matches = [message for message in self._messages.values() if matching(message)]
            if found.called:
                continue
            if len(matches) >= count:
                found.callback(matches)
            else:
                self._waiting.append((matching, count, found))

    def getDelivery(self, session: SessionInfo) -> MemoryBackend:
        """This object."""
        return self

    def validateFrom(self, sender: Sender) -> None:
        """Accept."""

    def validateTo(self, recipient: Recipient) -> None:
        """Accept."""

    def aborted(self, reason: str) -> None:
        """Nothing was reserved."""

    def deliver(self, message: IReceivedMessage) -> list[None] | Deferred[list[None]]:
        """
        Keep it.

        :raises lmtp_twisted.errors.PermanentFailure: ``552 5.2.3`` where it is larger than all that is kept.
        """
        if message.size > self._most_octets:
            raise PermanentFailure("Message larger than the store", code=552, enhanced="5.2.3")
        if message.inMemory:
            return self._take(message.read(), message)
        read: Deferred[bytes] = deferToThreadPool(self._reactor, self._pool, message.read)
        return read.addCallback(self._take, message)

    def _take(self, content: bytes, message: IReceivedMessage) -> list[None]:
        session = message.session
        origin = Origin(session.peer_name, session.lhlo_name, session.tls, session.user)
        key, copies = message.id, 1
        while key in self._messages:
            copies += 1
            key = f"{message.id}-{copies}"
        self._messages[key] = KeptMessage(
            key, message.id, message.envelope, content, message.trace(), origin, time.time()
        )
        self._octets += len(content)
        self.revision += 1
        while len(self._messages) > self._keep or self._octets > self._most_octets:
            self._octets -= len(self._messages.pop(next(iter(self._messages))).content)
        if self._waiting:
            self._look()
        return [None] * len(message.recipients)


def from_description(context: BackendContext, argument: str, *, keep: str = "100") -> MemoryBackend:
    """``memory:``"""
    refuse_argument(argument)
    if not (keep.isascii() and keep.isdigit() and int(keep) > 0):
        raise ValueError(f"keep is a number of messages, not {keep!r}")
    return MemoryBackend(int(keep), reactor=context.reactor, pool=context.pool)
