"""A web server that does what a test says, octet for octet, on real sockets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory, Protocol


@attrs.frozen
class Request:
    """
    :ivar line: the request line.
    :ivar headers: their names in lower case.
    :ivar body: as far as its length says.
    :ivar connection: the number of its connection.
    """

    line: str
    headers: dict[str, str]
    body: bytes
    connection: int


def response(status: str = "200 OK", body: bytes = b"", kind: str = "application/json", *headers: str) -> bytes:
    """A whole response."""
    lines = (f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *headers, "", "")
    return "\r\n".join(lines).encode() + body


class _Connection(Protocol):
    def __init__(self, server: WebServer, number: int) -> None:
        self.server = server
        self.number = number
        self._received = b""

    def connectionMade(self) -> None:
        self.server.open.append(self)
        self.server.connected(self)

    def dataReceived(self, data: bytes) -> None:
        if self.server.received(self, data):
            return
        self._received += data
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        line, *fields = head.decode("ascii").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        if len(rest) < int(headers["content-length"]):
            return
        self._received = b""
        request = Request(line, headers, rest, self.number)
        self.server.requests.append(request)
        self.server.answer(self, request)

    def connectionLost(self, reason: Any) -> None:
        self.server.open.remove(self)
        waiting, self.server.waiting_for_loss = self.server.waiting_for_loss, []
        for lost in waiting:
            lost.callback(None)


class WebServer(Factory):
    """
    :param answers: what it says to each request, one after the other, the last of them for ever: octets, or a function
        of the connection and the request.
    :ivar requests: those that were complete.
    :ivar open: the connections that are open.
    :ivar connections: how many there have been.
    :ivar connected: called with a new connection.
    :ivar received: called with a connection and octets; where it says so, they are dealt with.
    """

    noisy = False

    def __init__(self, *answers: bytes | Callable[[Any, Request], None]) -> None:
        self.answers = list(answers) or [response()]
        self.requests: list[Request] = []
        self.open: list[Any] = []
        self.connections = 0
        self.waiting_for_loss: list[Deferred[None]] = []
        self.connected: Callable[[Any], object] = lambda connection: None
        self.received: Callable[[Any, bytes], object] = lambda connection, data: False
        self._port: Any = None

    def listen(self, context: Any = None) -> int:
        """Begin; with TLS where there is a context for it. Returns the port."""
        if context is None:
            self._port = reactor.listenTCP(0, self, interface="127.0.0.1")  # type: ignore[attr-defined]
        else:
            self._port = reactor.listenSSL(0, self, context, interface="127.0.0.1")  # type: ignore[attr-defined]
        return int(self._port.getHost().port)

    def buildProtocol(self, address: Any) -> _Connection:
        self.connections += 1
        return _Connection(self, self.connections)

    def answer(self, connection: Any, request: Request) -> None:
        """As it was told."""
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if callable(answer):
            answer(connection, request)
        else:
            connection.transport.write(answer)

    async def is_left(self) -> None:
        """Wait until no connection is open."""
        while self.open:
            lost: Deferred[None] = Deferred()
            self.waiting_for_loss.append(lost)
            await lost

    async def close(self) -> None:
        """End all."""
        await maybeDeferred(self._port.stopListening)
        for connection in list(self.open):
            connection.transport.abortConnection()
        await self.is_left()


def close(connection: Any, request: Request) -> None:
    """Say nothing, and go."""
    connection.transport.loseConnection()


def silence(connection: Any, request: Request) -> None:
    """Say nothing, and stay."""
