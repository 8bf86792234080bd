"""
The content of a message on its way out: what it may hold is looked at, and for DATA its lines are dot-stuffed. One
pass, a piece at a time, at most an octet held back.

**Bare CR and LF.** A server that reads line ends less strictly than the RFC can take ``LF . CR LF`` in a content for
its end, and what follows for commands. So none of them ever goes out by DATA. What becomes of them is said by
:class:`~lmtp_twisted.wire.content.BareNewlines`: ``NORMALISE`` makes each a CR LF; ``REJECT`` refuses the message; with
``KEEP`` it goes as it is by BDAT, which counts octets and looks for no end, and is refused where there is no BDAT. A
BINARYMIME content goes as it is (RFC 3030 §3).
"""

from __future__ import annotations

from lmtp_twisted.errors import PermanentFailure
from lmtp_twisted.wire.content import BareNewlines, NewlineFilter


class Inspection:
    """
    What a server, or our own settings, have against a content, found while it goes by.

    :param newlines: what becomes of bare CR and LF; ``None`` lets them pass.
    :param size_limit: the most octets that the server takes; ``None`` for any number.
    :param takes_8bit: whether the server takes octets above 127.
    """

    def __init__(self, newlines: BareNewlines | None, size_limit: int | None, takes_8bit: bool) -> None:
        self._filter = None if newlines is None else NewlineFilter()
        self._mends = newlines is BareNewlines.NORMALISE
        self._size_limit = size_limit
        self._takes_8bit = takes_8bit
        self._size = 0

    def feed(self, data: bytes) -> bytes:
        """
        :param data: the next octets.
        :returns: the octets to send.
        :raises PermanentFailure: where the message cannot be sent.
        """
        if self._filter is not None:
            data = self._filter.feed(data)
        return self._look_at(data)

    def finish(self) -> bytes:
        """:returns: what is owed at the end; raises as :meth:`feed` does."""
        return b"" if self._filter is None else self._look_at(self._filter.finish())

    def _look_at(self, data: bytes) -> bytes:
        if self._filter is not None and self._filter.found and not self._mends:
            raise PermanentFailure("Bare CR or LF in the content", code=550, enhanced="5.6.0")
        self._size += len(data)
        if self._size_limit is not None and self._size > self._size_limit:
            raise too_large(self._size_limit)
        if not self._takes_8bit and not data.isascii():
            raise no_conversion("8BITMIME")
        return data


def too_large(limit: int) -> PermanentFailure:
    """The message is larger than the server takes (RFC 1870 §6.1)."""
    return PermanentFailure(f"Message larger than the {limit} octets that the server takes", code=552, enhanced="5.3.4")


def no_conversion(extension: str) -> PermanentFailure:
    """The content would have to be converted, which we do not do (RFC 3463 §3.7)."""
    return PermanentFailure(f"The content needs {extension}, which the server has not", code=554, enhanced="5.6.3")


class DotStuffing:
    """The lines of a content that has no bare CR or LF, as DATA has them (RFC 5321 §4.5.2)."""

    def __init__(self) -> None:
        self._is_at_line_start = True

    def feed(self, data: bytes) -> bytes:
        """
        :param data: the next octets; none of them ends between a CR and its LF.
        """
        if not data:
            return data
        stuffed = data.replace(b"\n.", b"\n..")
        if self._is_at_line_start and data[:1] == b".":
            stuffed = b"." + stuffed
        self._is_at_line_start = data[-1:] == b"\n"
        return stuffed

    def finish(self) -> bytes:
        """:returns: the end: a last line without its CRLF gets one, since DATA has no other way to end."""
        return b".\r\n" if self._is_at_line_start else b"\r\n.\r\n"
