"""The header lines that a delivery prepends (RFC 5321 §4.4)."""

from __future__ import annotations

import email.utils
import re
from email.parser import BytesHeaderParser
from email.policy import SMTP
from typing import Any

import pytest
from dialogue import HOSTNAME, Client, connected, greeted
from hypothesis import assume, given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.testing import StringTransport

from lmtp_twisted import Envelope, Recipient, Sender, SessionInfo
from lmtp_twisted.message import ReceivedMessage
from lmtp_twisted.spool import Content
from lmtp_twisted.testing import FakeReactor, ScriptedDeliveries, fake_spool
from lmtp_twisted.wire.addresses import Address
from lmtp_twisted.wire.parameters import MailParameters

HERE = IPv4Address("TCP", "192.0.2.9", 24)
THERE = IPv4Address("TCP", "192.0.2.1", 4711)
SENDER = Address("s", "x")


def message(
    *recipients: str,
    sender: Address | None = SENDER,
    time: float = 0.0,
    smtputf8: bool = False,
    **session: Any,
) -> ReceivedMessage:
    """A message that has been received from THERE."""
    info = SessionInfo(session.pop("peer", THERE), HERE, **{"id": "0session", "lhlo_name": "client.example", **session})
    envelope = Envelope(
        Sender(sender, MailParameters(smtputf8=smtputf8)),
        tuple(Recipient(Address(*recipient.split("@"))) for recipient in recipients),
    )
    content = Content(fake_spool(FakeReactor()))
    content.append(b"Subject: x\r\n\r\n")
    content.finish()
    return ReceivedMessage("0session.1", info, envelope, content, HOSTNAME, time)


def headers(block: bytes) -> list[tuple[str, str]]:
    """The header lines of a block, unfolded, by name."""
    assert block.endswith(b"\r\n")
    assert b"\n" not in block.replace(b"\r\n", b"")
    assert b"\r" not in block.replace(b"\r\n", b"")
    return [
        (name, " ".join(value.split())) for name, value in BytesHeaderParser(policy=SMTP).parsebytes(block).raw_items()
    ]


def test_the_received_line_says_from_whom_by_whom_how_and_when() -> None:
    """RFC 5321 §4.4."""
    ((name, value),) = headers(message("r@x").received)
    assert name == "Received"
    rest, _, date = value.rpartition("; ")
    assert rest == f"from client.example ([192.0.2.1]) by {HOSTNAME} with LMTP id 0session.1 for <r@x>"
    assert email.utils.parsedate_to_datetime(date).timestamp() == 0


def test_the_date_is_that_of_the_end_of_the_content() -> None:
    """In seconds since the epoch."""
    ((_, value),) = headers(message("r@x", time=1_700_000_000.9).received)
    assert email.utils.parsedate_to_datetime(value.rpartition("; ")[2]).timestamp() == 1_700_000_000


@pytest.mark.parametrize("tls", [None, object()])
@pytest.mark.parametrize("user", [None, "user", ""])
@pytest.mark.parametrize("smtputf8", [False, True])
def test_the_protocol_has_the_keyword_of_its_registry(tls: object, user: str | None, smtputf8: bool) -> None:
    """RFC 3848, RFC 6531 §4.3."""
    keyword = ("UTF8" if smtputf8 else "") + "LMTP" + ("S" if tls else "") + ("A" if user is not None else "")
    received = message("r@x", tls=tls, user=user, smtputf8=smtputf8).received.decode()
    assert f" with {keyword} id " in received


@pytest.mark.parametrize("recipients", [("a@x", "b@x"), ("a@x", "b@x", "c@x")])
def test_several_recipients_are_not_told_of_each_other(recipients: tuple[str, ...]) -> None:
    """RFC 5321 §7.2."""
    received = message(*recipients).received.decode()
    assert " for " not in received
    assert "@x" not in received


def test_a_part_of_a_message_for_one_recipient_names_it() -> None:
    """As one that was sent to it alone."""
    whole = message("a@x", "b@x")
    assert b"for <b@x>" in whole.forRecipients(whole.recipients[1:]).received


@pytest.mark.parametrize(
    ("peer", "literal"),
    [
        (THERE, "[192.0.2.1]"),
        (IPv6Address("TCP", "2001:db8::1", 25), "[IPv6:2001:db8::1]"),
        (UNIXAddress("/run/lmtp"), "local socket"),
        (UNIXAddress(None), "local socket"),
    ],
)
def test_the_peer_is_named_by_its_address(peer: Any, literal: str) -> None:
    """RFC 5321 §4.1.3, §4.4."""
    assert f"from client.example ({literal})" in message("r@x", peer=peer).received.decode()


@pytest.mark.parametrize(
    ("sender", "line"),
    [
        (Address("s", "x"), "<s@x>"),
        (None, "<>"),
        (Address("a b", "x"), '<"a b"@x>'),
        (Address("postmaster", ""), "<postmaster>"),
        (Address("ü", "x"), "<ü@x>"),
    ],
)
def test_the_return_path_is_the_sender(sender: Address | None, line: str) -> None:
    """RFC 5321 §4.4."""
    trace = message("r@x", sender=sender).trace()
    assert trace.decode().split("\r\n")[0] == f"Return-Path: {line}"
    assert [name for name, _ in headers(trace)] == ["Return-Path", "Received"]


def test_a_relay_prepends_no_return_path() -> None:
    """RFC 5321 §4.4: ``received`` is all that it takes."""
    one = message("r@x")
    assert b"Return-Path" not in one.received
    assert one.trace() == b"Return-Path: <s@x>\r\n" + one.received


def test_delivered_to_is_there_where_a_recipient_is_asked_for() -> None:
    """It is an option, since one stored copy may serve many."""
    whole = message("a@x", "b@x")
    assert b"Delivered-To" not in whole.trace()
    assert headers(whole.trace(whole.recipients[1]))[1] == ("Delivered-To", "b@x")
    assert [name for name, _ in headers(whole.trace(whole.recipients[1]))] == [
        "Return-Path",
        "Delivered-To",
        "Received",
    ]


def test_the_trace_comes_from_a_session() -> None:
    """With the names that were said there."""
    deliveries = ScriptedDeliveries()
    client = greeted(deliveries)
    client.say("MAIL FROM:<s@x> SMTPUTF8", "RCPT TO:<r@x>")
    client.content()
    (received,) = deliveries.messages
    session = client.protocol.session.id
    assert headers(received.received)[0][1].startswith(
        f"from client.example ([192.168.1.1]) by {HOSTNAME} with UTF8LMTP id {session}.1 for <r@x>; "
    )
    assert repr(received).startswith(f"<ReceivedMessage {session}.1 ")


def test_messages_of_one_session_have_ids_of_their_own() -> None:
    """RFC 5321 §4.4."""
    deliveries = ScriptedDeliveries()
    client = greeted(deliveries)
    for _ in range(3):
        client.say("MAIL FROM:<s@x>", "RCPT TO:<r@x>")
        client.content()
    assert len({received.id for received in deliveries.messages}) == 3


def test_a_session_over_a_unix_socket_has_a_trace() -> None:
    """Its peer has no address."""

    class UnixTransport(StringTransport):
        def getPeer(self) -> Any:
            return UNIXAddress(None)

    deliveries = ScriptedDeliveries()
    client = connected(deliveries)
    client.protocol.session.peer = UnixTransport().getPeer()
    client.say("LHLO c", "MAIL FROM:<s@x>", "RCPT TO:<r@x>")
    client.content()
    assert b"(local socket)" in deliveries.messages[0].received


HOSTILE = st.one_of(
    st.binary(max_size=60),
    st.lists(
        st.sampled_from(
            [b"\r", b"\n", b"\r\n", b"a", b"@", b"<", b">", b'"', b"\\", b" ", b"\xc2\x85", b"\xe2\x80\xa8", b":"]
        )
    ).map(b"".join),
)


@given(HOSTILE, HOSTILE, HOSTILE)
def test_no_line_end_reaches_a_header_from_the_envelope(name: bytes, sender: bytes, recipient: bytes) -> None:
    """RFC 5322 §2.2: whatever a client says, there are just these lines."""
    deliveries = ScriptedDeliveries()
    client = Client(connected(deliveries, lenient_newlines=True, max_bad_commands=10**6).factory)
    client.send(b"LHLO fallback\r\nLHLO " + name + b"\r\n")
    client.send(b"MAIL FROM:<" + sender + b"@x> SMTPUTF8\r\nMAIL FROM:<> SMTPUTF8\r\n")
    client.send(b"RCPT TO:<" + recipient + b"@x>\r\nRCPT TO:<fallback@x>\r\n")
    # A line of its own may be QUIT.
    assume(not client.is_closed)
    client.content()
    (received,) = deliveries.messages
    for one in received.recipients:
        trace = received.forRecipients([one]).trace(one)
        assert [key for key, _ in headers(trace)] == ["Return-Path", "Delivered-To", "Received"]
        assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f\u2028\u2029]", trace.decode())
        assert max(map(len, trace.split(b"\r\n"))) <= 998
    client.lose()
