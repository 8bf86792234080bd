"""Replies of servers, read from octets."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from lmtp_twisted.client.replies import ReplyReader, ServerReply
from lmtp_twisted.errors import TemporaryFailure

LINES = st.builds(
    lambda code, texts: [
        f"{code}{' ' if number == len(texts) - 1 else '-'}{text}" for number, text in enumerate(texts)
    ],
    st.integers(200, 599),
    st.lists(st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=20), min_size=1),
)


def read(pieces: list[bytes]) -> list[ServerReply]:
    """All replies in these segments."""
    reader = ReplyReader()
    found = [reply for piece in pieces for reply in reader.feed(piece)]
    assert not reader.is_within
    return found


@given(st.lists(LINES, max_size=4), st.lists(st.integers(0, 400), max_size=5))
def test_replies_are_the_same_however_they_are_cut(replies: list[list[str]], cuts: list[int]) -> None:
    """RFC 5321 §4.2.1."""
    octets = "".join(f"{line}\r\n" for lines in replies for line in lines).encode()
    places = [0, *sorted(min(cut, len(octets)) for cut in cuts), len(octets)]
    pieces = [octets[start:end] for start, end in pairwise(places)]
    found = read(pieces)
    assert found == read([octets])
    assert [(reply.code, len(reply.lines)) for reply in found] == [(int(lines[0][:3]), len(lines)) for lines in replies]


@given(st.binary(max_size=300))
def test_any_octets_are_replies_or_an_error(octets: bytes) -> None:
    """RFC 5321 §4.2: and nothing else."""
    found = []
    with suppress(TemporaryFailure):
        found = ReplyReader().feed(octets)
    assert all(200 <= reply.code < 600 and "\n" not in reply.text for reply in found)
