"""
Figures of a benchmark, made from what ``python -m benchmarks --json`` has written, so that nobody copies a number:

- ``benchmark-run:: FILE``: how it was made: the command, the date, the machine;
- ``benchmark-table:: FILE``: the medians of each server in each scenario, and how far ours is from its target;
- ``benchmark-plot:: FILE``: how many times as fast as Dovecot ours is, and the bare system calls.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

import matplotlib

matplotlib.use("svg")
from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from matplotlib import pyplot

OURS, PEER, LIMIT = "twistd-maildir", "dovecot", "bare-calls"
NAMES = {OURS: "``twistd lmtp``", PEER: "Dovecot", LIMIT: "the system calls alone"}


class Run:
    """
    A run of the benchmark.

    :param file: the JSON.
    """

    def __init__(self, file: Path) -> None:
        self.values: dict[str, Any] = json.loads(file.read_text())
        self.scenarios: dict[str, Any] = self.values["scenarios"]

    def samples(self, scenario: str, server: str) -> list[dict[str, Any]]:
        """The rounds of one server."""
        (row,) = (row for row in self.scenarios[scenario]["servers"] if row["server"] == server)
        return [sample for sample in row["samples"] if sample]

    def rate(self, scenario: str, server: str) -> float:
        """Messages a second: the median of the rounds."""
        return median(sample["rate"] for sample in self.samples(scenario, server))

    def times(self, scenario: str, server: str, other: str) -> float:
        """How many times as fast: the median of the rounds, each of which had both."""
        pairs = zip(self.samples(scenario, server), self.samples(scenario, other), strict=True)
        return median(one["rate"] / two["rate"] for one, two in pairs)

    def target(self, scenario: str) -> str:
        """How many times as fast ours is to be; empty where nothing was set."""
        found = [target["factor"] for target in self.values["targets"] if target["scenario"] == scenario]
        return f"{found[0]:g}" if found else ""


class _Figures(Directive):
    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {}

    def run(self) -> list[nodes.Node]:
        environment = self.state.document.settings.env
        name, absolute = environment.relfn2path(self.arguments[0])
        environment.note_dependency(name)
        environment.note_dependency(__file__)
        return self.figures(Run(Path(absolute)))

    def figures(self, run: Run) -> list[nodes.Node]:
        raise NotImplementedError

    def parsed(self, lines: list[str]) -> list[nodes.Node]:
        node = nodes.container()
        self.state.nested_parse(StringList(lines, self.name), self.content_offset, node)
        return node.children


class BenchmarkRun(_Figures):
    """How it was made."""

    def figures(self, run: Run) -> list[nodes.Node]:
        machine = run.values["machine"]
        return self.parsed(
            [
                f"Made on {run.values['date']} by ``{run.values['command']}``, on {machine['processors']} processors "
                f"with {machine['system']} and Python {machine['python']}."
            ]
        )


class BenchmarkTable(_Figures):
    """The medians."""

    def figures(self, run: Run) -> list[nodes.Node]:
        lines = [".. list-table::", "   :header-rows: 1", ""]
        header = [
            "",
            *(f"{name}, messages/s" for name in NAMES.values()),
            "ours ÷ Dovecot",
            "asked",
            "ours ÷ the calls",
        ]
        rows = [header]
        for name, scenario in run.scenarios.items():
            rates = [f"{run.rate(name, server):,.0f}" for server in NAMES]
            ratio, share = (run.times(name, OURS, other) for other in (PEER, LIMIT))
            title = f"{scenario['title'].split(',')[0]}, {scenario['load']['sessions']} sessions"
            rows.append([title, *rates, f"{ratio:.2f}", run.target(name), f"{share:.2f}"])
        for row in rows:
            lines += [f"   {'* -' if index == 0 else '  -'} {cell}" for index, cell in enumerate(row)]
        return self.parsed([*lines, ""])


class BenchmarkPlot(_Figures):
    """Bars, in the colours of the page's text."""

    def figures(self, run: Run) -> list[nodes.Node]:
        matplotlib.rcParams.update(
            {"svg.fonttype": "none", "svg.hashsalt": "lmtp-twisted", "font.family": "sans-serif"}
        )
        names = list(run.scenarios)[::-1]
        figure, axes = pyplot.subplots(figsize=(8, 0.7 * len(names) + 0.8))
        for shift, server, label, colour in (
            (0.2, OURS, "twistd lmtp", "#2a7ae2"),
            (-0.2, LIMIT, "bare calls", "#9a9a9a"),
        ):
            values = [run.times(name, server, PEER) for name in names]
            bars = axes.barh([place + shift for place in range(len(names))], values, 0.38, label=label, color=colour)
            axes.bar_label(bars, fmt="%.1f", padding=3)
        axes.axvline(1, color="#c0392b", linewidth=1.5, label="Dovecot")
        axes.set_yticks(range(len(names)), [_short(run.scenarios[name]) for name in names])
        axes.set_xlabel("times as many messages a second as Dovecot")
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.1)
        axes.legend(loc="lower right", frameon=False)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None})
        pyplot.close(figure)
        drawing = file.getvalue()
        drawing = drawing[drawing.index("<svg") :].replace("#000000", "currentColor")
        drawing = drawing.replace("<svg ", '<svg role="img" style="max-width:100%;height:auto;fill:currentColor" ', 1)
        return [nodes.raw("", drawing, format="html")]


def _short(scenario: dict[str, Any]) -> str:
    return f"{scenario['title'].split(',')[0]}\n{scenario['load']['sessions']} sessions"


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("benchmark-run", BenchmarkRun)
    app.add_directive("benchmark-table", BenchmarkTable)
    app.add_directive("benchmark-plot", BenchmarkPlot)
    return {"parallel_read_safe": True}
