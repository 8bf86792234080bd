"""What became of a scenario."""

from __future__ import annotations

import enum

import attrs

from lmtp_twisted.conformance.scenario import Level, Scenario


class Verdict(enum.Enum):
    """What became of a scenario."""

    PASSED = "passed"
    FAILED = "failed"
    #: The server does not have what it needs, or the user has not said what it needs.
    ABSENT = "absent"


@attrs.frozen
class Result:
    """
    :ivar level: what a failure weighs: that of the scenario, or ``beyond`` where only an exact code differs.
    :ivar expected: what should have come; empty where the scenario has passed.
    :ivar came: what came instead, or why it is absent.
    :ivar brief: the same without what changes from run to run.
    :ivar transcript: what was said, a line each, printable.
    :ivar codes: the replies that came, by their codes.
    :ivar sent: octets of the scenario's own steps.
    :ivar is_inexact: it has failed, but only by an exact code.
    """

    scenario: Scenario
    verdict: Verdict
    level: Level
    expected: str = ""
    came: str = ""
    brief: str = ""
    transcript: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    sent: int = 0
    is_inexact: bool = False


def absent(scenario: Scenario, reason: str) -> Result:
    """The result of a scenario that cannot be played."""
    return Result(scenario, Verdict.ABSENT, scenario.level, came=reason, brief=reason)
