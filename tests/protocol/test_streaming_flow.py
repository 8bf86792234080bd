"""Backpressure: a delivery that reads slowly holds back its client, and no longer than it may."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import pytest
from dialogue import Client, codes
from streamed import ByHand, by_hand, result_of, streaming
from twisted.internet.defer import Deferred

from lmtp_twisted.errors import ContentLost
from lmtp_twisted.flow import AHEAD
from lmtp_twisted.streaming import UNREAD

SEGMENT = b"x" * 65_534 + b"\r\n"


def is_held(client: Client) -> bool:
    """Whether the client is to stop sending."""
    return client.transport.producerState == "paused"  # type: ignore[no-any-return]


def fill(client: Client, most: int = 1000) -> int:
    """Send until the transport is paused. How many octets that took."""
    sent = 0
    while not is_held(client):
        assert sent < most * len(SEGMENT)
        assert client.send(SEGMENT) == []
        sent += len(SEGMENT)
    return sent


def held() -> tuple[Client, ByHand, int]:
    """A client that is held back by a delivery that does not read, and what it has sent."""
    client, hand = by_hand(delivery_timeout=100, idle_timeout=1000)
    client.say("DATA")
    return client, hand, fill(client)


def test_a_client_is_held_back_while_its_content_is_not_read() -> None:
    """What waits is bounded, whatever the client sends."""
    client, hand, sent = held()
    assert sent <= UNREAD + AHEAD + 2 * len(SEGMENT)
    read = 0
    while read < sent - 2:
        (chunk,) = result_of(hand.read())
        assert len(chunk) <= UNREAD + AHEAD + 2 * len(SEGMENT)
        read += len(chunk)
    assert not is_held(client)
    assert client.send(b".\r\n") == []
    (last,) = result_of(hand.read())
    assert last == b"\r\n"
    (end,) = result_of(hand.read())
    assert isinstance(end, StopAsyncIteration)
    hand.outcome.callback([None])
    assert codes(client.read()) == ["250 2.0.0"]


def test_a_chunk_is_answered_when_there_is_room_for_the_next() -> None:
    """RFC 3030 §2: a client that waits for each reply is held back by it."""
    client, hand = by_hand()
    assert client.send(b"BDAT 300000\r\n" + b"x" * 300_000 + b"BDAT 1\r\nyBDAT 0 LAST\r\n") == []
    assert result_of(hand.read()) == [b"x" * 300_000]
    assert codes(client.read()) == ["250 2.0.0", "250 2.0.0"]
    hand.outcome.callback([None])
    assert codes(client.read()) == ["250 2.0.0"]


@pytest.mark.parametrize("octets", [b"DATA\r\n" + SEGMENT * 5 + b".\r\n", b"BDAT 300000 LAST\r\n" + b"x" * 300_000])
def test_the_end_of_the_content_waits_for_nobody(octets: bytes) -> None:
    """All has come: a delivery may wait for the end of it before it reads."""
    client, hand = by_hand()
    client.send(octets)
    assert result_of(hand.message.completed) == [None]
    (chunk,) = result_of(hand.read())
    assert chunk == octets.partition(b"\r\n")[2].removesuffix(b".\r\n")
    hand.outcome.callback([None])
    assert codes(client.read())[-1] == "250 2.0.0"


def test_a_reader_in_step_holds_nobody_back() -> None:
    """And keeps nothing."""
    client, deliveries = streaming()
    read = 0
    client.say("DATA")
    for _ in range(100):
        client.send(SEGMENT)
        assert not is_held(client)
        read += len(deliveries.contents[0])
        deliveries.contents[0] = b""
    assert read == 100 * len(SEGMENT) - 2
    assert codes(client.send(b".\r\n")) == ["250 2.0.0"]


def test_tiny_segments_cost_no_more_than_large_ones() -> None:
    """A quarter of a million segments are not as many objects, and the header block is not searched anew each time."""
    client, hand = by_hand()
    client.say("DATA")
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(300_000):
            client.protocol.dataReceived(b"x")
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1_500_000
    assert is_held(client)
    client.lose()
    hand.outcome.callback([None])


# For how long


def test_a_delivery_that_never_reads_is_refused_after_the_delivery_time_out() -> None:
    """RFC 3463 §3.5: 451 4.4.7 after the dot. What is left is read away, and nobody is held back for it."""
    client, hand, _ = held()
    completed = result_of(hand.message.completed)
    assert client.after(99) == []
    assert is_held(client)
    assert completed == []
    assert client.after(1) == []
    assert not is_held(client)
    (error,) = completed
    assert (error.code, error.enhanced) == (451, "4.4.7")
    for _ in range(100):
        client.send(SEGMENT)
    hand.outcome.errback(error)
    assert codes(client.send(b"QUIT\r\n.\r\nNOOP\r\n")) == ["451 4.4.7", "250 2.0.0"]


def test_one_that_is_stuck_elsewhere_is_cancelled() -> None:
    """Half a minute after it could have known."""
    cancelled: list[Any] = []
    client, _ = streaming(lambda message: Deferred(cancelled.append), delivery_timeout=100)
    client.say("DATA")
    fill(client)
    client.after(100)
    client.after(29)
    assert cancelled == []
    assert codes(client.send(b"\r\n.\r\nNOOP\r\n")) == ["451 4.4.7"]
    assert codes(client.after(1)) == ["250 2.0.0"]
    assert len(cancelled) == 1


def test_the_time_in_which_it_holds_the_client_back_is_added_up() -> None:
    """One that reads a little just before each time-out would hold a session for days."""
    client, hand, _ = held()
    for _ in range(3):
        assert client.after(30) == []
        assert len(result_of(hand.read())) == 1
        assert not is_held(client)
        fill(client)
    assert client.after(9) == []
    completed = result_of(hand.message.completed)
    assert completed == []
    client.after(1)
    assert isinstance(completed[0], ContentLost)
    hand.outcome.callback([None])


def test_the_time_in_which_the_client_is_slow_does_not_count() -> None:
    """It may take hours, as long as it is not silent for too long."""
    client, hand = by_hand(delivery_timeout=100, idle_timeout=60)
    client.say("DATA")
    for _ in range(200):
        assert client.after(59) == []
        assert client.send(b"Hello\r\n") == []
    client.send(b".\r\n")
    hand.outcome.callback([None])
    assert codes(client.read()) == ["250 2.0.0"]


def test_a_client_that_is_held_back_is_not_silent() -> None:
    """RFC 5321 §4.5.3.2.7 is about the client."""
    client, hand = by_hand(delivery_timeout=500, idle_timeout=60)
    client.say("DATA")
    fill(client)
    assert client.after(400) == []
    result_of(hand.read())
    result_of(hand.read())
    assert client.after(59) == []
    assert codes(client.after(1)) == ["421 4.4.2"]
    hand.outcome.callback([None])


# Who stops


@pytest.mark.parametrize("outcome", [[None], ContentLost(451, "4.3.0", "full"), ZeroDivisionError()])
def test_once_the_outcomes_are_known_the_rest_is_read_away(outcome: Any, logged: Any) -> None:
    """A delivery that fails early need not read on."""
    client, hand, _ = held()
    if isinstance(outcome, Exception):
        hand.outcome.errback(outcome)
    else:
        hand.outcome.callback(outcome)
    for _ in range(100):
        assert not is_held(client)
        assert client.send(SEGMENT) == []
    assert codes(client.send(b".\r\nNOOP\r\n")) == ["250 2.0.0" if outcome == [None] else "451 4.3.0", "250 2.0.0"]
    logged.take()


def test_as_long_as_one_outcome_is_missing_it_is_not() -> None:
    """The delivery may be at work for that recipient."""
    last: Deferred[Any] = Deferred()
    client, _ = streaming(lambda message: [None, last, None], "a@x", "b@x", "c@x")
    client.say("DATA")
    fill(client)
    last.callback(None)
    assert not is_held(client)
    assert codes(client.send(b".\r\n")) == ["250 2.0.0"] * 3


@pytest.mark.parametrize("way", ["aclose", "break"])
def test_who_leaves_the_loop_holds_nobody_back(way: str) -> None:
    """It can still wait for the end, and say yes."""
    seen: list[bytes] = []

    async def deliver(message: Any) -> list[Any]:
        if way == "aclose":
            chunks = message.chunks()
            seen.append(await chunks.__anext__())
            await chunks.aclose()
            await chunks.aclose()
            seen.extend([chunk async for chunk in chunks])
        else:
            async for chunk in message.chunks():
                seen.append(chunk)
                break
        await message.completed
        return ["seen"]

    client, _ = streaming(deliver)
    client.say("DATA")
    client.send(b"Hello\r\n")
    for _ in range(100):
        client.send(SEGMENT)
        assert not is_held(client)
    (reply,) = client.send(b".\r\n")
    assert reply.endswith("seen")
    assert seen == [b"Hello"]


def test_a_reader_that_is_cancelled_can_read_on() -> None:
    """Nothing is lost with it."""
    client, hand = by_hand()
    client.say("DATA")
    waiting = hand.read()
    cancelled = result_of(waiting)
    waiting.cancel()
    assert len(cancelled) == 1
    client.send(b"Hello\r\nWorld\r\n")
    assert result_of(hand.read()) == [b"Hello\r\nWorld"]
    hand.outcome.callback([None])


@pytest.mark.parametrize("end", ["lose", "drain", "QUIT"])
def test_a_session_that_ends_while_it_is_held_back_leaves_nothing(end: str) -> None:
    """No timer, and none of what has come runs: the fixtures look after that."""
    client, hand, _ = held()
    completed = result_of(hand.message.completed)
    if end == "lose":
        client.lose()
    elif end == "drain":
        client.factory.drain()
        assert codes(client.read()) == ["421 4.3.2"]
    else:
        client.send(b"\r\n.\r\nQUIT\r\n")
        result_of(hand.read())
        result_of(hand.read())
    assert completed == [None] if end == "QUIT" else isinstance(completed[0], ContentLost)
    hand.outcome.callback([None])
    assert codes(client.read()) == (["250 2.0.0", "221 2.0.0"] if end == "QUIT" else [])
