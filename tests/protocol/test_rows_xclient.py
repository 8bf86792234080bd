"""XCLIENT and XFORWARD: for whom a trusted peer speaks (Postfix's XCLIENT_README and XFORWARD_README)."""

from __future__ import annotations

from typing import Any

import pytest
from dialogue import Client, codes, connected, greeted, server, with_recipients, with_sender
from logins import LOCAL, portal
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.testing import StringTransport

from lmtp_twisted import PermanentFailure, Settings, TemporaryFailure
from lmtp_twisted.session import Link
from lmtp_twisted.testing import RecordingObserver, ScriptedDeliveries
from lmtp_twisted.trust import Trust, ip_of
from lmtp_twisted.wire.proxy import ProxyHeader, UnixEnd

PEER = IPv4Address("TCP", "192.0.2.7", 4711)


def trusted(backend: Any = None, **options: Any) -> Client:
    """A client that may speak for others and has said LHLO."""
    client = connected(backend, peer=PEER, **{"trusted": ["192.0.2.0/24"], **options})
    client.say("LHLO proxy.example")
    return client


# Who may


@pytest.mark.parametrize(
    ("peer", "names", "is_trusted"),
    [
        (IPv4Address("TCP", "192.0.2.7", 1), ["192.0.2.0/24"], True),
        (IPv4Address("TCP", "192.0.3.7", 1), ["192.0.2.0/24"], False),
        (IPv4Address("TCP", "192.0.2.7", 1), ["192.0.2.7"], True),
        (IPv4Address("TCP", "192.0.2.7", 1), ["198.51.100.0/24", "192.0.2.0/24"], True),
        (IPv6Address("TCP", "2001:db8::7", 1), ["2001:db8::/32"], True),
        (IPv6Address("TCP", "::ffff:192.0.2.7", 1), ["192.0.2.0/24"], True),
        (IPv6Address("TCP", "fe80::7%eth0", 1), ["fe80::/10"], True),
        (IPv4Address("TCP", "192.0.2.7", 1), ["unix"], False),
        (IPv4Address("TCP", "127.0.0.1", 1), ["::ffff:127.0.0.0/104"], True),
        (IPv4Address("TCP", "192.0.2.7", 1), ["::ffff:127.0.0.0/104"], False),
        (UNIXAddress(b"/run/x"), ["unix"], True),
        (UNIXAddress(b"/run/x"), ["0.0.0.0/0", "::/0"], False),
        (UNIXAddress(None), ["unix"], True),
        (IPv4Address("TCP", "192.0.2.7", 1), [], False),
    ],
)
def test_who_is_trusted(peer: Any, names: list[str], is_trusted: bool) -> None:
    """Networks, and the clients of Unix sockets by name; nobody else."""
    assert Trust.of(names).covers(peer) is is_trusted
    client = connected(peer=peer, trusted=names)
    assert client.protocol.session.is_trusted is is_trusted
    lines = client.say("LHLO client.example")
    announced = {line[4:].split()[0] for line in lines} & {"XCLIENT", "XFORWARD"}
    assert announced == ({"XCLIENT", "XFORWARD"} if is_trusted else set())


@pytest.mark.parametrize("name", ["192.0.2.1/24", "example.org", "", "192.0.2.0/33", "UNIX"])
def test_what_is_no_network_is_refused(name: str) -> None:
    """In one line that names the setting."""
    with pytest.raises(ValueError, match=r"^trusted: "):
        Settings(hostname="x", trusted=[name])


def test_a_peer_without_an_address_has_none() -> None:
    """Whatever kind of transport there may be."""
    assert ip_of(UNIXAddress(b"/x")) is None


@pytest.mark.parametrize("verb", ["XCLIENT", "XFORWARD"])
def test_others_are_refused(verb: str) -> None:
    """550 5.7.0, whatever the attributes are."""
    client = greeted(trusted=["198.51.100.0/24"])
    before = client.protocol.session.peer
    assert codes(client.say(f"{verb} ADDR=192.0.2.1", f"{verb}", f"{verb} FOO=+zz")) == ["550 5.7.0"] * 3
    session = client.protocol.session
    assert (session.peer, session.xclient, session.xforward) == (before, {}, {})


@pytest.mark.parametrize("verb", ["XCLIENT", "XFORWARD"])
def test_either_can_be_switched_off(verb: str) -> None:
    """And is then neither announced nor accepted."""
    client = trusted(disabled=[verb])
    assert not [line for line in client.say("LHLO proxy.example") if verb in line]
    assert codes(client.say(f"{verb} ADDR=192.0.2.1")) == ["502 5.5.1"]


@pytest.mark.parametrize("verb", ["XCLIENT", "XFORWARD"])
@pytest.mark.parametrize("begun", [with_sender, with_recipients])
def test_not_in_a_transaction(verb: str, begun: Any) -> None:
    """Whoever it was sent it."""
    client = begun(trusted=["0.0.0.0/0"])
    assert codes(client.say(f"{verb} ADDR=192.0.2.1")) == ["503 5.5.1"]
    assert codes(client.say("RCPT TO:<one@example.org>")) == ["250 2.1.5"]


@pytest.mark.parametrize("verb", ["XCLIENT", "XFORWARD"])
@pytest.mark.parametrize(
    "attributes",
    [
        "",
        "ADDR",
        "ADDR=",
        "=x",
        "ADDR=192.0.2.1 ADDR=192.0.2.2",
        "ADDR=300.1.1.1",
        "ADDR=IPV6:192.0.2.1",
        "ADDR=fe80::1%eth0",
        "ADDR=example.org",
        "PORT=x",
        "PORT=65536",
        "PORT=-1",
        "PORT=123456",
        "PROTO=HTTP",
        "HELO=+zz",
        "HELO=+0D+0A",
        "HELO=a+00b",
        "NAME=+FF",
        "COLOUR=blue",
        "NAME=" + "x" * 256,
        "NAME=a\tb",
    ],
)
def test_bad_attributes_are_501(verb: str, attributes: str) -> None:
    """Nothing of them is taken."""
    client = trusted()
    assert codes(client.say(f"{verb} {attributes}")) == ["501 5.5.4"]
    session = client.protocol.session
    assert (session.peer, session.xclient, session.xforward) == (PEER, {}, {})


# XCLIENT


def test_after_xclient_the_session_begins_anew_as_the_client_that_is_named() -> None:
    """220, and LHLO is needed again; the address is the session's from now on."""
    client = trusted()
    assert client.say(
        "XCLIENT NAME=mail.example ADDR=198.51.100.9 PORT=2500 PROTO=ESMTP HELO=helo+2Eexample "
        "DESTADDR=198.51.100.1 DESTPORT=24"
    ) == ["220 mx.example.org LMTP ready"]
    assert codes(client.say("MAIL FROM:<a@example.net>")) == ["503 5.5.1"]
    session = client.protocol.session
    assert session.peer == IPv4Address("TCP", "198.51.100.9", 2500)
    assert session.host == IPv4Address("TCP", "198.51.100.1", 24)
    assert session.lhlo_name == ""
    assert session.xclient == {
        "NAME": "mail.example",
        "ADDR": "198.51.100.9",
        "PORT": "2500",
        "PROTO": "ESMTP",
        "HELO": "helo.example",
        "DESTADDR": "198.51.100.1",
        "DESTPORT": "24",
    }
    client.say("LHLO client.example", "MAIL FROM:<a@example.net>", "RCPT TO:<b@example.org>")
    client.content()
    (message,) = client.factory.backend.messages
    assert message.received.startswith(b"Received: from client.example ([198.51.100.9])")


@pytest.mark.parametrize("address", ["IPV6:2001:db8::9", "ipv6:2001:DB8:0::9", "2001:db8::9"])
def test_an_address_of_ipv6_may_have_its_prefix(address: str) -> None:
    """In any case."""
    client = trusted()
    client.say(f"XCLIENT ADDR={address}")
    assert client.protocol.session.peer == IPv6Address("TCP", "2001:db8::9", 0)


def test_what_the_peer_does_not_know_leaves_things_as_they_are() -> None:
    """``[UNAVAILABLE]`` and ``[TEMPUNAVAIL]``, in any case."""
    client = trusted()
    assert codes(client.say("XCLIENT ADDR=[UNAVAILABLE] NAME=[tempunavail] LOGIN=[Unavailable]")) == ["220"]
    session = client.protocol.session
    assert (session.peer, session.user) == (PEER, None)
    assert session.xclient == {"ADDR": "", "NAME": "", "LOGIN": ""}


def test_the_attributes_add_up() -> None:
    """They survive the return to the greeting."""
    client = trusted()
    assert codes(client.say("XCLIENT NAME=client.example PORT=77")) == ["220"]
    assert codes(client.say("XCLIENT ADDR=198.51.100.9")) == ["220"]
    session = client.protocol.session
    assert session.peer == IPv4Address("TCP", "198.51.100.9", 77)
    assert session.xclient == {"NAME": "client.example", "PORT": "77", "ADDR": "198.51.100.9"}


@pytest.mark.parametrize(("address", "stays"), [("198.51.100.9", False), ("192.0.2.8", True)])
def test_the_client_that_is_named_is_trusted_for_its_own_address_only(address: str, stays: bool) -> None:
    """A proxy may pass on that client's own commands from now on."""
    client = trusted()
    client.say(f"XCLIENT ADDR={address} LOGIN=alice")
    announced = [line for line in client.say("LHLO client.example") if "XCLIENT" in line or "XFORWARD" in line]
    assert len(announced) == (2 if stays else 0)
    said = client.say("XFORWARD ADDR=203.0.113.1", "XCLIENT ADDR=203.0.113.1 LOGIN=root")
    assert codes(said) == (["250 2.0.0", "220"] if stays else ["550 5.7.0"] * 2)
    assert client.protocol.session.user == ("root" if stays else "alice")


def test_a_client_whose_address_is_not_known_has_none_of_the_one_before() -> None:
    """What is known of one client is not known of the next; and it is trusted no more than a client that is known."""
    client = trusted()
    client.say("XCLIENT ADDR=192.0.2.8 PORT=77")
    assert codes(client.say("XCLIENT ADDR=[UNAVAILABLE] PORT=[UNAVAILABLE]")) == ["220"]
    assert client.protocol.session.peer == PEER
    assert codes(client.say("XCLIENT ADDR=192.0.2.8")) == ["550 5.7.0"]


@pytest.mark.parametrize(
    ("header", "is_trusted", "link"),
    [
        (None, True, Link.UNIX),
        # The proxy itself, as for a health check.
        (ProxyHeader(1, is_of_proxy=True), True, Link.UNIX),
        # Somebody whom it does not name: the address is the proxy's, and its rights are not that one's.
        (ProxyHeader(1), False, Link.NETWORK),
        # One of a socket of the proxy's, whose mode is not that of ours.
        (ProxyHeader(1, UnixEnd(None), UnixEnd(None)), False, Link.UNIX),
    ],
)
def test_who_comes_through_a_proxy_has_not_the_proxys_rights(header: Any, is_trusted: bool, link: Link) -> None:
    """``unix`` is trusted for those who come to our own socket."""
    transport = StringTransport(peerAddress=LOCAL)
    if header is not None:
        transport.proxyHeader = header  # type: ignore[attr-defined]
    session = server(trusted=["unix"]).new_session(transport)
    assert (session.is_trusted, session.link) == (is_trusted, link)


def test_before_lhlo_it_is_taken_too() -> None:
    """As by Postfix."""
    client = connected(peer=PEER, trusted=["192.0.2.7"])
    assert codes(client.say("XCLIENT ADDR=198.51.100.9")) == ["220"]


def test_the_connection_policy_is_asked_about_the_client_that_is_named() -> None:
    """It is a client's first word: the policy may send it away."""
    asked: list[Any] = []

    class Policy:
        def validateConnection(self, session: Any) -> None:
            asked.append(session.peer)
            if session.peer.host == "203.0.113.1":
                raise PermanentFailure("not you")
            if session.peer.host == "203.0.113.2":
                raise TemporaryFailure("not now")

    client = trusted(connection_policy=Policy())
    assert codes(client.say("XCLIENT ADDR=198.51.100.9")) == ["220"]
    client = trusted(connection_policy=Policy())
    assert codes(client.say("XCLIENT ADDR=203.0.113.2")) == ["421 4.3.0"]
    assert client.is_closed
    client = trusted(connection_policy=Policy())
    assert client.say("XCLIENT ADDR=203.0.113.1") == ["554 5.7.1 not you"]
    assert client.is_closed
    assert [peer.host for peer in asked] == [
        *("192.0.2.7", "198.51.100.9"),
        *("192.0.2.7", "203.0.113.2"),
        *("192.0.2.7", "203.0.113.1"),
    ]


def test_a_login_is_who_authenticated_there() -> None:
    """It counts where AUTH is required, and ``[UNAVAILABLE]`` takes it back."""
    observer = RecordingObserver()
    client = trusted(auth_required=True, portal=portal(), observers=[observer])
    assert codes(client.say("MAIL FROM:<a@example.net>")) == ["530 5.7.0"]
    client.say("XCLIENT LOGIN=alice", "LHLO client.example")
    assert client.protocol.session.user == "alice"
    assert "sessionAuthenticated" in [event.name for event in observer.events]
    assert codes(client.say("AUTH CRAM-MD5", "MAIL FROM:<a@example.net>", "RSET")) == [
        "503 5.5.1",
        "250 2.1.0",
        "250 2.0.0",
    ]
    client.say("XCLIENT LOGIN=[UNAVAILABLE]", "LHLO client.example")
    assert client.protocol.session.user is None
    assert codes(client.say("MAIL FROM:<a@example.net>")) == ["530 5.7.0"]


def test_a_login_takes_an_avatar_away() -> None:
    """Who authenticated before is not the one that is named now."""
    backend = ScriptedDeliveries()
    client = connected(backend, peer=LOCAL, trusted=["unix"], portal=portal())
    client.say("LHLO c", "AUTH PLAIN AGFsaWNlAHNlY3JldA==")
    assert client.protocol.session.user == "alice"
    client.say("XCLIENT LOGIN=bob", "LHLO c", "MAIL FROM:<a@example.net>")
    assert client.protocol.session.user == "bob"
    assert "validateFrom" in [name for name, _ in backend.calls]


def test_a_client_of_a_unix_socket_gets_the_address_that_is_named() -> None:
    """Only what is named changes: without an address a port means nothing."""
    client = connected(peer=LOCAL, trusted=["unix"])
    assert codes(client.say("XCLIENT PORT=25")) == ["220"]
    assert client.protocol.session.peer == LOCAL
    client.say("XCLIENT ADDR=198.51.100.9")
    assert client.protocol.session.peer == IPv4Address("TCP", "198.51.100.9", 25)


def test_sessions_of_a_peer_are_counted_by_the_real_one() -> None:
    """XCLIENT changes the name, and the session is given back all the same."""
    factory = server(trusted=["192.0.2.7"], max_sessions_per_peer=1)
    client = Client(factory, PEER)
    client.say("XCLIENT ADDR=198.51.100.9")
    assert codes(Client(factory, PEER).greeting) == ["421 4.3.2"]
    client.lose()
    assert codes(Client(factory, PEER).greeting) == ["220"]


# XFORWARD


def test_xforward_says_where_the_next_message_came_from() -> None:
    """250; several of them add up; with the transaction they are gone."""
    observed: list[dict[str, str]] = []

    def deliver(message: Any) -> list[None]:
        observed.append(dict(message.session.xforward))
        return [None]

    client = trusted(ScriptedDeliveries(deliver=deliver))
    assert codes(client.say("XFORWARD NAME=spike.example ADDR=198.51.100.9 PROTO=ESMTP")) == ["250 2.0.0"]
    assert codes(client.say("XFORWARD IDENT=4bKt9+2F SOURCE=REMOTE")) == ["250 2.0.0"]
    client.say("MAIL FROM:<a@example.net>", "RCPT TO:<b@example.org>")
    client.content()
    client.say("MAIL FROM:<a@example.net>", "RCPT TO:<b@example.org>")
    client.content()
    assert observed == [
        {
            "NAME": "spike.example",
            "ADDR": "198.51.100.9",
            "PROTO": "ESMTP",
            "IDENT": "4bKt9/",
            "SOURCE": "REMOTE",
        },
        {},
    ]
    assert client.protocol.session.peer == PEER


def test_xforward_ends_with_a_transaction_that_is_given_up_too() -> None:
    """Its attributes are of that transaction."""
    client = trusted()
    client.say("XFORWARD ADDR=198.51.100.9", "MAIL FROM:<a@example.net>")
    assert client.protocol.session.xforward
    client.say("RSET")
    assert client.protocol.session.xforward == {}
