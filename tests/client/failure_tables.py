"""The tables of the documentation that say what becomes of recipients, row by row."""

from __future__ import annotations

import re
from pathlib import Path

_ROW = re.compile(r"\* - (.*?)\n\s+- (.*?)(?=\n\s+\* -|\n\n|\Z)", re.DOTALL)
_DOCS = Path(__file__).parents[2] / "docs"


def rows(page: str, table: str) -> dict[str, str]:
    """
    :param page: the name of a page.
    :param table: what stands in the comment before the table.
    :returns: what happens, and the code and enhanced code that are told.
    """
    text = (_DOCS / page).read_text("utf-8").partition(f".. {table}\n")[2]
    found = [(" ".join(what.split()), told) for what, told in _ROW.findall(text)]
    assert found[0][0] == "what happens"
    return {what: " ".join(re.findall("``(.*?)``", told)) for what, told in found[1:]}
