"""One scenario against the server: a connection, what is played on it, and the verdict."""

from __future__ import annotations

import attrs

from lmtp_twisted.conformance.play import Absent, Deviation, Play
from lmtp_twisted.conformance.result import Result, Verdict, absent
from lmtp_twisted.conformance.scenario import Level, Scenario
from lmtp_twisted.conformance.session import Server, connect
from lmtp_twisted.conformance.settings import Settings


def judge(
    scenario: Scenario, settings: Settings, server: Server, level: Level = Level.BEYOND, cut: int | None = None
) -> Result:
    """
    Play a scenario.

    :param server: what it said of itself.
    :param level: exact codes are looked at only at the level beyond.
    :param cut: after how many octets of the scenario's own steps a segment ends.
    """
    try:
        connection = connect(settings)
    except OSError as error:
        reason = f"no connection: {error}"
        return Result(scenario, Verdict.FAILED, scenario.level, "a connection", reason, "no connection")
    play = Play(connection, scenario, settings, server, cut)
    try:
        play.run()
    except Absent as reason:
        return absent(scenario, str(reason))
    except Deviation as deviation:
        return play.result(
            Verdict.FAILED, scenario.level, expected=deviation.expected, came=deviation.came, brief=deviation.brief
        )
    finally:
        connection.close()
    if play.inexact is not None and level is Level.BEYOND:
        expected, reply = play.inexact
        result = play.result(Verdict.FAILED, Level.BEYOND, expected=expected, came=str(reply), brief=reply.codes)
        return attrs.evolve(result, is_inexact=True)
    return play.result(Verdict.PASSED, scenario.level)
