"""A backend that someone else wrote."""

from zope.interface import implementer

from lmtp_twisted.interfaces import ILMTPDelivery, ILMTPDeliveryFactory


@implementer(ILMTPDelivery, ILMTPDeliveryFactory)
class AcmeBackend:
    """Its own delivery."""

    def __init__(self, argument, speed):
        self.argument = argument
        self.speed = speed

    def getDelivery(self, session):
        return self

    def validateFrom(self, sender):
        pass

    def validateTo(self, recipient):
        pass

    def deliver(self, message):
        return [None] * len(message.recipients)

    def aborted(self, reason):
        pass


def from_description(context, argument, *, speed="1"):
    return AcmeBackend(argument, int(speed))
