import os
import tempfile

from twisted.internet.threads import deferToThreadPool
from zope.interface import implementer

from lmtp_twisted import RecipientDelivery
from lmtp_twisted.interfaces import ILMTPDeliveryFactory


@implementer(ILMTPDeliveryFactory)
class Shelf(RecipientDelivery):
    def __init__(self, directory, suffix, context):
        self.directory = directory
        self.suffix = suffix
        self.context = context

    def getDelivery(self, session):
        return self

    def deliverTo(self, message, recipient):
        return deferToThreadPool(self.context.reactor, self.context.pool, self.write, message, recipient)

    def write(self, message, recipient):
        with tempfile.NamedTemporaryFile(dir=self.directory, suffix=self.suffix, delete=False) as file:
            file.write(message.trace(recipient))
            for block in message.blocks():
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        directory = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def from_description(context, argument, *, suffix=".eml"):
    if not os.path.isdir(argument):
        raise ValueError(f"there is no directory {argument!r}")
    return Shelf(os.path.abspath(argument), suffix, context)
