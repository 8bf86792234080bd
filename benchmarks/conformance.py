"""
``python -m benchmarks.conformance``: judges all servers, and writes docs/conformance-peers.rst.

A test of tests/peers judges them anew, and fails where the page says something else.
"""

import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.judged import JUDGED, Judged, judge, worst
from lmtp_twisted.conformance.result import Result, Verdict
from lmtp_twisted.conformance.scenario import Level

PAGE = Path(__file__).resolve().parent.parent / "docs" / "conformance-peers.rst"

_INTRODUCTION = """\
Other LMTP servers
==================

..
    Made by ``make conformance``, and compared with what the servers do by tests/peers/test_conformance_peers.py.

What the kit of :doc:`conformance` says of LMTP servers, this one among them. All of it was judged at the level beyond,
on one machine.

"""

_LEGEND = """
What has *failed* stands below, with what came. *Codes* are replies that keep to the standard, but have another code
than the one that this package takes for the best. *Absent* is what a server does not have, or does not let one see.

"""

#: What stands in a cell.
MARKS = {Verdict.PASSED: "✓", Verdict.FAILED: "✗", Verdict.ABSENT: "·"}
INEXACT = "≈"


def mark(result: Result) -> str:
    """The verdict as it stands in a table."""
    return INEXACT if result.is_inexact else MARKS[result.verdict]


def page(found: Mapping[str, Mapping[str, Result]]) -> str:
    """
    :param found: by the names of the servers: their results, by the names of the scenarios.
    """
    judged = [one for one in JUDGED if one.name in found]
    parts = [_INTRODUCTION, _summary(judged, found), _LEGEND]
    for one in judged:
        parts.append(_section(one, found[one.name]))
    title = "All scenarios"
    legend = f"✓ is passed, ✗ failed, {INEXACT} passed but for an exact code, · absent."
    parts += [f"{title}\n{'-' * len(title)}\n\n{legend}\n\n", _everything(judged, found)]
    return "".join(parts)


def _summary(judged: Sequence[Judged], found: Mapping[str, Mapping[str, Result]]) -> str:
    rows = [["Server", "Version", "Passed", *(f"Failed: {level}" for level in Level), "Codes", "Absent"]]
    for one in judged:
        results = found[one.name].values()
        marks = Counter(map(mark, results))
        failed = Counter(result.level for result in results if mark(result) == MARKS[Verdict.FAILED])
        counts = [marks["✓"], *(failed[level] for level in Level), marks[INEXACT], marks["·"]]
        rows.append([one.name, one.version(), *map(str, counts)])
    return _table(rows)


def _section(one: Judged, results: Mapping[str, Result]) -> str:
    text = f"{one.name}\n{'-' * len(one.name)}\n\n{one.what[0].upper()}{one.what[1:]}.\n\n"
    failed = [result for result in worst(results.values()) if not result.is_inexact]
    if not failed:
        return text + "Nothing has failed.\n\n"
    rows = [["Scenario", "Level", "Expected", "Came"]]
    for result in failed:
        scenario = result.scenario
        rows.append([f"``{scenario.name}``", str(result.level), f"``{result.expected}``", f"``{result.brief}``"])
    return text + _table(rows, "40 10 25 25") + "\n"


def _everything(judged: Sequence[Judged], found: Mapping[str, Mapping[str, Result]]) -> str:
    names = list(dict.fromkeys(name for one in judged for name in found[one.name]))
    rows = [["Scenario", "Reference", "Level", *(one.name for one in judged)]]
    for name in sorted(names):
        results = [found[one.name][name] for one in judged]
        scenario = results[0].scenario
        rows.append([f"``{name}``", scenario.reference, str(scenario.level), *map(mark, results)])
    return _table(rows)


def _table(rows: Sequence[Sequence[str]], widths: str = "auto") -> str:
    lines = [".. list-table::", "    :header-rows: 1", f"    :widths: {widths}", ""]
    for row in rows:
        lines += [f"    {'* -' if number == 0 else '  -'} {cell}".rstrip() for number, cell in enumerate(row)]
    return "\n".join(lines) + "\n"


def verdicts_on(text: str, server: str) -> dict[str, str]:
    """
    What the page says of a server.

    :param text: the page.
    :returns: marks by the names of the scenarios.
    """
    _, _, table = text.partition("All scenarios\n")
    rows = [row.split("\n") for row in re.split(r"^ {4}\* - ", table, flags=re.MULTILINE)[1:]]
    cells = [[row[0], *(cell.strip()[1:].strip() for cell in row[1:] if cell.strip())] for row in rows]
    column = cells[0].index(server)
    return {row[0].strip("`"): row[column] for row in cells[1:]}


if __name__ == "__main__":
    missing = [f"{one.name}: {absence}" for one in JUDGED if (absence := one.absence())]
    if missing:
        sys.exit(f"make peers installs what is missing: {'; '.join(missing)}")
    PAGE.write_text(page({one.name: judge(one) for one in JUDGED}), encoding="utf-8")
