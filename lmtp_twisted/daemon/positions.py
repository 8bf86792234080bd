"""
TOML, and on which line each key of a document stands, since the parser of the standard library does not say.

Only what that parser has accepted is looked at for positions: what is wrong with a document is for it to tell. So the
text is walked with a few regular expressions, and nothing matters but where keys and the elements of arrays begin.
"""

from __future__ import annotations

import re
import sys
from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: The way to a value: keys of tables, and numbers of elements of arrays.
Path = tuple[str | int, ...]

#: What lies deeper is not looked for: no key of ours does.
MOST_DEEP = 8

_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_BASIC = r'"(?:[^"\\\n]+|\\.)*"'
_LITERAL = r"'[^'\n]*'"
_KEY = rf"(?:[^\s\[\]{{}}=#\"'.,]+|{_BASIC}|{_LITERAL})"
_KEYS = re.compile(rf"{_KEY}(?:[ \t]*\.[ \t]*{_KEY})*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(
    # Up to two of the quotes before the last three are content.
    r'"""(?:[^"\\]+|\\.|"{1,2}(?!"))*"{3,5}'
    r"|'''(?:[^']+|'{1,2}(?!'))*'{3,5}"
    rf"|{_BASIC}|{_LITERAL}|[^,\]}}#\r\n]+",
    re.DOTALL,
)


def parse(text: str) -> tuple[dict[str, Any], Mapping[Path, int]]:
    """
    :param text: a document.
    :returns: what it holds; and the line, from 1, on which each table, key and element of an array first stands.
    :raises ValueError: where it is no TOML.
    :raises RecursionError: where it goes too deep.
    """
    return tomllib.loads(text), _Walk(text).found


class _Walk:
    def __init__(self, text: str) -> None:
        self.found: dict[Path, int] = {(): 1}
        self._text = text
        self._at = 0
        self._line_ends = [match.start() for match in re.finditer("\n", text)]
        # Of each array of tables, the number of its last one.
        self._last: dict[Path, int] = {}
        table: Path = ()
        while self._goes_on():
            if self._takes("[["):
                *outer, name = self._keys()
                path = (*self._table(outer), name)
                self._last[path] = self._last.get(path, -1) + 1
                table = (*path, self._last[path])
                self._mark(table)
                self._takes("]]")
            elif self._takes("["):
                table = self._table(self._keys())
                self._takes("]")
            else:
                self._pair(table)

    def _goes_on(self) -> bool:
        self._skip(_BLANK)
        return self._at < len(self._text)

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        assert match is not None, "only for what a parser has accepted"
        self._at = match.end()
        return match[0]

    def _takes(self, token: str) -> bool:
        self._skip(_BLANK)
        is_there = self._text.startswith(token, self._at)
        self._at += len(token) * is_there
        return is_there

    def _mark(self, path: Path) -> None:
        for depth in range(1, min(len(path), MOST_DEEP) + 1):
            if path[:depth] not in self.found:
                self.found[path[:depth]] = bisect_right(self._line_ends, self._at - 1) + 1

    def _keys(self) -> list[str]:
        self._skip(_BLANK)
        text = self._skip(_KEYS)
        if _BARE.fullmatch(text):
            return [text]
        table: Any = tomllib.loads(f"{text}=0")
        keys = []
        while table:
            ((key, table),) = table.items()
            keys.append(key)
        return keys

    def _table(self, keys: list[str]) -> Path:
        """What a header names: of an array of tables it is the last."""
        path: Path = ()
        for key in keys:
            path += (key,)
            if path in self._last:
                path += (self._last[path],)
        self._mark(path)
        return path

    def _pair(self, table: Path) -> None:
        path = (*table, *self._keys())
        self._mark(path)
        self._takes("=")
        self._value(path)

    def _value(self, path: Path) -> None:
        if self._takes("["):
            index = 0
            while not self._takes("]"):
                element = (*path, index)
                self._mark(element)
                self._value(element)
                self._takes(",")
                index += 1
        elif self._takes("{"):
            while not self._takes("}"):
                self._pair(path)
                self._takes(",")
        else:
            self._skip(_SCALAR)
