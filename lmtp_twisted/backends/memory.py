"""``memory:`` keeps the latest messages in memory: for tests, and to look at what a server receives."""

from __future__ import annotations

from collections import deque
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
from lmtp_twisted.session import SessionInfo
from lmtp_twisted.threads import default_pool

#: Octets of all messages together.
MOST_OCTETS = 64 * 1024 * 1024


@attrs.frozen
class KeptMessage:
    """
    A message that was received.

    :ivar id: its id, which begins its reply ids.
    :ivar envelope: the sender and the recipients with their parameters.
    :ivar content: its octets as received.
    :ivar trace: ``Return-Path:`` and ``Received:``, as they would stand before it.
    """

    id: str
    envelope: Envelope
    content: bytes = attrs.field(repr=False)
    trace: bytes = attrs.field(repr=False)

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
        self._messages: deque[KeptMessage] = deque()
        self._octets = 0

    @property
    def messages(self) -> tuple[KeptMessage, ...]:
        """What is kept, the latest last."""
        return tuple(self._messages)

    def clear(self) -> None:
        """Forget all messages."""
        self._messages.clear()
        self._octets = 0

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
        self._messages.append(KeptMessage(message.id, message.envelope, content, message.trace()))
        self._octets += len(content)
        while len(self._messages) > self._keep or self._octets > self._most_octets:
            self._octets -= len(self._messages.popleft().content)
        return [None] * len(message.recipients)


def from_description(context: BackendContext, argument: str, *, keep: str = "100") -> MemoryBackend:
    """``memory:``"""
    refuse_argument(argument)
    if not (keep.isascii() and keep.isdigit() and int(keep) > 0):
        raise ValueError(f"keep is a number of messages, not {keep!r}")
    return MemoryBackend(int(keep), reactor=context.reactor, pool=context.pool)
