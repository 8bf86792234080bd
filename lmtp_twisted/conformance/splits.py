"""The octets of a scenario in two segments, cut at every point: where they are cut means nothing (RFC 5321 §2.3.8)."""

from __future__ import annotations

import time

import attrs

from lmtp_twisted.conformance.judge import judge
from lmtp_twisted.conformance.result import Result, Verdict
from lmtp_twisted.conformance.scenario import Level
from lmtp_twisted.conformance.session import Server
from lmtp_twisted.conformance.settings import Settings

#: Octets of a scenario beyond which only its first and its last are cut: each cut is a session.
MOST_CUTS = 2000


def judge_splits(result: Result, settings: Settings, server: Server, level: Level, deadline: float) -> Result:
    """
    Play a scenario that has passed again, once for each point where its octets can be cut.

    :param result: that of the whole.
    :param deadline: on the monotonic clock; a run that is over by then has failed.
    :returns: the same, or the first that is different.
    """
    scenario = result.scenario
    if not scenario.can_be_split:
        return result
    cuts = [cut for cut in range(1, result.sent) if min(cut, result.sent - cut) <= MOST_CUTS // 2]
    for cut in cuts:
        if time.monotonic() > deadline:
            reason = f"the time was over at octet {cut} of {result.sent}"
            return attrs.evolve(
                result, verdict=Verdict.FAILED, expected="to be done in time", came=reason, brief="no time left"
            )
        again = judge(scenario, settings, server, level, cut)
        if again.verdict is not Verdict.PASSED:
            return attrs.evolve(again, came=f"cut after {cut} octets: {again.came}")
        if again.codes != result.codes:
            expected, came = " | ".join(result.codes), " | ".join(again.codes)
            return attrs.evolve(
                again,
                verdict=Verdict.FAILED,
                expected=f"the same replies as without a cut: {expected}",
                came=f"cut after {cut} octets: {came}",
                brief="other replies",
            )
    return result
