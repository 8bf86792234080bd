"""
What a line of the log looks like::

    2026-11-23T16:00:00.123+0000 info [lmtp] text

One event is one line, whatever its text holds: control characters, the line ends of Unicode and all else that is not
printable are escaped as in Python's string literals. Only a traceback has lines of its own, and these are indented.
"""

from __future__ import annotations

import time
from functools import lru_cache

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


def indented(text: str) -> str:
    """
    :param text: lines, such as a traceback.
    :returns: each of them on a line of its own, escaped and indented, with a line end before the first.
    """
    return "".join(f"\n{_INDENT}{one_line(line)}" for line in text.rstrip("\n").split("\n"))


def log_line(seconds: float, level: str, system: str, text: str) -> str:
    """
    :param seconds: when, since the epoch.
    :param level: ``debug``, ``info``, ``warn``, ``error`` or ``critical``.
    :param system: which part of the program.
    :param text: escaped already.
    :returns: a line without its line end.
    """
    whole = int(seconds)
    date, zone = _date(whole)
    return f"{date}{_FRACTIONS[int((seconds - whole) * 1000)]}{zone} {level} [{system}] {text}"


# A look-up costs half of formatting a number.
_FRACTIONS = tuple(f".{thousandths:03d}" for thousandths in range(1000))


@lru_cache(maxsize=4)
def _date(seconds: int) -> tuple[str, str]:
    local = time.localtime(seconds)
    return time.strftime("%Y-%m-%dT%H:%M:%S", local), time.strftime("%z", local)
