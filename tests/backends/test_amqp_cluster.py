"""One connection is kept: the next node where one fails, and pauses that grow."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
from pika.exceptions import ConnectionWrongStateError
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from lmtp_twisted.backends.amqp.broker import Node
from lmtp_twisted.backends.amqp.cluster import GOOD, MOST_PAUSE, Cluster

NODES = [Node("a", 1), Node("b", 1), Node("c", 1)]


class FakeConnection:
    """Open until it is told otherwise."""

    def __init__(self) -> None:
        self.closed: Deferred[object] = Deferred()

    def close(self) -> None:
        self.closed.callback("goodbye")

    def abandon(self, why: object) -> None:
        raise AssertionError(why)


class Nodes:
    """
    :ivar asked: which were tried, and when.
    :ivar up: those that can be reached.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.asked: list[tuple[str, float]] = []
        self.up: set[str] = set()
        self.open: FakeConnection | None = None

    async def connect(self, node: Node) -> Any:
        self.asked.append((node.host, self._clock.seconds()))
        if node.host not in self.up:
            raise ConnectionRefusedError(node.host)
        self.open = FakeConnection()
        return self.open


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def nodes(clock: Clock) -> Nodes:
    return Nodes(clock)


@pytest.fixture
def cluster(clock: Clock, nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """In the order of the URL, and with pauses as long as they can be."""
    monkeypatch.setattr(random, "sample", lambda all, count: list(all))
    monkeypatch.setattr(random, "uniform", lambda least, most: most)
    return Cluster(clock, NODES, nodes.connect, lambda: None)


def test_where_no_node_answers_the_pauses_grow_up_to_a_bound(clock: Clock, nodes: Nodes, cluster: Cluster) -> None:
    cluster.start()
    assert nodes.asked == [("a", 0), ("b", 0), ("c", 0)]
    assert cluster.is_down
    clock.pump([0.1] * 2000)
    starts = [when for host, when in nodes.asked if host == "a"]
    pauses = [later - earlier for earlier, later in pairwise(starts)]
    assert pauses[:7] == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8], abs=0.11)
    assert pauses[-1] == pytest.approx(MOST_PAUSE, abs=0.11)
    assert Deferred.fromCoroutine(cluster.stop()).called
    assert clock.getDelayedCalls() == []


def test_a_connection_that_is_lost_is_followed_by_one_to_the_next_node_at_once(
    clock: Clock, nodes: Nodes, cluster: Cluster
) -> None:
    nodes.up = {"a", "b"}
    cluster.start()
    first = cluster.connection
    assert first is nodes.open is not None
    nodes.open.closed.callback("broken")
    assert [host for host, _ in nodes.asked] == ["a", "b"]
    assert cluster.connection is nodes.open is not first
    assert not cluster.is_down
    assert clock.getDelayedCalls() == []


def test_connections_that_never_last_are_not_made_without_a_pause(clock: Clock, nodes: Nodes, cluster: Cluster) -> None:
    """As where the broker closes each channel at its first message."""
    nodes.up = {"a", "b", "c"}
    cluster.start()
    for _ in NODES:
        assert nodes.open is not None
        nodes.open.closed.callback("closed")
    assert cluster.connection is None
    assert cluster.is_down
    clock.advance(0.2)
    assert [host for host, _ in nodes.asked] == ["a", "b", "c", "a"]
    clock.advance(GOOD)
    for _ in "ab":
        nodes.open.closed.callback("closed")
    assert not cluster.is_down
    assert cluster.connection is not None


def test_it_says_goodbye_and_connects_no_more(clock: Clock, nodes: Nodes, cluster: Cluster) -> None:
    nodes.up = {"a"}
    cluster.start()
    assert Deferred.fromCoroutine(cluster.stop()).called
    assert [host for host, _ in nodes.asked] == ["a"]
    assert cluster.connection is None
    assert cluster.is_down
    assert clock.getDelayedCalls() == []


def test_a_connection_that_the_broker_is_closing_is_waited_for(
    clock: Clock, nodes: Nodes, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def close(connection: FakeConnection) -> None:
        raise ConnectionWrongStateError

    monkeypatch.setattr(FakeConnection, "close", close)
    nodes.up = {"a"}
    cluster.start()
    stopped = Deferred.fromCoroutine(cluster.stop())
    assert not stopped.called
    assert nodes.open is not None
    nodes.open.closed.callback("closed by the broker")
    assert stopped.called
    assert cluster.is_down
    assert clock.getDelayedCalls() == []


def test_a_goodbye_that_fails_leaves_no_timer(
    clock: Clock, nodes: Nodes, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def close(connection: FakeConnection) -> None:
        raise ValueError("a defect")

    monkeypatch.setattr(FakeConnection, "close", close)
    nodes.up = {"a"}
    cluster.start()
    failures: list[Any] = []
    Deferred.fromCoroutine(cluster.stop()).addErrback(failures.append)
    assert [str(failure.value) for failure in failures] == ["a defect"]
    assert clock.getDelayedCalls() == []
