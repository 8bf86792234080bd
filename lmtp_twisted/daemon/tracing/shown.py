"""What of a dialogue is shown, and how: no secrets, no control characters, no end of lines."""

from __future__ import annotations

import re

from lmtp_twisted.daemon.lines import one_line
from lmtp_twisted.sequence import SEQUENCE
from lmtp_twisted.settings import MECHANISMS
from lmtp_twisted.wire.commands import split_command

#: Characters of a line that are shown at the most: there are commands of 1,100 octets.
MOST_SHOWN = 2000

_NAMES = frozenset(name.encode("ascii") for name in MECHANISMS)
_LOGIN = re.compile(rb"(LOGIN=)[^ ]+", re.IGNORECASE)
_WORD = re.compile(rb"[A-Za-z]{1,12}")


def text_of_line(octets: bytes) -> str:
    """
    :param octets: of a line without its line end.
    :returns: them as text on one line, escaped, and cut where they are too many.
    """
    text = one_line(octets.decode("utf-8", "backslashreplace"))
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]} {hidden(len(text) - MOST_SHOWN, 'more')}"


def hidden(count: int, kind: str = "") -> str:
    """What stands in the place of octets."""
    return f"({count:,} octets{kind and f' {kind}'} not shown)"


class Commands:
    """
    The commands of one session: once it has said AUTH, what is no command may be a password, as from a client that
    does not wait for the answer.
    """

    def __init__(self) -> None:
        self._has_auth = False

    def shown(self, line: bytes) -> tuple[bytes, bytes, str]:
        """
        :param line: of the client, without its LF.
        :returns: the verb in upper case, the argument, and the line as it is shown.
        """
        is_bare = line[-1:] != b"\r"
        octets = line if is_bare else line[:-1]
        verb, argument = split_command(octets)
        if verb == b"AUTH":
            self._has_auth = True
            text = _auth(argument)
        elif verb == b"XCLIENT":
            text = text_of_line(_LOGIN.sub(rb"\1(not shown)", octets))
        elif verb in SEQUENCE:
            text = text_of_line(octets)
        else:
            text = self._unknown(octets)
        # Commands end in CR LF, and it matters where one does not.
        return verb, argument, text + r"\n" * is_bare

    def _unknown(self, octets: bytes) -> str:
        word, _, rest = octets.partition(b" ")
        if b"AUTH" in octets.upper():
            # With a blank before it, or a tab behind it.
            self._has_auth = True
        if self._has_auth or not _WORD.fullmatch(word):
            return hidden(len(octets)) if octets else ""
        return text_of_line(word) + (f" {hidden(len(rest))}" if rest else "")


def _auth(argument: bytes) -> str:
    mechanism, _, response = argument.partition(b" ")
    if not argument:
        return "AUTH"
    if mechanism.upper() not in _NAMES:
        return f"AUTH {hidden(len(argument))}"
    return f"AUTH {mechanism.decode('ascii')}" + (f" {hidden(len(response))}" if response else "")
