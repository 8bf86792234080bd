"""TLS as it is spoken: real sockets, and the standard library's TLS on the other side."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
import trustme
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates
from implicit_tls import TLSEndpoint
from logins import Realm, portal
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.ssl import Certificate, CertificateOptions
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from zope.interface import implementer

from lmtp_twisted import LMTPFactory, PermanentFailure, Settings, connection
from lmtp_twisted.testing import RecordingObserver, ScriptedDeliveries

PATIENCE = 20.0
CA = trustme.CA()
SERVER = CA.issue_cert("mx.example")
CLIENT = CA.issue_cert("client.example")


def options(**more: Any) -> CertificateOptions:
    """What the server has."""
    (certificate,) = load_pem_x509_certificates(SERVER.cert_chain_pems[0].bytes())
    key = load_pem_private_key(SERVER.private_key_pem.bytes(), None)
    return CertificateOptions(privateKey=key, certificate=certificate, **more)


class Server:
    """A server on a port of loopback, with TLS from the first octet or by STARTTLS."""

    def __init__(self) -> None:
        self.observer = RecordingObserver()
        self.deliveries: Any = ScriptedDeliveries()
        self._ports: list[Any] = []

    async def listen(
        self,
        *,
        implicit: bool = False,
        tls: Any = None,
        connection_policy: Any = None,
        portal: Any = None,
        **settings: Any,
    ) -> int:
        """Start it. Returns its port."""
        tls = tls or options()
        self.factory = LMTPFactory(
            self.deliveries,
            settings=Settings(hostname="mx.example", **settings),
            tls=tls,
            connection_policy=connection_policy,
            portal=portal,
            observers=[self.observer],
        )
        endpoint: Any = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        self._ports.append(await (TLSEndpoint(endpoint, tls) if implicit else endpoint).listen(self.factory))
        port: int = self._ports[-1].getHost().port
        return port

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


class Talk:
    """A client: for threads."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._lines = b""

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def secure(self, *, certificate: Any = None, newest: ssl.TLSVersion | None = None) -> None:
        """Shake hands."""
        context = ssl.create_default_context()
        CA.configure_trust(context)
        if certificate is not None:
            certificate.configure_cert(context)
        if newest is not None:
            context.minimum_version, context.maximum_version = ssl.TLSVersion.MINIMUM_SUPPORTED, newest
        self.socket = context.wrap_socket(self.socket, server_hostname="mx.example")

    def reply(self) -> list[str]:
        """The lines of the next reply; none where the connection is over."""
        lines: list[str] = []
        while True:
            while b"\r\n" not in self._lines:
                data = self.socket.recv(65536)
                if not data:
                    assert not self._lines
                    return lines
                self._lines += data
            line, _, self._lines = self._lines.partition(b"\r\n")
            lines.append(line.decode("ascii"))
            if lines[-1][3] == " ":
                return lines

    def say(self, command: str) -> list[str]:
        """One command and its reply."""
        self.socket.sendall(f"{command}\r\n".encode())
        return self.reply()

    def starttls(self, **options: Any) -> None:
        """From the greeting to the other side of the handshake."""
        self.reply()
        assert "STARTTLS" in [line[4:] for line in self.say("LHLO c")]
        assert self.say("STARTTLS")[0].startswith("220 2.0.0 ")
        self.secure(**options)


def in_thread(port: int, talk: Callable[[Talk], Any]) -> Deferred[Any]:
    """Let a client talk."""

    def run() -> Any:
        with Talk(port) as client:
            return talk(client)

    return deferToThread(run)


def nothing_after_starttls(client: Talk) -> bytes:
    """A client that asks for TLS and then says nothing. Returns what it hears."""
    client.reply()
    client.say("LHLO c")
    client.say("STARTTLS")
    try:
        return client.socket.recv(65536)
    except ConnectionResetError:
        return b""


def first(lines: list[str]) -> str:
    return lines[0][:9]


@pytest_twisted.ensureDeferred
async def test_after_the_handshake_the_session_begins_anew(server: Server) -> None:
    """RFC 3207 §4.2: what was learnt in the clear is forgotten, and STARTTLS is not announced any more."""
    port = await server.listen()

    def talk(client: Talk) -> list[str]:
        client.starttls()
        said = [first(client.say("MAIL FROM:<a@example.net>"))]
        assert not [line for line in client.say("LHLO again") if "STARTTLS" in line]
        said += [first(client.say("STARTTLS")), first(client.say("MAIL FROM:<a@example.net>"))]
        said += [first(client.say("RCPT TO:<one@example.org>")), first(client.say("DATA"))]
        client.socket.sendall(b"Subject: x\r\n\r\nHello\r\n.\r\n")
        said += [first(client.reply()), first(client.say("QUIT"))]
        assert client.reply() == []
        return said

    assert await in_thread(port, talk) == [
        "503 5.5.1",
        "503 5.5.1",
        "250 2.1.0",
        "250 2.1.5",
        "354 End d",
        "250 2.0.0",
        "221 2.0.0",
    ]
    (message,) = server.deliveries.messages
    assert b" with LMTPS id " in message.received
    assert b"Received: from again " in message.received
    tls = message.session.tls
    assert (tls.version, tls.peer_certificate) == ("TLSv1.3", None)
    assert tls.cipher.startswith("TLS_")
    assert [event.name for event in server.observer.events][:2] == ["sessionStarted", "sessionSecured"]


@pytest_twisted.ensureDeferred
async def test_the_name_that_was_said_in_the_clear_is_forgotten(server: Server) -> None:
    """RFC 3207 §4.2."""
    port = await server.listen()

    def talk(client: Talk) -> str:
        client.starttls()
        (protocol,) = server.factory.sessions
        return protocol.session.lhlo_name

    assert await in_thread(port, talk) == ""


@pytest_twisted.ensureDeferred
async def test_what_comes_in_the_clear_after_220_is_no_command(server: Server) -> None:
    """It goes to TLS, which it is not."""
    port = await server.listen()

    def talk(client: Talk) -> bytes:
        client.reply()
        client.say("LHLO c")
        client.say("STARTTLS")
        client.socket.sendall(b"LHLO d\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nDATA\r\nx\r\n.\r\n")
        answer = b""
        try:
            while data := client.socket.recv(65536):
                answer += data
        except ConnectionResetError:
            pass
        return answer

    answer = await in_thread(port, talk)
    # An alert of TLS at the most (RFC 8446 §5.1), and no reply.
    assert not answer or answer[:1] == b"\x15"
    assert b"250" not in answer
    assert server.deliveries.messages == []


@pytest.mark.parametrize("implicit", [False, True], ids=["STARTTLS", "from the first octet"])
@pytest_twisted.ensureDeferred
async def test_a_client_shows_its_certificate(server: Server, implicit: bool) -> None:
    """RFC 8446 §4.3.2."""
    trusted = [Certificate.loadPEM(CA.cert_pem.bytes()).original]
    port = await server.listen(implicit=implicit, tls=options(verify=True, caCerts=trusted, requireCertificate=False))

    def talk(client: Talk) -> Any:
        if implicit:
            client.secure(certificate=CLIENT)
            client.reply()
        else:
            client.starttls(certificate=CLIENT)
        client.say("LHLO d")
        (protocol,) = server.factory.sessions
        return protocol.session.tls

    tls = await in_thread(port, talk)
    assert ssl.DER_cert_to_PEM_cert(tls.peer_certificate) == CLIENT.cert_chain_pems[0].bytes().decode()
    assert "peer_certificate" not in repr(tls)


@pytest_twisted.ensureDeferred
async def test_tls_from_the_first_octet(server: Server) -> None:
    """RFC 8314 §3: the greeting comes over TLS, and STARTTLS has no place there."""
    port = await server.listen(implicit=True, enabled=["REQUIRETLS"])

    def talk(client: Talk) -> list[str]:
        client.secure()
        assert client.reply()[0].startswith("220 mx.example LMTP ")
        capabilities = [line[4:] for line in client.say("LHLO c")]
        assert "REQUIRETLS" in capabilities
        assert "STARTTLS" not in capabilities
        return [first(client.say("STARTTLS")), first(client.say("MAIL FROM:<a@example.net> REQUIRETLS"))]

    assert await in_thread(port, talk) == ["503 5.5.1", "250 2.1.0"]


@pytest_twisted.ensureDeferred
async def test_a_large_message_and_late_replies(server: Server) -> None:
    """All that holds a session back holds it back under TLS too."""

    def late() -> Deferred[None]:
        return deferLater(reactor, 0, lambda: None)  # type: ignore[arg-type]

    server.deliveries = ScriptedDeliveries({"one@example.org": late, "two@example.org": late})
    port = await server.listen()
    content = b"".join(b"line %d\r\n" % number for number in range(300_000))

    def talk(client: Talk) -> list[str]:
        client.starttls()
        client.socket.sendall(
            b"LHLO c\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<one@example.org>\r\nRCPT TO:<two@example.org>\r\nDATA\r\n"
        )
        for _ in range(5):
            client.reply()
        client.socket.sendall(content + b".\r\nQUIT\r\n")
        said = [first(client.reply()) for _ in range(3)]
        assert client.reply() == []
        return said

    assert await in_thread(port, talk) == ["250 2.0.0", "250 2.0.0", "221 2.0.0"]
    (message,) = server.deliveries.messages
    assert message.size == len(content)


@pytest_twisted.ensureDeferred
async def test_a_refusal_that_closes_is_heard_under_tls(server: Server) -> None:
    """The connection below is not half-closed: that would take the reply with it."""
    port = await server.listen()

    def talk(client: Talk) -> list[str]:
        client.starttls()
        return [first(client.say("GET / HTTP/1.1")), *client.reply()]

    assert await in_thread(port, talk) == ["421 4.7.0"]


@pytest_twisted.ensureDeferred
async def test_a_handshake_that_does_not_come_ends_like_silence(server: Server) -> None:
    """RFC 5321 §4.5.3.2.7: no session waits for ever."""
    port = await server.listen(idle_timeout=0.3, write_timeout=0.3)

    assert await in_thread(port, nothing_after_starttls) == b""


@pytest_twisted.ensureDeferred
async def test_a_handshake_that_comes_octet_by_octet_ends_in_time(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it sends is no sign of life before the handshake is over."""
    monkeypatch.setattr(connection, "HANDSHAKE_TIMEOUT", 0.3)
    port = await server.listen()

    def talk(client: Talk) -> int:
        client.reply()
        client.say("LHLO c")
        client.say("STARTTLS")
        hello = bytes.fromhex("1603010200010001fc0303") + bytes(500)
        for place in range(len(hello)):
            try:
                client.socket.sendall(hello[place : place + 1])
            except (ConnectionResetError, BrokenPipeError):
                return place
            ended.wait(0.02)
        return len(hello)

    ended = threading.Event()
    assert await in_thread(port, talk) < 400


@implementer(IOpenSSLServerConnectionCreator)
class Broken:
    """It has lost its certificate."""

    def serverConnectionForTLS(self, protocol: Any) -> Any:
        raise RuntimeError("no certificate")


@pytest_twisted.ensureDeferred
async def test_where_tls_cannot_be_started_the_connection_ends_and_nothing_else(server: Server, logged: Any) -> None:
    """The 220 is out: what the client sends next is TLS, and must not be taken for commands."""
    port = await server.listen(tls=Broken())

    assert await in_thread(port, nothing_after_starttls) == b""
    (event,) = logged.take()
    assert event["log_failure"].check(RuntimeError)


@pytest_twisted.ensureDeferred
async def test_a_server_that_stops_says_so_under_tls(server: Server) -> None:
    """RFC 5321 §3.8."""
    port = await server.listen()
    ready: Deferred[None] = Deferred()

    def talk(client: Talk) -> list[str]:
        client.starttls()
        client.say("LHLO c")
        reactor.callFromThread(ready.callback, None)  # type: ignore[attr-defined]
        return [first(client.reply()), *client.reply()]

    talking = in_thread(port, talk)
    await ready
    draining = server.factory.drain()
    assert await talking == ["421 4.3.2"]
    await draining


@pytest_twisted.ensureDeferred
async def test_a_policy_sees_the_tls_of_a_connection_that_begins_with_it(server: Server) -> None:
    """It is asked when the handshake is over, and may go by the certificate."""
    seen: list[Any] = []

    class Policy:
        def validateConnection(self, session: Any) -> None:
            seen.append(session.tls)
            if session.tls.version == "TLSv1.2":
                raise PermanentFailure("too old")

    port = await server.listen(implicit=True, connection_policy=Policy())

    def talk(client: Talk) -> str:
        client.secure()
        return first(client.reply())

    def old(client: Talk) -> str:
        client.secure(newest=ssl.TLSVersion.TLSv1_2)
        return first(client.reply())

    assert await in_thread(port, talk) == "220 mx.ex"
    assert await in_thread(port, old) == "554 5.7.1"
    assert [tls.version for tls in seen] == ["TLSv1.3", "TLSv1.2"]


@pytest_twisted.ensureDeferred
async def test_a_connection_whose_handshake_does_not_come_is_not_greeted(server: Server) -> None:
    """It ends like any other that is silent."""
    port = await server.listen(implicit=True, idle_timeout=0.3, write_timeout=0.3)

    def talk(client: Talk) -> bytes:
        try:
            return client.socket.recv(65536)
        except ConnectionResetError:
            return b""

    assert await in_thread(port, talk) == b""


@pytest_twisted.ensureDeferred
async def test_who_authenticated_in_the_clear_has_to_do_so_again(server: Server) -> None:
    """RFC 3207 §4.2: all that was learnt before is gone, the avatar too."""
    realm = Realm()
    port = await server.listen(portal=portal(realm), auth_required=True, auth_insecure=True)

    def talk(client: Talk) -> list[str]:
        client.reply()
        client.say("LHLO c")
        plain = "AUTH PLAIN AGFsaWNlAHNlY3JldA=="
        said = [first(client.say(plain)), first(client.say("STARTTLS"))]
        client.secure()
        client.say("LHLO c")
        said += [first(client.say("MAIL FROM:<a@example.net>")), first(client.say(plain))]
        return [*said, first(client.say("MAIL FROM:<a@example.net>"))]

    assert await in_thread(port, talk) == ["235 2.7.0", "220 2.0.0", "530 5.7.0", "235 2.7.0", "250 2.1.0"]
    assert len(realm.minds) == 2
    assert realm.logged_out >= 1
