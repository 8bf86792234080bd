"""Sessions behind a header of the PROXY protocol on real sockets: what transports do, no fake can tell."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates
from implicit_tls import TLSEndpoint
from proxied import DESTINATION, SOURCE, V1, V2
from twisted.internet import reactor, tcp, unix
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import (
    SSL4ServerEndpoint,
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    UNIXServerEndpoint,
)
from twisted.internet.ssl import CertificateOptions
from twisted.internet.threads import deferToThread

from lmtp_twisted import LMTPFactory, Settings
from lmtp_twisted.extensions.proxy import ProxyEndpoint
from lmtp_twisted.testing import ScriptedDeliveries

PATIENCE = 20.0
CA = trustme.CA()
MESSAGE = b"MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nSubject: x\r\n\r\nHello\r\n.\r\n"
HEADERS = pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])


def tls() -> CertificateOptions:
    """The server's certificate."""
    issued = CA.issue_cert("mx.example")
    (certificate,) = load_pem_x509_certificates(issued.cert_chain_pems[0].bytes())
    return CertificateOptions(
        privateKey=load_pem_private_key(issued.private_key_pem.bytes(), None), certificate=certificate
    )


class Servers:
    """
    Servers behind a proxy.

    :ivar factory: their sessions.
    """

    def __init__(self) -> None:
        self.deliveries = ScriptedDeliveries()
        self.tls = tls()
        self.factory = LMTPFactory(self.deliveries, settings=Settings(hostname="mx.example"), tls=self.tls)
        self._ports: list[Any] = []

    async def listen(self, endpoint: Any, **options: Any) -> Any:
        """Returns where a client connects to."""
        return await self.start(ProxyEndpoint(endpoint, reactor, **options))

    async def start(self, endpoint: Any) -> Any:
        """The same with an endpoint that is wrapped already."""
        port = await endpoint.listen(self.factory)
        self._ports.append(port)
        address = port.getHost()
        return address.name if hasattr(address, "name") else (address.host, address.port)

    async def stop(self) -> None:
        """Close the ports and all sessions."""
        while self._ports:
            await maybeDeferred(self._ports.pop().stopListening)
        for protocol in list(self.factory.sessions):
            protocol.transport.abortConnection()
        await self.factory.drain()


@pytest_twisted.async_yield_fixture
async def servers() -> AsyncIterator[Servers]:
    """Servers that end with the test."""
    made = Servers()
    yield made
    await made.stop()


class Talk:
    """The proxy: for threads."""

    def __init__(self, where: Any) -> None:
        if isinstance(where, bytes):
            self.socket = socket.socket(socket.AF_UNIX)
        else:
            self.socket = socket.socket(socket.AF_INET6 if ":" in where[0] else socket.AF_INET)
        self.socket.settimeout(PATIENCE)
        try:
            self.socket.connect(where)
        except OSError:
            self.socket.close()
            raise

    def secure(self) -> None:
        """Shake hands."""
        context = ssl.create_default_context()
        CA.configure_trust(context)
        self.socket = context.wrap_socket(self.socket, server_hostname="mx.example")

    def until(self, *words: bytes) -> bytes:
        """Read until all of these have come."""
        data = b""
        while not all(word in data for word in words):
            more = self.socket.recv(65536)
            assert more, data
            data += more
        return data

    def rest(self) -> bytes:
        """Read to the end, however it ends."""
        data = b""
        try:
            while more := self.socket.recv(65536):
                data += more
        except ConnectionResetError:
            pass
        return data


async def in_thread(where: Any, talk: Callable[[Talk], Any]) -> Any:
    """Let a proxy talk."""

    def run() -> Any:
        client = Talk(where)
        try:
            return talk(client)
        finally:
            client.socket.close()

    return await deferToThread(run)


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


KINDS = pytest.mark.parametrize(
    "kind",
    ["tcp", pytest.param("tcp6", marks=pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")), "unix"],
)


def endpoint(kind: str, directory: Path) -> Any:
    if kind == "unix":
        return UNIXServerEndpoint(reactor, str(directory / "socket"))
    if kind == "tcp6":
        return TCP6ServerEndpoint(reactor, 0, interface="::1")
    return TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")


@KINDS
@HEADERS
@pytest_twisted.ensureDeferred
async def test_a_session_and_its_message(servers: Servers, kind: str, header: bytes, tmp_path: Path) -> None:
    """The header and all of the session in one segment; the client closes its side, and gets all its replies."""
    where = await servers.listen(endpoint(kind, tmp_path))

    def talk(client: Talk) -> bytes:
        client.socket.sendall(header + b"LHLO c\r\n" + MESSAGE)
        client.socket.shutdown(socket.SHUT_WR)
        return client.rest()

    replies = await in_thread(where, talk)
    assert b"\r\n250 2.0.0 <b@example.org> " in replies
    (message,) = servers.deliveries.messages
    assert (message.session.peer, message.session.host) == (SOURCE, DESTINATION)
    assert b"Received: from c ([192.0.2.1])\r\n" in message.received


@KINDS
@pytest_twisted.ensureDeferred
async def test_replies_leave_as_they_do_without_a_proxy(servers: Servers, kind: str, tmp_path: Path) -> None:
    """The session has the socket's own transport."""
    where = await servers.listen(endpoint(kind, tmp_path))

    def talk(client: Talk) -> Any:
        client.socket.sendall(V1)
        client.until(b"220 ")
        (protocol,) = servers.factory.sessions
        return type(protocol.transport), protocol._sends_at_once

    assert await in_thread(where, talk) == (unix.Server if kind == "unix" else tcp.Server, True)


@KINDS
@HEADERS
@pytest_twisted.ensureDeferred
async def test_starttls_behind_a_header(servers: Servers, kind: str, header: bytes, tmp_path: Path) -> None:
    """RFC 3207. The client keeps its address."""
    where = await servers.listen(endpoint(kind, tmp_path))

    def talk(client: Talk) -> bytes:
        client.socket.sendall(header + b"LHLO c\r\nSTARTTLS\r\n")
        client.until(b"220 mx", b"\r\n220 2.0.0 ")
        client.secure()
        client.socket.sendall(b"LHLO c\r\n" + MESSAGE + b"QUIT\r\n")
        return client.rest()

    assert b"\r\n221 2.0.0 " in await in_thread(where, talk)
    (message,) = servers.deliveries.messages
    assert message.session.peer == SOURCE
    assert message.session.tls is not None
    assert b"([192.0.2.1])\r\n" in message.received


@KINDS
@HEADERS
@pytest_twisted.ensureDeferred
async def test_tls_from_the_first_octet_behind_a_header(
    servers: Servers, kind: str, header: bytes, tmp_path: Path
) -> None:
    """RFC 8314 §3. The header comes in the clear, the greeting over TLS."""
    where = await servers.start(TLSEndpoint(ProxyEndpoint(endpoint(kind, tmp_path), reactor), servers.tls))

    def talk(client: Talk) -> bytes:
        client.socket.sendall(header)
        client.secure()
        greeting = client.until(b"220 mx")
        client.socket.sendall(b"LHLO c\r\n" + MESSAGE + b"QUIT\r\n")
        return greeting + client.rest()

    assert b"\r\n221 2.0.0 " in await in_thread(where, talk)
    (message,) = servers.deliveries.messages
    assert (message.session.peer, message.session.host) == (SOURCE, DESTINATION)
    assert message.session.tls is not None
    assert b"([192.0.2.1])\r\n" in message.received


@pytest_twisted.ensureDeferred
async def test_a_hello_of_tls_in_the_segment_of_the_header_is_for_tls(servers: Servers) -> None:
    """§2 of HAProxy's proxy-protocol.txt: what follows the header is the connection's."""
    where = await servers.start(
        TLSEndpoint(ProxyEndpoint(TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"), reactor), servers.tls)
    )

    def talk(client: Talk) -> bytes:
        context = ssl.create_default_context()
        CA.configure_trust(context)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        secure = context.wrap_bio(incoming, outgoing, server_hostname="mx.example")
        with pytest.raises(ssl.SSLWantReadError):
            secure.do_handshake()
        client.socket.sendall(V2 + outgoing.read())
        while True:
            try:
                return secure.read()
            except ssl.SSLWantReadError:
                client.socket.sendall(outgoing.read())
                incoming.write(client.socket.recv(65536))

    assert (await in_thread(where, talk)).startswith(b"220 mx.example ")


@pytest.mark.parametrize("said", [b"LHLO c\r\n" + MESSAGE, b"PROXY TCP4 nobody\r\n", b""], ids=["none", "bad", "late"])
@KINDS
@pytest_twisted.ensureDeferred
async def test_without_a_header_not_an_octet_comes(servers: Servers, kind: str, said: bytes, tmp_path: Path) -> None:
    """It could be anybody's connection."""
    # What is wrong need not wait for the time-out.
    where = await servers.listen(endpoint(kind, tmp_path), timeout=2 * PATIENCE if said else 0.2)

    def talk(client: Talk) -> bytes:
        client.socket.sendall(said)
        return client.rest()

    assert await in_thread(where, talk) == b""
    assert not servers.deliveries.calls


@pytest_twisted.ensureDeferred
async def test_a_port_that_is_closed_ends_what_waits_for_a_header(servers: Servers) -> None:
    """Nobody waits for its time-out."""
    where = await servers.listen(TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"))
    ready: Deferred[None] = Deferred()

    def talk(client: Talk) -> bytes:
        # The one that comes later has been served, so the first one has been accepted.
        second = Talk(where)
        second.socket.sendall(V1)
        second.until(b"220 ")
        second.socket.close()
        reactor.callFromThread(ready.callback, None)  # type: ignore[attr-defined]
        return client.rest()

    talking = Deferred.fromCoroutine(in_thread(where, talk))
    await ready
    await servers.stop()
    assert await talking == b""


@pytest_twisted.ensureDeferred
async def test_a_transport_that_is_tls_already_is_not_one_for_a_header(servers: Servers) -> None:
    """No sender puts it there, and the session could not take its place."""
    endpoint = SSL4ServerEndpoint(reactor, 0, servers.tls, interface="127.0.0.1")
    where = await servers.listen(endpoint, timeout=2 * PATIENCE)
    try:
        heard = await in_thread(where, Talk.rest)
    except ConnectionResetError:
        # It waits for nothing, and may have reset the connection before connect(2) has told of it.
        heard = b""
    assert heard == b""
    assert not servers.deliveries.calls


ASYNCIO = """
import asyncio, socket, sys
from twisted.internet import asyncioreactor
asyncioreactor.install(asyncio.new_event_loop())
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.threads import deferToThread
from lmtp_twisted import LMTPFactory, Settings
from lmtp_twisted.extensions.proxy import ProxyEndpoint

def deliver(message, recipient):
    return message.session.peer_name

factory = LMTPFactory(deliver=deliver, settings=Settings(hostname="mx.example"))
endpoint = ProxyEndpoint(TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"), reactor)

def talk(port):
    with socket.create_connection(("127.0.0.1", port.getHost().port), timeout=20) as client:
        header = "PROXY TCP4 192.0.2.1 198.51.100.2 1 2"
        lines = [header, "LHLO c", "MAIL FROM:<a@x>", "RCPT TO:<b@x>", "DATA", "x", "."]
        client.sendall("".join(f"{line}\\r\\n" for line in lines).encode())
        client.shutdown(socket.SHUT_WR)
        with client.makefile() as replies:
            print(replies.read(), end="")

endpoint.listen(factory).addCallback(lambda port: deferToThread(talk, port)).addBoth(
    lambda result: (result and result.printTraceback(), reactor.stop())
)
reactor.run()
"""


def test_it_is_the_same_on_the_loop_of_asyncio() -> None:
    """In a process of its own, since a process has one reactor."""
    finished = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ASYNCIO], capture_output=True, text=True, timeout=60, check=True
    )
    assert finished.stderr == ""
    assert finished.stdout.splitlines()[-1].endswith(" 192.0.2.1")
