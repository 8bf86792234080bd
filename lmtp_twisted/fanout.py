"""
Each message to several backends. A recipient is accepted where all accept it, and its outcome is the worst of theirs.

Where one has taken the message and another could not, the client is told to try again, and the first gets it once more:
a copy too many is better than one too few.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zope.interface import implementer

from lmtp_twisted.awaiting import abort
from lmtp_twisted.combining import ask_about, introduce, verify_by, worst, worst_of
from lmtp_twisted.envelope import Recipient, Sender
from lmtp_twisted.interfaces import ILMTPDelivery, ILMTPDeliveryFactory, IReceivedMessage, IVerifyingDelivery
from lmtp_twisted.routing import deliver_part
from lmtp_twisted.session import SessionInfo
from lmtp_twisted.wire.replies import Reply


@implementer(ILMTPDeliveryFactory)
class AllOf:
    """
    Several backends as one that has all of them deliver every message.

    :param backends: at least one.
    :raises ValueError: where there is none.
    """

    def __init__(self, backends: Sequence[ILMTPDeliveryFactory]) -> None:
        if not backends:
            raise ValueError("a fan-out needs backends")
        self._backends = tuple(backends)

    def getDelivery(self, session: SessionInfo) -> ILMTPDelivery:
        """A delivery that asks all of them."""
        return _DeliveryToAll(self._backends, session)


@implementer(IVerifyingDelivery)
class _DeliveryToAll:
    def __init__(self, backends: Sequence[ILMTPDeliveryFactory], session: SessionInfo) -> None:
        self._backends = backends
        self._session = session
        # Those that have accepted the sender.
        self._deliveries: list[Any] = []

    async def validateFrom(self, sender: Sender) -> Reply:
        replies: list[Reply] = []
        for backend in self._backends:
            delivery, reply = await introduce(backend, self._session, sender)
            if delivery is not None:
                self._deliveries.append(delivery)
            replies.append(reply)
        return worst(replies)

    async def validateTo(self, recipient: Recipient) -> Reply:
        return worst([await ask_about(delivery, recipient) for delivery in self._deliveries])

    async def verifyAddress(self, recipient: Recipient) -> Reply:
        return worst([await verify_by(backend, self._session, recipient) for backend in self._backends])

    def deliver(self, message: IReceivedMessage) -> list[Any]:
        outcomes = [deliver_part(delivery, message) for delivery in self._deliveries]
        return [worst_of(of_one) for of_one in zip(*outcomes, strict=True)]

    def aborted(self, reason: str) -> None:
        for delivery in self._deliveries:
            abort(delivery, reason)
