"""
What the conformance kit has seen of other servers, ``peer-facts::``, as a table for those who choose one. A line of it
is ``what is said = scenario``; what each server did is looked up in docs/conformance-peers.rst, which a run has made.
"""

from __future__ import annotations

import re
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList

PAGE = Path(__file__).parent.parent / "conformance-peers.rst"
_HEADING = "All scenarios\n---"
# Before the servers' own columns stand the scenario, the reference and the level.
_FIRST = 3
_IN_WORDS = {"✓": "yes", "≈": "yes", "✗": "**no**", "·": "·"}


def rows() -> list[list[str]]:
    """The cells of the table of all scenarios, its head first."""
    _, _, table = PAGE.read_text(encoding="utf-8").partition(_HEADING)
    cells = [re.sub(r"^ {6}- ", "", row, flags=re.MULTILINE).split("\n") for row in table.split("\n    * - ")[1:]]
    return [[cell.strip() for cell in row if cell.strip()] for row in cells]


class PeerFacts(Directive):
    """The table."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        environment = self.state.document.settings.env
        environment.note_dependency(str(PAGE))
        environment.note_dependency(__file__)
        head, *found = rows()
        results = {row[0].strip("`"): row[_FIRST:] for row in found}
        lines = [".. list-table::", "   :header-rows: 1", ""]
        for cells in (["", *head[_FIRST:]], *(self._facts(line, results) for line in self.content)):
            lines += [f"   {'* -' if index == 0 else '  -'} {cell}" for index, cell in enumerate(cells)]
        node = nodes.container()
        self.state.nested_parse(StringList([*lines, ""], self.name), self.content_offset, node)
        return node.children

    def _facts(self, line: str, results: dict[str, list[str]]) -> list[str]:
        said, _, scenario = line.rpartition(" = ")
        if scenario not in results:
            raise self.error(f"no server was seen in {scenario!r}")
        return [said, *(_IN_WORDS[mark] for mark in results[scenario])]


def setup(app: object) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("peer-facts", PeerFacts)  # type: ignore[attr-defined]
    return {"parallel_read_safe": True, "parallel_write_safe": True}
