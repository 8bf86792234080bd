"""What is known of a session."""

from __future__ import annotations

import re
import socket
from typing import Any

import pytest
from dialogue import Client, connected, greeted, server, with_recipients
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.testing import StringTransport

from lmtp_twisted import LMTPFactory, SessionInfo
from lmtp_twisted.extensions.peer import link_of
from lmtp_twisted.session import Link, new_session_id
from lmtp_twisted.testing import ScriptedDeliveries

HERE = IPv4Address("TCP", "192.0.2.9", 24)


def test_session_ids_are_unique_and_later_ones_sort_later() -> None:
    """So that a log can be searched and sorted by them."""
    ids = [new_session_id() for _ in range(2000)]
    assert len(set(ids)) == 2000
    assert all(re.fullmatch("[0-9a-z]{14}", session_id) for session_id in ids)
    first = new_session_id()
    while (later := new_session_id())[:10] == first[:10]:
        pass
    assert first < later


def test_each_session_has_its_own_id_and_data() -> None:
    """The data is the application's."""
    factory = server()
    one, two = Client(factory).protocol.session, Client(factory).protocol.session
    one.data["x"] = 1
    assert one.id != two.id
    assert two.data == {}


def test_the_session_knows_its_two_addresses() -> None:
    """As the transport says."""
    client = connected()
    session = client.protocol.session
    assert session.peer == client.transport.getPeer()
    assert session.host == client.transport.getHost()
    assert session.peer_name == "192.168.1.1"


def test_the_lhlo_name_is_the_last_one_said() -> None:
    """RFC 2033 §4.1."""
    client = connected()
    assert client.protocol.session.lhlo_name == ""
    client.say("LHLO one.example", "LHLO two.example")
    assert client.protocol.session.lhlo_name == "two.example"
    client.say("LHLO", "EHLO three.example")
    assert client.protocol.session.lhlo_name == "two.example"


@given(st.binary(max_size=300))
def test_whatever_a_client_calls_itself_the_name_is_printable_ascii(name: bytes) -> None:
    """It stands in headers and logs."""
    client = connected()
    client.send(b"LHLO " + name.replace(b"\n", b"") + b"\r\n")
    known = client.protocol.session.lhlo_name
    assert re.fullmatch(r"[!-~]{0,255}", known)
    assert not set(known) & set('"();,<>\\ ')
    client.lose()


def test_a_new_session_knows_nothing_of_tls_and_users() -> None:
    """They come with their extensions."""
    session = SessionInfo(HERE, HERE)
    assert (session.tls, session.user, session.xclient, session.xforward, session.data) == (None, None, {}, {}, {})


@pytest.mark.parametrize(
    ("peer", "name"),
    [
        (IPv4Address("TCP", "192.0.2.1", 25), "192.0.2.1"),
        (IPv6Address("TCP", "2001:db8::1", 25), "2001:db8::1"),
        (UNIXAddress(None), "unix"),
        (UNIXAddress("/run/lmtp"), "unix"),
    ],
)
def test_the_peer_has_a_short_name(peer: object, name: str) -> None:
    """For logs."""
    assert SessionInfo(peer, HERE).peer_name == name  # type: ignore[arg-type]


def test_the_same_session_is_given_to_all() -> None:
    """To the backend, with the message, to observers."""
    deliveries = ScriptedDeliveries()
    client = with_recipients(deliveries)
    client.content()
    session = client.protocol.session
    assert deliveries.calls[0] == ("getDelivery", session)
    assert deliveries.messages[0].session is session


def test_what_the_application_remembers_lasts_for_the_session() -> None:
    """Over all of its messages."""

    class Counting(ScriptedDeliveries):
        def getDelivery(self, session: SessionInfo) -> ScriptedDeliveries:  # type: ignore[override]
            session.data["messages"] = session.data.get("messages", 0) + 1
            return self

    client = greeted(Counting())
    for _ in range(3):
        client.say("MAIL FROM:<a@x>", "RSET")
    assert client.protocol.session.data == {"messages": 3}


def test_protocols_are_made_for_any_address() -> None:
    """The transport knows its peer; the address is not asked for one."""
    factory: LMTPFactory = server()
    assert factory.buildProtocol(None).factory is factory
    assert factory.buildProtocol(HERE) is not factory.buildProtocol(HERE)


class Socketed(StringTransport):
    """
    A transport whose socket knows better.

    :param peer: what a proxy said, or the socket.
    :param family: of the socket.
    :param real: the address that it is connected to; ``None`` where it is not any more.
    """

    def __init__(self, peer: Any, family: int, real: str | None) -> None:
        super().__init__(peerAddress=peer)
        self.socket = self
        self.family = family
        self._real = real

    def getpeername(self) -> tuple[str, int]:
        """As a socket does."""
        if self._real is None:
            raise OSError("not connected")
        return self._real, 4711


@pytest.mark.parametrize(
    ("peer", "family", "real", "link"),
    [
        (IPv4Address("TCP", "127.0.0.1", 1), socket.AF_INET, "127.0.0.1", Link.LOOPBACK),
        (IPv6Address("TCP", "::1", 1), socket.AF_INET6, "::1", Link.LOOPBACK),
        (IPv4Address("TCP", "192.0.2.1", 1), socket.AF_INET, "192.0.2.1", Link.NETWORK),
        (UNIXAddress(b"/x"), socket.AF_UNIX, "", Link.UNIX),
        # A proxy on this machine passes on what came from afar, and one that is far off what came to its Unix socket.
        (IPv4Address("TCP", "192.0.2.1", 1), socket.AF_INET, "127.0.0.1", Link.NETWORK),
        (IPv4Address("TCP", "192.0.2.1", 1), socket.AF_UNIX, "", Link.NETWORK),
        (UNIXAddress(b"/x"), socket.AF_INET, "192.0.2.1", Link.NETWORK),
        (UNIXAddress(b"/x"), socket.AF_INET, "127.0.0.1", Link.LOOPBACK),
        (IPv4Address("TCP", "127.0.0.1", 1), socket.AF_INET, None, Link.NETWORK),
    ],
)
def test_the_way_to_the_peer_is_the_worse_of_its_parts(peer: Any, family: int, real: str | None, link: Link) -> None:
    """Whether a password can be said depends on it, so what a proxy claims makes it no better."""
    assert link_of(Socketed(peer, family, real)) is link
