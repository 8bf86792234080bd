"""Content as it arrives: RFC 5321 §4.1.1.4 and §4.5.2, RFC 3030 §2, RFC 5321 §2.3.8."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lmtp_twisted.wire.content import BareNewlines, ChunkDecoder, DataDecoder, NewlineFilter

#: What is rare in random octets and matters here.
PIECES = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"..", b"x", b"\x00", b"\xff", b"QUIT"]), max_size=25)
OCTETS = st.one_of(st.binary(max_size=60), PIECES.map(b"".join))
#: Where a stream is cut: sizes of its segments, the last of them again and again.
SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=30)


def cut(data: bytes, sizes: Iterable[int]) -> list[bytes]:
    """The octets in segments of these sizes."""
    segments, at, size = [], 0, 1
    for size in sizes:
        segments.append(data[at : at + size])
        at += size
    while at < len(data):
        segments.append(data[at : at + size])
        at += size
    return [segment for segment in segments if segment]


def decode(segments: Iterable[bytes]) -> tuple[bytes, bytes | None]:
    """The content of DATA, and what followed its end, where it has come."""
    decoder, content, remaining = DataDecoder(), b"", iter(segments)
    for segment in remaining:
        content += decoder.feed(segment)
        if decoder.rest is not None:
            return content, decoder.rest + b"".join(remaining)
    return content, None


def model(data: bytes) -> tuple[bytes, bytes | None]:
    """The same in other words: lines are what CR LF separates, a line that is a dot is the end."""
    lines: list[bytes] = []
    rest = data
    while True:
        line, found, rest = rest.partition(b"\r\n")
        if not found:
            return b"".join(lines), None
        if line == b".":
            return b"".join(lines), rest
        lines.append(line.removeprefix(b".") + b"\r\n")


# DATA


@pytest.mark.parametrize(
    ("wire", "content"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"a\r\n.\r\n", b"a\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b"...\r\n.\r\n", b"..\r\n"),
        (b".a\r\n.\r\n", b"a\r\n"),
        (b"a\r\n..\r\n.b\r\n.\r\n", b"a\r\n.\r\nb\r\n"),
        (b"a\r\n..\r\n..\r\n.\r\n", b"a\r\n.\r\n.\r\n"),
        (b"a\n.\n\r\n.\r\n", b"a\n.\n\r\n"),
        (b"a\n.\r\n.\r\n", b"a\n.\r\n"),
        (b"a\r\n.\nb\r\n.\r\n", b"a\r\n\nb\r\n"),
        (b"a\r.\rb\r\n.\r\n", b"a\r.\rb\r\n"),
        (b"a\r.\r\n.\r\n", b"a\r.\r\n"),
        (b"a\r\r\n.\r\n", b"a\r\r\n"),
        (b"a\r\r\n.\r\r\n.\r\n", b"a\r\r\n\r\r\n"),
        (b"\x00.\r\n.\r\n", b"\x00.\r\n"),
        (b".\x00\r\n.\r\n", b"\x00\r\n"),
        (b".\r\r\n.\r\n", b"\r\r\n"),
        (b"\r\n\r\n.\r\n", b"\r\n\r\n"),
        (b"\r\r\n.\r\n", b"\r\r\n"),
    ],
)
@pytest.mark.parametrize("rest", [b"", b"QUIT\r\n", b".\r\n", b"\r\n.\r\n"])
def test_the_content_ends_at_crlf_dot_crlf_alone(wire: bytes, content: bytes, rest: bytes) -> None:
    """RFC 5321 §4.1.1.4, in one segment, octet by octet, and cut in two at every place."""
    assert model(wire + rest) == (content, rest)
    assert decode([wire + rest]) == (content, rest)
    assert decode(cut(wire + rest, [1])) == (content, rest)
    for place in range(1, len(wire + rest)):
        assert decode([(wire + rest)[:place], (wire + rest)[place:]]) == (content, rest)


@pytest.mark.parametrize(
    "wire", [b".", b".\r", b"\r\n.", b"\r\n.\r", b"a\r\n.\r", b"a\n.\n", b"a\r.\r", b"..\r\n", b".\n"]
)
def test_what_only_begins_like_the_end_is_none(wire: bytes) -> None:
    """RFC 5321 §4.1.1.4."""
    for segments in ([wire], cut(wire, [1])):
        _, rest = decode(segments)
        assert rest is None


@given(OCTETS, SIZES)
@example(b"\r\n.\r\r\n.\r\n", [1])
@example(b"\r\n.\r\n.\r\n", [4])
def test_any_octets_in_any_segments_are_as_the_model_says(data: bytes, sizes: list[int]) -> None:
    """RFC 5321 §4.1.1.4, §4.5.2."""
    content, rest = decode(cut(data, sizes))
    expected, expected_rest = model(data)
    assert rest == expected_rest
    if rest is None:
        # What is not certain yet is held back; lines that have ended are not.
        whole, _ = model(data + b"x\r\n" + b".\r\n")
        assert whole.startswith(content)
        assert len(content) >= len(expected) - 2
    else:
        assert content == expected


@given(OCTETS, SIZES, OCTETS)
def test_a_stuffed_content_comes_out_as_it_was(content: bytes, sizes: list[int], rest: bytes) -> None:
    """RFC 5321 §4.5.2."""
    if content and not content.endswith(b"\r\n"):
        content += b"\r\n"
    stuffed = re.sub(rb"(\A|\r\n)\.", rb"\1..", content)
    assert decode(cut(stuffed + b".\r\n" + rest, sizes)) == (content, rest)


@given(OCTETS, SIZES)
def test_at_most_four_octets_are_held_back(data: bytes, sizes: list[int]) -> None:
    """Memory is bounded, and the store gets what there is."""
    decoder = DataDecoder()
    fed = given_back = 0
    for segment in cut(data, sizes):
        given_back += len(decoder.feed(segment))
        fed += len(segment)
        if decoder.rest is not None:
            return
        assert given_back <= fed
        assert fed - given_back <= 4 + data.count(b".")


def test_a_long_run_of_lines_is_decoded_in_one_go() -> None:
    """A segment in which no line begins with a dot is given back as it is."""
    data = b"x" * 1000 + b"\r\ny"
    decoder = DataDecoder()
    assert decoder.feed(data) == data
    assert decoder.feed(b"z" * 100) == b"z" * 100
    assert decoder.rest is None


# BDAT


@given(st.binary(max_size=80), st.binary(max_size=20), SIZES)
def test_a_chunk_is_so_many_octets_whatever_they_are(chunk: bytes, rest: bytes, sizes: list[int]) -> None:
    """RFC 3030 §2."""
    decoder, content = ChunkDecoder(len(chunk)), b""
    segments = iter(cut(chunk + rest, sizes))
    while decoder.rest is None:
        content += decoder.feed(next(segments))
    assert content == chunk
    assert decoder.rest + b"".join(segments) == rest


def test_an_empty_chunk_is_complete_at_once() -> None:
    """RFC 3030 §2: BDAT 0 LAST."""
    assert ChunkDecoder(0).rest == b""


def test_a_chunk_that_ends_with_its_segment_leaves_nothing() -> None:
    """RFC 3030 §2."""
    decoder = ChunkDecoder(3)
    assert decoder.feed(b"ab") == b"ab"
    assert decoder.rest is None
    assert decoder.feed(b"c") == b"c"
    assert decoder.rest == b""


# Bare newlines


def mend(segments: Iterable[bytes]) -> tuple[bytes, bool]:
    """What a filter makes of them, and whether it found anything."""
    newlines = NewlineFilter()
    mended = b"".join([newlines.feed(segment) for segment in segments])
    return mended + newlines.finish(), newlines.found


@pytest.mark.parametrize(
    ("data", "mended"),
    [
        (b"", b""),
        (b"a\r\nb\r\n", b"a\r\nb\r\n"),
        (b"a\nb", b"a\r\nb"),
        (b"a\rb", b"a\r\nb"),
        (b"a\r", b"a\r\n"),
        (b"\n", b"\r\n"),
        (b"\r\r\n", b"\r\n\r\n"),
        (b"\r\n\n", b"\r\n\r\n"),
        (b"\n\r", b"\r\n\r\n"),
        (b"\r\n\r\n", b"\r\n\r\n"),
        (b"\r\r\r", b"\r\n\r\n\r\n"),
    ],
)
def test_each_bare_cr_or_lf_becomes_crlf(data: bytes, mended: bytes) -> None:
    """RFC 5321 §2.3.8, in one segment and octet by octet."""
    assert mend([data]) == (mended, data != mended)
    assert mend(cut(data, [1])) == (mended, data != mended)


@given(OCTETS, SIZES)
def test_bare_newlines_are_mended_alike_however_they_are_cut(data: bytes, sizes: list[int]) -> None:
    """A CR and its LF in two segments are no bare ones."""
    mended, found = mend(cut(data, sizes))
    assert (mended, found) == mend([data])
    assert mended == re.sub(rb"\r\n|\r|\n", b"\r\n", data)
    assert found == (mended != data)
    assert mend([mended]) == (mended, False)


@given(OCTETS, SIZES)
def test_a_filter_holds_back_one_octet_at_the_most(data: bytes, sizes: list[int]) -> None:
    """A CR whose fate is not known."""
    newlines, fed, given_back = NewlineFilter(), b"", b""
    for segment in cut(data, sizes):
        fed += segment
        given_back += newlines.feed(segment)
        assert re.sub(rb"\r\n|\r|\n", b"\r\n", fed.removesuffix(b"\r")) == given_back


def test_the_policies_have_the_names_of_the_command_line() -> None:
    """``--bare-newlines``."""
    assert [policy.value for policy in BareNewlines] == ["keep", "normalise", "reject"]
    assert BareNewlines("reject") is BareNewlines.REJECT
    with pytest.raises(ValueError, match="bounce"):
        BareNewlines("bounce")
