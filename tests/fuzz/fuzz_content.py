"""Content: decoded whole, octet by octet and in random segments, and held against a reading of one octet at a time."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator

from fuzz_parameters import parsed_or_refused

from lmtp_twisted.wire.commands import parse_bdat
from lmtp_twisted.wire.content import ChunkDecoder, DataDecoder, NewlineFilter


def content(data: bytes) -> None:
    """Any octets behind the 354 of DATA."""
    if not data:
        return
    expected, expected_rest = unstuffed(data)
    for segments in cuts(data):
        decoded, rest = _decoded(DataDecoder(), segments)
        assert rest == expected_rest
        if rest is not None:
            assert decoded == expected
        else:
            # Whatever comes next, what was given away is content, and no more than an end mark's beginning is kept.
            completed, _ = unstuffed(data + b"\r\n.\r\n")
            assert completed.startswith(decoded)
            assert len(expected) - len(decoded) <= 4
    _newlines(expected)


def chunks(data: bytes) -> None:
    """The argument of BDAT, a line end, and any octets."""
    argument, _, octets = data.partition(b"\r\n")
    chunk = parsed_or_refused(parse_bdat, argument)
    if chunk is None:
        return
    size, _ = chunk
    for segments in cuts(octets):
        decoder = ChunkDecoder(size)
        decoded, rest = (b"", octets) if decoder.rest is not None else _decoded(decoder, segments)
        assert decoded == octets[:size]
        assert rest == (octets[size:] if len(octets) >= size else None)


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """The octets whole, one by one, in two, and in random segments: the same for the same octets."""
    yield [data] if data else []
    yield [data[at : at + 1] for at in range(len(data))]
    chance = random.Random(zlib.crc32(data))
    for longest in (2, 5, 20, len(data) + 1):
        segments, at = [], 0
        while at < len(data):
            size = chance.randint(1, longest)
            segments.append(data[at : at + size])
            at += size
        yield segments


def unstuffed(data: bytes) -> tuple[bytes, bytes | None]:
    """
    RFC 5321 §4.1.1.4 and §4.5.2, to the letter.

    :returns: the content, and what followed its end; ``None`` where the end has not come.
    """
    out, at, is_at_start_of_line = bytearray(), 0, True
    while at < len(data):
        if is_at_start_of_line and data[at : at + 1] == b".":
            if data[at : at + 3] == b".\r\n":
                return bytes(out), data[at + 3 :]
            at += 1
        is_at_start_of_line = data[at : at + 2] == b"\r\n"
        size = 2 if is_at_start_of_line else 1
        out += data[at : at + size]
        at += size
    return bytes(out), None


def _decoded(decoder: DataDecoder | ChunkDecoder, segments: list[bytes]) -> tuple[bytes, bytes | None]:
    out, remaining = b"", iter(segments)
    for segment in remaining:
        out += decoder.feed(segment)
        if decoder.rest is not None:
            return out, decoder.rest + b"".join(remaining)
    return out, None


def _newlines(data: bytes) -> None:
    expected, at = bytearray(), 0
    while at < len(data):
        newline = data[at : at + 1] in (b"\r", b"\n")
        expected += b"\r\n" if newline else data[at : at + 1]
        at += 2 if data[at : at + 2] == b"\r\n" else 1
    for segments in cuts(data):
        newlines = NewlineFilter()
        mended = b"".join([newlines.feed(segment) for segment in segments]) + newlines.finish()
        assert mended == expected
        assert newlines.found == (mended != data)
