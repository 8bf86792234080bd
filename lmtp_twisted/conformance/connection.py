"""
One connection to the server that is judged: a socket that blocks, with a deadline for everything.

Whatever the server does, each call here returns or raises within its time, and keeps no more than a few KiB.
"""

from __future__ import annotations

import re
import socket
import ssl
import time

from lmtp_twisted.conformance.replies import Reply, printable

#: Octets of a line of a reply; RFC 5321 §4.5.3.1.5 allows 512.
MOST_OCTETS = 4096
#: Lines of a reply.
MOST_LINES = 200
#: Octets that a client may always send in a second; a server that takes less is silent.
_PACE = 1_000_000

_LINE = re.compile(rb"([2-5]\d\d)(?:([ -])(.*))?", re.DOTALL)


class Unexpected(Exception):
    """Something came that is no reply; the text says what: in brief, and in detail."""

    def __init__(self, brief: str, detail: str = "") -> None:
        super().__init__(f"{brief}: {detail}" if detail else brief)
        self.brief, self.detail = brief, detail


class Silence(Unexpected):
    """Nothing came in time."""


class Closed(Unexpected):
    """The server has closed the connection."""


class Connection:
    """
    :param connected: the socket; it is closed with this.
    :param patience: seconds for a reply, and for the end of the connection.
    :param limit: seconds for all of it, so that many replies that are slow come to an end.
    """

    def __init__(self, connected: socket.socket, patience: float, limit: float) -> None:
        self._socket = connected
        self._patience = patience
        self._end = time.monotonic() + limit
        self._buffer = b""
        self._is_over = False

    def close(self) -> None:
        """Leave."""
        self._socket.close()

    def send(self, octets: bytes) -> None:
        """
        Send all of it. That the server has closed the connection is not said here: what it said before is still to be
        read.

        :raises Silence: where the server takes nothing for as long as it may be silent, or too little.
        """
        deadline = time.monotonic() + self._patience + len(octets) / _PACE
        view = memoryview(octets)
        while view and not self._is_over:
            self._socket.settimeout(min(self._patience, self._left(deadline)))
            try:
                view = view[self._socket.send(view[:65536]) :]
            except TimeoutError:
                raise Silence("does not read", f"{len(view)} octets are left to be sent")
            except OSError:
                self._is_over = True

    def start_tls(self, context: ssl.SSLContext, name: str | None) -> None:
        """
        Shake hands.

        :param name: that of the server, for its certificate.
        :raises Unexpected: where it fails.
        """
        if self._buffer:
            raise Unexpected("text before the handshake", printable(self._buffer))
        self._socket.settimeout(self._left(time.monotonic() + self._patience))
        try:
            self._socket = context.wrap_socket(self._socket, server_hostname=name)
        except TimeoutError:
            raise Silence("no TLS handshake", f"not within {self._patience:g} s")
        except ssl.SSLError as error:
            # It has hung up, or has told us by TLS that it will.
            has_ended = isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)) or "ALERT" in (error.reason or "")
            raise (Closed if has_ended else Unexpected)("no TLS handshake", _reason(error))
        except ConnectionError as error:
            raise Closed("no TLS handshake", _reason(error))
        except (OSError, ValueError) as error:
            raise Unexpected("no TLS handshake", _reason(error))

    def close_writing(self) -> None:
        """Send no more, and still read."""
        try:
            if isinstance(self._socket, ssl.SSLSocket):
                raise Unexpected("TLS has no half-closed connection")
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._is_over = True

    def read_reply(self, patience: float | None = None) -> Reply:
        """
        The next reply.

        :param patience: seconds, in place of the usual ones.
        :raises Silence: where it does not come in time.
        :raises Closed: where the connection ends before it.
        :raises Unexpected: where what comes is none (RFC 5321 §4.2).
        """
        deadline = time.monotonic() + (self._patience if patience is None else patience)
        lines: list[bytes] = []
        code, longest = 0, 0
        while True:
            line = self._line(deadline)
            longest = max(longest, len(line) + 2)
            match = _LINE.fullmatch(line)
            if match is None:
                raise Unexpected("no reply", printable(line))
            if lines and int(match[1]) != code:
                raise Unexpected("a reply of two codes", f"{code} and {printable(line)}")
            code = int(match[1])
            lines.append(match[3] or b"")
            if match[2] != b"-":
                return Reply(code, tuple(lines), longest, match[2] == b" ")
            if len(lines) == MOST_LINES:
                raise Unexpected("an endless reply", f"more than {MOST_LINES} lines")

    def read_end(self) -> None:
        """
        The end of the connection.

        :raises Unexpected: where something else comes.
        :raises Silence: where it does not come in time.
        """
        deadline = time.monotonic() + self._patience
        try:
            while not self._buffer:
                self._receive(deadline)
        except Closed:
            return
        # A whole line is easier to understand than what is there of it.
        raise Unexpected("not closed", printable(self._line(deadline)))

    def read_nothing(self, seconds: float) -> None:
        """
        That nothing comes for a while.

        :raises Unexpected: where something does, or the connection ends.
        """
        try:
            while not self._buffer:
                self._receive(time.monotonic() + seconds)
        except Silence:
            return
        raise Unexpected("no silence", printable(self._buffer[:200]))

    def _line(self, deadline: float) -> bytes:
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            if len(self._buffer) > MOST_OCTETS:
                raise Unexpected("an endless line", f"more than {MOST_OCTETS} octets without its end")
            searched = len(self._buffer)
            self._receive(deadline)
        line, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
        if not line.endswith(b"\r"):
            raise Unexpected("a reply that ends in a bare LF", printable(line))
        return line[:-1]

    def _receive(self, deadline: float) -> None:
        self._socket.settimeout(self._left(deadline))
        try:
            octets = self._socket.recv(MOST_OCTETS)
        except TimeoutError:
            detail = f"after {printable(self._buffer)!r}" if self._buffer else ""
            raise Silence("nothing in time", detail)
        except ssl.SSLError as error:
            if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
                raise Closed("closed")
            raise Unexpected("a TLS error", _reason(error))
        except OSError:
            octets = b""
        if not octets:
            raise Closed("closed", f"after {printable(self._buffer)!r}" if self._buffer else "")
        self._buffer += octets

    def _left(self, deadline: float) -> float:
        # A timeout of zero would make the socket one that does not block.
        return max(0.001, min(deadline, self._end) - time.monotonic())


def _reason(error: Exception) -> str:
    return " ".join(printable(str(error).encode("utf-8", "replace")).split())
