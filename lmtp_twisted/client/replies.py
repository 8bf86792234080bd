"""
Replies of a server, read from the wire (RFC 5321 §4.2): octets in, values out. What is no reply is an error at once, so
that a server that has lost its place cannot make a client lose its own.
"""

from __future__ import annotations

import re

import attrs

from lmtp_twisted.errors import TemporaryFailure
from lmtp_twisted.wire.replies import Reply

#: Octets of a line, its CRLF included: the RFC allows 512 (§4.5.3.1.5), and servers that name things write more.
MAX_LINE = 2048
#: Lines of one reply.
MAX_LINES = 128
#: Characters of the text that one reply is to have for whoever reads it.
MAX_TEXT = 1000

_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])([^\r\n\0]*))?")
_ENHANCED = re.compile(r"([245])\.\d{1,3}\.\d{1,3}(?: +|\Z)", re.ASCII)


def wrong(text: str) -> TemporaryFailure:
    """A server that does not keep to the protocol: whether it delivered cannot be known (RFC 3463 §3.6)."""
    return TemporaryFailure(text, enhanced="4.5.0")


@attrs.frozen
class ServerReply:
    """
    One reply.

    :ivar code: three digits.
    :ivar enhanced: the enhanced status code, where it begins with one of its own class.
    :ivar lines: the text of each line, without the enhanced status code.
    """

    code: int
    enhanced: str | None
    lines: tuple[str, ...]

    @property
    def is_positive(self) -> bool:
        """Whether the code is of class 2."""
        return self.code // 100 == 2

    @property
    def text(self) -> str:
        """All lines as one."""
        return " ".join(line for line in self.lines if line)[:MAX_TEXT]

    def __str__(self) -> str:
        return " ".join(part for part in (str(self.code), self.enhanced, self.text) if part)

    def outcome(self) -> Reply:
        """
        What it says of a recipient.

        :raises TemporaryFailure: where it says nothing of one: 421 ends the session, and other classes are none that
            can be given here.
        """
        if self.code == 421:
            raise self.goodbye()
        if self.code < 400 and not self.is_positive:
            raise wrong(f"The server gave a reply that makes no sense here: {self}")
        return Reply(self.code, self.enhanced, self.text)

    def goodbye(self) -> TemporaryFailure:
        """A 421 as what it is for a recipient: it ends this session, not the one that the outcome is for."""
        return TemporaryFailure(self.text or "The server ended the session", enhanced=self.enhanced or "4.3.2")


class ReplyReader:
    """Makes replies of segments of any size; keeps one reply at the most."""

    def __init__(self) -> None:
        self._rest = b""
        self._code = b""
        self._lines: list[str] = []

    @property
    def is_within(self) -> bool:
        """Whether a reply has begun and not ended."""
        return bool(self._rest or self._lines)

    def feed(self, data: bytes) -> list[ServerReply]:
        """
        :param data: the next octets.
        :returns: the replies that are complete.
        :raises TemporaryFailure: for what is no reply.
        """
        replies = []
        *lines, self._rest = (self._rest + data).split(b"\r\n")
        for line in lines:
            if self._line(line):
                replies.append(self._finish())
        if len(self._rest) >= MAX_LINE:
            raise wrong("The server sent a line without end")
        return replies

    def _line(self, line: bytes) -> bool:
        """Whether it is the last of its reply."""
        match = _LINE.fullmatch(line) if len(line) < MAX_LINE else None
        if match is None:
            raise wrong(f"The server sent what is no reply: {line[:80].decode('ascii', 'replace')}")
        code, mark, text = match.groups()
        if self._lines and code != self._code:
            raise wrong("The server sent one reply with two codes")
        if len(self._lines) >= MAX_LINES:
            raise wrong("The server sent a reply without end")
        self._code = code
        self._lines.append((text or b"").decode("utf-8", "replace"))
        return mark != b"-"

    def _finish(self) -> ServerReply:
        lines, self._lines = self._lines, []
        found = _ENHANCED.match(lines[0])
        enhanced = None
        if found is not None and found[1].encode() == self._code[:1]:
            enhanced = found[0].rstrip()
            lines = [line[found.end() :] if line.startswith(found[0].rstrip()) else line for line in lines]
        return ServerReply(int(self._code), enhanced, tuple(lines))
