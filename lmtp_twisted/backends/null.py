"""``null:`` accepts every message and forgets it: for measuring, and for recipients whose mail nobody wants."""

from __future__ import annotations

from typing import Any

from zope.interface import implementer

from lmtp_twisted.backends.description import refuse_argument
from lmtp_twisted.envelope import Recipient, Sender
from lmtp_twisted.interfaces import ILMTPDelivery, ILMTPDeliveryFactory, IReceivedMessage
from lmtp_twisted.session import SessionInfo


@implementer(ILMTPDeliveryFactory, ILMTPDelivery)
class NullBackend:
    """Its own delivery, since it keeps nothing of any message."""

    def getDelivery(self, session: SessionInfo) -> NullBackend:
        """This object."""
        return self

    def validateFrom(self, sender: Sender) -> None:
        """Accept."""

    def validateTo(self, recipient: Recipient) -> None:
        """Accept."""

    def deliver(self, message: IReceivedMessage) -> list[None]:
        """Forget."""
        return [None] * len(message.recipients)

    def aborted(self, reason: str) -> None:
        """Nothing was reserved."""


def from_description(context: Any, argument: str) -> NullBackend:
    """``null:``"""
    refuse_argument(argument)
    return NullBackend()
