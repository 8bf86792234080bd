"""Numbers as operators write them: sizes, seconds, counts. What is no number is refused with a line that says so."""

from __future__ import annotations

import re

_SIZE = re.compile(r"([0-9]{1,15})([kKmMgG]?)")
_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_COUNT = re.compile(r"[0-9]{1,9}")
_FACTORS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}

#: More than eleven days is a slip of the pen, and beyond what some reactors can wait.
MOST_SECONDS = 1_000_000


def octets(text: str) -> int:
    """
    :param text: such as ``50M``; ``k``, ``M`` and ``G`` are powers of 1024.
    :raises ValueError: where it is not a size.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a size such as 1000000, 500k, 50M or 2G")
    return int(match[1]) * _FACTORS[match[2].lower()]


def seconds(text: str) -> float:
    """
    :param text: such as ``300`` or ``0.5``.
    :raises ValueError: where it is not a number of seconds.
    """
    if not _SECONDS.fullmatch(text) or float(text) > MOST_SECONDS:
        raise ValueError(f"{text!r} is not a number of seconds from 0 to {MOST_SECONDS}")
    return float(text)


def count(text: str) -> int:
    """
    :param text: such as ``1000``.
    :raises ValueError: where it is not a whole number.
    """
    if not _COUNT.fullmatch(text):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)
