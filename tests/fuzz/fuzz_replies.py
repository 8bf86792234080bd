"""Replies: whatever an application or a client wrote, it is one line of printable ASCII."""

from __future__ import annotations

import re

from lmtp_twisted.errors import LMTPError
from lmtp_twisted.wire.replies import Reply, encode_lines, printable

_LINE = re.compile(rb"[0-9]{3}[ -][ -~]{0,506}\r\n")


def replies(data: bytes) -> None:
    """Any text in each place of a reply. What is not UTF-8 is a lone surrogate, as in the names of files."""
    text = data.decode("utf-8", "surrogateescape")
    for code, enhanced in ((250, "2.1.5"), (354, None), (451, "4.999.999"), (554, "5.3.0")):
        encoded = Reply(code, enhanced, text).encoded
        assert _LINE.fullmatch(encoded), encoded
        assert encoded.startswith(b"%d " % code)
        if enhanced is not None:
            assert encoded.startswith(b"%d %b " % (code, enhanced.encode()))
    lines = text.split("|")
    encoded = encode_lines(250, lines)
    written = encoded.splitlines(keepends=True)
    assert len(written) == len(lines)
    assert all(_LINE.fullmatch(line) for line in written), encoded
    assert [line[3:4] for line in written] == [b"-"] * (len(lines) - 1) + [b" "]
    _printable(text)
    _refusal(text[:80])


def _printable(text: str) -> None:
    words = printable(text)
    assert words.isascii()
    assert words.isprintable()
    assert printable(words) == words
    for limit in (0, 9, 300):
        cut = printable(text, limit)
        assert len(cut) <= limit
        assert words.startswith(cut)
        # No escape is cut in two, unless the text itself brought it.
        assert text.isascii() or "\\" in text or cut.count("{") - text[:limit].count("{") <= cut.count("}")


def _refusal(text: str) -> None:
    for code in (None, 450, 550):
        for enhanced in (None, "4.2.2", "5.1.1"):
            reply = Reply.from_error(LMTPError(code, enhanced, text), 550, "5.1.1")
            assert reply.enhanced is not None
            assert reply.enhanced[0] == str(reply.code)[0]
            assert code is None or reply.code == code
            assert _LINE.fullmatch(reply.encoded)
