"""
Sessions behind a proxy: HAProxy's proxy-protocol.txt, whose sections are cited here. The headers themselves are in
tests/wire/test_proxy_headers.py.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from dialogue import server
from hypothesis import given
from hypothesis import strategies as st
from proxied import DESTINATION, OURS, PROXY, SOURCE, V1, V2, Listening, ProxiedTransport
from twisted.internet.address import IPv6Address, UNIXAddress
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.logger import LogLevel, globalLogPublisher

from lmtp_twisted import PermanentFailure
from lmtp_twisted.testing import FakeReactor, RecordingObserver, ScriptedDeliveries
from lmtp_twisted.wire.proxy import SIGNATURE

SESSION = (
    b"LHLO client.example\r\nMAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"
    b"Subject: x\r\n\r\nHello\r\n.\r\nQUIT\r\n"
)


@pytest.fixture
def said() -> Iterator[list[tuple[str, str]]]:
    """What was logged, as levels and words."""
    lines: list[tuple[str, str]] = []

    def observe(event: Any) -> None:
        if event.get("log_namespace") == "lmtp_twisted" and event["log_level"] < LogLevel.error:
            lines.append((event["log_level"].name, event["log_format"].format(**event)))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


def greeting(sent: bytes) -> bool:
    return re.fullmatch(rb"220 [^\r\n]+\r\n", sent) is not None


def peer_and_host(factory: Any) -> tuple[Any, Any]:
    (protocol,) = factory.sessions
    return protocol.session.peer, protocol.session.host


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
def test_the_session_begins_behind_the_header_and_is_that_of_the_client(header: bytes) -> None:
    """§2: the receiver that speaks first must wait."""
    observer = RecordingObserver()
    factory = server(observers=[observer])
    connection = Listening(factory).connect()
    assert connection.send(header[:-1]) == b""
    assert not factory.sessions
    assert not observer.events
    assert greeting(connection.send(header[-1:]))
    assert peer_and_host(factory) == (SOURCE, DESTINATION)
    assert [event.name for event in observer.events] == ["sessionStarted"]
    connection.lose()
    assert factory.reactor.getDelayedCalls() == []


def test_nothing_of_the_header_is_left_between_session_and_transport() -> None:
    """So speed, STARTTLS, half-closing and aborting are those of a session without a proxy."""
    factory = server()
    connection = Listening(factory).connect()
    connection.send(V1)
    (protocol,) = factory.sessions
    assert connection.protocol is protocol
    assert protocol.transport is connection
    connection.lose()


def whole_session(header: bytes, at: int) -> tuple[list[bytes], bytes]:
    """Split at one place. Returns the replies, ids masked, and the Received line."""
    deliveries = ScriptedDeliveries()
    factory = server(deliveries)
    connection = Listening(factory).connect()
    data = header + SESSION
    replies = connection.send(data[:at], data[at:])
    connection.lose()
    assert factory.reactor.getDelayedCalls() == []
    (message,) = deliveries.messages
    return re.sub(rb"\b[0-9a-z]{14}(?=\.\d)", b"ID", replies).split(b"\r\n"), message.received


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
def test_a_session_in_the_segment_of_its_header_is_the_same_wherever_that_is_split(header: bytes) -> None:
    """§2: what follows the header is the session's."""
    expected, received = whole_session(header, 0)
    assert [reply[:3] for reply in expected if reply[3:4] != b"-"] == [
        *(b"220", b"250", b"250", b"250", b"354", b"250", b"221", b"")
    ]
    assert b"Received: from client.example ([192.0.2.1])\r\n" in received
    for at in range(1, len(header) + len(SESSION)):
        assert whole_session(header, at)[0] == expected, at


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
def test_octet_by_octet_is_the_same(header: bytes) -> None:
    """§2: a TCP connection is a stream."""
    factory = server()
    connection = Listening(factory).connect()
    assert greeting(connection.send(*(bytes([octet]) for octet in header)))
    assert peer_and_host(factory) == (SOURCE, DESTINATION)
    connection.lose()


UNIX = SIGNATURE + b"\x21\x31" + struct.pack("!H108s108s", 216, b"/run/client", b"")
IPV6 = b"PROXY TCP6 2001:db8::1 2001:db8::2 4711 24\r\n"
REAL = {
    "UNKNOWN": b"PROXY UNKNOWN 192.0.2.1 198.51.100.2 4711 24\r\n",
    "LOCAL": SIGNATURE + b"\x20" + V2[13:],
    "AF_UNSPEC": SIGNATURE + b"\x21\x00" + V2[14:],
}


def test_an_ipv6_client_is_one() -> None:
    """§2.1."""
    factory = server()
    connection = Listening(factory).connect()
    connection.send(IPV6)
    assert peer_and_host(factory) == (IPv6Address("TCP", "2001:db8::1", 4711), IPv6Address("TCP", "2001:db8::2", 24))
    connection.lose()


def test_a_client_of_a_unix_socket_is_one() -> None:
    """§2.2."""
    factory = server()
    connection = Listening(factory).connect()
    connection.send(UNIX)
    peer, host = peer_and_host(factory)
    assert (peer.name, host.name) == (b"/run/client", None)
    assert isinstance(peer, UNIXAddress)
    assert next(iter(factory.sessions)).session.peer_name == "unix"
    connection.lose()


@pytest.mark.parametrize("header", REAL.values(), ids=REAL)
def test_where_the_header_names_nobody_the_proxy_is_the_client(header: bytes) -> None:
    """§2.1 UNKNOWN, §2.2 LOCAL and AF_UNSPEC: the real ends of the connection."""
    factory = server()
    connection = Listening(factory).connect()
    assert greeting(connection.send(header))
    assert peer_and_host(factory) == (PROXY, OURS)
    connection.lose()


def test_a_connection_policy_sees_the_client() -> None:
    """And what it refuses is told so, behind the header."""
    seen: list[Any] = []

    class Nobody:
        def validateConnection(self, session: Any) -> None:
            seen.append(session.peer)
            raise PermanentFailure("Not you")

    factory = server(connection_policy=Nobody())
    connection = Listening(factory).connect()
    assert connection.send(V1 + SESSION) == b"554 5.7.1 Not you\r\n"
    assert seen == [SOURCE]
    connection.lose()


def test_the_factory_is_asked_with_the_address_of_the_client_and_may_refuse() -> None:
    """As without a proxy: then the connection is closed."""
    asked: list[Any] = []

    class Refusing(ServerFactory):
        noisy = False

        def buildProtocol(self, addr: Any) -> None:
            asked.append(addr)

    connection = Listening(Refusing(), FakeReactor()).connect()
    assert connection.send(V1) == b""
    assert connection.aborting
    assert asked == [SOURCE]


class Closing(Protocol):
    """One that closes as soon as it is connected."""

    heard = b""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        self.heard += data


def test_a_protocol_that_has_closed_the_connection_hears_nothing_more() -> None:
    """As without a proxy."""
    factory = ServerFactory.forProtocol(Closing)
    factory.noisy = False
    connection = Listening(factory, FakeReactor()).connect()
    connection.send(V1 + b"more")
    assert connection.disconnecting
    assert connection.protocol.heard == b""


# Headers that are none, and those that do not come


def assert_refused(connection: ProxiedTransport, factory: Any) -> None:
    assert connection.aborting
    assert connection.value() == b""
    assert factory.reactor.getDelayedCalls() == []
    # Whatever else was on its way is not looked at.
    connection.protocol.dataReceived(V1 + SESSION)
    assert connection.value() == b""
    assert not factory.sessions
    connection.lose()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"LHLO client.example\r\n", "no header, but b'LHLO cli'"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03", r"no header, but b'\x16\x03\x01\x02\x00\x01\x00\x01'"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 x24\r\n", "not two addresses and two ports"),
        (b"PROXY UNKNOWN " + b"x" * 200, "the header does not end"),
        (SIGNATURE + b"\x2a", "version and command 0x2a are unknown"),
        (SIGNATURE + b"\x21\x41" + V2[14:], "family and protocol 0x41 are unknown"),
        (SIGNATURE + b"\x21\x11\xff\xff", "a header of 65551 octets"),
    ],
)
def test_a_wrong_header_ends_the_connection_without_a_word(data: bytes, why: str, said: list[tuple[str, str]]) -> None:
    """§2.1, §2.2. The log says why, and holds nothing that is not printable."""
    factory = server()
    connection = Listening(factory).connect()
    connection.send(data)
    assert_refused(connection, factory)
    assert said == [("warn", f"PROXY from 192.0.2.99: {why}; the connection is closed")]


def test_a_header_that_is_late_ends_the_connection_without_a_word(said: list[tuple[str, str]]) -> None:
    """§2: a short time-out, however the header trickles in."""
    factory = server()
    connection = Listening(factory).connect()
    for octet in V1[:9]:
        connection.send(bytes([octet]))
        factory.reactor.advance(1)
    assert not connection.aborting
    factory.reactor.advance(1)
    assert_refused(connection, factory)
    assert said == [("warn", "PROXY from 192.0.2.99: no header in time; the connection is closed")]


def test_the_time_is_a_choice() -> None:
    """And what is in time is a session, with its own time-outs only."""
    factory = server()
    listening = Listening(factory, timeout=3)
    in_time, late = listening.connect(), listening.connect()
    factory.reactor.advance(2.9)
    assert greeting(in_time.send(V2))
    factory.reactor.advance(0.2)
    assert late.aborting
    assert not in_time.aborting
    # It may be on its way already.
    late.protocol.dataReceived(V1)
    assert late.value() == b""
    assert len(factory.sessions) == 1
    in_time.lose()


@pytest.mark.parametrize("sent", [b"", V1[:20], V2[:20]])
def test_a_connection_that_ends_before_its_header_leaves_nothing(sent: bytes, said: list[tuple[str, str]]) -> None:
    """It was no session: so do health checks that only connect."""
    observer = RecordingObserver()
    factory = server(observers=[observer])
    connection = Listening(factory).connect()
    connection.send(sent)
    connection.lose()
    assert factory.reactor.getDelayedCalls() == []
    assert not observer.events
    assert said == [("debug", "PROXY from 192.0.2.99: the connection ended before its header")]


def test_of_too_many_that_wait_the_one_that_waited_longest_goes() -> None:
    """They are no sessions, so the limit of sessions does not count them: a real proxy sends its header at once."""
    factory = server()
    listening = Listening(factory, most_waiting=2)
    served = listening.connect()
    served.send(V1)
    first, second, third = (listening.connect() for _ in range(3))
    assert [connection.aborting for connection in (served, first, second, third)] == [False, True, False, False]
    assert greeting(second.send(V1))
    fourth = listening.connect()
    assert not third.aborting
    for connection in (served, first, second, third, fourth):
        connection.lose()
    assert factory.reactor.getDelayedCalls() == []


def test_a_port_that_is_closed_waits_for_no_header() -> None:
    """Sessions are not its business: the factory drains them."""
    factory = server()
    listening = Listening(factory)
    served, waiting = listening.connect(), listening.connect()
    served.send(V1)
    listening.stop()
    assert waiting.aborting
    assert not served.aborting
    waiting.lose()
    served.lose()
    assert factory.reactor.getDelayedCalls() == []


def test_the_factory_behind_it_starts_and_stops_with_the_port() -> None:
    """Applications open and close what they need there."""
    calls: list[str] = []

    class Telling(ServerFactory):
        noisy = False

        def startFactory(self) -> None:
            calls.append("start")

        def stopFactory(self) -> None:
            calls.append("stop")

    listening = Listening(Telling(), FakeReactor())
    assert calls == ["start"]
    listening.stop()
    assert calls == ["start", "stop"]


@given(
    st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([V1, V2, SIGNATURE, b"PROXY ", b"\r\n"])), max_size=6)
)
def test_whatever_comes_is_a_session_or_is_waited_for_or_ends_without_a_word(segments: list[bytes]) -> None:
    """And nothing is left of it."""
    factory = server()
    connection = Listening(factory).connect()
    sent = connection.send(*segments)
    has_begun = sent.startswith(b"220 ")
    assert has_begun or sent == b""
    assert not (has_begun and connection.aborting)
    connection.lose()
    assert factory.reactor.getDelayedCalls() == []
    assert not factory.sessions
