"""The library alone, with a delivery that accepts every message and forgets it: ``library_null.py PORT``."""

import sys
from collections.abc import Sequence

from twisted.internet import reactor
from zope.interface import implementer

from lmtp_twisted import LMTPFactory, Recipient, Sender, SessionInfo, Settings
from lmtp_twisted.interfaces import ILMTPDelivery, ILMTPDeliveryFactory, IReceivedMessage


@implementer(ILMTPDelivery)
class NullDelivery:
    """Accepts everything, keeps nothing: what is measured is the protocol."""

    def validateFrom(self, sender: Sender) -> None:
        pass

    def validateTo(self, recipient: Recipient) -> None:
        pass

    def deliver(self, message: IReceivedMessage) -> Sequence[None]:
        return [None] * len(message.recipients)

    def aborted(self, reason: str) -> None:
        pass


@implementer(ILMTPDeliveryFactory)
class NullDeliveries:
    """Gives one of them for each message."""

    def getDelivery(self, _session: SessionInfo) -> NullDelivery:
        return NullDelivery()


def serve(port: int) -> None:
    settings = Settings(size_limit=200_000_000, max_sessions=10_000)  # those of benchmarks/memory.py
    factory = LMTPFactory(backend=NullDeliveries(), settings=settings)
    reactor.listenTCP(port, factory, backlog=1024, interface="127.0.0.1")
    reactor.run()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
