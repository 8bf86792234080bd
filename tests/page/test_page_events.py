"""``/events``: who is told what, and when. HTML standard §9.2 (server-sent events)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fake_gatherer import FakeGatherer, failure
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from lmtp_twisted.daemon.monitoring.figures import BUCKETS
from lmtp_twisted.daemon.web.channel import StatusSite
from lmtp_twisted.daemon.web.events import MOST_READERS, PATIENCE, Events
from lmtp_twisted.daemon.web.plain import Shown
from lmtp_twisted.daemon.web.telling import Telling


class Reader:
    """A connection that asks for events."""

    def __init__(self, site: StatusSite, request: str = "GET /events", *headers: str) -> None:
        self.transport = StringTransport()
        self.channel = site.buildProtocol(None)  # type: ignore[arg-type]  # it does not look
        assert self.channel is not None
        self.channel.makeConnection(self.transport)
        self.channel.dataReceived("\r\n".join([f"{request} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode())

    def said(self) -> str:
        """What was written since the last call."""
        text = self.transport.value().decode()
        self.transport.clear()
        return text

    def events(self) -> list[tuple[str, str, dict[str, Any]]]:
        """The kind, the id and the data of each event since the last call."""
        events = []
        for block in self.said().split("\n\n"):
            fields = dict(line.strip().split(": ", 1) for line in block.split("\n") if ": " in line)
            if "event" in fields:
                events.append((fields["event"], fields["id"], json.loads(fields["data"])))
        return events

    def stops_reading(self) -> None:
        """The system takes no more of it."""
        self.transport.producer.pauseProducing()

    def reads_again(self) -> None:
        self.transport.producer.resumeProducing()

    def is_gone(self) -> None:
        self.channel.connectionLost(Failure(ConnectionDone()))


class World:
    """The resource with all that it needs."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.gatherer: Any = FakeGatherer()
        self.restart()

    def restart(self) -> None:
        telling = Telling(self.gatherer, {"host": "mx.example.org"})
        root = Shown()
        root.putChild(b"events", Events(self.gatherer, telling, self.clock))
        self.site = StatusSite(root, reactor=self.clock)


@pytest.fixture
def world() -> World:
    world = World()
    for second in range(3):
        world.gatherer.tick(1000 + second, messages=10 * second)
    return world


def times(event: tuple[str, str, dict[str, Any]]) -> list[int]:
    return [tick[0] for tick in event[2]["ticks"]]


def test_at_first_all_is_told_and_then_what_is_new(world: World) -> None:
    reader = Reader(world.site)
    said = reader.transport.value().decode()
    assert "Content-Type: text/event-stream; charset=utf-8\r\n" in said
    assert "Cache-Control: no-store\r\n" in said
    assert "retry: 2000\n\n" in said
    ((kind, _, data),) = reader.events()
    assert (kind, data["about"]) == ("state", {"host": "mx.example.org", "buckets": list(BUCKETS)})
    # Of the first second nobody knows what was before it.
    assert data["ticks"] == [
        [1001, 1, 1, 1, 0, 10, 0, 0, 0, 0, 0, [0, 0]],
        [1002, 1, 1, 1, 0, 10, 0, 0, 0, 0, 0, [0, 0]],
    ]
    world.gatherer.tick(1003, messages=27, buckets=(3, 1))
    world.gatherer.tick(1005, messages=30, buckets=(3, 2))
    first, second = reader.events()
    assert [first[0], second[0]] == ["tick", "tick"]
    assert first[2]["ticks"] == [[1003, 1, 1, 1, 0, 7, 0, 0, 0, 0, 0, [3, 1]]]
    # A second that is missing is part of the next.
    assert second[2]["ticks"] == [[1005, 2, 1, 1, 0, 3, 0, 0, 0, 0, 0, [0, 1]]]


def test_an_event_is_made_once_for_all_who_read(world: World) -> None:
    readers = [Reader(world.site) for _ in range(5)]
    assert world.gatherer.asked == 1
    world.gatherer.tick(1003)
    world.gatherer.tick(1004)
    assert world.gatherer.asked == 3
    told = [reader.events() for reader in readers]
    assert all(events == told[0] for events in told)


def test_nothing_is_asked_while_nobody_looks(world: World) -> None:
    reader = Reader(world.site)
    reader.is_gone()
    world.gatherer.tick(1003)
    assert world.gatherer.asked == 1
    assert world.gatherer.ticked == []
    assert world.clock.getDelayedCalls() == []


def test_lists_are_told_where_they_have_changed_and_failures_once(world: World) -> None:
    world.gatherer.lists["failures"] = [failure(1)]
    reader = Reader(world.site)
    world.gatherer.tick(1003)
    reader.events()
    world.gatherer.lists["failures"] = [failure(3), failure(2), failure(1)]
    world.gatherer.connected = {"total": 7, "sessions": []}
    world.gatherer.tick(1004)
    world.gatherer.tick(1005)
    (_, _, first), (_, _, second) = reader.events()
    assert [row["id"] for row in first["failures"]] == ["id3.1.1", "id2.1.1"]
    assert first["sessions"] == {"total": 7, "sessions": []}
    assert "domains" not in first
    assert second.keys() == {"ticks", "failures"}
    assert second["failures"] == []


@pytest.mark.parametrize("way", ["header", "argument"])
def test_a_page_that_comes_again_gets_what_it_has_missed(world: World, way: str) -> None:
    reader = Reader(world.site)
    ((_, event_id, _),) = reader.events()
    reader.is_gone()
    world.gatherer.tick(1003)
    world.gatherer.tick(1004)
    if way == "header":
        again = Reader(world.site, "GET /events", f"Last-Event-ID: {event_id}")
    else:
        again = Reader(world.site, f"GET /events?after={event_id}")
    (event,) = again.events()
    assert (event[0], times(event)) == ("tick", [1003, 1004])
    assert event[2].keys() >= {"failures", "slowest", "domains", "sessions"}


@pytest.mark.parametrize(
    "event_id", ["", "x", "other-1001", "{run}-", "{run}-1e3", "{run}-²", "{run}-999", "{run}-1009", "\xff"]
)
def test_who_comes_from_elsewhere_gets_all(world: World, event_id: str) -> None:
    """Another run of the server, seconds that nobody remembers, and what is no id."""
    ((_, known, _),) = Reader(world.site).events()
    said = event_id.format(run=known.partition("-")[0])
    (event,) = Reader(world.site, "GET /events", f"Last-Event-ID: {said}").events()
    assert (event[0], times(event)) == ("state", [1001, 1002])


def test_after_a_restart_all_is_told_anew(world: World) -> None:
    ((_, event_id, _),) = Reader(world.site).events()
    world.restart()
    (event,) = Reader(world.site, "GET /events", f"Last-Event-ID: {event_id}").events()
    assert event[0] == "state"


def test_what_is_not_read_is_not_kept_but_told_later(world: World) -> None:
    slow, other = Reader(world.site), Reader(world.site)
    slow.events()
    slow.stops_reading()
    for second in range(1003, 1010):
        world.gatherer.tick(second)
    assert slow.said() == ""
    assert len(other.events()) == 8
    slow.reads_again()
    world.gatherer.tick(1010)
    world.gatherer.tick(1011)
    first, second = slow.events()
    assert times(first) == list(range(1003, 1011))
    assert times(second) == [1011]


def test_who_does_not_read_at_all_is_dropped(world: World) -> None:
    slow, other = Reader(world.site), Reader(world.site)
    slow.stops_reading()
    world.clock.pump([10.0] * (PATIENCE // 10))
    assert not slow.transport.disconnected
    world.clock.advance(10)
    assert slow.transport.disconnected
    assert not other.transport.disconnected


def test_a_sign_of_life_comes_also_where_there_is_nothing_to_say(world: World) -> None:
    reader = Reader(world.site)
    reader.said()
    world.clock.advance(10)
    assert ":\n\n" in reader.said()


def test_one_page_too_many_is_told_to_come_later(world: World) -> None:
    readers = [Reader(world.site) for _ in range(MOST_READERS)]
    said = Reader(world.site).said()
    assert said.startswith("HTTP/1.1 503 ")
    assert "Retry-After: 10\r\n" in said
    readers[0].is_gone()
    assert Reader(world.site).said().startswith("HTTP/1.1 200 ")


def test_while_processes_take_their_time_no_second_question_is_asked(world: World) -> None:
    reader = Reader(world.site)
    reader.events()
    world.gatherer.waiting = Deferred()
    for second in range(1003, 1006):
        world.gatherer.tick(second)
    assert world.gatherer.asked == 2
    waiting, world.gatherer.waiting = world.gatherer.waiting, None
    waiting.callback(dict(world.gatherer.lists))
    world.gatherer.tick(1006)
    told = [time for event in reader.events() for time in times(event)]
    assert told == [1003, 1004, 1005, 1006]


def test_a_page_that_leaves_while_it_waits_is_forgotten(world: World) -> None:
    world.gatherer.waiting = Deferred()
    reader = Reader(world.site)
    reader.said()
    reader.is_gone()
    world.gatherer.waiting.callback(dict(world.gatherer.lists))
    assert reader.said() == ""


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_changed(world: World, method: str) -> None:
    assert Reader(world.site, f"{method} /events", "Content-Length: 0").said().startswith("HTTP/1.1 405 ")


def test_head_has_an_end(world: World) -> None:
    """RFC 9110 section 9.3.2."""
    said = Reader(world.site, "HEAD /events").said()
    assert said.startswith("HTTP/1.1 200 ")
    assert "text/event-stream" in said
    assert world.gatherer.ticked == []
