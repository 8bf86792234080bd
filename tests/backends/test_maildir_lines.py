"""The octets of a file."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmtp_twisted.backends.maildir.lines import Newlines, octets_of, with_lf
from lmtp_twisted.message import ReceivedMessage
from lmtp_twisted.wire.parameters import Body

Receive = Callable[..., ReceivedMessage]
TEXT = b"S: x\r\n\r\none\r\ntwo\r\r\nbare\rbare\nend\r\n\r"


def stored(message: ReceivedMessage, newlines: Newlines) -> bytes:
    return b"".join(octets_of(message, newlines))


@pytest.mark.parametrize("block", [None, 1, 7])
def test_crlf_becomes_lf_also_in_the_trace_headers(receive: Receive, block: int | None) -> None:
    message = receive("a@b.example", content=TEXT, block=block)
    assert message.inMemory is (block is None)
    assert stored(message, Newlines.LF) == (message.trace() + TEXT).replace(b"\r\n", b"\n")


@pytest.mark.parametrize("block", [None, 7])
def test_newlines_crlf_keeps_what_came(receive: Receive, block: int | None) -> None:
    message = receive("a@b.example", content=TEXT, block=block)
    assert stored(message, Newlines.CRLF) == message.trace() + TEXT


@pytest.mark.parametrize("block", [None, 7])
def test_binarymime_is_kept_as_it_is(receive: Receive, block: int | None) -> None:
    """RFC 3030 §3: octets, not lines."""
    message = receive("a@b.example", content=TEXT, block=block, body=Body.BINARY_MIME)
    assert stored(message, Newlines.LF) == message.trace() + TEXT


def test_a_file_begins_with_return_path_and_received(receive: Receive) -> None:
    """RFC 5321 §4.4."""
    lines = stored(receive("a@b.example"), Newlines.LF).split(b"\n")
    assert lines[0] == b"Return-Path: <sender@example.net>"
    assert lines[1].startswith(b"Received: from client.example ([192.0.2.1])")


def test_a_bare_cr_and_a_bare_lf_are_kept() -> None:
    assert b"".join(with_lf([b"a\rb\nc\r\n"])) == b"a\rb\nc\n"


@pytest.mark.parametrize("end", range(len(TEXT) + 1))
def test_a_block_may_end_anywhere(end: int) -> None:
    assert b"".join(with_lf([TEXT[:end], TEXT[end:]])) == TEXT.replace(b"\r\n", b"\n")


@given(
    st.lists(st.binary(max_size=4).map(lambda octets: octets.translate(bytes(b"\r\nab"[i % 4] for i in range(256)))))
)
def test_any_split_gives_the_same_octets(blocks: list[bytes]) -> None:
    assert b"".join(with_lf(blocks)) == b"".join(blocks).replace(b"\r\n", b"\n")
