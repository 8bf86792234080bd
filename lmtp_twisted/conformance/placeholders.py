r"""
What stands in the place of ``{words in braces}`` in a scenario, and the escapes ``\r \n \t \0 \\ \xNN``.

``{size+1}`` and ``{rcptmax}`` are numbers of the server's own; ``{repeat 300 a}`` is 300 times the same,
``{lines size}`` that many octets in lines of text. All others are values of the run, by their names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

#: Numbers that a server announces: see :class:`~lmtp_twisted.conformance.session.Server`.
NUMBERS = ("size", "rcptmax")
#: Values of a run: see :mod:`lmtp_twisted.conformance.values`.
NAMES = frozenset(
    {
        *("client", "sender", "rcpt1", "rcpt2", "rcpt3", "unknown", "domain", "proxy"),
        *("auth-plain", "auth-plain-wrong", "auth-user", "auth-password", "auth-wrong", "auth-cram-md5"),
        *("auth-cram-md5-wrong", "auth-xoauth2", "auth-xoauth2-wrong"),
    }
)

_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|(.?))", re.DOTALL)
_ESCAPES = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\"}
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_EXPRESSION = re.compile(rf"(\d+|{'|'.join(NUMBERS)})([+-]\d+)?")
_REPEAT = re.compile(r"repeat (\S+) (.+)", re.DOTALL)
_LINES = re.compile(r"lines (\S+)")
#: The longest line that ``{lines …}`` makes, with its CRLF.
_LINE = 72
#: What a scenario may make of one placeholder, so that a wrong one does not eat the machine.
_MOST = 512 * 1024 * 1024


def evaluate(expression: str, numbers: Mapping[str, int]) -> int:
    """
    :param expression: such as ``100``, ``size`` or ``rcptmax+1``.
    :param numbers: the server's.
    :raises ValueError: where it is none, or not from 0 to 512 Mi.
    """
    match = _EXPRESSION.fullmatch(expression)
    if match is None:
        raise ValueError(f"{expression!r} is no number")
    value = (int(match[1]) if match[1].isdigit() else numbers[match[1]]) + int(match[2] or 0)
    if not 0 <= value <= _MOST:
        raise ValueError(f"{expression!r} is {value}, which is too little or too much")
    return value


def octets_of(text: str, value_of: Callable[[str], bytes], numbers: Mapping[str, int]) -> bytes:
    """
    :param text: of a scenario.
    :param value_of: gives the value of a name.
    :param numbers: the server's.
    :raises ValueError: where a placeholder or an escape is none.
    """
    parts: list[bytes] = []
    position = 0
    for match in _PLACEHOLDER.finditer(text):
        parts.append(_unescaped(text[position : match.start()]))
        parts.append(_filled(match[1], value_of, numbers))
        position = match.end()
    parts.append(_unescaped(text[position:]))
    return b"".join(parts)


def numbers_in(text: str) -> frozenset[str]:
    """
    :param text: of a scenario, or an expression of a number.
    :returns: which of the server's numbers it is made of.
    """
    words = " ".join(_PLACEHOLDER.findall(text)) if "{" in text else text
    return frozenset(name for name in NUMBERS if re.search(rf"(?<![a-z-]){name}(?![a-z])", words))


def check(text: str) -> None:
    """
    :raises ValueError: where a placeholder or an escape is none; found before anything is sent.
    """
    octets_of(text, _name, dict.fromkeys(NUMBERS, 1000))


def _name(name: str) -> bytes:
    if name not in NAMES:
        raise ValueError(f"{{{name}}} is no placeholder")
    return b""


def _filled(words: str, value_of: Callable[[str], bytes], numbers: Mapping[str, int]) -> bytes:
    if _EXPRESSION.fullmatch(words):
        return b"%d" % evaluate(words, numbers)
    if match := _REPEAT.fullmatch(words):
        return _unescaped(match[2]) * evaluate(match[1], numbers)
    if match := _LINES.fullmatch(words):
        return _lines(evaluate(match[1], numbers))
    return value_of(words)


def _lines(count: int) -> bytes:
    whole, rest = divmod(count, _LINE)
    if 0 < rest < len("\r\n"):
        # A line that leaves room for the CRLF of the last one.
        whole, rest = whole - 1, rest + _LINE
    line = b"x" * (_LINE - 2) + b"\r\n"
    return line * whole + (b"x" * (rest - 2) + b"\r\n" if rest else b"")


def _unescaped(text: str) -> bytes:
    return b"".join(part if isinstance(part, bytes) else part.encode("utf-8") for part in _pieces(text))


def _pieces(text: str) -> list[str | bytes]:
    pieces: list[str | bytes] = []
    position = 0
    for match in _ESCAPE.finditer(text):
        pieces.append(text[position : match.start()])
        if match[1] is not None:
            pieces.append(bytes.fromhex(match[1]))
        elif match[2] in _ESCAPES:
            pieces.append(_ESCAPES[match[2]])
        else:
            raise ValueError(f"\\{match[2]} is no escape")
        position = match.end()
    pieces.append(text[position:])
    return pieces
