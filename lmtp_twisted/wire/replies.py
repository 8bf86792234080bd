"""
Replies: values on their way to the wire, and the standard ones by name.

Nothing that a client or a handler wrote reaches the wire but through :func:`printable`: no reply can be injected, and
every line is ASCII of at most 512 octets (RFC 5321 §4.5.3.1.5).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property

import attrs

from lmtp_twisted.errors import LMTPError, is_enhanced

#: Octets of a reply line without its CRLF.
MAX_TEXT = 510

_NOT_PRINTABLE = re.compile(r"[^ -~]")
#: The enhanced status code for each class where nobody gave a better one.
DEFAULT_ENHANCED = {2: "2.0.0", 4: "4.3.0", 5: "5.3.0"}


def printable(text: str, limit: int = MAX_TEXT) -> str:
    """
    Text that can stand in one line of a reply or a log.

    :param text: anything.
    :param limit: the most characters to return.
    :returns: ASCII without control characters: these become ``?``, line ends a blank, and what is not ASCII is written
        ``\\x{…}`` with the code point in hexadecimal (RFC 6533 §3). Text that is too long is cut, never in the middle
        of such an escape.
    """
    if text.isascii() and text.isprintable():
        return text[:limit]
    pieces, room = [], limit
    for character in text[: limit * 2].replace("\r\n", " "):
        piece = _NOT_PRINTABLE.sub(_escape, character)
        room -= len(piece)
        if room < 0:
            break
        pieces.append(piece)
    return "".join(pieces)


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    if character in "\r\n\t":
        return " "
    return f"\\x{{{ord(character):X}}}" if ord(character) > 0x9F else "?"


@attrs.frozen
class Reply:
    """
    One reply of one line (RFC 5321 §4.2).

    :ivar code: the reply code, three digits.
    :ivar enhanced: the enhanced status code (RFC 3463) or ``None``; for a final reply ``None`` becomes ``2.0.0``,
        ``4.3.0`` or ``5.3.0``.
    :ivar text: words for the client, sanitised when they are written.
    """

    code: int
    enhanced: str | None = None
    text: str = ""

    @classmethod
    def from_error(cls, error: LMTPError, code: int = 554, enhanced: str | None = None) -> Reply:
        """
        The reply that an exception asks for.

        :param error: the exception; its code must be of class 4 or 5, or ``None``.
        :param code: the code where it has none.
        :param enhanced: the enhanced status code where it has none and ``code`` is of the same class.
        """
        chosen = error.enhanced if is_enhanced(error.enhanced) else enhanced
        if error.code is not None:
            code = error.code
        elif is_enhanced(error.enhanced) and error.enhanced.startswith("4"):
            # Without a code the enhanced one says of which class the refusal is.
            code = 451
        if chosen is None or chosen[0] != str(code)[0]:
            chosen = DEFAULT_ENHANCED[code // 100]
        return cls(code, chosen, str(error.text) or ("Try again later" if code < 500 else "Refused"))

    @cached_property
    def encoded(self) -> bytes:
        """The reply as octets, its CRLF included."""
        head = f"{self.code} {self.enhanced} " if self.enhanced is not None else f"{self.code} "
        return f"{head}{printable(self.text, MAX_TEXT - len(head))}\r\n".encode("ascii")

    @property
    def is_positive(self) -> bool:
        """Whether the code is of class 2."""
        return self.code // 100 == 2


def encode_lines(code: int, lines: Sequence[str]) -> bytes:
    """
    A reply of several lines without enhanced status codes, as LHLO's (RFC 2034 §4).

    :param code: the reply code.
    :param lines: at least one.
    """
    last = len(lines) - 1
    return b"".join(
        f"{code}{' ' if index == last else '-'}{printable(line, MAX_TEXT - 4)}\r\n".encode("ascii")
        for index, line in enumerate(lines)
    )


SENDER_OK = Reply(250, "2.1.0", "Sender OK")
RECIPIENT_OK = Reply(250, "2.1.5", "Recipient OK")
START_CONTENT = Reply(354, None, "End data with <CR><LF>.<CR><LF>")
DELIVERED = Reply(250, "2.0.0", "Delivered")
CHUNK_OK = Reply(250, "2.0.0", "Chunk OK")
RESET = Reply(250, "2.0.0", "Reset")
NOOP = Reply(250, "2.0.0", "OK")
GOODBYE = Reply(221, "2.0.0", "Bye")
CANNOT_VERIFY = Reply(252, "2.1.5", "Cannot verify; send mail and see")
NO_EXPANSION = Reply(502, "5.5.1", "Mailing lists are not expanded")

NOT_LHLO = Reply(500, None, "This is LMTP: say LHLO")
UNKNOWN_COMMAND = Reply(500, "5.5.2", "Command not recognised")
DISABLED_COMMAND = Reply(502, "5.5.1", "Command not available")
LINE_TOO_LONG = Reply(500, "5.5.2", "Line too long")
BARE_NEWLINE = Reply(500, "5.5.2", "A command line ends in CR LF, this one ended in a bare LF")
NO_ARGUMENT = Reply(501, "5.5.4", "This command takes no argument")
ARGUMENT_NEEDED = Reply(501, "5.5.4", "This command needs an argument")
LHLO_FIRST = Reply(503, "5.5.1", "LHLO first")
MAIL_FIRST = Reply(503, "5.5.1", "MAIL first")
RCPT_FIRST = Reply(503, "5.5.1", "No valid recipients")
NESTED_MAIL = Reply(503, "5.5.1", "Sender already given")
NOT_IN_TRANSACTION = Reply(503, "5.5.1", "Not in a transaction")
START_TLS = Reply(220, "2.0.0", "Go on with TLS")
TLS_IS_ON = Reply(503, "5.5.1", "TLS is on already")
TLS_UNAVAILABLE = Reply(454, "4.7.0", "TLS cannot be had now")
NOTHING_MAY_FOLLOW = Reply(503, "5.5.1", "Nothing may follow STARTTLS before TLS is on")
CHUNKS_UNDER_WAY = Reply(503, "5.5.1", "Only BDAT or RSET between chunks")
BINARY_NEEDS_CHUNKS = Reply(503, "5.5.1", "BINARYMIME needs BDAT")
TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "Too many recipients")
TOO_MANY_RECIPIENTS_NOW = Reply(452, "4.3.1", "Too many recipients at the moment, send the others later")
TOO_LARGE = Reply(552, "5.3.4", "Message larger than the limit")
UNKNOWN_PARAMETER = Reply(555, "5.5.4", "Parameter not recognised")
SENDER_NEEDS_SMTPUTF8 = Reply(550, "5.6.7", "A non-ASCII sender needs SMTPUTF8")
RECIPIENT_NEEDS_SMTPUTF8 = Reply(553, "5.6.7", "A non-ASCII recipient needs SMTPUTF8")
INTERNAL_ERROR = Reply(451, "4.3.0", "Internal error, try again later")
TIMED_OUT = Reply(451, "4.4.7", "Delivery took too long")
CANCELLED = Reply(451, "4.3.0", "Delivery was cancelled")
BARE_NEWLINE_CONTENT = Reply(550, "5.6.0", "Bare CR or LF in the content")
MAIL_LOOP = Reply(554, "5.4.6", "Mail loop: too many Received lines")
SPOOL_FULL = Reply(452, "4.3.1", "No room to store the message")

AUTH_OK = Reply(235, "2.7.0", "Authenticated")
AUTH_REQUIRED = Reply(530, "5.7.0", "AUTH first")
AUTH_DONE = Reply(503, "5.5.1", "Authenticated already")
AUTH_FAILED = Reply(535, "5.7.8", "Wrong user or password")
AUTH_UNKNOWN_MECHANISM = Reply(504, "5.5.4", "Mechanism not available")
AUTH_CANCELLED = Reply(501, "5.0.0", "Authentication cancelled")
AUTH_LINE_TOO_LONG = Reply(500, "5.5.6", "Authentication line too long")
AUTH_UNAVAILABLE = Reply(454, "4.7.0", "Authentication is not possible now, try again later")
NOT_TRUSTED = Reply(550, "5.7.0", "Not from you")
FORWARD_OK = Reply(250, "2.0.0", "OK")

PEER_NOT_ALLOWED = Reply(554, "5.7.1", "Your user may not connect")
IDLE = Reply(421, "4.4.2", "Idle for too long")
SHUTTING_DOWN = Reply(421, "4.3.2", "Shutting down")
TOO_MANY_ERRORS = Reply(421, "4.7.0", "Too many bad commands")
TOO_MANY_SESSIONS = Reply(421, "4.3.2", "Too many sessions")
NOT_HTTP = Reply(421, "4.7.0", "This is not a web server")
EARLY_TALKER = Reply(421, "4.7.0", "The server speaks first")
TOO_MANY_SESSIONS_OF_PEER = Reply(421, "4.3.2", "Too many sessions from you")
TOO_MANY_COMMANDS = Reply(421, "4.7.0", "Too many commands in one session")
TOO_MANY_UNAUTHENTICATED = Reply(421, "4.7.0", "Too many commands without AUTH")
TOO_MANY_AUTH_FAILURES = Reply(421, "4.7.0", "Too many failed attempts to authenticate")
SESSION_TOO_LONG = Reply(421, "4.7.0", "The session took too long")
