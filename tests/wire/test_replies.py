"""Replies on their way to the wire: RFC 5321 §4.2 and §4.5.3.1.5, RFC 2034 §4, RFC 6533 §3."""

from __future__ import annotations

import re
import tracemalloc
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lmtp_twisted.errors import CommandError, DeliveryError, LMTPError, PermanentFailure, TemporaryFailure, is_enhanced
from lmtp_twisted.wire import replies
from lmtp_twisted.wire.replies import DEFAULT_ENHANCED, MAX_TEXT, Reply, encode_lines, printable

STANDARD = {name: value for name, value in vars(replies).items() if isinstance(value, Reply)}
#: With what is awkward more often than it comes by chance.
TEXT = st.text(
    st.one_of(st.characters(), st.sampled_from("\r\n\t\x00\x7f\x85\x9f\xa0ü€\u2028\U0001f600\ud800\\x{}")), max_size=700
)
ENHANCED = st.sampled_from([None, "2.0.0", "4.2.2", "5.1.1", "5.999.999"])


# Text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("plain", "plain"),
        ("", ""),
        ("a\r\nb", "a b"),
        ("a\rb\nc\td", "a b c d"),
        ("\x00\x07\x1b\x7f", "????"),
        ("\x80\x85\x9f", "???"),
        ("\xa0", r"\x{A0}"),
        ("ü", r"\x{FC}"),
        ("€", r"\x{20AC}"),
        ("\u2028\u2029", r"\x{2028}\x{2029}"),
        ("\U0001f600", r"\x{1F600}"),
        ("\ud800", r"\x{D800}"),
        ("\r\n\r\n", "  "),
        ("~ !", "~ !"),
        (r"\x{41}", r"\x{41}"),
    ],
)
def test_text_is_made_printable(text: str, words: str) -> None:
    """RFC 6533 §3 for what is not ASCII, a blank for line ends, a question mark for other control characters."""
    assert printable(text) == words


@given(TEXT, st.integers(0, 600))
@example("a" * 9 + "ü", 10)
@example("a" * 8 + "ü", 10)
@example("\U0010ffff" * 60, 100)
@example("ü" * 700, 510)
def test_text_is_ascii_without_controls_and_never_too_long(text: str, limit: int) -> None:
    """RFC 5321 §4.5.3.1.5, §4.2."""
    words = printable(text, limit)
    assert len(words) <= limit
    assert re.fullmatch("[ -~]*", words)


@given(st.text(st.sampled_from("aü€\U0001f600\r\n\x00"), max_size=60), st.integers(0, 80))
def test_text_is_cut_at_a_character_never_within_an_escape(text: str, limit: int) -> None:
    """RFC 6533 §3: what is there can be read back."""
    words, whole = printable(text, limit), printable(text, 10_000)
    assert whole.startswith(words)
    assert re.fullmatch(r"(?:[a ?]|\\x\{[0-9A-F]+\})*", words)
    if words != whole:
        following = re.match(r"\\x\{[0-9A-F]+\}|.", whole[len(words) :])
        assert following is not None
        assert len(words) + len(following[0]) > limit


@given(st.text(max_size=100))
def test_text_without_a_limit_loses_nothing_that_is_not_a_control(text: str) -> None:
    """RFC 6533 §3: the escapes can be undone."""
    undone = re.sub(r"\\x\{([0-9A-F]+)\}", lambda match: chr(int(match[1], 16)), printable(text, 10_000))
    expected = re.sub("[\x00-\x1f\x7f-\x9f]", "?", re.sub("\r\n|[\r\n\t]", " ", text))
    if "\\" not in text:
        assert undone == expected


@pytest.mark.parametrize("character", ["ü", "\r\n", "\x00", "a"])
def test_of_a_long_text_only_so_much_is_looked_at_as_is_needed(character: str) -> None:
    """A reply is made in the reactor thread, and an application may put a whole traceback into it."""
    text = character * 1_000_000
    tracemalloc.start()
    try:
        words = printable(text)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(words) in range(MAX_TEXT - 10, MAX_TEXT + 1)
    assert peak < 300_000


# Replies


@given(st.sampled_from([211, 250, 354, 450, 451, 550, 554]), ENHANCED, TEXT)
def test_a_reply_is_one_line_of_at_most_512_octets(code: int, enhanced: str | None, text: str) -> None:
    """RFC 5321 §4.2, §4.5.3.1.5."""
    encoded = Reply(code, enhanced, text).encoded
    assert len(encoded) <= 512
    assert encoded.endswith(b"\r\n")
    assert re.fullmatch(rb"[ -~]*", encoded[:-2])
    assert encoded.startswith(f"{code} {enhanced} ".encode() if enhanced else f"{code} ".encode())


def test_a_reply_is_encoded_once() -> None:
    """The standard ones are sent again and again."""
    assert replies.NOOP.encoded is replies.NOOP.encoded
    assert replies.NOOP.encoded == b"250 2.0.0 OK\r\n"


def test_replies_are_values() -> None:
    """Equal where they say the same."""
    assert Reply(250, "2.0.0", "x") == Reply(250, "2.0.0", "x")
    assert Reply(250, "2.0.0", "x") != Reply(250, "2.0.0", "y")
    assert len({Reply(250), Reply(250)}) == 1
    with pytest.raises(AttributeError):
        Reply(250).code = 251  # type: ignore[misc]


@pytest.mark.parametrize("code", [200, 250, 299, 354, 421, 500])
def test_a_reply_is_positive_where_its_class_is_2(code: int) -> None:
    """RFC 5321 §4.2.1."""
    assert Reply(code).is_positive is (code < 300)


@pytest.mark.parametrize("name", STANDARD)
def test_each_standard_reply_has_a_code_and_an_enhanced_code_of_one_class(name: str) -> None:
    """RFC 2034 §4: none on 354 and on the reply to EHLO."""
    reply = STANDARD[name]
    if name in ("START_CONTENT", "NOT_LHLO"):
        assert reply.enhanced is None
    else:
        assert is_enhanced(reply.enhanced)
        assert reply.enhanced[0] == str(reply.code)[0]
    assert reply.text
    assert reply.text.isascii()
    assert len(reply.encoded) <= 512


def test_the_default_enhanced_codes_are_of_their_classes() -> None:
    """RFC 2034 §4."""
    assert all(is_enhanced(enhanced) and enhanced[0] == str(digit) for digit, enhanced in DEFAULT_ENHANCED.items())
    assert set(DEFAULT_ENHANCED) == {2, 4, 5}


# Several lines


def test_several_lines_are_one_reply() -> None:
    """RFC 5321 §4.2.1."""
    assert encode_lines(250, ["one"]) == b"250 one\r\n"
    assert encode_lines(250, ["one", "two", "three"]) == b"250-one\r\n250-two\r\n250 three\r\n"


@given(st.lists(TEXT, min_size=1, max_size=5))
def test_each_of_several_lines_is_printable_and_short(lines: list[str]) -> None:
    """RFC 5321 §4.5.3.1.5."""
    encoded = encode_lines(250, lines)
    parts = encoded.split(b"\r\n")
    assert parts.pop() == b""
    assert len(parts) == len(lines)
    for number, part in enumerate(parts, 1):
        assert part.startswith(b"250 " if number == len(lines) else b"250-")
        assert len(part) <= MAX_TEXT
        assert re.fullmatch(rb"[ -~]*", part)


# From exceptions


@pytest.mark.parametrize(
    ("error", "code", "enhanced"),
    [
        (DeliveryError(550, "5.1.1", "x"), 550, "5.1.1"),
        (DeliveryError(450, "4.2.0", "x"), 450, "4.2.0"),
        (DeliveryError(550, text="x"), 550, "5.7.1"),
        (DeliveryError(450, text="x"), 450, "4.3.0"),
        (DeliveryError(text="x"), 554, "5.7.1"),
        (DeliveryError(enhanced="5.2.2"), 554, "5.2.2"),
        (DeliveryError(enhanced="4.2.2"), 451, "4.2.2"),
        (PermanentFailure("x"), 554, "5.7.1"),
        (PermanentFailure("x", enhanced="5.2.2"), 554, "5.2.2"),
        (PermanentFailure("x", code=552), 552, "5.7.1"),
        (TemporaryFailure("x"), 451, "4.3.0"),
        (TemporaryFailure("x", enhanced="4.2.2"), 451, "4.2.2"),
        (TemporaryFailure("x", code=452), 452, "4.3.0"),
        (CommandError(501, "5.5.4", "x"), 501, "5.5.4"),
    ],
)
def test_an_exception_becomes_its_reply(error: LMTPError, code: int, enhanced: str) -> None:
    """RFC 3463: what it does not say comes from the place where it is raised, of its own class."""
    reply = Reply.from_error(error, 554, "5.7.1")
    assert (reply.code, reply.enhanced) == (code, enhanced)
    assert reply.text == (error.text or ("Try again later" if code < 500 else "Refused"))


@given(st.sampled_from([400, 450, 451, 499, 500, 550, 599, None]), ENHANCED, TEXT)
def test_the_reply_to_an_exception_has_codes_of_one_class(code: int | None, enhanced: str | None, text: str) -> None:
    """RFC 2034 §4."""
    reply = Reply.from_error(DeliveryError(code, enhanced, text), 550, "5.1.1")
    assert is_enhanced(reply.enhanced)
    assert reply.enhanced[0] == str(reply.code)[0]
    assert len(reply.encoded) <= 512


# The exceptions


@pytest.mark.parametrize("enhanced", ["5.1.1", "4.0.0", "2.999.1"])
def test_an_enhanced_status_code_has_three_numbers(enhanced: str) -> None:
    """RFC 3463 §2."""
    assert is_enhanced(enhanced)
    assert DeliveryError(enhanced=enhanced).enhanced == enhanced


@pytest.mark.parametrize(
    "enhanced",
    ["", "5", "5.1", "5.1.1.1", "3.0.0", "1.0.0", "5.1000.0", "5.1.1\n", "5.1.1 ", "\u0665.1.1", "a.b.c", 511, 5.1],
)
def test_anything_else_is_a_programming_error(enhanced: Any) -> None:
    """RFC 3463 §2: it shows where it is made."""
    assert not is_enhanced(enhanced)
    with pytest.raises(ValueError, match="enhanced"):
        DeliveryError(enhanced=enhanced)


@pytest.mark.parametrize("code", ["550", 550.0, b"550"])
def test_a_code_that_is_no_number_is_a_programming_error(code: Any) -> None:
    """It shows where it is made."""
    with pytest.raises(TypeError, match="number"):
        DeliveryError(code)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (TemporaryFailure, {"code": 550}),
        (TemporaryFailure, {"code": 421}),
        (TemporaryFailure, {"code": 250}),
        (TemporaryFailure, {"code": 4500}),
        (TemporaryFailure, {"enhanced": "5.1.1"}),
        (PermanentFailure, {"code": 450}),
        (PermanentFailure, {"code": 600}),
        (PermanentFailure, {"enhanced": "4.1.1"}),
    ],
)
def test_codes_of_the_wrong_class_are_a_programming_error(kind: type[DeliveryError], arguments: dict[str, Any]) -> None:
    """RFC 3463 §3: it shows where it is made."""
    with pytest.raises(ValueError, match="class"):
        kind("x", **arguments)


def test_an_exception_reads_well_in_a_log() -> None:
    """Its code, its enhanced code, its words."""
    assert str(DeliveryError(550, "5.1.1", "no such user")) == "550 5.1.1 no such user"
    assert str(PermanentFailure("no such user")) == "no such user"
    assert str(TemporaryFailure()) == "451"
    assert DeliveryError(text=5).text == "5"  # type: ignore[arg-type]
    assert isinstance(PermanentFailure(), LMTPError)
