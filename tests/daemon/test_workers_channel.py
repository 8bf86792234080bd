"""What a parent and a worker say to each other."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredQueue

from lmtp_twisted.daemon.workers import channel as channel_module
from lmtp_twisted.daemon.workers.channel import Channel, adopt, encoded, read_first


@attrs.define
class End:
    """One end of a channel, and what comes there."""

    received: DeferredQueue[tuple[dict[str, Any], list[int]]] = attrs.field(factory=DeferredQueue)
    lost: Deferred[None] = attrs.field(factory=Deferred)
    channel: Channel = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.channel = Channel(lambda *message: self.received.put(message), lambda: self.lost.callback(None))


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The sockets of a channel."""
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def _connected(end: socket.socket) -> End:
    made = End()
    adopt(reactor, end, made.channel)
    return made


def _readable() -> int:
    """A descriptor from which one can read "hello"."""
    reading, writing = os.pipe()
    os.write(writing, b"hello")
    os.close(writing)
    return reading


@pytest_twisted.ensureDeferred
async def test_messages_go_both_ways_and_the_end_of_one_is_seen_by_the_other(pair: Any) -> None:
    one, other = map(_connected, pair)
    one.channel.say({"ask": 1, "text": "\u20ac"})
    assert await other.received.get() == ({"ask": 1, "text": "\u20ac"}, [])
    other.channel.say({"answer": 1})
    assert await one.received.get() == ({"answer": 1}, [])
    one.channel.transport.loseConnection()
    await other.lost
    await one.lost


@pytest_twisted.ensureDeferred
async def test_descriptors_come_with_their_message(pair: Any) -> None:
    one, other = map(_connected, pair)
    lent = [_readable() for _ in range(3)]
    one.channel.say({"name": "none"})
    one.channel.say({"name": "two"}, lent[:2])
    one.channel.say({"name": "one"}, lent[2:])
    counts = []
    for _ in range(3):
        message, descriptors = await other.received.get()
        counts.append((message["name"], len(descriptors)))
        for descriptor in descriptors:
            assert os.read(descriptor, 9) == b"hello"
            os.close(descriptor)
    assert counts == [("none", 0), ("two", 2), ("one", 1)]
    for descriptor in lent:
        os.close(descriptor)
    one.channel.transport.loseConnection()
    await other.lost
    await one.lost


@pytest_twisted.ensureDeferred
async def test_a_large_message_comes_whole_and_one_too_large_is_refused(pair: Any) -> None:
    one, other = map(_connected, pair)
    text = "x" * (4 * 1024 * 1024)
    one.channel.say({"text": text})
    message, _ = await other.received.get()
    assert message == {"text": text}
    with pytest.raises(ValueError, match="too long"):
        one.channel.say({"text": "x" * channel_module.MOST_OCTETS})
    one.channel.transport.loseConnection()
    await other.lost
    await one.lost


def test_what_json_has_no_word_for_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON serializable"):
        encoded({"set": {1}})


@pytest_twisted.ensureDeferred
async def test_the_first_message_can_be_read_before_there_is_a_reactor_and_the_rest_with_it(pair: Any) -> None:
    ours, theirs = pair
    one = _connected(ours)
    lent = [_readable() for _ in range(20)]
    one.channel.say({"name": "first"}, lent[:19])
    one.channel.say({"name": "second"}, lent[19:])
    # Both go out before any is read.
    done: Deferred[None] = Deferred()
    reactor.callLater(0, done.callback, None)  # type: ignore[attr-defined]  # the real reactor
    await done
    message, descriptors, early = read_first(theirs)
    assert (message, len(descriptors)) == ({"name": "first"}, 19)
    other = End()
    other.channel = Channel(lambda *message: other.received.put(message), lambda: other.lost.callback(None), early)
    adopt(reactor, theirs, other.channel)
    message, rest = await other.received.get()
    assert (message, len(rest)) == ({"name": "second"}, 1)
    for descriptor in [*lent, *descriptors, *rest]:
        os.close(descriptor)
    one.channel.transport.loseConnection()
    await other.lost
    await one.lost


def test_a_parent_that_is_gone_before_it_has_said_anything_is_the_end(pair: Any) -> None:
    ours, theirs = pair
    ours.close()
    with pytest.raises(EOFError):
        read_first(theirs)
