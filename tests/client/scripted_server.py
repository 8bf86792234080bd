"""
A server in memory that says what it is told, right or wrong, and a client of it with a clock that the test moves.

An answer is text, its lines without their CRLF; octets, sent as they are; :data:`LOST` for a connection that is lost; a
callable that is given the command line; or a list of these, one after the other for each time it is asked. ``None`` is
silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionRefusedError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from lmtp_twisted import Envelope, Reply
from lmtp_twisted.client import ClientSettings, LMTPClient, Timeouts, make_envelope
from lmtp_twisted.testing import FakeReactor

#: The connection is lost.
LOST = object()
LOOPBACK = IPv4Address("TCP", "127.0.0.1", 24)
CONTENT = b"Subject: Hello\r\n\r\n.dots\r\nthe end\r\n"
ALL = "250-server.example\n250-PIPELINING\n250-ENHANCEDSTATUSCODES\n250 8BITMIME"


class Line(StringTransport):
    """One connection, from the client's side."""

    def __init__(self, server: ScriptedServer, peer: Any) -> None:
        super().__init__(peerAddress=peer)
        self._server = server
        self._waiting = b""
        self._accepted = 0
        self._octets: int | None = None
        self._is_last = False
        self.in_content = False
        self.content = b""
        self.commands: list[str] = []
        self.is_lost = False
        self.aborting = False

    def write(self, data: bytes) -> None:
        """The client sends."""
        if not self.is_lost:
            self._waiting += data
            self._server.clock.callLater(0, self._work)

    def say(self, answer: Any, line: str = "") -> None:
        """The server sends."""
        answer = _this_time(answer, line)
        if isinstance(answer, tuple):
            for part in answer:
                self.say(part)
        elif answer is LOST:
            self.lose(ConnectionDone())
        elif answer is not None and not self.is_lost:
            octets = answer if isinstance(answer, bytes) else answer.replace("\n", "\r\n").encode() + b"\r\n"
            self._server.protocols[self].dataReceived(octets)

    def lose(self, why: Exception) -> None:
        """The connection is over."""
        if not self.is_lost:
            self.is_lost = True
            self._server.protocols[self].connectionLost(Failure(why))

    def abortConnection(self) -> None:
        """The client ends it."""
        self.aborting = True
        self._server.clock.callLater(0, self.lose, ConnectionAborted())

    def _work(self) -> None:
        while not self.is_lost and self._step():
            pass

    def _step(self) -> bool:
        if self._octets is not None:
            return self._chunk()
        end, mark = (self._waiting.find(b"\r\n.\r\n"), 5) if self.in_content else (self._waiting.find(b"\r\n"), 2)
        if self.in_content and self._waiting.startswith(b".\r\n"):
            end, mark = 0, 3
        if end < 0:
            return False
        line, self._waiting = self._waiting[:end], self._waiting[end + mark :]
        if self.in_content:
            self.in_content = False
            self.content = line + b"\r\n"
            self._finish()
        else:
            self._command(line.decode())
        return True

    def _command(self, line: str) -> None:
        self.commands.append(line)
        verb, *words = line.upper().split(" ")
        if verb == "BDAT":
            self._octets, self._is_last = int(words[0]), "LAST" in words
            return
        answer = _this_time(self._server.answers.get(verb, "250 2.0.0 OK"), line)
        if verb == "RCPT":
            self._accepted += str(answer).startswith("2")
        elif verb in ("LHLO", "RSET", "MAIL"):
            self._accepted = 0
        self.in_content = verb == "DATA" and str(answer).startswith(("354", "('354"))
        self.say(answer)

    def _chunk(self) -> bool:
        assert self._octets is not None
        if len(self._waiting) < self._octets:
            return False
        self.content += self._waiting[: self._octets]
        self._waiting = self._waiting[self._octets :]
        self._octets = None
        if self._is_last:
            self._finish()
        else:
            self.say(self._server.answers.get("BDAT", "250 2.0.0 Chunk"))
        return True

    def _finish(self) -> None:
        default = "\n".join(f"250 2.0.0 Number {number}" for number in range(self._accepted))
        self.say(self._server.answers.get(".", default))


def _this_time(answer: Any, line: str) -> Any:
    if isinstance(answer, list):
        answer = answer.pop(0) if len(answer) > 1 else answer[0]
    return answer(line) if callable(answer) else answer


@implementer(IStreamClientEndpoint)
class ScriptedServer:
    """
    :param answers: by verb, in upper case; ``greeting`` and ``.`` too. What is not there is as a server should have it.
    :ivar lines: the connections that were made.
    :ivar is_down: whether connections are refused.
    """

    def __init__(self, clock: FakeReactor, answers: dict[str, Any], peer: Any = LOOPBACK) -> None:
        self.clock = clock
        self.answers: dict[str, Any] = {
            "greeting": "220 server.example LMTP",
            "LHLO": ALL,
            "DATA": "354 Go on",
            "QUIT": "221 2.0.0 Bye",
            **answers,
        }
        self.lines: list[Line] = []
        self.protocols: dict[Line, Any] = {}
        self.attempts = 0
        self.is_down = False
        self._peer = peer

    def connect(self, factory: Any) -> Deferred[Any]:
        """See the interface."""
        self.attempts += 1
        if self.is_down:
            return fail(ConnectionRefusedError())
        protocol = factory.buildProtocol(None)
        line = Line(self, self._peer)
        self.lines.append(line)
        self.protocols[line] = protocol
        protocol.makeConnection(line)
        self.clock.callLater(0, line.say, self.answers["greeting"])
        return succeed(protocol)


class Play:
    """
    A client and its server.

    :param answers: of the server.
    :param settings: of the client.
    """

    def __init__(self, answers: dict[str, Any] | None = None, *, peer: Any = LOOPBACK, **settings: Any) -> None:
        self.clock = FakeReactor()
        self.server = ScriptedServer(self.clock, answers or {}, peer)
        given = {"hostname": "client.example", "random": lambda: 1.0, **settings}
        self.client = LMTPClient(self.server, ClientSettings(**given), self.clock)

    def settle(self) -> None:
        """All that can happen now does."""
        for _ in range(60):
            self.clock.advance(0)

    def start(self, message: Any = CONTENT, *recipients: str, envelope: Envelope | None = None) -> list[Any]:
        """Begin a delivery: the Deferreds."""
        to = recipients or ("a@x", "b@x", "c@x")
        started = self.client.deliver_each(envelope or make_envelope("s@y", to), message)
        self.settle()
        return started

    def deliver(self, message: Any = CONTENT, *recipients: str, envelope: Envelope | None = None) -> list[str]:
        """A whole delivery: what became of each recipient."""
        return replies(self.start(message, *recipients, envelope=envelope))

    def after(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)
        self.settle()

    @property
    def line(self) -> Line:
        """The latest connection."""
        return self.server.lines[-1]

    def close(self) -> None:
        """The client ends, and leaves nothing behind."""
        done: list[None] = []
        self.client.close().addCallback(done.append)
        self.settle()
        self.after(10)
        assert done == [None]
        assert not self.clock.getDelayedCalls()
        assert all(line.is_lost for line in self.server.lines)


def replies(started: Sequence[Deferred[Reply]]) -> list[str]:
    """What became of each; ``...`` is what has not come."""
    found = []
    for one in started:
        got: list[Any] = []
        one.addBoth(got.append)
        reply = got[0] if got else "..."
        if isinstance(reply, Reply):
            reply = " ".join(filter(None, (str(reply.code), reply.enhanced, reply.text)))
        found.append(reply)
    return found


#: Short ones, each different.
TIMES = Timeouts(connect=1, greeting=2, command=3, data=4, block=5, final=6, goodbye=7, turn=8)
