"""What stands in a request beside the message."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import unquote

import pytest
from backend_messages import received
from hypothesis import given
from hypothesis import strategies as st
from twisted.web.http_headers import Headers

from lmtp_twisted.backends.http.request import MOST_RECIPIENTS, digests_of, escaped, headers_for, in_requests
from lmtp_twisted.backends.http.target import Target
from lmtp_twisted.interfaces import IReceivedMessage

SECRET = b"a secret of more than sixteen octets"


def headers_of(message: IReceivedMessage, *, secret: bytes | None = None, timestamp: int = 1_700_000_000) -> Headers:
    return headers_for(
        message,
        message.recipients,
        digests_of(message, message.trace()),
        timestamp=timestamp,
        secret=secret,
        authorization=None,
    )


def value(headers: Headers, name: str) -> str:
    (found,) = headers.getRawHeaders(name.encode(), [])
    return found.decode("ascii")


@given(st.text())
def test_no_text_leaves_its_value(text: str) -> None:
    """Visible ASCII without commas, and all of it comes back."""
    written = escaped(text)
    assert all("!" <= character <= "~" and character != "," for character in written)
    assert unquote(written) == text


@pytest.mark.parametrize(
    "address", ["ann@example.org", "ann+lists@example.org", "o'hara=x@[IPv6:2001:db8::1]", "a{b}@c"]
)
def test_ordinary_addresses_are_written_as_they_are(address: str) -> None:
    """RFC 5321 §4.1.2"""
    assert escaped(address) == address


def test_the_envelope_is_in_the_headers() -> None:
    headers = headers_of(received('"a,b c"@example.org', "grüße@example.org"))
    assert value(headers, "Lmtp-Sender") == "sender@example.net"
    assert value(headers, "Lmtp-Recipient") == "%22a%2Cb%20c%22@example.org,gr%C3%BC%C3%9Fe@example.org"
    assert value(headers, "Lmtp-Id") == "session.1"
    assert value(headers, "Lmtp-Peer") == "192.0.2.1"
    assert value(headers, "Lmtp-Lhlo") == "client.example"
    assert value(headers, "Content-Type") == "message/rfc822"
    assert not headers.hasHeader(b"Lmtp-User")
    assert not headers.hasHeader(b"Lmtp-Signature")
    assert not headers.hasHeader(b"Authorization")


def test_a_bounce_has_an_empty_sender() -> None:
    """RFC 5321 §4.5.5"""
    assert value(headers_of(received("a@x", sender="")), "Lmtp-Sender") == ""


def test_who_authenticated_is_in_the_headers() -> None:
    message = received("a@x")
    message.session.user = "ann\r\nLmtp-Recipient: eve@x"
    assert value(headers_of(message), "Lmtp-User") == "ann%0D%0ALmtp-Recipient:%20eve@x"


def test_the_key_is_the_same_when_a_message_is_sent_again() -> None:
    """In a new transaction, with a new Received line, and at another time."""
    first, second = received("a@x"), received("a@x")
    second.id = "another.7"
    second.session.lhlo_name = "elsewhere.example"
    assert first.trace() != second.trace()
    once, again = headers_of(first, timestamp=1), headers_of(second, timestamp=2)
    assert value(once, "Idempotency-Key") == value(again, "Idempotency-Key")


@pytest.mark.parametrize(
    "other",
    [
        received("b@x"),
        received("a@x", "b@x"),
        received("a@x", sender="other@example.net"),
        received("a@x", sender=""),
        received("a@x", content=b"Subject: hello\r\n\r\nOther\r\n"),
    ],
)
def test_another_message_or_recipient_has_another_key(other: IReceivedMessage) -> None:
    assert value(headers_of(other), "Idempotency-Key") != value(headers_of(received("a@x")), "Idempotency-Key")


def test_the_key_is_a_string_as_its_draft_has_it() -> None:
    """draft-ietf-httpapi-idempotency-key-header §2.1: in quotes."""
    key = value(headers_of(received("a@x")), "Idempotency-Key")
    assert len(key) == 66
    assert key[0] == key[-1] == '"'


def test_the_signature_is_of_time_envelope_and_body() -> None:
    """RFC 2104. The body is that of the request: with our own header lines."""
    message = received("a@x", '"b,c"@x')
    body = message.trace() + message.read()
    lines = f"1700000000\nsender@example.net\na@x,%22b%2Cc%22@x\n{hashlib.sha256(body).hexdigest()}"
    headers = headers_of(message, secret=SECRET)
    assert value(headers, "Lmtp-Timestamp") == "1700000000"
    assert value(headers, "Lmtp-Signature") == "sha256=" + hmac.digest(SECRET, lines.encode(), "sha256").hex()


def test_digests_do_not_depend_on_where_a_message_lies() -> None:
    in_memory, in_file = received("a@x"), received("a@x", block=7)
    assert not in_file.inMemory
    assert digests_of(in_memory, b"trace") == digests_of(in_file, b"trace")


def test_recipients_are_shared_out_so_that_they_fit_into_a_header() -> None:
    """In order, and none is lost: a header of more than 8 KiB is refused by many servers."""
    message = received(*(f"recipient-{number}-{'x' * 200}@example.org" for number in range(100)), "a@x")
    batches = list(in_requests(message.recipients))
    assert [recipient for batch in batches for recipient in batch] == list(message.recipients)
    assert all(len(",".join(escaped(str(recipient)) for recipient in batch)) <= MOST_RECIPIENTS for batch in batches)
    assert len(batches) < 8


def test_a_recipient_that_is_longer_than_that_alone_has_a_request_of_its_own() -> None:
    """Nothing that LMTP takes is, but nobody must be lost."""
    long = received("ü" * 120 + "@example.org").recipients * 8
    assert sum(len(batch) for batch in in_requests(long)) == 8
    assert all(in_requests(long))


@pytest.mark.parametrize(
    ("text", "origin", "url", "authorization"),
    [
        ("https://app.example/mail", "https://app.example", b"https://app.example/mail", None),
        ("https://app.example", "https://app.example", b"https://app.example/", None),
        ("http://[::1]:8080/a?b=c", "http://[::1]:8080", b"http://[::1]:8080/a?b=c", None),
        ("https://ann:se%3Acret%40@h/m", "https://h", b"https://h/m", b"Basic YW5uOnNlOmNyZXRA"),
        ("https://token@h/m", "https://h", b"https://h/m", b"Basic dG9rZW46"),
    ],
)
def test_a_url_is_taken_apart(text: str, origin: str, url: bytes, authorization: bytes | None) -> None:
    """RFC 3986 §3.2, RFC 7617 §2"""
    target = Target.parse(text)
    assert (target.origin, target.url, target.authorization) == (origin, url, authorization)
    assert target.port == (8080 if ":8080" in text else 80 if text.startswith("http:") else 443)


@pytest.mark.parametrize(
    "text", ["https://h/a@b?c@d", "https://[::1]/a@b", "https://ann@h/a@b", "https://ann:x%2Fy@h/"]
)
def test_an_at_sign_after_a_host_without_a_port_is_part_of_the_path(text: str) -> None:
    """RFC 3986 §3.3."""
    assert Target.parse(text).url.decode() == text.replace("ann@", "").replace("ann:x%2Fy@", "")


def test_what_is_secret_in_a_url_is_in_no_representation() -> None:
    assert "secret" not in repr(Target.parse("https://ann:secret@h/hook/secret?key=secret"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "secret",
        "//secret@host/",
        "ftp://u:secret@host/",
        "https:///secret",
        "https://u:secret@",
        "https://u:secret@host:0/",
        "https://u:secret@host:99999/",
        "https://u:sec/ret@host/",
        "https://u:secret@[::1/",
        "https://host/secret#part",
        "https://u:secret@ho st/",
        "https://u:secret@höst/",
        "https://host/\r\nX: secret",
    ],
)
def test_what_is_no_url_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="URL") as caught:
        Target.parse(text)
    assert "secret" not in str(caught.value)
    assert "sec" not in str(caught.value)
