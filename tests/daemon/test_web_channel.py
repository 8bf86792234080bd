"""The connections of ``--http``: who does not read, and who says nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from lmtp_twisted.daemon.web import answering
from lmtp_twisted.daemon.web.answering import Answer, LateResource
from lmtp_twisted.daemon.web.channel import MOST_CONNECTIONS, READING_TIME, REQUEST_TIME, StatusSite
from lmtp_twisted.daemon.web.plain import Shown

REQUEST = b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Large(Resource):
    """More than the system takes at a time, as its transport then says."""

    isLeaf = True
    begun = 0

    def render_GET(self, request: Any) -> bytes:
        self.begun += 1
        request.channel.pauseProducing()
        return b"large"


class Endless(LateResource):
    """Blocks that come when they are wanted, each as much as the system takes."""

    isLeaf = True
    blocks = 0

    async def get(self, request: Any) -> Answer:
        return Answer(self._blocks(request), "text/plain")

    async def _blocks(self, request: Any) -> AsyncIterator[bytes]:
        while True:
            self.blocks += 1
            request.channel.pauseProducing()
            yield b"block"


class Whole(LateResource):
    """Octets that are there at once."""

    isLeaf = True

    async def get(self, request: Any) -> Answer:
        return Answer(b"x" * 1_000_000, "text/plain")


class Transport(StringTransport):
    """It takes 64 KiB, as those of the reactor."""

    def write(self, data: bytes) -> None:
        super().write(data)
        if len(data) >= 64 * 1024:
            self.producer.pauseProducing()


class Late(Resource):
    """Not yet."""

    isLeaf = True

    def render_GET(self, request: Any) -> int:
        return NOT_DONE_YET


class World:
    """A site."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.large, self.endless = Large(), Endless()
        root = Shown()
        root.putChild(b"large", self.large)
        root.putChild(b"endless", self.endless)
        root.putChild(b"late", Late())
        root.putChild(b"whole", Whole())
        self.site = StatusSite(root, reactor=self.clock)

    def connect(self) -> tuple[Any, StringTransport]:
        """A connection."""
        transport = Transport()
        channel = self.site.buildProtocol(None)
        channel.makeConnection(transport)
        return channel, transport


@pytest.fixture
def world() -> World:
    return World()


def test_no_request_is_begun_before_the_answer_before_is_read(world: World) -> None:
    """RFC 9112 §9.3.2: requests may be sent without waiting. Their answers are not kept for who does not read."""
    channel, _ = world.connect()
    channel.dataReceived(REQUEST * 3)
    for begun in (1, 2, 3):
        assert world.large.begun == begun
        channel.resumeProducing()
    assert world.large.begun == 3


def test_who_does_not_read_is_not_read_from(world: World) -> None:
    channel, transport = world.connect()
    channel.dataReceived(REQUEST)
    for _ in range(20):
        channel.dataReceived(REQUEST * 25)
    assert transport.producerState == "paused"
    channel.resumeProducing()
    assert world.large.begun == 2


@pytest.mark.parametrize("path", [b"large", b"endless"])
def test_who_does_not_read_is_cut_off(world: World, path: bytes) -> None:
    channel, transport = world.connect()
    channel.dataReceived(REQUEST.replace(b"large", path))
    world.clock.advance(READING_TIME - 1)
    assert not transport.disconnected
    world.clock.advance(2)
    assert transport.disconnected
    channel.connectionLost(Failure(ConnectionDone()))
    assert world.clock.getDelayedCalls() == []


def test_who_waits_for_no_answer_and_reads_none_is_cut_off(world: World) -> None:
    """RFC 9112 §9.6: the connection is closed behind the last answer, which somebody has to read."""
    channel, transport = world.connect()
    channel.dataReceived(b"GET / HTTP/1.0\r\n\r\n")
    assert transport.disconnecting
    world.clock.advance(READING_TIME)
    assert transport.disconnected


def test_a_large_answer_comes_as_fast_as_it_is_read(world: World) -> None:
    channel, transport = world.connect()
    channel.dataReceived(REQUEST.replace(b"large", b"endless"))
    for blocks in range(1, 5):
        assert (world.endless.blocks, transport.value().count(b"block")) == (blocks, blocks)
        world.clock.advance(READING_TIME - 1)
        channel.resumeProducing()
    assert not transport.disconnected


def test_answers_that_are_not_read_have_a_bound_together(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "MOST_UNREAD", 2_000_000)

    def ask() -> tuple[Any, bytes]:
        channel, transport = world.connect()
        channel.dataReceived(REQUEST.replace(b"large", b"whole"))
        return channel, transport.value().split(b" ")[1]

    (first, *said), (second, *more) = ask(), ask()
    assert [*said, *more, ask()[1]] == [b"200", b"200", b"503"]
    first.connectionLost(Failure(ConnectionDone()))
    assert [ask()[1], ask()[1]] == [b"200", b"503"]
    for _ in range(16):
        second.resumeProducing()
    assert ask()[1] == b"200"


def test_an_answer_that_takes_its_time_is_not_cut_off_by_the_one_before(world: World) -> None:
    """The time in which a request has to come ends with it, also where it came early."""
    channel, transport = world.connect()
    channel.dataReceived(REQUEST + REQUEST.replace(b"large", b"late"))
    channel.resumeProducing()
    world.clock.advance(2 * REQUEST_TIME)
    assert not transport.disconnecting
    channel.connectionLost(Failure(ConnectionDone()))


def test_for_a_new_connection_the_one_goes_that_is_silent_for_longest(world: World) -> None:
    """So nobody can keep others from asking whether mail is taken by saying nothing."""
    late = REQUEST.replace(b"large", b"late")
    waiting, first, second, *_ = connections = [world.connect() for _ in range(MOST_CONNECTIONS)]
    waiting[0].dataReceived(late)
    first[0].dataReceived(b"GET / HTTP/1.1\r\n\r\n")
    world.connect()[0].dataReceived(late)
    assert [index for index, (_, transport) in enumerate(connections) if transport.disconnected] == [2]
    assert second[1].disconnected
    for channel, transport in connections[3:]:
        assert not transport.disconnected
        channel.dataReceived(late)
    assert world.site.buildProtocol(None) is not None
    assert first[1].disconnected
    first[0].connectionLost(Failure(ConnectionDone()))
    world.connect()[0].dataReceived(late)
    assert world.site.buildProtocol(None) is None


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /" + b"a" * 20_000, b"414 URI Too Long"),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", b"414 URI Too Long"),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * 20_000, b"431 Request Header Fields Too Large"),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5_000, b"400 Bad Request"),
    ],
)
def test_what_is_too_long_is_told_so(world: World, request_: bytes, status: bytes) -> None:
    """RFC 9110 §15.5.15; RFC 6585 §5."""
    channel, transport = world.connect()
    channel.dataReceived(request_)
    assert transport.value().split(b"\r\n")[0] == b"HTTP/1.1 " + status
    assert transport.disconnecting


def test_a_misdirected_request_is_called_so(world: World) -> None:
    """RFC 9110 §15.5.20."""
    transport = StringTransport(hostAddress=IPv4Address("TCP", "127.0.0.1", 80))
    channel = world.site.buildProtocol(None)
    channel.makeConnection(transport)
    channel.dataReceived(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")
    assert transport.value().startswith(b"HTTP/1.1 421 Misdirected Request\r\n")
