"""What a program is told of a message, and which names never reach it."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from backend_messages import CONTENT, received
from hostile_names import LOCAL_PARTS, recipients
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import UNIXAddress

from lmtp_twisted.backends.maildir.naming import Case
from lmtp_twisted.backends.pipe.values import Mailbox, Naming, check_sender, environment_of, values_of
from lmtp_twisted.envelope import Envelope, Recipient, Sender
from lmtp_twisted.errors import PermanentFailure
from lmtp_twisted.wire.addresses import CONTROL_CHARACTERS, Address, parse_path
from lmtp_twisted.wire.commands import parse_mail, parse_rcpt

NAMING = Naming("mx.example.org")


def mailbox(address: str, naming: Naming = NAMING) -> Mailbox:
    parsed = parse_path(address.encode())
    assert parsed is not None
    return naming.mailbox_of(parsed)


def values(mail: str = "FROM:<s@x>", rcpt: str = "TO:<alice@x>", **session: Any) -> dict[str, str]:
    """What the program is told, by the arguments of MAIL and RCPT and what is known of the session."""
    sender, recipient = Sender(*parse_mail(mail.encode())), Recipient(*parse_rcpt(rcpt.encode()))
    message = received("alice@x")
    message.envelope = Envelope(sender, (recipient,))
    for name, value in session.items():
        setattr(message.session, name, value)
    return values_of(message, recipient, NAMING.mailbox_of(recipient.address))


# The recipient


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("alice@example.org", ("alice", "", "alice", "example.org")),
        ("Alice@Example.ORG", ("alice", "", "alice", "example.org")),
        ("alice+Lists.Python+x@x", ("alice", "Lists.Python+x", "alice+Lists.Python+x", "x")),
        ("alice+@x", ("alice", "", "alice+", "x")),
        ("+alice@x", ("+alice", "", "+alice", "x")),
        ("Postmaster", ("postmaster", "", "postmaster", "mx.example.org")),
        ('"a b"@x', ("a b", "", "a b", "x")),
        ("u@[192.0.2.1]", ("u", "", "u", "[192.0.2.1]")),
        ("böb@bücher.example", ("böb", "", "böb", "bücher.example")),
        ("bo\u0308b@x", ("b\u00f6b", "", "b\u00f6b", "x")),
    ],
)
def test_an_address_is_taken_apart(address: str, expected: tuple[str, ...]) -> None:
    """In Unicode's normal form C (RFC 6530 §10.1); the detail belongs to the user, who tells upper case from lower."""
    assert attrs.astuple(mailbox(address)) == expected


def test_the_case_may_be_kept_but_for_postmaster() -> None:
    """RFC 5321 §4.5.1."""
    naming = Naming("mx.example.org", Case.KEEP)
    assert mailbox("Alice@X", naming).user == "Alice"
    assert mailbox("POSTMASTER@X", naming).user == "postmaster"


@pytest.mark.parametrize(
    ("separator", "expected"), [("+-", ("al", "ice+x")), ("", ("al-ice+x", "")), ("=", ("al-ice+x", ""))]
)
def test_other_characters_may_begin_a_detail(separator: str, expected: tuple[str, str]) -> None:
    """As Postfix's recipient_delimiter."""
    found = mailbox("al-ice+x@x", Naming("h", separator=separator))
    assert (found.user, found.extension) == expected


@pytest.mark.parametrize(
    "address",
    [
        "-f@x",
        '"-o /etc/passwd"@x',
        "--help@x",
        "a+-f@x",
        "a+--@x",
        '"a+.ssh"@x',
        '".hidden"@x',
        '".."@x',
        '"../../etc"@x',
        '"a/b"@x',
        '"/"@x',
        '""@x',
        '"a+../b"@x',
    ],
)
def test_what_a_program_could_take_for_an_option_or_a_path_is_refused(address: str) -> None:
    """For good, and at RCPT: 553 5.1.3 (RFC 3463 §3.2)."""
    with pytest.raises(PermanentFailure) as raised:
        mailbox(address)
    assert (raised.value.code, raised.value.enhanced) == (553, "5.1.3")


def is_harmless(value: str) -> bool:
    return not (value.startswith("-") or CONTROL_CHARACTERS.search(value))


@given(recipients)
def test_no_recipient_is_an_option_a_path_or_more_than_one_line(path: bytes) -> None:
    """Of those that the grammar lets pass (RFC 5321 §4.1.2)."""
    try:
        address = parse_path(path)
        assert address is not None
        found = NAMING.mailbox_of(address)
    except (ValueError, AssertionError, PermanentFailure):
        return
    for part in (found.user, found.local, found.domain, str(found)):
        assert part
        assert is_harmless(part)
    for part in (found.user, found.local, found.domain, found.extension):
        assert not part.startswith(".")
        assert "/" not in part
    assert is_harmless(found.extension)


@given(st.sampled_from(LOCAL_PARTS) | st.text(max_size=300), st.text(max_size=20))
def test_nor_one_that_the_grammar_does_not_let_pass(local: str, domain: str) -> None:
    """An application may have recipients of its own."""
    try:
        found = NAMING.mailbox_of(Address(local, domain))
    except PermanentFailure:
        return
    assert all(map(is_harmless, (found.user, found.local, found.domain, found.extension)))
    assert environment_of({**values(), "user": found.user, "mailbox": found.local, "domain": found.domain})


# The sender


@pytest.mark.parametrize("sender", ["-f@x", '"-f x"@x', "--@x"])
def test_a_sender_that_begins_with_a_hyphen_is_refused(sender: str) -> None:
    """553 5.1.7 (RFC 3463 §3.2); Postfix does the same (allow_min_user)."""
    with pytest.raises(PermanentFailure) as raised:
        check_sender(Sender(parse_path(sender.encode())))
    assert (raised.value.code, raised.value.enhanced) == (553, "5.1.7")


@pytest.mark.parametrize("sender", ["", "a-b@x", "prvs=1/a@x", "a=b@[IPv6:::1]"])
def test_any_other_sender_is_told_as_it_is(sender: str) -> None:
    check_sender(Sender(parse_path(sender.encode())))
    assert values(f"FROM:<{sender}>")["sender"] == sender


# The rest


def test_all_that_is_known_has_its_place() -> None:
    """The names are those of Postfix's pipe(8)."""
    told = values(
        "FROM:<s@x> ENVID=abc AUTH=owner@x",
        "TO:<Alice+a@X> ORCPT=rfc822;sales@x",
        user="submitter",
        xclient={"NAME": "client.example"},
    )
    assert told == {
        "sender": "s@x",
        "recipient": "alice+a@x",
        "original_recipient": "sales@x",
        "user": "alice",
        "extension": "a",
        "mailbox": "alice+a",
        "domain": "x",
        "size": str(len(CONTENT)),
        "queue_id": "session.1",
        "envid": "abc",
        "client_address": "192.0.2.1",
        "client_port": "4242",
        "client_hostname": "client.example",
        "client_helo": "client.example",
        "client_protocol": "LMTP",
        "sasl_username": "submitter",
        "sasl_sender": "owner@x",
    }


def test_what_xforward_says_is_nearer_to_the_client() -> None:
    """Postfix's XFORWARD_README."""
    attributes = {"ADDR": "2001:db8::7", "PORT": "99", "NAME": "far.example", "HELO": "far", "PROTO": "ESMTP"}
    told = values(xforward=attributes, xclient={"NAME": "near.example"})
    names = ("client_address", "client_port", "client_hostname", "client_helo", "client_protocol")
    assert [told[name] for name in names] == ["2001:db8::7", "99", "far.example", "far", "ESMTP"]


def test_what_is_not_known_is_empty() -> None:
    told = values("FROM:<>", peer=UNIXAddress(b"/run/lmtp"), lhlo_name="")
    assert {name for name, value in told.items() if not value} == {
        "sender",
        "extension",
        "envid",
        "client_address",
        "client_port",
        "client_hostname",
        "client_helo",
        "sasl_username",
        "sasl_sender",
    }


@pytest.mark.parametrize("value", ["-x", "--help", "a\nb", "a\0b", "a\x1b[31m", "a\u2028b", "a\x85b"])
def test_what_a_client_says_of_itself_is_left_out_where_it_is_not_harmless(value: str) -> None:
    told = values(user=value, lhlo_name=value, xforward={"NAME": value, "ADDR": value, "PROTO": value})
    names = ("sasl_username", "client_helo", "client_hostname", "client_address", "client_protocol")
    assert [told[name] for name in names] == [""] * len(names)


def test_an_original_recipient_that_is_not_harmless_is_none() -> None:
    """RFC 3461 §4.2: it need not be a mailbox."""
    assert values(rcpt="TO:<Alice@x> ORCPT=rfc822;-f")["original_recipient"] == "Alice@x"
    assert values(rcpt="TO:<Alice@x>")["original_recipient"] == "Alice@x"


def test_the_environment_says_the_same() -> None:
    """The names are those of Postfix's local(8)."""
    told = values("FROM:<sé@x> SMTPUTF8", "TO:<Alice+a@X>")
    environment = environment_of(told)
    assert environment[b"SENDER"] == "sé@x".encode()
    assert environment[b"USER"] == environment[b"LOGNAME"] == b"alice"
    assert environment[b"LOCAL"] == b"alice+a"
    assert environment[b"EXTENSION"] == b"a"
    assert environment[b"ENVID"] == b""
    assert set(environment.values()) == {value.encode() for value in told.values()}
