"""The delivery of a message where a limit asks for its size before it has come."""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred
from zope.interface import implementer

from lmtp_twisted.envelope import Recipient, Sender
from lmtp_twisted.interfaces import ILMTPDelivery, IReceivedMessage


class _Store(Protocol):
    def validate(self, recipient: Recipient, octets: int) -> Deferred[None] | None: ...
    def deliver(self, message: IReceivedMessage) -> Any: ...


@implementer(ILMTPDelivery)
class SizedDelivery:
    """
    Remembers the size that the client has said (RFC 1870).

    :param store: the backend.
    """

    __slots__ = ("_octets", "_store")

    def __init__(self, store: _Store) -> None:
        self._store = store
        self._octets = 0

    def validateFrom(self, sender: Sender) -> None:
        """Accept."""
        self._octets = sender.parameters.size or 0

    def validateTo(self, recipient: Recipient) -> Deferred[None] | None:
        """Accept who has a mailbox, or can have one, with room for the message."""
        return self._store.validate(recipient, self._octets)

    def deliver(self, message: IReceivedMessage) -> Any:
        """Store it."""
        return self._store.deliver(message)

    def aborted(self, reason: str) -> None:
        """Nothing was reserved."""
