"""The Message-ID, as a look at the beginning of a content finds it."""

from __future__ import annotations

import email.parser
import email.policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmtp_twisted.wire.headers import LOOKED_AT, MAX_MESSAGE_ID, message_id_of


@pytest.mark.parametrize(
    "name", ["Message-ID", "Message-Id", "message-id", "MESSAGE-ID", "Message-ID ", "Message-ID\t"]
)
@pytest.mark.parametrize("before", ["", "Subject: x\r\n", "Subject: x\n", "X: y\r\n\tMessage-ID: <folded@x>\r\n"])
def test_it_is_found_however_it_is_written(name: str, before: str) -> None:
    """RFC 5322 §1.2.2 and §4.5: names of fields are not case-sensitive, and blanks may follow them."""
    assert message_id_of(f"{before}{name}: <a@b>\r\nTo: c\r\n\r\nbody".encode()) == "<a@b>"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", ""),
        (b"\r\nMessage-ID: <a@b>\r\n\r\n", ""),
        (b"\nMessage-ID: <a@b>\r\n\r\n", ""),
        (b"Subject: x\r\n\r\nMessage-ID: <body@b>\r\n", ""),
        (b"Subject: x\r\n\r\nMessage-ID: <body@b>\r\nx", ""),
        (b"\nX: y\r\nMessage-ID: <body@b>\r\nx", ""),
        (b"Subject: x\n\nMessage-ID: <body@b>\r\n", ""),
        (b"Subject: x\n\nbody\r\nMessage-ID: <body@b>\r\n", ""),
        (b"Subject: x\r\nMessage-ID: <a@b>", "<a@b>"),
        (b"Subject: x\r\nMessage-ID:\r\n <a@b>\r\n\r\n", "<a@b>"),
        (b"Subject: x\r\nMessage-ID: <a\r\n\t@b>\r\n\r\n", "<a @b>"),
        (b"Subject: x\r\nMessage-ID: <a@b>  \r\n\r\n", "<a@b>"),
        (b"Subject: x\r\nMessage-IDs: <a@b>\r\nMessage-ID: <c@d>\r\n\r\n", "<c@d>"),
        (b"Subject: x\r\nMessage-ID: \r\nTo: x\r\n\r\n", ""),
        (b"Subject: x\r\nMessage-ID: <a\x00\x1b[31m\x7f@b>\r\n\r\n", "<a??[31m?@b>"),
        (b"Subject: x\r\nMessage-ID: <a\r@b>\r\n\r\n", "<a @b>"),
        ("Subject: x\r\nMessage-ID: <zoë@b>\r\n\r\n".encode(), r"<zo\x{EB}@b>"),
        (b"Subject: x\r\nMessage-ID: <\xff\xfe@b>\r\n\r\n", r"<\x{FFFD}\x{FFFD}@b>"),
    ],
)
def test_what_is_no_field_and_what_is_not_printable(content: bytes, found: str) -> None:
    """The client wrote it: nothing of it may reach a log but printable ASCII on one line."""
    assert message_id_of(content) == found


def test_only_so_much_of_it_is_taken_and_only_so_far_is_looked() -> None:
    long = message_id_of(b"To: x\r\nMessage-ID: <" + b"a" * 100_000 + b">\r\n\r\n")
    assert long == "<" + "a" * (MAX_MESSAGE_ID - 1)
    far = b"X: " + b"y" * LOOKED_AT + b"\r\nMessage-ID: <a@b>\r\n\r\n"
    assert message_id_of(far) == ""


_LINES = st.lists(
    st.sampled_from([b"Message-ID", b"message-id", b":", b" ", b"<a@b>", b"\r\n", b"\n", b"\t", b"\xe9", b"X: y"])
)


@given(_LINES)
def test_it_is_one_printable_line_whatever_comes(parts: list[bytes]) -> None:
    found = message_id_of(b"".join(parts))
    assert found.isascii()
    assert not found or found.isprintable()


@given(st.from_regex(rb"[!-~]{0,60}", fullmatch=True), st.sampled_from([b"Message-ID", b"Message-Id", b"mEssage-iD"]))
def test_it_is_what_a_parser_finds(value: bytes, name: bytes) -> None:
    content = b"From: a@b\r\n" + name + b": " + value + b"\r\nTo: c\r\n\r\nbody\r\n"
    parsed = email.parser.BytesParser(policy=email.policy.compat32).parsebytes(content)
    assert message_id_of(content) == parsed["Message-ID"]
