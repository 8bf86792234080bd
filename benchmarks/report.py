"""What has been measured, as a table, as a list of the targets reached and missed, and as JSON."""

import os
import platform
import time
from collections.abc import Iterable, Mapping, Sequence

from attrs import asdict

from benchmarks.contenders import CONTENDERS
from benchmarks.measure import Row
from benchmarks.scenarios import TARGETS, Scenario, Target

Results = Mapping[str, Sequence[Row]]
MIB = 1024 * 1024
HEADER = ("", "messages/s", "spread", "deliveries/s", "CPU µs/message", "peak MiB", "ours ÷ this")


def table(scenarios: Iterable[Scenario], results: Results) -> str:
    """One block of rows for each scenario; the last column compares its first server with each of the others."""
    lines = [_line(HEADER)]
    for scenario in scenarios:
        sessions = f"{scenario.load.sessions} sessions"
        lines += ["", f"{scenario.name}: {scenario.title}, {sessions}"]
        rows = results[scenario.name]
        lines += [_row(row, rows[0], scenario) for row in rows]
    return "\n".join(lines)


def _row(row: Row, first: Row, scenario: Scenario) -> str:
    if not any(row.samples):
        return f"  {row.server:<16}{row.problem}"
    ratio = first.times(row) if row is not first and CONTENDERS[first.server].ours else None
    rate = row.median(lambda sample: sample.rate)
    cells = (
        f"  {row.server}",
        f"{rate:,.0f}",
        f"{row.spread():.0%}" if len(row.samples) > 1 else "",
        f"{rate * scenario.load.recipients:,.0f}",
        f"{row.median(lambda sample: sample.cpu):,.0f}",
        f"{row.median(lambda sample: sample.peak) / MIB:,.1f}",
        "" if ratio is None else f"{ratio:.2f}",
    )
    return f"{_line(cells)}  {row.problem}".rstrip()


def _line(cells: Sequence[str]) -> str:
    return f"{cells[0]:<18}" + "".join(f"{cell:>15}" for cell in cells[1:])


def verdicts(targets: Iterable[Target], results: Results) -> list[tuple[bool | None, str]]:
    """
    For each target of a scenario that was run, whether it was reached.

    :returns: ``True``, ``False``, or ``None`` where one of the two has no result; and a line that says so.
    """
    found: list[tuple[bool | None, str]] = []
    for target in _asked(targets, results):
        rows = {row.server: row for row in results[target.scenario]}
        ratio = rows[target.server].times(rows[target.other])
        reached = None if ratio is None else ratio >= target.factor
        word = {True: "reached", False: "MISSED", None: "unknown"}[reached]
        value = "no result" if ratio is None else f"{ratio:.2f}"
        what = f"{target.scenario}: {target.server} ≥ {target.factor} x {target.other}"
        found.append((reached, f"  {word:<8} {what:<52} {value}"))
    return found


def _asked(targets: Iterable[Target], results: Results) -> list[Target]:
    """Those of which both servers were to be measured."""
    servers = {name: {row.server for row in rows} for name, rows in results.items()}
    return [target for target in targets if {target.server, target.other} <= servers.get(target.scenario, set())]


def as_json(command: Sequence[str], scenarios: Iterable[Scenario], results: Results) -> dict[str, object]:
    """
    Everything that was measured, round by round, and what on.

    :param command: the arguments of the command line.
    """
    return {
        "command": " ".join(["python -m benchmarks", *command]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": {
            "processors": os.cpu_count(),
            "system": f"{platform.system()} {platform.release().split('-')[0]}",
            "python": platform.python_version(),
        },
        "scenarios": {
            scenario.name: {
                "title": scenario.title,
                "load": asdict(scenario.load),
                "servers": [asdict(row) for row in results[scenario.name]],
            }
            for scenario in scenarios
        },
        "targets": [asdict(target) for target in _asked(TARGETS, results)],
    }
