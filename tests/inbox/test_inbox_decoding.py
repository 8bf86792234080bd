"""Octets of mail as text that can be shown."""

from __future__ import annotations

import tracemalloc
from time import process_time

import pytest

from lmtp_twisted.daemon.inbox.decoding import MOST_OF_A_VALUE, Decoder, body_of, codec_of, text_of, value_of, visible


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (b" plain ", "plain"),
        (b"=?utf-8?b?R3LDvMOfZQ==?=", "Grüße"),
        (b"=?iso-8859-1?q?Gr=FC=DFe?= =?utf-8?b?4oKs?= and more", "Grüße€ and more"),
        (b"=?x-nonsense?q?Gr=C3=BC?=", "Grü"),
        (b"=?utf-8?b?a?=", "=?utf-8?b?a?="),
        (b"=?utf-8?q?=FF=FE?=", "\ufffd\ufffd"),
        ("Grüße".encode(), "Grüße"),
        ("Grüße".encode("latin-1"), "Grüße"),
        (b"folded\r\n\tlines \r\n of it", "folded lines of it"),
        (b"=?utf-8?q?two=0D=0Alines?=", "two lines"),
        (b"a\x00b\x1b[31m", "a\ufffdb\ufffd[31m"),
        ("exe\u202efdp.".encode(), "exe\ufffdfdp."),
        (b"", ""),
    ],
)
def test_a_header_is_read_as_people_read_it(octets: bytes, text: str) -> None:
    """RFC 2047; controls and what turns the text round are marked."""
    assert value_of(octets) == text


def test_a_header_without_end_is_cut() -> None:
    """However many encoded words there are, a bounded number is decoded."""
    value = value_of(b"=?utf-8?b?aGk=?= " * 100_000)
    assert value.startswith("hihi")
    assert len(value) <= MOST_OF_A_VALUE
    assert value.endswith("…")


@pytest.mark.parametrize(
    ("charset", "codec"),
    [
        ("UTF-8", "utf_8"),
        ("us-ascii", "ascii"),
        ("ISO-8859-1", "cp1252"),
        ("iso-8859-15", "iso8859_15"),
        ("windows-1252", "cp1252"),
        ("ISO-2022-JP", "iso2022_jp"),
        ("KOI8-R", "koi8_r"),
        ("gb2312", "gb2312"),
        *((name, None) for name in ("", "x", "rot13", "zlib", "idna", "punycode", "unicode_escape", "../x", "a" * 999)),
    ],
)
def test_only_charsets_of_mail_are_used(charset: str, codec: str | None) -> None:
    """Python's other codecs are no charsets, or take time that grows with the square of the text."""
    assert codec_of(charset) == codec


@pytest.mark.parametrize(
    "charset", [None, "x-unknown", "us-ascii", "utf-16", "utf-7", "iso-2022-jp", "shift_jis", "hz"]
)
def test_a_wrong_charset_fails_nowhere(charset: str | None) -> None:
    assert isinstance(text_of(b"\xff\xfe\x80\x1b$B+AAA~{\x00", charset), str)


@pytest.mark.parametrize(
    ("encoding", "octets", "decoded"),
    [
        ("base64", b"aGVs\r\nbG8=\r\n", b"hello"),
        ("base64", b"aGVsbG8", b"hello"),
        ("base64", b"aGVsbG8=aGVsbG8", b"hello"),
        ("base64", b"!!!a!!!", b""),
        ("quoted-printable", b"Gr=FC=\r\n=DF", b"Gr\xfc\xdf"),
        ("quoted-printable", b"=ZZ=", b"=ZZ"),
        ("7bit", b"as it is", b"as it is"),
        ("x-unknown", b"as it is", b"as it is"),
    ],
)
def test_a_body_is_decoded_as_far_as_it_can_be(encoding: str, octets: bytes, decoded: bytes) -> None:
    """RFC 2045 §6."""
    assert body_of(octets, encoding).startswith(decoded)


@pytest.mark.parametrize(
    ("encoding", "octets"),
    [("base64", b"aGVs\r\nbG8h\r\nYQ=="), ("base64", b"aG!Vs b"), ("quoted-printable", b"Gr=FC=\r\n=DF = x=\n=4")],
)
def test_it_does_not_matter_in_which_pieces_a_body_is_decoded(encoding: str, octets: bytes) -> None:
    for first in range(len(octets)):
        for second in range(first, len(octets)):
            decoder = Decoder(encoding)
            pieces = (octets[:first], octets[first:second], octets[second:])
            assert b"".join(map(decoder.feed, pieces)) + decoder.end() == body_of(octets, encoding)


def test_what_is_hardly_base64_takes_little_time_and_memory() -> None:
    """Noise between the letters, and an end without padding, are not worth more than letters."""
    octets = (b"A!" * 38 + b"\r\n") * 100_000 + b"AAAAA"
    tracemalloc.start()
    try:
        began = process_time()
        assert len(body_of(octets, "base64")) == 38 * 100_000 * 3 // 4 + 3
        assert process_time() - began < 2
        assert tracemalloc.get_traced_memory()[1] < 2 * len(octets)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable", "8bit"])
def test_no_more_is_decoded_than_is_wanted(encoding: str) -> None:
    assert len(body_of(b"QUJD" * 100_000, encoding, 70_000)) == 70_000


def test_lines_stay() -> None:
    assert visible("a\r\nb\n\tc\rd") == "a\nb\n\tc\ufffdd"
