"""``amqp:URL``: what is understood, and what is one line of complaint that shows no password."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from twisted.python.threadpool import ThreadPool

from lmtp_twisted.backends.amqp.broker import Node, read_url
from lmtp_twisted.backends.amqp.routing_key import RoutingKey
from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.errors import PermanentFailure
from lmtp_twisted.testing import FakeReactor
from lmtp_twisted.wire.addresses import Address, parse_mailbox


def build(description: str) -> object:
    """What the daemon would make of it; it does not run."""
    reactor = FakeReactor()
    reactor.callWhenRunning = lambda function: None  # type: ignore[attr-defined]  # it never runs
    return BackendContext(reactor, ThreadPool(0, 1), "mx.example.org").build(description)


def test_a_url_names_nodes_a_login_and_a_virtual_host() -> None:
    broker = read_url("amqp://us%40er:se%3Acr%2Fet@a:1,b.example,[::1],[::1]:2/my%2Fhost")
    assert broker.nodes == (Node("a", 1), Node("b.example", 5672), Node("::1", 5672), Node("::1", 2))
    assert (broker.user, broker.password, broker.virtual_host) == ("us@er", "se:cr/et", "my/host")
    assert [str(node) for node in broker.nodes] == ["a:1", "b.example:5672", "[::1]:5672", "[::1]:2"]
    assert "se:cr" not in repr(broker)
    assert broker.trust_root is None


def test_what_a_url_leaves_out_is_as_rabbitmq_has_it() -> None:
    for url in ("amqp://host", "amqp://host/"):
        broker = read_url(url)
        assert (broker.user, broker.password, broker.virtual_host) == ("guest", "guest", "/")
    secure = read_url("amqps://host")
    assert secure.nodes == (Node("host", 5671),)
    assert secure.trust_root is not None


def test_the_password_can_be_in_a_file(tmp_path: Path) -> None:
    """Its first line, whatever is in it."""
    (tmp_path / "password").write_text("p ä:%2F\nnot this\n", "utf-8")
    assert read_url("amqp://user@host", password_file=str(tmp_path / "password")).password == "p ä:%2F"


@pytest.mark.parametrize(
    ("description", "complaint"),
    [
        ("amqp:", "it needs a URL, as in amqp:amqp://host/vhost,exchange=mail"),
        ("amqp:host,exchange=mail", "it needs a URL"),
        ("amqp:http://host,exchange=mail", "it needs a URL"),
        ("amqp:amqp://[host,exchange=mail", "it needs a URL"),
        ("amqp:amqp://u:secret@host", "it needs an exchange=NAME, or a queue=NAME"),
        ("amqp:amqp://u:secret@host/,exchnage=mail,queue=q", "',exchnage=mail' is none of its options"),
        ("amqp:amqp://u:secret@host/a/b,queue=q", "'/b' is none of its options"),
        ("amqp:amqp://u:secret@host?heartbeat=3,queue=q", "options follow a comma"),
        ("amqp:amqp://u:secret/x@host,queue=q", "a slash in a password is written %2F"),
        ("amqp:amqp://u:12/secret@host,queue=q", "a slash in a password is written %2F"),
        ("amqp:amqp://u:x@secret/x@host/v,queue=q", "a slash in a password is written %2F"),
        ("amqp:amqp://u:x/secret,y=z@host/v,queue=q", "a slash in a password is written %2F"),
        ("amqp:amqp://u:secret@host:0,queue=q", "'host:0' is no HOST or HOST:PORT"),
        ("amqp:amqp://u:secret@host:65536,queue=q", "'host:65536' is no HOST or HOST:PORT"),
        ("amqp:amqp://u:secret@a,,b,queue=q", "'' is no HOST or HOST:PORT"),
        ("amqp:amqp://u@host,queue=q", "a user without a password: give password_file=FILE"),
        ("amqp:amqp://u:secret@host,queue=q,password_file=/nowhere", "one of them only"),
        ("amqp:amqp://u@host,queue=q,password_file=/nowhere", "password_file /nowhere: No such file or directory"),
        ("amqp:amqp://u@host,queue=q,password_file=/dev/null", "password_file /dev/null: its first line is empty"),
        ("amqp:amqp://u:secret@host,queue=q,ca=/nowhere", "ca is for amqps://"),
        ("amqp:amqps://u:secret@host,queue=q,ca=/nowhere", "ca /nowhere: No such file or directory"),
        ("amqp:amqps://u:secret@host,queue=q,ca=/dev/null", "ca /dev/null: no certificates in PEM"),
        ("amqp:amqp://u:secret@host,exchange=mail,routing_key={user}", "{user} is unknown"),
        (f"amqp:amqp://u:secret@host,exchange=mail,routing_key={'x' * 256}", "at most 255 octets"),
        (f"amqp:amqp://u:secret@host,exchange={'x' * 256}", "the exchange has at most 255 octets"),
        ("amqp:amqp://u:secret@host/%0A,queue=q", "the virtual host has at most 255 octets, all of them printable"),
        ("amqp:amqp://u:secret@host,queue=q,size_limit=big", "size_limit is a number of octets"),
        ("amqp:amqp://u:secret@host,queue=q,timeout=0", "timeout is a whole number of seconds from 1 to 9999"),
        ("amqp:amqp://u:secret@host,queue=q,heartbeat=-1", "heartbeat is a whole number of seconds from 0 to 9999"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_without_the_password(description: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=r"^amqp: ") as caught:
        build(description)
    assert complaint in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_pika_it_is_said_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra."""
    monkeypatch.setitem(sys.modules, "pika", None)
    with pytest.raises(ValueError, match=r"^amqp: it needs pika: pip install 'lmtp-twisted\[amqp\]'"):
        build("amqp:amqp://host,queue=mail")


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("Alice@Example.ORG", "example.org.alice"),
        ("a.b+c@example.org", "example.org.a%2Eb+c"),
        ('"*.#"@example.org', "example.org.%2A%2E%23"),
        ('"100% \\"x\\""@example.org', "example.org.100%25%20%22x%22"),
        ("Postmaster", "mx.example.org.postmaster"),
        ("u@[192.0.2.1]", "[192.0.2.1].u"),
        ("u@[IPv6:2001:db8::1]", "[ipv6:2001:db8::1].u"),
        ("Jörg@exämple.org", "ex%C3%A4mple.org.j%C3%B6rg"),
        ("jo\u0308rg@example.org", "example.org.j%C3%B6rg"),
    ],
)
def test_a_local_part_is_one_word_and_no_wildcard(address: str, key: str) -> None:
    """RFC 5321 §4.1.2 lets a local part hold what a binding reads as a wildcard."""
    assert RoutingKey("{domain}.{local}", "mx.example.org").of(parse_mailbox(address.encode())) == key


def test_a_template_may_be_anything_that_holds_an_address() -> None:
    assert RoutingKey("mail.{local}.at.{domain}", "h").of(Address("{domain}", "d")) == "mail.{domain}.at.d"
    assert RoutingKey("one", "h").of(Address("a", "b")) == "one"


def test_a_key_has_255_octets_at_most() -> None:
    """A short string of AMQP 0-9-1 §4.2.5.3."""
    key = RoutingKey("{domain}.{local}", "h")
    assert len(key.of(Address("x" * 251, "d.e"))) == 255
    with pytest.raises(PermanentFailure) as caught:
        key.of(Address("x" * 252, "d.e"))
    assert (caught.value.code, caught.value.enhanced) == (553, "5.1.3")
