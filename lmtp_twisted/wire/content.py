"""
Message content, decoded as it arrives.

Both decoders are fed segments of any size and give back the content of the message, byte by byte the same however the
stream was cut. :class:`DataDecoder` ends a DATA content at CR LF ``.`` CR LF and nowhere else (RFC 5321 §4.1.1.4: a
lone CR or LF is content, whatever stands around it) and takes away the dot that a client put before a line that begins
with one (§4.5.2). :class:`ChunkDecoder` counts the octets of a BDAT chunk (RFC 3030 §2).

Where bare CR and LF are not to be kept, a :class:`NewlineFilter` stands behind the decoder.
"""

from __future__ import annotations

import enum
import re

_END = b"\r\n.\r\n"
#: What the end mark or a stuffed dot can begin with at the end of a segment.
_BEGINNINGS = (b"\r\n.\r", b"\r\n.", b"\r\n", b"\r")


class DataDecoder:
    """
    The content of one DATA command.

    :ivar rest: after the end, what followed the end mark.
    """

    __slots__ = ("_carry", "_first", "rest")

    def __init__(self) -> None:
        # At the start of the content we are behind the line end of the DATA command itself: it is carried as if it
        # were content, so that a first line of "." or ".." is no special case, and taken away from the first output.
        self._carry = b"\r\n"
        self._first = 2
        self.rest: bytes | None = None

    def feed(self, data: bytes) -> bytes:
        """
        :param data: the next octets of the connection; not empty.
        :returns: the octets of content that are now certain, perhaps none. At most four are held back.
            :attr:`rest` is not ``None`` once the end has come; do not feed any more then.
        """
        if self._carry:
            data = self._carry + data
            self._carry = b""
        first = self._first
        # One scan for the common case, a segment in which no line begins with a dot.
        mark = data.find(b"\r\n.")
        if mark >= 0:
            end = data.find(_END, mark)
            if end >= 0:
                self.rest = data[end + 5 :]
                if mark == end:
                    return data[first : end + 2]
                data = data[: end + 2]
            else:
                data = self._hold_back(data)
            # Inside the content CR LF "." is always followed by something else than CR LF, so one dot goes.
            data = data.replace(b"\r\n.", b"\r\n")
        else:
            data = self._hold_back(data)
        if first:
            self._first = max(0, first - len(data))
            data = data[first:]
        return data

    def _hold_back(self, data: bytes) -> bytes:
        if data.endswith(_BEGINNINGS):
            self._carry = next(beginning for beginning in _BEGINNINGS if data.endswith(beginning))
            return data[: -len(self._carry)]
        return data


class ChunkDecoder:
    """
    The octets of one BDAT chunk.

    :param size: octets of the chunk.
    :ivar rest: after the end, what followed the chunk.
    """

    __slots__ = ("_missing", "rest")

    def __init__(self, size: int) -> None:
        self._missing = size
        self.rest: bytes | None = None if size else b""

    def feed(self, data: bytes) -> bytes:
        """
        :param data: the next octets of the connection.
        :returns: those that belong to the chunk; :attr:`rest` is not ``None`` once it is complete.
        """
        missing = self._missing
        if len(data) < missing:
            self._missing = missing - len(data)
            return data
        self._missing = 0
        self.rest = data[missing:]
        return data[:missing] if self.rest else data


class BareNewlines(enum.Enum):
    """What becomes of a CR without LF, or an LF without CR, in the content."""

    #: Kept as they are: what an MTA accepted is not bounced, and nothing but CR LF ``.`` CR LF ends the content.
    KEEP = "keep"
    #: Each becomes CR LF. For a relay, whose next hop may read line ends less strictly than we do.
    NORMALISE = "normalise"
    #: The message is refused for every recipient.
    REJECT = "reject"


_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")


class NewlineFilter:
    """
    Finds or mends bare CR and LF, however the content is cut.

    :ivar found: whether there was one.
    """

    __slots__ = ("_pending_cr", "found")

    def __init__(self) -> None:
        self._pending_cr = False
        self.found = False

    def feed(self, data: bytes) -> bytes:
        """
        :param data: the next octets of the content.
        :returns: the octets with each bare CR or LF made CR LF; a CR at the end waits for what follows it.
        """
        if self._pending_cr:
            data = b"\r" + data
        self._pending_cr = data.endswith(b"\r")
        if self._pending_cr:
            data = data[:-1]
        # Counting takes a fraction of the time of the expression, and there is hardly ever anything to mend.
        if data.count(b"\n") == data.count(b"\r") == data.count(b"\r\n"):
            return data
        mended, count = _BARE.subn(b"\r\n", data)
        if count:
            self.found = True
        return mended

    def finish(self) -> bytes:
        """:returns: what is owed at the end of the content: CR LF for a CR that nothing followed."""
        if not self._pending_cr:
            return b""
        self._pending_cr = False
        self.found = True
        return b"\r\n"
