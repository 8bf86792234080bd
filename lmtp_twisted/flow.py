"""
The flow of bytes between a transport and the commands: what holds the input back, when output leaves, how a connection
ends.

:class:`HeldLineReceiver` is Twisted's :class:`~twisted.protocols.basic.LineReceiver` with four things added:

- **A set of reasons to wait**, not a flag: an answer of the application, a file, a client that does not read are
  independent of each other, and the end of one must not resume what another holds. While any stands, only
  ``LineReceiver.paused`` is set; the transport itself is paused when more than :data:`AHEAD` octets have come
  meanwhile, since a paused transport does not see a disconnect.
- **Replies of a burst leave together**, when the input is used up (RFC 2920 §3.2).
- **A line that is too long is skipped** up to the next CR LF, in constant memory (RFC 5321 §4.5.3.1.4).
- **Closing loses no reply**: where the client may still be sending, our side is closed first and its octets are read
  away for a while, since closing a socket with unread input resets the connection and takes our last reply with it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

#: Octets that may come while the session waits, before the transport is paused.
AHEAD = 64 * 1024
#: Seconds that a closed session reads away what its client still sends.
LINGER = 5.0


class Hold(enum.Enum):
    """A reason to wait before the next command."""

    #: The application has not answered yet.
    ANSWER = 1
    #: Content is being written to a file.
    SPOOL = 2
    #: The client does not read our replies.
    OUTPUT = 3
    #: The greeting has not been sent.
    GREETING = 4


@implementer(IHalfCloseableProtocol, IPushProducer)
class HeldLineReceiver(LineReceiver):
    """
    Lines are given to ``lineReceived`` without their LF but with their CR, so that a line that ends in a bare LF is
    seen at once. Subclasses set :attr:`clock` before the connection is made.

    :ivar clock: an :class:`~twisted.internet.interfaces.IReactorTime`.
    :ivar write_timeout: seconds that a client may leave our output unread.
    """

    # With a CR LF delimiter a line that ends in LF would wait for a CR LF that may never come.
    delimiter = b"\n"

    transport: Any
    clock: Any
    write_timeout: float

    def __init__(self) -> None:
        self._holds: set[Hold] = set()
        self._output: list[bytes] = []
        self._depth = 0
        self._ahead = 0
        self._transport_is_paused = False
        self._too_long = b""
        self._skipping = False
        self._skipped_cr = False
        self._input_has_ended = False
        self._is_closed = False
        self._timer: Any = None

    def connectionMade(self) -> None:
        """Take part in the transport's flow control."""
        self.transport.registerProducer(self, True)

    # Input

    def dataReceived(self, data: bytes) -> None:
        """Give the octets to the line or content handlers, then let the replies leave."""
        if self._is_closed:
            return
        if self.paused:
            self._ahead += len(data)
            if self._ahead > AHEAD and not self._transport_is_paused:
                self._transport_is_paused = True
                self.transport.pauseProducing()
        self._depth += 1
        try:
            LineReceiver.dataReceived(self, data)
            while self._too_long:
                # LineReceiver stops after lineLengthExceeded, whatever stands in its buffer: start it again.
                data, self._too_long = self._too_long, b""
                LineReceiver.dataReceived(self, data)
        finally:
            self._depth -= 1
        if not self._depth:
            self._flush()
            if self._input_has_ended and not self.paused:
                self.close()

    def lineLengthExceeded(self, line: bytes) -> None:
        """Skip the line; ``lineSkipped`` is called once it has ended."""
        self._too_long = line
        self._skipping = True
        self.setRawMode()

    def rawDataReceived(self, data: bytes) -> None:
        """Octets that are not lines: the rest of a line that is too long, or content."""
        if not self._skipping:
            self.contentReceived(data)
            return
        end = 1 if self._skipped_cr and data.startswith(b"\n") else data.find(b"\r\n") + 2
        self._skipped_cr = data.endswith(b"\r")
        if end > 0 and data[end - 1 : end] == b"\n":
            self._skipping = self._skipped_cr = False
            self.back_to_lines(data[end:])
            self.lineSkipped()

    def back_to_lines(self, rest: bytes) -> None:
        """
        Content has ended: go back to command lines.

        :param rest: what followed the content.
        """
        self.setLineMode()
        if rest:
            # From here LineReceiver only puts it into its buffer, since it is running.
            LineReceiver.dataReceived(self, rest)

    def contentReceived(self, data: bytes) -> None:
        """Octets of content came."""
        raise NotImplementedError

    def lineSkipped(self) -> None:
        """A line that was too long has ended and was thrown away."""
        raise NotImplementedError

    # Reasons to wait

    def hold(self, reason: Hold) -> None:
        """Parse nothing more until :meth:`release` is called with the same reason."""
        self._holds.add(reason)
        self.paused = True

    def release(self, reason: Hold, then: Callable[[], None] | None = None) -> None:
        """
        This reason to wait is gone: where it was the last, go on with what has come meanwhile.

        :param then: called first; it may hold again.
        """
        self._holds.discard(reason)
        if then is not None:
            self._depth += 1
            try:
                then()
            finally:
                self._depth -= 1
        if self._is_closed:
            return
        if not self._holds and self.paused:
            self.paused = False
            self._ahead = 0
            if self._transport_is_paused:
                self._transport_is_paused = False
                self.transport.resumeProducing()
        if not self._depth:
            if self.paused:
                self._flush()
            else:
                self.dataReceived(b"")

    def pauseProducing(self) -> None:
        """The transport's buffer is full: the client does not read."""
        self.hold(Hold.OUTPUT)
        self._start_timer(self.write_timeout)

    def resumeProducing(self) -> None:
        """The transport's buffer is empty again."""
        self._stop_timer()
        self.release(Hold.OUTPUT)

    def stopProducing(self) -> None:
        """The transport is done with us; ``connectionLost`` follows."""

    # Output

    def send(self, data: bytes) -> None:
        """
        Send octets: with all others of the burst where one is being read, else now.

        :param data: whole replies.
        """
        self._output.append(data)
        if not self._depth:
            self._flush()

    def _flush(self) -> None:
        if self._output:
            data = b"".join(self._output)
            self._output.clear()
            self.transport.write(data)

    # The end

    def close(self, *, linger: bool = False) -> None:
        """
        Send what is to be sent, and end the connection. Nothing that came or comes is looked at any more.

        :param linger: the client may be sending still.
        """
        if self._is_closed:
            return
        self._flush()
        self._is_closed = True
        self.paused = True
        self.clearLineBuffer()
        if self._transport_is_paused:
            self._transport_is_paused = False
            self.transport.resumeProducing()
        # A producer that is paused would keep the transport from closing.
        self.transport.unregisterProducer()
        half_close = getattr(self.transport, "loseWriteConnection", None)
        if linger and half_close is not None and not self._input_has_ended:
            half_close()
            self._start_timer(LINGER)
        else:
            self.transport.loseConnection()
            self._start_timer(self.write_timeout)

    def readConnectionLost(self) -> None:
        """The client has half-closed: it gets all its replies before we close."""
        self._input_has_ended = True
        if self._is_closed:
            self.transport.loseConnection()
        elif not self.paused:
            self.close()

    def writeConnectionLost(self) -> None:
        """Our half is closed."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget what was not run: a release that comes later must not run it."""
        self._is_closed = True
        self.paused = True
        self.clearLineBuffer()
        self._output.clear()
        self._stop_timer()

    def _start_timer(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.clock.callLater(seconds, self._give_up)

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        self.transport.abortConnection()
