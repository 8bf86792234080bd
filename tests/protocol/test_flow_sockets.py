"""The flow of bytes where sockets are the point: kernel buffers, real half-closes, resets."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.internet.threads import deferToThread

from lmtp_twisted import LMTPFactory, LMTPProtocol, Settings
from lmtp_twisted.flow import SEND_BUFFER
from lmtp_twisted.testing import RecordingObserver, ScriptedDeliveries

SESSION = b"LHLO c\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nRCPT TO:<c@x>\r\nDATA\r\nSubject: x\r\n\r\nHello\r\n.\r\n"
#: How long anything here may take at the most, in seconds: none of it waits so long where all is well.
PATIENCE = 20.0


class Ends(RecordingObserver):
    """Fires when a session is over."""

    def __init__(self) -> None:
        super().__init__()
        self.over: Deferred[None] = Deferred()

    def sessionEnded(self, session: Any) -> None:
        """The connection is gone."""
        super().sessionEnded(session)
        self.over.callback(None)


class Counting(LMTPProtocol):
    """Counts what it is given."""

    octets = 0

    def dataReceived(self, data: bytes) -> None:
        """Octets from the client."""
        self.octets += len(data)
        super().dataReceived(data)


class CountingFactory(LMTPFactory):
    """Makes such sessions."""

    protocol = Counting  # type: ignore[assignment]


class Server:
    """A server on a port of loopback."""

    def __init__(self) -> None:
        self._ports: list[Any] = []
        self.ends = Ends()

    def listen(self, backend: Any, **settings: Any) -> int:
        """Start it. Returns its port."""
        settings = Settings(hostname="mx.example", **settings)  # type: ignore[assignment]
        self.factory = CountingFactory(backend, settings=settings, observers=[self.ends])  # type: ignore[arg-type]
        self._ports.append(reactor.listenTCP(0, self.factory, interface="127.0.0.1"))  # type: ignore[attr-defined]
        port: int = self._ports[-1].getHost().port
        return port

    @property
    def session(self) -> Counting:
        """The only session."""
        (protocol,) = self.factory.sessions
        assert isinstance(protocol, Counting)
        return protocol

    async def stop(self) -> None:
        """Close the ports and all sessions."""
        for port in self._ports:
            await port.stopListening()
        for protocol in list(self.factory.sessions):
            protocol.transport.abortConnection()
        await self.factory.drain()


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that is stopped after the test."""
    made = Server()
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.stop()))


def connect(port: int, *, receive_buffer: int | None = None) -> socket.socket:
    """A client's socket, in blocking mode: for threads."""
    client = socket.socket()
    if receive_buffer is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.settimeout(PATIENCE)
    client.connect(("127.0.0.1", port))
    return client


def read_all(client: socket.socket) -> list[str]:
    """The lines up to the server's end."""
    received = b""
    while data := client.recv(65536):
        received += data
    assert received.endswith(b"\r\n")
    return received.decode("ascii").split("\r\n")[:-1]


@pytest_twisted.ensureDeferred
async def test_a_client_that_half_closes_behind_its_session_gets_all_its_replies(server: Server) -> None:
    """As ``nc -N`` does: ``shutdown(SHUT_WR)`` right behind the last octet."""
    deliveries = ScriptedDeliveries({"b@x": lambda: _later("first"), "c@x": lambda: _later("second")})
    port = server.listen(deliveries)

    def talk() -> list[str]:
        with connect(port) as client:
            client.sendall(SESSION)
            client.shutdown(socket.SHUT_WR)
            return read_all(client)

    replies = await deferToThread(talk)
    assert [line[:3] for line in replies[-5:]] == ["250", "250", "354", "250", "250"]
    assert replies[-2].endswith("first")
    assert replies[-1].endswith("second")
    await server.ends.over


def _later(outcome: str) -> Deferred[str]:
    deferred: Deferred[str] = Deferred()
    reactor.callLater(0.05, deferred.callback, outcome)  # type: ignore[attr-defined]
    return deferred


@pytest_twisted.ensureDeferred
async def test_the_dot_and_quit_get_all_replies_over_a_socket(server: Server) -> None:
    """RFC 5321 §4.1.1.10."""
    port = server.listen(ScriptedDeliveries({"b@x": lambda: _later("first")}))

    def talk() -> list[str]:
        with connect(port) as client:
            client.sendall(SESSION + b"QUIT\r\n")
            return read_all(client)

    replies = await deferToThread(talk)
    assert [line[:3] for line in replies[-3:]] == ["250", "250", "221"]
    await server.ends.over


@pytest_twisted.ensureDeferred
async def test_a_client_that_is_gone_in_mid_delivery_cancels_it(server: Server) -> None:
    """The transport is not paused, so that it sees the end."""
    called: Deferred[None] = Deferred()
    cancelled: Deferred[None] = Deferred()

    def deliver(message: Any) -> list[Any]:
        called.callback(None)
        return [Deferred(lambda _: cancelled.callback(None)), None]

    deliveries = ScriptedDeliveries(deliver=deliver)
    port = server.listen(deliveries)
    client = await deferToThread(connect, port)
    await deferToThread(client.sendall, SESSION + b"MAIL FROM:<next@x>\r\n")
    await called
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    await cancelled
    await server.ends.over
    assert [name for name, _ in deliveries.calls].count("validateFrom") == 1


@pytest_twisted.ensureDeferred
async def test_a_connection_that_is_reset_while_a_reply_is_written_ends_the_session(server: Server) -> None:
    """The write fails before the reactor has seen the reset."""
    delivering, reset = threading.Event(), threading.Event()

    def deliver(message: Any) -> list[None]:
        delivering.set()
        assert reset.wait(PATIENCE)
        return [None, None]

    port = server.listen(ScriptedDeliveries(deliver=deliver))

    def talk() -> None:
        with connect(port) as client:
            client.sendall(SESSION + b"NOOP\r\n")
            assert delivering.wait(PATIENCE)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        reset.set()

    await deferToThread(talk)
    await server.ends.over
    (event,) = [event for event in server.ends.events if event.name == "transactionEnded"]
    assert [outcome.reply.code for outcome in event.outcomes] == [250, 250]


@pytest_twisted.ensureDeferred
async def test_a_client_that_never_reads_is_aborted(server: Server) -> None:
    """It has sent far more commands than we would answer without being read."""
    port = server.listen(ScriptedDeliveries(), write_timeout=0.3)

    def talk() -> int:
        sent = 0
        with connect(port, receive_buffer=4096) as client:
            try:
                while sent < 200_000_000:
                    sent += client.send(b"HELP\r\n" * 10_000)
            except ConnectionError:
                pass
        return sent

    sent = await deferToThread(talk)
    await server.ends.over
    assert sent < 200_000_000


@pytest_twisted.ensureDeferred
async def test_a_client_that_never_reads_its_final_replies_is_aborted(server: Server) -> None:
    """The same after its content."""
    port = server.listen(ScriptedDeliveries(), write_timeout=0.3, max_recipients=1_000_000)

    def talk() -> None:
        with connect(port, receive_buffer=4096) as client:
            client.sendall(b"LHLO c\r\nMAIL FROM:<a@x>\r\n")
            try:
                while True:
                    client.sendall(b"RCPT TO:<b@x>\r\n" * 10_000)
            except ConnectionError:
                pass

    await deferToThread(talk)
    await server.ends.over


@pytest_twisted.ensureDeferred
async def test_megabytes_sent_ahead_while_a_delivery_is_pending_stay_with_the_client(server: Server) -> None:
    """Nothing is lost, and the order is kept."""
    called: Deferred[None] = Deferred()
    slow: Deferred[Any] = Deferred()
    bodies = [b"%03d " % number + b"x" * 100_000 + b"\r\n" for number in range(80)]

    def deliver(message: Any) -> Any:
        if not called.called:
            called.callback(None)
            return slow
        return [None]

    deliveries = ScriptedDeliveries(deliver=deliver)
    port = server.listen(deliveries)

    def talk() -> list[str]:
        with connect(port) as client:
            client.sendall(b"LHLO c\r\n")
            for number, body in enumerate(bodies):
                client.sendall(b"MAIL FROM:<a@x>\r\nRCPT TO:<r%d@x>\r\nDATA\r\n%b.\r\n" % (number, body))
            client.sendall(b"QUIT\r\n")
            return read_all(client)

    talking = deferToThread(talk)
    await called
    session = server.session
    while session.transport in reactor.getReaders():  # type: ignore[attr-defined]
        await _turn()
    assert session.octets < 500_000
    slow.callback([None])
    replies = await talking
    assert [line[:3] for line in replies].count("354") == 80
    assert replies[-1].startswith("221 ")
    assert [message.read() for message in deliveries.messages] == bodies
    assert [str(message.recipients[0]) for message in deliveries.messages] == [f"r{n}@x" for n in range(80)]
    await server.ends.over


def _turn() -> Deferred[None]:
    turned: Deferred[None] = Deferred()
    reactor.callLater(0, turned.callback, None)  # type: ignore[attr-defined]
    return turned


@pytest.mark.parametrize("last", [b"GET / HTTP/1.1\r\n", b"NOOP\n", b"BDAT 99999999999999999999\r\n"])
@pytest_twisted.ensureDeferred
async def test_the_last_reply_reaches_a_client_that_is_still_sending(server: Server, last: bytes) -> None:
    """RFC 9293 §3.6: a close with unread octets would reset the connection, and take the reply away."""
    port = server.listen(ScriptedDeliveries())

    def talk() -> list[str]:
        with connect(port) as client:
            client.sendall(b"LHLO c\r\n" + last + b"x" * 3_000_000)
            client.shutdown(socket.SHUT_WR)
            return read_all(client)

    replies = await deferToThread(talk)
    assert replies[-1][:3] in ("421", "500", "552")
    await server.ends.over


@pytest_twisted.ensureDeferred
async def test_a_content_beyond_all_bounds_gets_its_replies_though_the_client_goes_on(server: Server) -> None:
    """RFC 5321 §3.8."""
    port = server.listen(ScriptedDeliveries(), size_limit=100_000, drain_factor=2)

    def talk() -> list[str]:
        with connect(port) as client:
            client.sendall(SESSION.partition(b"Subject")[0] + b"x" * 5_000_000)
            client.shutdown(socket.SHUT_WR)
            return read_all(client)

    replies = await deferToThread(talk)
    assert [line[:9] for line in replies[-2:]] == ["552 5.3.4"] * 2
    await server.ends.over


@pytest_twisted.ensureDeferred
async def test_idle_sessions_are_drained_over_sockets(server: Server) -> None:
    """RFC 5321 §3.8."""
    port = server.listen(ScriptedDeliveries())
    greeted: Deferred[None] = Deferred()

    def talk() -> list[str]:
        with connect(port) as client:
            client.recv(100)
            reactor.callFromThread(greeted.callback, None)  # type: ignore[attr-defined]
            return read_all(client)

    talking = deferToThread(talk)
    await greeted
    await server.factory.drain()
    assert [line[:9] for line in await talking] == ["421 4.3.2"]


@pytest_twisted.ensureDeferred
async def test_a_session_past_the_dot_is_drained_over_sockets(server: Server) -> None:
    """RFC 5321 §3.8: it gets all its replies."""
    called: Deferred[None] = Deferred()

    def deliver(message: Any) -> list[Any]:
        called.callback(None)
        return [_later("first"), _later("second")]

    port = server.listen(ScriptedDeliveries(deliver=deliver))

    def talk() -> list[str]:
        with connect(port) as client:
            client.sendall(SESSION + b"MAIL FROM:<next@x>\r\n")
            return read_all(client)

    talking = deferToThread(talk)
    await called
    await server.factory.drain()
    replies = await talking
    assert [line[:3] for line in replies[-3:]] == ["250", "250", "421"]


@pytest_twisted.ensureDeferred
async def test_a_session_over_a_unix_socket(server: Server, tmp_path: Any) -> None:
    """Postfix's other way in: its peer has no address."""
    deliveries = ScriptedDeliveries()
    path = os.fspath(tmp_path / "lmtp")
    server.listen(deliveries)
    port = await UNIXServerEndpoint(reactor, path).listen(server.factory)

    def talk() -> list[str]:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(path)
            client.sendall(SESSION + b"QUIT\r\n")
            return read_all(client)

    replies = await deferToThread(talk)
    assert [line[:3] for line in replies[-3:]] == ["250", "250", "221"]
    assert b"(local socket)" in deliveries.messages[0].received
    assert deliveries.messages[0].session.peer_name == "unix"
    await server.ends.over
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_a_large_message_goes_through_a_file_over_a_socket(server: Server) -> None:
    """With threads and blocks as they are outside of tests."""
    contents: list[bytes] = []

    async def read(message: Any) -> None:
        contents.append(b"".join([chunk async for chunk in message.chunks()]))

    def deliver(message: Any) -> list[Any]:
        assert not message.inMemory
        return [read(message), deferToThread(message.read).addCallback(contents.append)]

    port = server.listen(ScriptedDeliveries(deliver=deliver))
    body = b"".join(b"%08d\r\n" % number for number in range(400_000))

    def talk() -> list[str]:
        with connect(port) as client:
            client.sendall(SESSION.partition(b"Subject")[0] + body + b".\r\nQUIT\r\n")
            return read_all(client)

    replies = await deferToThread(talk)
    assert [line[:3] for line in replies[-3:]] == ["250", "250", "221"]
    assert contents == [body, body]
    assert server.factory.spool.used == 0
    await server.ends.over


@pytest_twisted.ensureDeferred
async def test_the_system_keeps_little_for_a_client_that_does_not_read(server: Server) -> None:
    """Left to itself, Linux keeps megabytes of replies for each."""
    port = server.listen(ScriptedDeliveries())
    client = await deferToThread(connect, port)
    await deferToThread(client.recv, 512)
    handle = server.session.transport.getHandle()
    # The system counts its own needs too, and says twice what it was asked for (socket(7)).
    assert handle.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 2 * SEND_BUFFER
    client.close()
    await server.ends.over
