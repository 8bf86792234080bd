"""
A message taken apart (RFC 2045, RFC 2046), without its parts being copied or decoded.

The standard library's parser builds all of a message, however many parts it has, and takes time that grows with the
depth for each line. Here both have a bound, so the time grows with the octets alone; single headers are the standard
library's to understand.
"""

from __future__ import annotations

import re
from email.message import Message
from typing import Any

import attrs

from lmtp_twisted.daemon.inbox.decoding import value_of, visible

#: Parts of a message that are looked at.
MOST_PARTS = 1000
#: Parts within parts.
MOST_DEPTH = 20
#: Octets of a head, and headers in it.
MOST_OF_A_HEAD = 256 * 1024
MOST_HEADERS = 500
# Of a header with parameters.
_MOST_OF_PARAMETERS = 1024
_HEADER = re.compile(rb"([!-9;-~]+)[ \t]*:(.*)", re.DOTALL)
_LINE = re.compile(rb"[^\n]*\n?(?:[ \t][^\n]*\n?)*")
_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,80}/[a-z0-9!#$&^_.+-]{1,80}")


@attrs.define
class Part:
    """
    A part, or the message itself.

    :ivar headers: each name with its value, as they came.
    :ivar start: where its body begins in the content.
    :ivar end: where it ends.
    :ivar depth: how many parts it is in.
    """

    headers: list[tuple[str, bytes]]
    start: int
    end: int
    depth: int
    _typed: Message = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        self._typed = Message()
        for name in ("Content-Type", "Content-Disposition"):
            octets = self.first(name)
            if octets is not None:
                self._typed[name] = " ".join(octets[:_MOST_OF_PARAMETERS].decode("utf-8", "replace").split())

    def first(self, name: str) -> bytes | None:
        """The value of the first header of a name."""
        name = name.lower()
        return next((value for given, value in self.headers if given.lower() == name), None)

    def _asked(self, method: str, *arguments: Any) -> str:
        """What the standard library makes of it; empty where it makes nothing of it."""
        try:
            answer = getattr(self._typed, method)(*arguments)
        except Exception:
            # It has met much, but not everything.
            return ""
        if isinstance(answer, tuple):
            answer = answer[2]
        return "" if answer is None else visible(" ".join(str(answer).split()))

    @property
    def content_type(self) -> str:
        """Its type, as in ``text/plain``."""
        kind = self._asked("get_content_type").lower()
        return kind if _TYPE.fullmatch(kind) else "application/octet-stream"

    @property
    def charset(self) -> str | None:
        """What it says of itself."""
        return self._asked("get_param", "charset") or None

    @property
    def boundary(self) -> bytes:
        """What is between its parts."""
        return self._asked("get_boundary").encode("utf-8", "replace")[:200]

    @property
    def file_name(self) -> str | None:
        """As it says, which is no name to write to: it may hold anything but controls."""
        name = self._asked("get_filename")
        return value_of(name.encode("utf-8", "replace"))[:200] if name else None

    @property
    def is_attachment(self) -> bool:
        """Whether it wants not to be shown."""
        return self._asked("get_content_disposition") == "attachment"

    @property
    def encoding(self) -> str:
        """Its Content-Transfer-Encoding."""
        return visible((self.first("Content-Transfer-Encoding") or b"7bit")[:40].decode("latin-1").strip().lower())

    @property
    def content_id(self) -> str | None:
        """By which others refer to it (RFC 2392)."""
        octets = self.first("Content-ID")
        return visible(octets[:200].decode("utf-8", "replace").strip().strip("<>")) if octets else None


@attrs.define
class Taken:
    """
    A message that was taken apart.

    :ivar parts: the message itself, and all parts in the order in which they begin.
    :ivar defects: what is wrong with it, in words.
    :ivar is_over: whether there are too many parts to look for more.
    :ivar tries: how often the end of a part may yet be looked for.
    """

    parts: list[Part] = attrs.field(factory=list)
    defects: list[str] = attrs.field(factory=list)
    is_over: bool = False
    tries: int = 100_000

    def note(self, defect: str) -> None:
        """Remember it once."""
        if defect not in self.defects:
            self.defects.append(defect)


def take_apart(content: bytes) -> Taken:
    """
    :param content: a message.
    :returns: at least the message itself.
    """
    taken = Taken()
    _take(taken, content, 0, len(content), 0)
    return taken


def _take(taken: Taken, content: bytes, start: int, end: int, depth: int) -> None:
    if len(taken.parts) == MOST_PARTS:
        taken.note(f"It has more than {MOST_PARTS} parts: the rest is not shown")
        taken.is_over = True
        return
    body = _end_of_head(content, start, end)
    if body - start > MOST_OF_A_HEAD:
        taken.note(f"A head has more than {MOST_OF_A_HEAD // 1024} KiB: the rest of it is not shown")
    part = Part(_headers(taken, content[start : min(body, start + MOST_OF_A_HEAD)]), body, end, depth)
    taken.parts.append(part)
    kind = part.content_type
    is_plain = part.encoding not in ("base64", "quoted-printable")
    if not (kind.startswith("multipart/") or (kind == "message/rfc822" and is_plain)):
        return
    if depth >= MOST_DEPTH:
        taken.note(f"It has parts within parts of more than {MOST_DEPTH} levels: the rest is not taken apart")
    elif kind == "message/rfc822":
        _take(taken, content, body, end, depth + 1)
    elif not part.boundary:
        taken.note("A multipart has no boundary")
    else:
        _divide(taken, content, part, depth)


def _divide(taken: Taken, content: bytes, part: Part, depth: int) -> None:
    """Lines of their own are between the parts, and the line end before such a line belongs to it (RFC 2046 §5.1.1)."""
    between = re.compile(rb"--" + re.escape(part.boundary) + rb"(--)?[ \t]*\r?(?:\n|\Z)")
    line = _next_line(taken, content, between, part, part.start)
    if line is None:
        taken.note("A multipart has no parts")
    while line is not None and not line[1] and not taken.is_over:
        begin = line.end()
        line = _next_line(taken, content, between, part, begin)
        if line is None:
            taken.note("A multipart has no end")
            end = part.end
        else:
            end = max(begin, line.start() - (2 if content[line.start() - 2 : line.start()] == b"\r\n" else 1))
        _take(taken, content, begin, end, depth + 1)


def _next_line(
    taken: Taken, content: bytes, between: re.Pattern[bytes], part: Part, start: int
) -> re.Match[bytes] | None:
    # Found as a plain string: an expression that begins with either of two things takes fifty times as long.
    begins_with = b"\n--" + part.boundary
    match = between.match(content, start, part.end)
    while match is None:
        start = content.find(begins_with, start, part.end) + 1
        if not start:
            return None
        match = between.match(content, start, part.end)
        taken.tries -= 1
        if taken.tries <= 0:
            taken.note("It has too many lines that look like the end of a part")
            return None
    return match


def _end_of_head(content: bytes, start: int, end: int) -> int:
    for blank in (b"\n", b"\r\n"):
        if content.startswith(blank, start, end):
            return start + len(blank)
    # Found as plain strings, for the time that it takes.
    bare = content.find(b"\n\n", start, end)
    whole = content.find(b"\n\r\n", start, end if bare < 0 else bare)
    return whole + 3 if whole >= 0 else bare + 2 if bare >= 0 else end


def _headers(taken: Taken, head: bytes) -> list[tuple[str, bytes]]:
    headers: list[tuple[str, bytes]] = []
    for match in _LINE.finditer(head):
        line = match.group().rstrip(b"\r\n")
        if not line:
            continue
        header = _HEADER.fullmatch(line)
        if header is None:
            taken.note("A head has a line that is no header")
        elif len(headers) == MOST_HEADERS:
            taken.note(f"A head has more than {MOST_HEADERS} headers: the rest is not shown")
            break
        else:
            headers.append((header[1].decode("ascii"), header[2].strip()))
    return headers
