"""All scenarios against one server."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import attrs

from lmtp_twisted.conformance.connection import Connection, Unexpected
from lmtp_twisted.conformance.judge import judge
from lmtp_twisted.conformance.needs import what_is_missing
from lmtp_twisted.conformance.result import Result, Verdict, absent
from lmtp_twisted.conformance.scenario import Level, Scenario
from lmtp_twisted.conformance.session import Server, begin, connect
from lmtp_twisted.conformance.settings import Settings
from lmtp_twisted.conformance.splits import judge_splits


@attrs.frozen(kw_only=True)
class Choice:
    """
    Which scenarios are played, and how.

    :ivar level: the last of the levels.
    :ivar only: patterns of names, such as ``data/*``; all where there are none.
    :ivar skip: patterns of names that are left out.
    :ivar every_split: each is played again with its octets cut at each point.
    :ivar jobs: how many sessions at a time.
    :ivar limit: seconds for all of it; what has not begun by then is absent.
    """

    level: Level = Level.SHOULD
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    every_split: bool = False
    jobs: int = 1
    limit: float = 900.0

    def of(self, scenarios: Sequence[Scenario]) -> list[Scenario]:
        """Those that are chosen."""

        def is_among(name: str, patterns: tuple[str, ...]) -> bool:
            return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)

        return [
            scenario
            for scenario in scenarios
            if scenario.level <= self.level
            and (not self.only or is_among(scenario.name, self.only))
            and not is_among(scenario.name, self.skip)
        ]


class NoServer(Exception):
    """Nobody is there; the text says where and why."""


@attrs.frozen
class Run:
    """
    :ivar server: what it said of itself.
    :ivar trouble: why no session could be begun at all; empty where one could.
    :ivar refusal: which of the user's addresses the server does not take, and what it says; empty where it takes all.
    :ivar results: one for each scenario that was chosen.
    """

    server: Server
    trouble: str
    results: tuple[Result, ...]
    refusal: str = ""

    @property
    def has_deviations(self) -> bool:
        """Whether the server did other than it should."""
        return bool(self.trouble) or any(result.verdict is Verdict.FAILED for result in self.results)


def run(
    scenarios: Sequence[Scenario],
    settings: Settings,
    choice: Choice,
    tell: Callable[[Result], None] = lambda result: None,
) -> Run:
    """
    Play all scenarios that are chosen.

    :param tell: is called with each result as soon as it and those before it are there; not at all where no session
        could be begun.
    :raises NoServer: where nobody is there.
    """
    deadline = time.monotonic() + choice.limit
    server, trouble, refusal = _first_look(settings)

    def result_of(scenario: Scenario) -> Result:
        if trouble:
            return absent(scenario, "there is no session")
        if missing := what_is_missing(scenario, server, settings):
            return absent(scenario, missing)
        if time.monotonic() > deadline:
            return absent(scenario, f"the {choice.limit:g} s of --limit are over")
        result = judge(scenario, settings, server, choice.level)
        if choice.every_split and result.verdict is Verdict.PASSED:
            return judge_splits(result, settings, server, choice.level, deadline)
        return result

    results = []
    with ThreadPoolExecutor(choice.jobs, "judge") as pool:
        try:
            for result in pool.map(result_of, choice.of(scenarios)):
                results.append(result)
                if not trouble:
                    tell(result)
        finally:
            # Whoever interrupts it does not wait for what has not begun.
            pool.shutdown(wait=False, cancel_futures=True)
    return Run(server, trouble, tuple(results), refusal)


def _first_look(settings: Settings) -> tuple[Server, str, str]:
    try:
        connection = connect(settings)
    except OSError as error:
        raise NoServer(f"no connection to {settings.target}: {error}")
    try:
        server = begin(connection, settings, "session")
        return server, "", _refusal(connection, settings)
    except Unexpected as error:
        return Server("", {}), str(error), ""
    finally:
        connection.close()


def _refusal(connection: Connection, settings: Settings) -> str:
    """Most scenarios need these addresses: a server that refuses them fails for no fault of its own."""
    lines = [f"MAIL FROM:<{settings.sender}>", *(f"RCPT TO:<{address}>" for address in settings.recipients)]
    try:
        for line in lines:
            connection.send(line.encode("utf-8") + b"\r\n")
            reply = connection.read_reply()
            if reply.code != 250:
                return f"{line}: {reply}"
        connection.send(b"RSET\r\nQUIT\r\n")
    except Unexpected:
        # That is for the scenarios to find.
        pass
    return ""
