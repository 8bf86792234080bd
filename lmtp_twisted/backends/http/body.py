"""The body of a request: the message, a block at a time and no faster than the connection takes it."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from lmtp_twisted.interfaces import IReceivedMessage


@implementer(IBodyProducer)
class MessageBody:
    """
    :param trace: what stands before the content.
    :param message: the message.
    :ivar length: octets of the whole.
    """

    def __init__(self, trace: bytes, message: IReceivedMessage) -> None:
        self.length = len(trace) + message.size
        self._trace = trace
        self._message = message
        self._resumed: Deferred[None] = succeed(None)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Write it. Cancelling stops it."""
        return Deferred.fromCoroutine(self._produce(consumer))

    async def _produce(self, consumer: IConsumer) -> None:
        consumer.write(self._trace)
        async for block in self._message.chunks():
            await self._resumed
            consumer.write(block)

    def pauseProducing(self) -> None:
        """The connection has enough."""
        if self._resumed.called:
            self._resumed = Deferred()

    def resumeProducing(self) -> None:
        """It takes more."""
        if not self._resumed.called:
            self._resumed.callback(None)

    def stopProducing(self) -> None:
        """It is gone, and the request fails by that: a body that came to its end now would be one that is too short."""
        self._resumed = Deferred()
