"""
What a server held, made from what ``python -m benchmarks.abuse --json`` and ``python -m benchmarks.abuse.endurance
--json`` have written, so that nobody copies a number:

- ``abuse-run:: FILE``: how it was made;
- ``abuse-table:: FILE``: each attack, and what the server and the others had of it;
- ``endurance-table:: FILE``: what a long run did to the memory.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList

MIB = 2**20


class _Figures(Directive):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        environment = self.state.document.settings.env
        name, absolute = environment.relfn2path(self.arguments[0])
        environment.note_dependency(name)
        environment.note_dependency(__file__)
        node = nodes.container()
        lines = self.lines(json.loads(Path(absolute).read_text()))
        self.state.nested_parse(StringList(lines, self.name), self.content_offset, node)
        return node.children

    def lines(self, record: dict[str, Any]) -> list[str]:
        raise NotImplementedError


def _table(rows: list[list[str]], widths: str) -> list[str]:
    lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {widths}", ""]
    for row in rows:
        lines += [f"   {'* -' if index == 0 else '  -'} {cell}" for index, cell in enumerate(row)]
    return [*lines, ""]


class AbuseRun(_Figures):
    """How it was made."""

    def lines(self, record: dict[str, Any]) -> list[str]:
        machine = record["machine"]
        return [
            f"Made on {record['date']} by ``{record['command']}``, on {machine['processors']} processors with "
            f"{machine['system']} and Python {machine['python']}."
        ]


class AbuseTable(_Figures):
    """Each attack."""

    def lines(self, record: dict[str, Any]) -> list[str]:
        rows = [["``--only``", "sessions", "each of them", "peak, MiB", "worst answer, s", "of a new session, s"]]
        for attack in record["attacks"]:
            new = "no room" if attack["worst_new"] is None else f"{attack['worst_new']:.2f}"
            rows.append(
                [
                    attack["attack"],
                    f"{attack['sessions']:,}",
                    attack["does"],
                    f"{attack['peak'] / MIB:.0f}",
                    f"{attack['worst']:.2f}",
                    new,
                ]
            )
        return _table(rows, "16 10 40 10 12 12")


class EnduranceTable(_Figures):
    """What a long run did to the memory."""

    def lines(self, record: dict[str, Any]) -> list[str]:
        rows = [["backend", "messages", "seconds", "after a tenth, MiB", "at the end, MiB", "most growth, MiB"]]
        for run in record["runs"]:
            sizes = [octets / MIB for octets in run["resident"]]
            rows.append(
                [
                    f"``{run['backend']}:``",
                    f"{run['messages']:,}",
                    f"{run['seconds']:.0f}",
                    f"{sizes[0]:.1f}",
                    f"{sizes[-1]:.1f}",
                    f"{run['growth'] / MIB:.1f}",
                ]
            )
        return _table(rows, "16 16 14 18 18 18")


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("abuse-run", AbuseRun)
    app.add_directive("abuse-table", AbuseTable)
    app.add_directive("endurance-table", EnduranceTable)
    return {"parallel_read_safe": True}
