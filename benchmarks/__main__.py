"""``python -m benchmarks``: compares this server with others. See README.md."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from attrs import evolve

from benchmarks import build, report
from benchmarks.contenders import CONTENDERS
from benchmarks.measure import Row, compare
from benchmarks.process import end_on_sigterm
from benchmarks.scenarios import SCENARIOS, TARGETS, Scenario


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line; ends the process where it is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Compares this server with others.")
    parser.add_argument("--quick", action="store_true", help="one round of half a second each: tells little")
    parser.add_argument("--only", metavar="NAME,…", help=f"these scenarios: {', '.join(s.name for s in SCENARIOS)}")
    parser.add_argument("--servers", metavar="NAME,…", help=f"these servers: {', '.join(CONTENDERS)}")
    parser.add_argument("--sessions", type=int, metavar="N", help="connections at the same time (10; 1 MB: 4)")
    parser.add_argument("--repeat", type=int, metavar="N", help="rounds, of which the median counts (3)")
    parser.add_argument("--seconds", type=float, metavar="S", help="how long each server is loaded (2)")
    parser.add_argument("--directory", type=Path, metavar="DIR", default=Path("/var/tmp"), help="for mail (/var/tmp)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="writes every measurement there")
    parser.add_argument("--check", action="store_true", help="exit status 1 where a target is missed or unknown")
    parsed = parser.parse_args(arguments)
    parsed.only = _chosen(parser, parsed.only, [scenario.name for scenario in SCENARIOS])
    parsed.servers = _chosen(parser, parsed.servers, list(CONTENDERS))
    parsed.repeat = parsed.repeat or (1 if parsed.quick else 3)
    parsed.seconds = parsed.seconds or (0.5 if parsed.quick else 2.0)
    return parsed


def _chosen(parser: argparse.ArgumentParser, value: str | None, known: Sequence[str]) -> list[str]:
    names = value.split(",") if value else list(known)
    for name in names:
        if name not in known:
            parser.error(f"no {name!r} among {', '.join(known)}")
    return names


def chosen_scenarios(parsed: argparse.Namespace) -> list[Scenario]:
    """The scenarios that the options ask for, as they ask for them."""
    return [
        evolve(
            scenario,
            servers=tuple(name for name in scenario.servers if name in parsed.servers),
            load=evolve(scenario.load, seconds=parsed.seconds, sessions=parsed.sessions or scenario.load.sessions),
        )
        for scenario in SCENARIOS
        if scenario.name in parsed.only
    ]


def progress(text: str) -> None:
    """Says on standard error what is being done."""
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Runs what the command line asks for.

    :returns: the exit status: 1 where a server of ours is absent or failed, or, with ``--check``, a target was missed.
    """
    given = sys.argv[1:] if arguments is None else arguments
    parsed = options(given)
    end_on_sigterm()
    try:
        build.lmtpload()
    except build.BuildError as error:
        progress(f"no load generator: {error}")
        return 1
    scenarios = chosen_scenarios(parsed)
    results: dict[str, list[Row]] = {}
    for scenario in scenarios:
        contenders = [CONTENDERS[name] for name in scenario.servers]
        results[scenario.name] = compare(scenario, contenders, parsed.repeat, parsed.directory, progress)
    print(report.table(scenarios, results))
    verdicts = report.verdicts(TARGETS, results)
    if verdicts:
        print("\nTargets", *(line for _, line in verdicts), sep="\n")
    if parsed.json:
        parsed.json.write_text(json.dumps(report.as_json(given, scenarios, results), indent=1) + "\n")
    failed = any(row.problem and CONTENDERS[row.server].ours for rows in results.values() for row in rows)
    missed = parsed.check and any(reached is not True for reached, _ in verdicts)
    return 1 if failed or missed else 0


if __name__ == "__main__":
    sys.exit(main())
