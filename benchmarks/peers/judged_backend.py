"""A backend that accepts mail for all but one, for the conformance kit."""

from lmtp_twisted import PermanentFailure, Recipient, RecipientDelivery
from lmtp_twisted.interfaces import IReceivedMessage


class Deliveries(RecipientDelivery):
    """Accepts it, and forgets it."""

    def validateTo(self, recipient: Recipient) -> None:
        if recipient.address.local == "unknown":
            raise PermanentFailure("No such user")

    def deliverTo(self, message: IReceivedMessage, recipient: Recipient) -> None:
        pass
