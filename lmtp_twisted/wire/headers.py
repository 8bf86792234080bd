"""What a look at the beginning of a content tells, without parsing it as a message."""

from __future__ import annotations

import re

from lmtp_twisted.wire.replies import printable

#: Octets of a content in which a header field is looked for: what a header block has, and more.
LOOKED_AT = 16 * 1024
#: Characters of a Message-ID: RFC 5322 allows a line of 998, and nobody makes such.
MAX_MESSAGE_ID = 250

_COMMON = (b"D: ", b"d: ")
_FIELD = re.compile(rb"message-id[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)", re.IGNORECASE)


def message_id_of(beginning: bytes) -> str:
    """
    The Message-ID of a message (RFC 5322 §3.6.4), for logs. The client wrote it, and it may be any text.

    :param beginning: of its content; no more than :data:`LOOKED_AT` octets are looked at.
    :returns: printable ASCII on one line, at most :data:`MAX_MESSAGE_ID` characters; empty where there is none.
    """
    # Nearly all messages have it like this, and this is asked for every message.
    at = beginning.find(b"\r\nMessage-I", 0, LOOKED_AT)
    start = at + len("\r\nMessage-ID: ")
    has_one = at > 0 and beginning[start - 3 : start] in _COMMON and beginning[0] != ord("\n")
    if has_one and beginning.find(b"\n\r\n", 0, at + 2) < 0 and beginning.find(b"\n\n", 0, at) < 0:
        end = beginning.find(b"\r\n", start, start + MAX_MESSAGE_ID)
        if end > start and not beginning.startswith((b" ", b"\t"), end + 2):
            text = beginning[start:end].decode("ascii", "replace")
            if text.isascii() and text.isprintable():
                return text.strip(" ")
    return _message_id_in(_head(beginning))


def _head(beginning: bytes) -> bytes:
    if beginning.startswith((b"\r\n", b"\n")):
        return b""
    end = beginning.find(b"\r\n\r\n", 0, LOOKED_AT)
    if end < 0:
        end = min(len(beginning), LOOKED_AT)
    bare = beginning.find(b"\n\n", 0, end)
    return beginning[: end if bare < 0 else bare]


def _message_id_in(head: bytes) -> str:
    # To search in lower case is ten times as fast as a regular expression that does not care for case.
    lines, at = b"\n" + head.lower(), -1
    while (at := lines.find(b"\nmessage-id", at + 1)) >= 0:
        match = _FIELD.match(head, at)
        if match is not None:
            value = b" ".join(match[1][: 4 * MAX_MESSAGE_ID].split())
            return printable(value.decode("utf-8", "replace"), MAX_MESSAGE_ID)
    return ""
