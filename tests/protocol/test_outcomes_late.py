"""Answers that come late, never, after their time, or need another reactor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from answers import (
    CANCELLERS,
    PLACES,
    Asked,
    raising_canceller,
)
from dialogue import LoggedErrors
from twisted.internet.defer import CancelledError, Deferred


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that does not run."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.mark.parametrize("place", PLACES)
def test_a_future_of_asyncio_without_its_reactor_is_451_and_the_log_says_what_to_do(
    place: str, loop: asyncio.AbstractEventLoop, logged: LoggedErrors
) -> None:
    """The session does not hang."""
    assert Asked(place, loop.create_future).answer() == "451 4.3.0"
    (event,) = logged.take()
    assert "asyncio reactor" in str(event["log_failure"].value)


@pytest.mark.parametrize("place", PLACES)
def test_asyncio_in_a_coroutine_without_its_reactor_is_451_and_the_log_says_what_to_do(
    place: str, logged: LoggedErrors
) -> None:
    """The session does not hang."""
    asked = Asked(place, lambda: asyncio.sleep(1))
    assert asked.answer() == "451 4.3.0"
    (event,) = logged.take()
    assert "asyncio" in event["log_format"].format(**event)


@pytest.mark.parametrize("place", PLACES)
def test_a_coroutine_that_awaits_a_future_without_its_reactor_is_451(
    place: str, loop: asyncio.AbstractEventLoop, logged: LoggedErrors
) -> None:
    """The session does not hang."""

    async def wait() -> None:
        await loop.create_future()

    assert Asked(place, wait).answer() == "451 4.3.0"
    (event,) = logged.take()
    assert "asyncio" in event["log_format"].format(**event)


@pytest.mark.parametrize("place", PLACES)
def test_an_answer_may_come_later(place: str) -> None:
    """Commands behind it wait for it."""
    answer: Deferred[Any] = Deferred()
    asked = Asked(place, lambda: answer)
    assert asked.replies == []
    assert asked.client.send(b"") == []
    answer.callback("at last")
    asked.read_later()
    assert asked.replies[0].endswith("at last")
    assert asked.answer().startswith("250 2.")


@pytest.mark.parametrize("place", PLACES)
def test_an_answer_that_never_comes_is_451_after_the_delivery_time_out(place: str) -> None:
    """RFC 3463 §3.5."""
    cancelled: list[Any] = []
    asked = Asked(place, lambda: Deferred(cancelled.append), delivery_timeout=100)
    assert asked.client.after(99) == []
    assert cancelled == []
    asked.client.reactor.advance(1)
    asked.read_later()
    assert len(cancelled) == 1
    assert asked.answer() == "451 4.4.7"


@pytest.mark.parametrize("late", ["callback", "errback", "list"])
@pytest.mark.parametrize("place", PLACES)
def test_an_answer_that_comes_after_its_time_changes_nothing(place: str, late: str) -> None:
    """RFC 2033 §4.2: one reply, and it has been given."""
    answer: Deferred[Any] = Deferred()
    asked = Asked(place, lambda: answer)
    asked.client.reactor.advance(541)
    asked.read_later()
    if late == "callback":
        answer.callback(None)
    elif late == "errback":
        answer.errback(ZeroDivisionError())
    else:
        answer.callback([None, None])
    assert asked.client.read() == []
    assert asked.answer() == "451 4.4.7"


@pytest.mark.parametrize("canceller", CANCELLERS)
@pytest.mark.parametrize("place", PLACES)
def test_whatever_a_canceller_does_the_time_out_stands(
    place: str, canceller: Callable[..., Any], logged: LoggedErrors
) -> None:
    """Deferred.cancel is the application's code too."""
    asked = Asked(place, lambda: Deferred(canceller))
    asked.client.reactor.advance(541)
    asked.read_later()
    assert asked.answer() == "451 4.4.7"
    assert len(logged.take()) == (canceller is raising_canceller)


@pytest.mark.parametrize("canceller", CANCELLERS)
@pytest.mark.parametrize("place", PLACES)
def test_whatever_a_canceller_does_a_lost_connection_ends_the_session(
    place: str, canceller: Callable[..., Any], logged: LoggedErrors
) -> None:
    """Nothing is written, nothing is left: the fixtures look after that."""
    asked = Asked(place, lambda: Deferred(canceller))
    asked.client.lose()
    assert asked.client.read() == []
    assert len(logged.take()) == (canceller is raising_canceller)


@pytest.mark.parametrize("place", PLACES)
def test_a_coroutine_that_is_cancelled_sees_it(place: str) -> None:
    """A coroutine can clean up."""
    seen: list[str] = []

    async def wait() -> None:
        try:
            await Deferred()
        except CancelledError:
            seen.append("cancelled")
            raise

    asked = Asked(place, wait)
    asked.client.reactor.advance(541)
    asked.read_later()
    assert seen == ["cancelled"]
    assert asked.answer() == "451 4.4.7"


@pytest.mark.parametrize("place", PLACES)
def test_a_coroutine_that_does_not_heed_its_cancellation_does_not_hold_the_session(place: str) -> None:
    """RFC 2033 §4.2."""
    still: list[Deferred[None]] = []

    async def wait() -> None:
        for _ in range(3):
            try:
                still.append(Deferred())
                await still[-1]
            except CancelledError:
                continue

    asked = Asked(place, wait)
    asked.client.reactor.advance(541)
    asked.read_later()
    assert asked.answer() == "451 4.4.7"
    still[-1].callback(None)
    assert asked.client.read() == []
