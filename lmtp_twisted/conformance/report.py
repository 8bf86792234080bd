"""
The results, for people and for programs. All that came from the server is printable ASCII by now, and there are no
passwords in it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from lmtp_twisted.conformance.result import Result, Verdict
from lmtp_twisted.conformance.run import Run
from lmtp_twisted.conformance.settings import Settings

_WORDS = {Verdict.PASSED: "passed", Verdict.FAILED: "FAILED", Verdict.ABSENT: "absent"}
#: What stands under a failure: the dialogue, with this many lines at most.
_MOST_LINES = 40


def row(result: Result, width: int, *, with_dialogue: bool = False) -> str:
    """
    A line of the table; a failure has further lines.

    :param width: that of the column of names.
    """
    scenario = result.scenario
    line = f"{_WORDS[result.verdict]}  {result.level!s:6}  {scenario.name:{width}}  {scenario.reference}"
    if result.verdict is Verdict.ABSENT:
        return f"{line}  ({result.came})"
    if result.verdict is Verdict.FAILED:
        line += f"\n        expected  {result.expected}\n        came      {result.came}"
        if with_dialogue:
            line += "".join(f"\n        | {said}" for said in result.transcript[-_MOST_LINES:])
    return line


def summary(run: Run) -> str:
    """What stands at the end."""
    if run.trouble:
        return (
            f"No session could be begun: {run.trouble}\n"
            "Is it LMTP that is spoken there, and in the clear? See --tls, --starttls, --proxy and --authenticate."
        )
    counts = Counter(result.verdict for result in run.results)
    words = f"{counts[Verdict.PASSED]} passed, {counts[Verdict.FAILED]} failed, {counts[Verdict.ABSENT]} absent"
    failed = Counter(result.level for result in run.results if result.verdict is Verdict.FAILED)
    if failed:
        words += f" (failed: {', '.join(f'{failed[level]} {level}' for level in sorted(failed))})"
    if run.refusal and failed:
        words += (
            f"\nIt refused {run.refusal}\n"
            "So much of that may be no fault of its own: --sender, --recipient and --authenticate tell what it takes."
        )
    return words


def as_json(run: Run, settings: Settings) -> str:
    """All of it as JSON."""
    report: Mapping[str, Any] = {
        "server": str(settings.target),
        "greeting": run.server.greeting,
        "capabilities": {name: list(words) for name, words in run.server.capabilities.items()},
        "trouble": run.trouble,
        "refusal": run.refusal,
        "summary": dict(Counter(result.verdict.value for result in run.results)),
        "rows": [
            {
                "name": result.scenario.name,
                "rfc": result.scenario.reference,
                "level": str(result.level),
                "verdict": result.verdict.value,
                "expected": result.expected,
                "came": result.came,
                "dialogue": list(result.transcript) if result.verdict is Verdict.FAILED else [],
            }
            for result in run.results
        ],
    }
    return json.dumps(report, indent=2)
