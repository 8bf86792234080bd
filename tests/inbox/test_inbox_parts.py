"""A message taken apart, however it was put together."""

from __future__ import annotations

import email.policy
from email.message import EmailMessage
from email.parser import BytesParser
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmtp_twisted.daemon.inbox.parts import MOST_DEPTH, MOST_PARTS, Taken, take_apart

MULTIPART = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"


def types(taken: Taken) -> list[str]:
    return [part.content_type for part in taken.parts]


def bodies(content: bytes) -> list[bytes]:
    return [content[part.start : part.end] for part in take_apart(content).parts]


def test_parts_have_what_is_between_the_boundaries() -> None:
    """RFC 2046 §5.1.1: the line end before a boundary belongs to it."""
    content = MULTIPART + b"before\r\n--b\r\n\r\none\r\n--b  \r\nA: b\r\n\r\ntwo\r\n\r\n--b--\r\nbehind"
    assert bodies(content)[1:] == [b"one", b"two\r\n"]
    assert take_apart(content).defects == []


@pytest.mark.parametrize(
    ("content", "expected", "defect"),
    [
        (MULTIPART + b"--b\r\n\r\none", [b"one"], "A multipart has no end"),
        (MULTIPART + b"--b\n\none\n--b--", [b"one"], None),
        (MULTIPART + b"--b\r\n\r\n--b\r\n\r\n--b--", [b"", b""], None),
        (MULTIPART + b"nothing", [], "A multipart has no parts"),
        (MULTIPART + b"--bb\r\n\r\nx\r\n--b--", [], None),
        (MULTIPART + b"x--b\r\n", [], "A multipart has no parts"),
        (b"Content-Type: multipart/mixed\r\n\r\nx", [], "A multipart has no boundary"),
        (b"\r\nno head", [], None),
        (b"\nno head", [], None),
        (b"no head", [], "A head has a line that is no header"),
        (b"", [], None),
        (b"A: b", [], None),
    ],
)
def test_what_is_broken_is_read_as_far_as_it_goes(content: bytes, expected: list[bytes], defect: str | None) -> None:
    assert bodies(content)[1:] == expected
    assert take_apart(content).defects == ([] if defect is None else [defect])


def test_headers_are_unfolded_later_and_kept_as_they_came() -> None:
    (message,) = take_apart(b"A: one\r\n two\r\nB:three\r\na: four\r\n\r\nbody: no\r\n").parts
    assert message.headers == [("A", b"one\r\n two"), ("B", b"three"), ("a", b"four")]
    assert message.first("a") == b"one\r\n two"


def test_messages_within_messages_are_taken_apart_too() -> None:
    inner = EmailMessage()
    inner["Subject"] = "inner"
    inner.set_content("Hello")
    outer = EmailMessage()
    outer.set_content("See below")
    outer.add_attachment(inner)
    taken = take_apart(outer.as_bytes())
    assert types(taken) == ["multipart/mixed", "text/plain", "message/rfc822", "text/plain"]
    assert [part.depth for part in taken.parts] == [0, 1, 1, 2]
    assert taken.parts[3].first("Subject") == b"inner"


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ('attachment; filename="a b.pdf"', "a b.pdf"),
        ("attachment; filename*=UTF-8''R%C3%BCck.pdf", "Rück.pdf"),
        ("attachment; filename*0=one; filename*1=two", "onetwo"),
        ('attachment; filename="=?utf-8?b?UsO8Y2s=?="', "Rück"),
        ("attachment; filename*=nonsense''%FF", "ÿ"),
        ("attachment; filename*=%", "%"),
        ('attachment; filename="a\x00\u202eb"', "a\ufffd\ufffdb"),
        ("attachment", None),
    ],
)
def test_names_of_files_are_read(header: str, name: str | None) -> None:
    """RFC 2183, RFC 2231, and what mail programs do instead."""
    (message,) = take_apart(f"Content-Disposition: {header}\r\n\r\n".encode()).parts
    assert message.file_name == name
    assert message.is_attachment


@pytest.mark.parametrize(
    "value", ["text", "text/", "<script>/x", "text/plain/x", "a/b c", "x" * 5000 + "/y", "text/\u202ehtml", ""]
)
def test_a_type_is_a_type_or_none(value: str) -> None:
    """RFC 2045 §5.2: what cannot be read is plain text or octets; nothing else gets through."""
    (message,) = take_apart(f"Content-Type: {value}\r\n\r\n".encode()).parts
    assert message.content_type in ("text/plain", "application/octet-stream", "a/b")


def test_parts_have_a_bound() -> None:
    taken = take_apart(MULTIPART + b"--b\r\n\r\nx\r\n" * 5000)
    assert len(taken.parts) == MOST_PARTS
    assert taken.defects == [f"It has more than {MOST_PARTS} parts: the rest is not shown"]


def test_depth_has_a_bound() -> None:
    nested = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (level, level) for level in range(1000)
    )
    taken = take_apart(nested)
    assert max(part.depth for part in taken.parts) == MOST_DEPTH
    assert "levels" in " ".join(taken.defects)


_HOSTILE = {
    "boundaries": MULTIPART + b"--b\n" * 2_000_000,
    "like boundaries": MULTIPART + b"\n--b x" * 1_500_000,
    "line ends": MULTIPART + b"\r\n" * 4_000_000,
    "blanks": MULTIPART + b"\n--b" + b" " * 8_000_000,
    "folds": b"x: y\n" + b" \n" * 4_000_000,
    "headers": b"x: y\n" * 1_600_000,
    "semicolons": b'Content-Type: text/plain; "' + b";" * 8_000_000,
    "parameters": MULTIPART + (b'--b\r\nContent-Type: text/plain; "' + b";" * 8000 + b"\r\n\r\nx\r\n") * 1000,
    "depth": b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(999))
    + b"\n" * 8_000_000,
    "no line": b"x" * 8_000_000,
}


@pytest.mark.parametrize("name", _HOSTILE)
def test_eight_megabytes_of_anything_take_seconds_at_the_most(name: str) -> None:
    """The time grows with the octets, not with their square."""
    began = process_time()
    for part in take_apart(_HOSTILE[name]).parts:
        assert part.content_type
        assert part.charset != ""
        assert part.file_name != ""
    assert process_time() - began < 10


@given(
    st.binary(max_size=300)
    | st.lists(st.sampled_from([b"--b", b"--", b"\r\n", b"\n", b"A: b", b"x", MULTIPART])).map(b"".join)
)
def test_nothing_fails_and_parts_lie_within_each_other(content: bytes) -> None:
    taken = take_apart(MULTIPART + content)
    whole = MULTIPART + content
    for part in taken.parts:
        assert 0 <= part.start <= part.end <= len(whole)
        assert isinstance(part.content_type + part.encoding + str(part.file_name) + str(part.content_id), str)


def _made(depth: int, counts: list[int]) -> EmailMessage:
    message = EmailMessage()
    message.set_content("text\n" * counts[0])
    for number in counts[1:]:
        message.add_attachment(bytes(range(number)), "application", "octet-stream", filename=f"f{number}")
    return message


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_what_the_standard_library_makes_it_reads_as_well(counts: list[int]) -> None:
    content = _made(0, counts).as_bytes(policy=email.policy.SMTP)
    theirs = [part.get_content_type() for part in BytesParser(policy=email.policy.SMTP).parsebytes(content).walk()]
    assert types(take_apart(content)) == theirs
