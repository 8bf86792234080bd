"""Deliveries of twisted.mail are called by us as twisted.mail's own servers call them."""

from __future__ import annotations

import pickle
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from letterboxes import DOMAIN, LHLO, LMTP, MAIL, LetterBoxes, LetterBoxFactory, codes, smtp_dialogue
from twisted.mail import smtp
from zope.interface import alsoProvides

from lmtp_twisted import LMTPFactory
from lmtp_twisted.interfaces import ILMTPDeliveryFactory
from lmtp_twisted.testing import Conversation, FakeReactor
from lmtp_twisted.twisted_mail import adapt

SERVERS = pytest.mark.parametrize(("protocol", "hello"), [(smtp.SMTP, b"HELO"), (smtp.ESMTP, b"EHLO")])


def stuffed(content: bytes) -> bytes:
    """The content as it follows DATA (RFC 5321 §4.5.2)."""
    return re.sub(rb"(\A|\r\n)\.", rb"\1..", content) + b".\r\n"


def calls_by_both(
    content: bytes,
    recipients: tuple[str, ...] = ("bob@example.org", "carl@example.org"),
    sender: str = "ann@example.net",
    protocol: type[smtp.SMTP] = smtp.ESMTP,
    hello: bytes = b"EHLO",
) -> tuple[list, list]:
    """The calls that twisted.mail makes for a message, and those that we make."""
    envelope = [f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{recipient}>" for recipient in recipients), "DATA"]
    theirs, ours = LetterBoxes(), LetterBoxes()
    commands = [f"{command}\r\n".encode() for command in envelope]
    output = smtp_dialogue(protocol, [hello + b" client.example\r\n", *commands, stuffed(content)], delivery=theirs)
    assert output.endswith(b"250 Delivery in progress\r\n")

    session = LMTP(ours)
    session.say(*envelope)
    final = session.client.send(stuffed(content))
    assert codes(final) == ["250 2.0.0"] * len(recipients)
    return theirs.calls, ours.calls


@SERVERS
@pytest.mark.parametrize(
    "content",
    [
        b"Subject: Hi\r\n\r\nHello\r\n",
        b"Hello without a header\r\n",
        b"\r\nan empty line first\r\n",
        b"",
        b"\r\n",
        b"Subject: dots\r\n\r\n.\r\n..\r\n.a\r\n",
        b"Subject: bare\r\n\r\na\nb\rc\r\r\n\n\r\n",
        b"Subject: \xe4\x00\r\n\r\n\xff\r\n",
    ],
)
def test_the_same_delivery_sees_the_same_calls_from_both_servers(protocol, hello, content):
    """Each method, in the same order, with equal arguments."""
    theirs, ours = calls_by_both(content, protocol=protocol, hello=hello)
    assert ours == theirs
    assert [call[0] for call in ours][:3] == ["validateFrom", "validateTo", "validateTo"]


@pytest.mark.parametrize(
    ("sender", "recipient"),
    [
        ("", "bob@example.org"),
        ("ann@example.net", "Bob@EXAMPLE.org"),
        ('"a b"@example.net', '"x@y"@example.org'),
        ("postmaster@example.net", "Postmaster"),
    ],
)
def test_addresses_are_as_twisted_parses_them(sender, recipient):
    """RFC 5321 §4.1.2, the null reverse-path and names without a domain too."""
    theirs, ours = calls_by_both(b"Subject: Hi\r\n", (recipient,), sender)
    assert ours == theirs


@given(st.lists(st.text("a:.\r\n", max_size=4).map(str.encode), max_size=5))
@settings(max_examples=100, deadline=None)
def test_messages_see_the_same_lines_from_both_servers(lines):
    """Whatever stands in them."""
    theirs, ours = calls_by_both(b"".join(line.rstrip(b"\r") + b"\r\n" for line in lines))
    assert ours == theirs


@SERVERS
def test_a_factory_is_asked_once_a_message_by_both_servers(protocol, hello):
    """``getMessageDelivery`` is called at MAIL."""
    theirs, ours = LetterBoxFactory(), LetterBoxFactory()
    message = [b"MAIL FROM:<ann@example.net>\r\n", b"RCPT TO:<bob@example.org>\r\n", b"DATA\r\n", b"a: b\r\n.\r\n"]
    smtp_dialogue(protocol, [hello + b" client.example\r\n", *message, *message], factory=theirs)

    session = LMTP(ours)
    session.client.send(b"".join([*message, *message]))
    assert len(ours.given) == 2
    assert [given.calls for given in ours.given] == [given.calls for given in theirs.given]


def test_one_delivery_serves_all_messages_and_keeps_them_apart():
    """An ``IMessageDelivery`` given directly has no state of a message."""
    boxes = LetterBoxes()
    session = LMTP(boxes)
    session.mail("bob@example.org", content=b"a: 1\r\n")
    session.mail("carl@example.org", content=b"a: 2\r\n")
    assert [letter.lines[1:] for letter in boxes.letters.values()] == [[b"a: 1"], [b"a: 2"]]


def test_a_factory_that_is_also_a_delivery_is_used_as_a_factory():
    """As twisted.mail asks the factory where it has both."""
    factory = LetterBoxFactory()
    alsoProvides(factory, smtp.IMessageDelivery)
    LMTP(factory).mail("bob@example.org")
    assert len(factory.given) == 1


@pytest.mark.parametrize("backend", [LetterBoxes(), LetterBoxFactory()])
def test_lmtp_factory_takes_them_unchanged(backend):
    """``LMTPFactory(backend=…)`` adapts what is not one of its own."""
    client = Conversation(LMTPFactory(backend=backend, reactor=FakeReactor()))
    client.say(LHLO, MAIL, "RCPT TO:<bob@example.org>", "DATA")
    assert codes(client.send(b"a: b\r\n.\r\n")) == ["250 2.0.0"]


def test_adapt_gives_a_delivery_factory():
    """Routers and policies can be put before it."""
    assert ILMTPDeliveryFactory.providedBy(adapt(LetterBoxes()))


@pytest.mark.parametrize("backend", [None, object(), LetterBoxes, "maildir:mail"])
def test_anything_else_is_a_type_error_that_says_what_is_expected(backend):
    """A class is no instance."""
    with pytest.raises(TypeError, match=r"IMessageDeliveryFactory or IMessageDelivery .* none of them: "):
        adapt(backend)


def test_a_user_tells_who_is_connected():
    """``user.protocol`` offers the addresses, the name of the client and the session."""
    boxes = LetterBoxes()
    session = LMTP(boxes)
    session.mail("bob@example.org")
    protocol = boxes.users[0].protocol
    assert protocol.transport.getPeer() == session.client.transport.getPeer()
    assert protocol.transport.getHost() == session.client.transport.getHost()
    assert protocol.helo == boxes.users[0].helo == (b"client.example", b"192.168.1.1")
    assert protocol.host == DOMAIN
    assert protocol.session is session.client.protocol.session


def test_a_user_can_be_pickled():
    """As twisted.mail's own can: without its protocol."""
    boxes = LetterBoxes()
    LMTP(boxes).mail("bob@example.org")
    assert str(pickle.loads(pickle.dumps(boxes.users[0]))) == "bob@example.org"


@pytest.mark.parametrize(
    ("path", "local", "domain"),
    [
        ("bob@[192.0.2.1]", b"bob", b"[192.0.2.1]"),
        ("bob@[IPv6:2001:db8::1]", b"bob", b"[IPv6:2001:db8::1]"),
        (r'"b\"b"@example.org', rb'"b\"b"', b"example.org"),
        ('"bob"@example.org', b"bob", b"example.org"),
        ("@relay.example:bob@example.org", b"bob", b"example.org"),
    ],
)
def test_addresses_that_twisted_does_not_parse_are_handed_over(path, local, domain):
    """RFC 5321 §4.1.2, §4.1.3: mail that was accepted before us is not refused for the sake of a parser."""
    boxes = LetterBoxes()
    assert codes(LMTP(boxes).mail(path)) == ["250 2.0.0"]
    assert (boxes.users[0].dest.local, boxes.users[0].dest.domain) == (local, domain)
    assert smtp.Address(boxes.users[0]).local == local


@pytest.mark.parametrize(
    ("address", "orig"),
    [(smtp.Address(b"list@example.org"), "list@example.org"), (b"list@example.org", "list@example.org")],
)
def test_the_sender_that_validate_from_gives_is_the_one_that_counts(address, orig):
    """It may be another than it was asked about."""
    boxes = LetterBoxes(sender={"validateFrom": address})
    LMTP(boxes).mail("bob@example.org")
    assert str(boxes.users[0].orig) == orig
    assert ("receivedHeader", boxes.users[0].helo, str(address), ["bob@example.org"]) in boxes.calls
