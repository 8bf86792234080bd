"""
What values look like in the log.

One event is one line, whatever its text holds: control characters, the line ends of Unicode and all else that is not
printable are escaped as in Python's string literals, and in JSON as in JSON's.
"""

from __future__ import annotations

import time
from functools import lru_cache
from json.encoder import encode_basestring, encode_basestring_ascii

_INDENT = "    "


def one_line(text: str) -> str:
    """
    :param text: anything.
    :returns: the text with all that is not printable escaped: it has one line, and can be encoded.
    """
    # Nearly all text is printable, and this is asked of every line of the log.
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def word(text: str) -> str:
    r"""
    A value that more may follow on its line.

    :param text: anything.
    :returns: as :func:`one_line`, with blanks and backslashes escaped too, as ``\x20`` and ``\\``: it is one word, and
        can be read back.
    """
    if text.isprintable() and " " not in text and "\\" not in text:
        return text
    return one_line(text.replace("\\", "\\\\")).replace(" ", r"\x20")


def quoted(text: str) -> str:
    """
    :param text: anything.
    :returns: a string of JSON, with its quotation marks: one line, all of it printable.
    """
    if text.isprintable():
        return encode_basestring(text)
    # JSON lets DEL stand as it is.
    return encode_basestring_ascii(text).replace("\x7f", "\\u007f")


def indented(text: str) -> list[str]:
    """
    :param text: lines, such as a traceback.
    :returns: each of them escaped and indented.
    """
    return [f"{_INDENT}{one_line(line)}" for line in text.rstrip("\n").split("\n")]


def date(seconds: float, colon: str = "") -> str:
    """
    :param seconds: since the epoch.
    :param colon: between the hours and the minutes of the zone.
    :returns: such as ``2026-11-23T16:00:00.123+0000``.
    """
    whole = int(seconds)
    day, zone = _date(whole, colon)
    return f"{day}{_FRACTIONS[int((seconds - whole) * 1000)]}{zone}"


# A look-up costs half of formatting a number.
_FRACTIONS = tuple(f".{thousandths:03d}" for thousandths in range(1000))


@lru_cache(maxsize=4)
def _date(seconds: int, colon: str) -> tuple[str, str]:
    local = time.localtime(seconds)
    zone = time.strftime("%z", local)
    return time.strftime("%Y-%m-%dT%H:%M:%S", local), f"{zone[:3]}{colon}{zone[3:]}"
