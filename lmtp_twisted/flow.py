"""
The flow of bytes between a transport and the commands: what holds the input back, when output leaves, how a connection
ends.

:class:`HeldLineReceiver` is Twisted's :class:`~twisted.protocols.basic.LineReceiver` with a loop of its own and four
things more:

- **A set of reasons to wait**, not a flag: an answer of the application, a file, a client that does not read are
  independent of each other, and the end of one must not resume what another holds. While any stands, only
  ``LineReceiver.paused`` is set; the transport itself is paused when more than :data:`AHEAD` octets wait, since a
  paused transport does not see a disconnect.
- **Replies of a burst leave together**, when the input is used up (RFC 2920 §3.2), through the :mod:`outbox
  <lmtp_twisted.outbox>` or at once, and past the reactor: see :meth:`_flush`.
- **A line that is too long is skipped** up to the next CR LF, in constant memory (RFC 5321 §4.5.3.1.4).
- **Closing loses no reply**: where the client may still be sending, our side is closed first and its octets are read
  away for a while, since closing a socket with unread input resets the connection and takes our last reply with it.

The loop of ``LineReceiver`` copies all that is behind a line with each line, stops where a line is too long, and says
nothing of how much waits; ours keeps a position instead.
"""

from __future__ import annotations

import enum
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer, ISSLTransport
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from lmtp_twisted.outbox import Outbox
from lmtp_twisted.turns import Turns

_log = Logger(namespace="lmtp_twisted")

#: Octets that may come while the session waits, before the transport is paused.
AHEAD = 64 * 1024
#: Octets of replies that the system is asked to keep for a client that does not read.
SEND_BUFFER = 128 * 1024
#: Seconds that a closed session, whose replies are all sent, reads away what its client still sends.
LINGER = 5.0
#: Replies of a burst that leave together at the most.
MOST_TOGETHER = 200
#: Lines that are run before it is asked whether others should have their turn.
LINES_IN_A_ROW = 50
#: Octets of input that are no little message.
MUCH = 16 * 1024
#: Octets that are kept of a line that is too long: enough for its verb.
KEPT_OF_SKIPPED = 16


class Hold(enum.IntEnum):
    """A reason to wait before the next command. A number, since these hash faster."""

    #: The application has not answered yet.
    ANSWER = 1
    #: There is no room for more content: it is being written to a file, or a delivery has yet to read it.
    CONTENT = 2
    #: The client does not read our replies.
    OUTPUT = 3
    #: The greeting has not been sent.
    GREETING = 4
    #: A failed login is answered late.
    PENALTY = 5
    #: Others have their turn.
    TURN = 6


@implementer(IHalfCloseableProtocol, IPushProducer)
class HeldLineReceiver(LineReceiver):
    """
    Lines are given to ``lineReceived`` without their LF but with their CR, so that a line that ends in a bare LF is
    seen at once. Subclasses set the attributes before the connection is made.

    :ivar clock: an :class:`~twisted.internet.interfaces.IReactorTime`.
    :ivar outbox: where replies wait for the end of the reactor's turn.
    :ivar turns: where sessions wait for theirs.
    """

    transport: Any
    clock: Any
    outbox: Outbox
    turns: Turns

    # What most sessions never set is on the class: up to 30 attributes of its own an object keeps them in itself
    # (CPython's SHARED_KEYS_MAX_SIZE), with more each look at one of them takes longer.
    _skipping = False
    _skipped = b""
    _transport_is_paused = False
    _sends_at_once = False
    _input_has_ended = False
    _is_closed = False
    # Whether its last turn did not end by itself: there was more than a turn's work, or the replies were too many.
    _is_greedy = False
    _timer: Any = None

    def __init__(self) -> None:
        # What has come and was not run yet begins at _at.
        self._input = b""
        self._at = 0
        self._holds: set[Hold] = set()
        self._output: list[bytes] = []
        self._depth = 0

    def connectionMade(self) -> None:
        """Take part in the transport's flow control."""
        self.transport.registerProducer(self, True)
        # Sockets of Twisted's whose buffers we know how to look at.
        self._sends_at_once = type(self.transport) in (tcp.Server, unix.Server) and hasattr(
            self.transport, "_tempDataBuffer"
        )
        if isinstance(self.transport, tcp.Server):
            # Else the system keeps megabytes for each client that does not read.
            self.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)

    def dataReceived(self, data: bytes) -> None:
        """Give the octets to the line or content handlers, then let the replies leave."""
        if self._is_closed:
            return
        if self._depth or self.paused:
            self._input += data
        else:
            self._input = self._input[self._at :] + data
            self._at = 0
            began_in_content = not self.line_mode
            if self._input:
                if self.turns.is_over:
                    self._give_way()
                else:
                    self._take_turn()
            if self._output:
                # A client that sends one command at a time waits for its reply, and most likely nobody else does.
                if began_in_content or len(self._output) > 1:
                    self._leave()
                else:
                    self._flush()
            if self._input_has_ended and not self.paused:
                self.close()
                return
        waiting = len(self._input) - self._at
        if self._transport_is_paused:
            if waiting <= AHEAD and not self.paused:
                self._transport_is_paused = False
                self.transport.resumeProducing()
        elif waiting > AHEAD and self.paused and not self._is_closed:
            self._transport_is_paused = True
            self.transport.pauseProducing()

    def _take_turn(self) -> None:
        begun = self.turns.begin()
        self._depth = 1
        if self._is_greedy:
            self._is_greedy = False
        try:
            self._run(begun)
        finally:
            self._depth = 0
            self.turns.end(begun)

    def _give_way(self) -> None:
        self.hold(Hold.TURN)
        self.turns.wait(self._my_turn, is_patient=self.asks_much)

    def _my_turn(self) -> None:
        self.release(Hold.TURN)

    @property
    def asks_much(self) -> bool:
        """Whether it is likely that others ask for less, and should come first."""
        return self._is_greedy or len(self._input) - self._at > MUCH

    def _run(self, begun: float) -> None:
        """
        Use up the input, as far as nothing holds it back.

        :param begun: when this turn of ours did.
        """
        longest = self.MAX_LENGTH
        while not self.paused:
            data, at, line_received = self._input, self._at, self.lineReceived
            if at >= len(data):
                return
            if not self.line_mode:
                self._input, self._at = b"", 0
                self.rawDataReceived(data[at:] if at else data)
            elif self._skipping:
                if not self._skip():
                    return
            else:
                # One line after the other, as long as none of them changes how the input is to be read.
                for _ in range(LINES_IN_A_ROW):
                    end = data.find(b"\n", at)
                    if end < 0 or end - at > longest:
                        if end >= 0 or len(data) - at > longest:
                            self._skipping = True
                            self._skipped = data[at : at + KEPT_OF_SKIPPED]
                        break
                    line = data[at:end]
                    self._at = at = end + 1
                    line_received(line)
                    if self.paused or self._input is not data or not self.line_mode:
                        break
                if end < 0 and not self._skipping:
                    return
            if self._at < len(self._input) and not self.paused and self.turns.is_used_up(begun):
                self._is_greedy = True
                self._give_way()

    def _skip(self) -> bool:
        """
        Throw away a line that is too long, up to its CR LF.

        :returns: whether it has ended.
        """
        end = self._input.find(b"\r\n", self._at)
        if end < 0:
            # A CR at the end may be the first half of it: it waits alone for more input.
            self._input, self._at = (b"\r" if self._input.endswith(b"\r") else b""), 0
            return False
        self._at = end + 2
        self._skipping = False
        self.lineSkipped(self._skipped)
        return True

    def clearLineBuffer(self) -> bytes:
        """
        Forget the input that was not run yet.

        :returns: it.
        """
        waiting, self._input, self._at = self._input[self._at :], b"", 0
        return waiting

    def back_to_lines(self, rest: bytes) -> None:
        """
        Content has ended: go back to command lines.

        :param rest: what followed the content.
        """
        self.line_mode = 1
        self._input = rest

    def lineSkipped(self, start: bytes) -> None:
        """
        A line that was too long has ended and was thrown away.

        :param start: its first :data:`KEPT_OF_SKIPPED` octets.
        """
        raise NotImplementedError

    def divert_lines(self, taker: Callable[[bytes], None] | None) -> None:
        """
        Give the lines from the next one on to somebody else.

        :param taker: who; ``None`` for ``lineReceived`` again.
        """
        if taker is not None:
            self.lineReceived = taker  # type: ignore[method-assign]  # of this session only
        else:
            vars(self).pop("lineReceived", None)
        # The loop over the lines of a segment looks anew.
        self._input, self._at = self._input[self._at :], 0

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
        if not self._holds:
            self.paused = False
        if not self._depth:
            if self._output:
                self._leave()
            self.dataReceived(b"")

    def pauseProducing(self) -> None:
        """The transport's buffer is full: the client does not read."""
        self.hold(Hold.OUTPUT)
        self._is_greedy = True
        self._start_timer(self.write_timeout)

    def resumeProducing(self) -> None:
        """The transport's buffer is empty again."""
        self._stop_timer()
        self.outbox.is_read(self._give_up)
        self.release(Hold.OUTPUT)

    def stopProducing(self) -> None:
        """The transport is done with us; ``connectionLost`` follows."""

    def send(self, data: bytes) -> None:
        """
        Send octets: with all others of the burst where one is being read, else now.

        :param data: whole replies.
        """
        if self._is_closed:
            return
        self._output.append(data)
        if not self._depth:
            self._leave()
        elif len(self._output) > MOST_TOGETHER:
            # A client that asks much and reads nothing fills the transport's buffer with it, and has to wait.
            self._flush()

    @property
    def has_input(self) -> bool:
        """Whether something has come that was not run yet."""
        return self._at < len(self._input)

    @property
    def is_secure(self) -> bool:
        """Whether TLS is on, or about to be."""
        return bool(ISSLTransport.providedBy(self.transport))

    @property
    def can_start_tls(self) -> bool:
        """Whether the transport can change to TLS."""
        return hasattr(self.transport, "startTLS")

    def start_tls(self, tls: Any) -> None:
        """
        Change to TLS. What was sent before goes out in the clear; what comes from now on is TLS's.

        :param tls: an :class:`~twisted.internet.interfaces.IOpenSSLServerConnectionCreator` or a context factory.
        """
        self._flush()
        self._sends_at_once = False
        if Hold.OUTPUT in self._holds:
            # That what was sent in the clear has left is not told to those who produce for TLS.
            self.resumeProducing()
        try:
            self.transport.startTLS(tls)
        except Exception:
            # Half of the change is done, so there is no way back: the client sees its connection end.
            _log.failure("TLS could not be started")
            self._is_closed = self.paused = True
            self.transport.protocol = self
            self.transport.abortConnection()

    def _leave(self) -> None:
        """Let the output leave with that of other sessions, at the end of the reactor's turn."""
        if self._sends_at_once:
            self.outbox.add(self._flush)
        else:
            self._flush()

    def _flush(self) -> None:
        if not self._output:
            return
        data = b"".join(self._output)
        self._output.clear()
        transport = self.transport
        if (
            self._sends_at_once
            and transport.connected
            and not (transport.dataBuffer or transport._tempDataBuffer or transport.TLS)
        ):
            # Nothing waits before it: send it now. The way through the reactor asks epoll for a writable socket, waits
            # for the next turn and tells epoll again, and that is a good part of the cost of a small message.
            try:
                sent = transport.socket.send(data)
            except OSError:
                # The buffer is full; or the connection is lost, and the reactor is to find out in its own way.
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
        transport.write(data)
        if Hold.OUTPUT in self._holds:
            self.outbox.is_unread(self._give_up, len(data))

    def close(self, *, linger: bool = False) -> None:
        """
        Send what is to be sent, and end the connection. Nothing that came or comes is looked at any more.

        :param linger: the client may be sending still.
        """
        if self._is_closed:
            return
        if self._output:
            self._flush()
        self.outbox.discard(self._flush)
        self._is_closed = True
        self.paused = True
        self.clearLineBuffer()
        if self._transport_is_paused:
            self._transport_is_paused = False
            self.transport.resumeProducing()
        # A producer that is paused would keep the transport from closing.
        self.transport.unregisterProducer()
        # Under TLS it would end the connection below it, before what TLS has yet to send.
        half_close = None if self.is_secure else getattr(self.transport, "loseWriteConnection", None)
        self._start_timer(self.write_timeout)
        if linger and half_close is not None and not self._input_has_ended:
            half_close()
        else:
            self.transport.loseConnection()

    def readConnectionLost(self) -> None:
        """The client has half-closed: it gets all its replies before we close."""
        self._input_has_ended = True
        if self._is_closed:
            self.transport.loseConnection()
        elif not self.paused:
            self.close()

    def writeConnectionLost(self) -> None:
        """Our half is closed: the client has all replies, and need not be read for long."""
        self._start_timer(LINGER)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget what was not run: a release that comes later must not run it."""
        self._is_closed = True
        self.paused = True
        # A taker of lines that is our own method would keep us.
        self.divert_lines(None)
        self.clearLineBuffer()
        self._output.clear()
        self.outbox.discard(self._flush)
        self.outbox.is_read(self._give_up)
        if Hold.TURN in self._holds:
            self.turns.forget(self._my_turn)
        self._stop_timer()

    @property
    def write_timeout(self) -> float:
        """Seconds that a client may leave our output unread."""
        raise NotImplementedError

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
