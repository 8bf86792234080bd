"""What all processes count, as one."""

from __future__ import annotations

from typing import Any

from monitored import BEGIN, monitored
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from lmtp_twisted.daemon.monitoring.figures import BUCKETS, ErrorCount
from lmtp_twisted.daemon.monitoring.gathering import TICKS, Gatherer, Tick, Totals


class SaidMembers:
    """Processes that answer as they are told."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.waiting: list[Deferred[dict[str, Any]]] | None = None

    def ask(self, question: str, argument: Any = None) -> Deferred[dict[str, Any]]:
        if self.waiting is None:
            return succeed(dict(self.answers))
        self.waiting.append(Deferred())
        return self.waiting[-1]


def figures(messages: int, sessions: int) -> dict[str, dict[str, float]]:
    """Of a process."""
    return {"lmtp_messages_total": {"": messages}, "lmtp_sessions_open": {"": sessions}}


def test_there_is_a_tick_at_each_full_second() -> None:
    clock, members = Clock(), SaidMembers()
    clock.advance(BEGIN + 0.75)
    gatherer = Gatherer(members, clock)
    ticks: list[Tick] = []
    gatherer.ticked.append(ticks.append)
    members.answers = {"1": figures(1, 1), "2": figures(2, 3)}
    gatherer.start()
    clock.advance(0.25)
    clock.pump([1.0] * 3)
    assert [tick.time for tick in ticks] == [BEGIN + second for second in range(5)]
    assert gatherer.latest is ticks[-1]
    assert (ticks[-1].members, ticks[-1].figures) == (2, figures(3, 4))
    gatherer.stop()
    gatherer.stop()
    assert not clock.getDelayedCalls()


def test_what_the_parent_has_counted_is_added_and_it_is_no_member() -> None:
    """Also in a second in which nobody answers."""
    clock, members = Clock(), SaidMembers()
    clock.advance(BEGIN)
    gatherer = Gatherer(members, clock, lambda: {"lmtp_errors_total": {"error": 2}})
    members.answers = {"1": {"lmtp_errors_total": {"error": 1}}}
    gatherer.start()
    assert (gatherer.latest.members, gatherer.latest.figures) == (1, {"lmtp_errors_total": {"error": 3}})
    members.answers = {}
    clock.advance(1)
    assert (gatherer.latest.members, gatherer.latest.figures) == (0, {"lmtp_errors_total": {"error": 3}})
    gatherer.stop()


def test_what_a_process_has_counted_stays_when_it_is_gone() -> None:
    """And what it had under way does not; one that is only late comes back, and is not counted twice."""
    totals = Totals()
    totals.of({"1": figures(10, 5), "2": figures(1, 1)})
    assert totals.of({"2": figures(2, 1)}) == figures(12, 1)
    assert totals.of({"1": figures(11, 4), "2": figures(2, 1)}) == figures(13, 5)
    assert totals.of({"3": figures(1, 1)}) == figures(14, 1)
    assert totals.of({}) == {"lmtp_messages_total": {"": 14}}


def test_processes_that_come_and_go_take_no_more_memory() -> None:
    totals = Totals()
    for number in range(1000):
        assert totals.of({str(number): figures(1, 1)}) == figures(number + 1, 1)
    assert len(totals._last) == 64


def test_an_answer_that_comes_late_is_no_step_back() -> None:
    clock, members = Clock(), SaidMembers()
    clock.advance(BEGIN)
    gatherer = Gatherer(members, clock)
    members.waiting = waiting = []
    gatherer.start()
    clock.advance(1)
    waiting[1].callback({"1": figures(2, 1)})
    waiting[0].callback({"1": figures(1, 1)})
    assert (gatherer.latest.time, gatherer.latest.figures) == (BEGIN + 1, figures(2, 1))
    gatherer.stop()


def test_a_listener_that_fails_is_logged_and_the_others_hear() -> None:
    errors = ErrorCount()
    globalLogPublisher.addObserver(errors)
    gatherer = Gatherer(SaidMembers(), Clock())
    heard: list[Tick] = []
    gatherer.ticked += [lambda _: 1 / 0, heard.append]
    gatherer._reactor.advance(BEGIN)
    gatherer.start()
    gatherer.stop()
    assert len(heard) == 1
    globalLogPublisher.removeObserver(errors)
    assert errors.counts["critical"] == 1


def test_the_series_has_a_column_for_each_figure_and_15_minutes() -> None:
    server = monitored()
    gatherer = Gatherer(server.members, server.reactor)
    gatherer.start()
    server.send("b@x", "c@x")
    server.reactor.pump([1.0] * (TICKS + 10))
    series = gatherer.series()
    assert {len(column) for column in series.values()} == {TICKS}
    assert series["time"] == list(range(BEGIN + 11, BEGIN + 11 + TICKS))
    last = {name: column[-1] for name, column in series.items()}
    assert last == {
        "time": BEGIN + TICKS + 10,
        "members": 1,
        "sessions": 1,
        "sessions_total": 1,
        "messages": 1,
        "bytes": 7,
        "2xx": 2,
        "4xx": 0,
        "5xx": 0,
        "refused": 0,
        "delivery_seconds_sum": 0.0,
        "delivery_seconds": (2, *[0] * len(BUCKETS)),
    }
    gatherer.stop()


def test_sessions_and_events_of_all_are_asked_for() -> None:
    server = monitored()
    server.send("b@x")
    gatherer = Gatherer(server.members, server.reactor)
    heard: list[Any] = []
    gatherer.sessions().addCallback(heard.append)
    gatherer.events().addCallback(heard.append)
    assert (heard[0]["total"], heard[0]["sessions"][0]["worker"]) == (1, "0")
    assert heard[1]["domains"] == [{"domain": "x", "2xx": 1, "4xx": 0, "5xx": 0}]
