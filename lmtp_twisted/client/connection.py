"""
A connection to a server: octets out, replies in, and nothing of what they mean.

**Replies are counted.** Whoever sends says how many replies that is owed. A reply that nobody is owed, or octets of
one, mean that the server has lost its place, or that somebody else speaks: the connection is over then, and what came
in the same segment counts for nothing. A 421 is none of these: a server may say it at any time (RFC 5321 §3.8), and
what it said before counts. A reply that does not come in its time is the end of the connection too. What was received
before the end can still be read after it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from lmtp_twisted.client.replies import ReplyReader, ServerReply, wrong
from lmtp_twisted.errors import TemporaryFailure


@implementer(IPushProducer, IHandshakeListener)
class ClientConnection(Protocol):
    """
    :param clock: for the time-outs: an :class:`~twisted.internet.interfaces.IReactorTime`.
    :ivar failure: why it is over, if it is.
    :ivar lost: called when it is over.
    """

    transport: Any

    def __init__(self, clock: Any) -> None:
        self.failure: TemporaryFailure | None = None
        self.lost: Callable[[], None] = lambda: None
        self._clock = clock
        self._reader = ReplyReader()
        # The greeting.
        self._owed = 1
        self._replies: deque[ServerReply] = deque()
        self._waiting: Deferred[None] | None = None
        self._is_full = False
        self._is_shaking_hands = False
        self._is_gone = False

    # Replies

    def dataReceived(self, data: bytes) -> None:
        """Octets have come."""
        if self.failure is not None:
            return
        try:
            replies = self._reader.feed(data)
        except TemporaryFailure as error:
            self.abort(error)
            return
        self._owed -= len(replies)
        if self._owed < 0 or (self._owed == 0 and self._reader.is_within):
            if self._owed == -1 and replies[-1].code == 421 and not self._reader.is_within:
                *owed, goodbye = replies
                self._replies += owed
                self.abort(goodbye.goodbye())
            else:
                said = f": {replies[-1]}" if replies else ""
                self.abort(wrong(f"The server gave a reply that it was not asked for{said}"))
            return
        self._replies += replies
        if replies:
            self._wake()

    @property
    def has_reply(self) -> bool:
        """Whether a reply has come that was not read yet."""
        return bool(self._replies)

    @property
    def is_quiet(self) -> bool:
        """Whether it stands and nothing is owed."""
        return self.failure is None and not self._owed and not self._replies

    async def reply(self, timeout: float) -> ServerReply:
        """
        The next reply.

        :param timeout: seconds for which to wait.
        :raises TemporaryFailure: where the connection is over before it has come.
        """
        if not self._replies:
            await self._wait(lambda: bool(self._replies), timeout, "answer")
        return self._replies.popleft()

    async def _wait(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        deadline = self._clock.seconds() + timeout
        while not condition():
            if self.failure is not None:
                raise self.failure
            try:
                await self._something(deadline - self._clock.seconds())
            except TimeoutError:
                self.abort(TemporaryFailure(f"The server did not {what} within {timeout:g} s", enhanced="4.4.2"))

    async def _something(self, timeout: float) -> None:
        """Wait for anything to happen."""
        waiting = self._waiting = Deferred()
        timer = self._clock.callLater(max(0.0, timeout), waiting.errback, TimeoutError())
        try:
            await waiting
        finally:
            # Whatever ended it: nobody waits any more.
            self._waiting = None
            if timer.active():
                timer.cancel()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    # Commands and content

    def send(self, data: bytes, replies: int) -> None:
        """
        :param data: octets.
        :param replies: how many replies the server owes for them.
        """
        if self.failure is None:
            self._owed += replies
            self.transport.write(data)

    async def send_content(self, data: bytes, timeout: float, replies: int = 0) -> None:
        """
        As :meth:`send`, and wait until there is room for more.

        :raises TemporaryFailure: where the connection is over, or there is no room within that time.
        """
        if self.failure is not None:
            raise self.failure
        if data:
            self.send(data, replies)
            await self._wait(lambda: not self._is_full, timeout, "take more of the content")

    def begin_content(self) -> None:
        """What is sent from now on waits for room."""
        if self.failure is None:
            self.transport.registerProducer(self, True)

    def end_content(self) -> None:
        """The content is sent."""
        self._is_full = False
        if self.failure is None:
            self.transport.unregisterProducer()

    def pauseProducing(self) -> None:
        """There is no room."""
        self._is_full = True

    def resumeProducing(self) -> None:
        """There is room again."""
        self._is_full = False
        self._wake()

    def stopProducing(self) -> None:
        """The connection is about to be over."""

    # TLS

    async def start_tls(self, creator: Any, timeout: float) -> None:
        """
        Shake hands (RFC 3207 §4).

        :param creator: makes the connection of TLS.
        :param timeout: seconds.
        :raises TemporaryFailure: where it fails.
        """
        if self.failure is not None:
            raise self.failure
        self._is_shaking_hands = True
        self.transport.startTLS(creator)
        await self._wait(lambda: not self._is_shaking_hands, timeout, "finish the handshake of TLS")

    def handshakeCompleted(self) -> None:
        """TLS is on."""
        self._is_shaking_hands = False
        self._wake()

    # The end

    def abort(self, failure: TemporaryFailure) -> None:
        """
        It is over, at once.

        :param failure: for those who wait for a reply.
        """
        if self.failure is None:
            self._end(failure)
            self.transport.abortConnection()

    def _end(self, failure: TemporaryFailure) -> None:
        self.failure = failure
        self._wake()
        self.lost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is lost."""
        self._is_gone = True
        if self.failure is None:
            if self._is_shaking_hands:
                self._end(TemporaryFailure(f"TLS failed: {_why(reason)}", enhanced="4.7.5"))
            else:
                self._end(TemporaryFailure("The connection to the server was lost", enhanced="4.4.2"))
        self._wake()

    async def quit(self, timeout: float) -> None:
        """
        Say goodbye, and close. What the server makes of it changes nothing.

        :param timeout: seconds until it is closed by force.
        """
        if self.is_quiet:
            self.send(b"QUIT\r\n", 1)
            with suppress(TemporaryFailure):
                await self.reply(timeout)
        self.abort(TemporaryFailure("The connection was closed", enhanced="4.4.2"))
        if not self._is_gone:
            with suppress(TimeoutError):
                await self._something(timeout)


def _why(reason: Failure) -> str:
    """What OpenSSL says of a handshake, in its last words; what others say."""
    value: Any = reason.value
    arguments = value.args[0] if value.args else None
    if isinstance(arguments, list) and arguments and isinstance(arguments[-1], tuple):
        return str(arguments[-1][-1])
    return str(reason.getErrorMessage())
