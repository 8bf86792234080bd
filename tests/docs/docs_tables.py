"""Tables of failures: what happens, and what the client sees. Each row is made to happen by a test of its page."""

from __future__ import annotations

import re
from pathlib import Path

import attrs

#: How the second head of such a table reads.
HEAD = "The client sees"

_ROW = re.compile(r"^    \* - (.*(?:\n      [^-\s].*|\n        .*)*)\n      - (.*(?:\n        .*)*)", re.MULTILINE)
_CODE = re.compile(r"``([245]\d\d(?: [245]\.\d\.\d)?)``")


@attrs.frozen
class Failure:
    """
    A row.

    :ivar what: what happens.
    :ivar reply: the code, and the enhanced code where the page gives it.
    """

    what: str
    reply: str


def failures_of(page: Path) -> list[Failure]:
    """The rows of the tables of failures on a page."""
    rows: list[Failure] = []
    is_one = False
    for match in _ROW.finditer(page.read_text(encoding="utf-8")):
        what, sees = (" ".join(cell.split()) for cell in match.groups())
        code = _CODE.match(sees)
        if code is None:
            # The head of a table, or a row of one that is something else.
            is_one = sees == HEAD
        elif is_one:
            rows.append(Failure(what, code[1]))
    return rows
