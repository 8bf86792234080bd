"""A run of the kit against a small server, in this process."""

from __future__ import annotations

from typing import Any

from small_server import Session, SmallServer

from lmtp_twisted.conformance.reading import read_scenarios
from lmtp_twisted.conformance.result import Result, Verdict
from lmtp_twisted.conformance.run import Choice, Run, run
from lmtp_twisted.conformance.scenario import Level
from lmtp_twisted.conformance.settings import Settings, Target

SCENARIOS = read_scenarios()
#: Enough for a server in the same process.
PATIENCE = 5.0
#: For servers of which nothing is to be expected.
LITTLE_PATIENCE = 0.3


def judge_small(
    session: type[Session] = Session,
    *only: str,
    level: Level = Level.SHOULD,
    patience: float = PATIENCE,
    context: Any = None,
    every_split: bool = False,
    limit: float = 60.0,
    **settings: Any,
) -> Run:
    """
    :param session: what is wrong with the server.
    :param only: names of scenarios, or patterns of names.
    """
    with SmallServer(session, context) as server:
        target = Target(host="127.0.0.1", port=server.port)
        return run(
            SCENARIOS,
            Settings(target=target, patience=patience, **settings),
            Choice(level=level, only=only, jobs=8, every_split=every_split, limit=limit),
        )


def failed(done: Run) -> dict[str, Result]:
    """What has failed, by name."""
    return {result.scenario.name: result for result in done.results if result.verdict is Verdict.FAILED}


def only_result(done: Run) -> Result:
    """That of the only scenario."""
    assert not done.trouble
    (result,) = done.results
    return result
