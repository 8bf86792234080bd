"""Each method of a delivery, each answer to it: none puts the session out of step, what is wrong is 451 and logged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from answers import (
    ACCEPTING,
    DEFAULTED,
    PLACES,
    RAISED,
    RAISING,
    REFUSING,
    WAYS,
    WRONG,
    Asked,
    can_raise,
    raise_at_once,
)
from dialogue import LoggedErrors, codes, greeted, with_recipients
from twisted.internet.defer import CancelledError, fail

from lmtp_twisted.errors import DeliveryError
from lmtp_twisted.testing import ScriptedDeliveries


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ACCEPTING)
def test_answers_that_accept(name: str, place: str, way: Callable[..., Any]) -> None:
    """The codes are those of the place, or the reply's."""
    make, words = ACCEPTING[name]
    asked = Asked(place, lambda: way(make))
    if words is not None:
        assert asked.replies[0].endswith(words)
    assert asked.answer().startswith("250 2.")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", REFUSING)
def test_answers_that_refuse(name: str, place: str, way: Callable[..., Any]) -> None:
    """RFC 3463: with their own codes, returned or given by an awaitable."""
    make, answer = REFUSING[name]
    assert Asked(place, lambda: way(make)).answer() == answer


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", DEFAULTED)
def test_refusals_without_codes_of_their_own(name: str, place: str) -> None:
    """RFC 3463: the codes are those of the place, whatever the subclass has made of itself."""
    asked = Asked(place, DEFAULTED[name])
    assert "forged" not in asked.replies[0]
    assert asked.answer() == PLACES[place]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", WRONG)
def test_answers_that_are_wrong(name: str, place: str, way: Callable[..., Any], logged: LoggedErrors) -> None:
    """451 4.3.0, and an error in the log."""
    asked = Asked(place, lambda: way(WRONG[name]))
    assert "internals" not in asked.replies[0]
    assert asked.answer() == "451 4.3.0"
    assert len(logged.take()) == 1


@pytest.mark.parametrize(
    ("name", "way"), [(name, way) for name, make in RAISED.items() for way in RAISING if can_raise(way, make())]
)
@pytest.mark.parametrize("place", PLACES)
def test_what_is_raised(name: str, place: str, way: Callable[..., Any], logged: LoggedErrors) -> None:
    """451 4.3.0, and a traceback in the log, nothing of it on the wire."""
    error = RAISED[name]()
    if place == "deliver" and way is raise_at_once:
        # Raised by deliver itself: every recipient has it.
        client = with_recipients(ScriptedDeliveries(deliver=lambda message: way(error)), "a@x", "b@x", "a@x")
        replies = client.content()
        assert codes(replies) == ["451 4.3.0"] * 3
        assert codes(client.say("NOOP")) == ["250 2.0.0"]
    else:
        asked = Asked(place, lambda: way(error))
        replies = asked.replies
        assert asked.answer() == "451 4.3.0"
    assert "internals" not in " ".join(replies)
    assert "forged" not in " ".join(replies)
    events = logged.take()
    assert len(events) == 1
    if not isinstance(error, DeliveryError):
        assert events[0]["log_failure"].value is error


@pytest.mark.parametrize("way", RAISING)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", [name for name, (make, _) in REFUSING.items() if isinstance(make(), DeliveryError)])
def test_refusals_that_are_raised(name: str, place: str, way: Callable[..., Any]) -> None:
    """RFC 3463: raised, a refusal says what it says where it is returned."""
    make, answer = REFUSING[name]
    if place == "deliver" and way is raise_at_once:
        client = with_recipients(ScriptedDeliveries(deliver=lambda message: way(make())), "a@x", "b@x", "a@x")
        assert codes(client.content()) == [answer] * 3
    else:
        assert Asked(place, lambda: way(make())).answer() == answer


@pytest.mark.parametrize("place", PLACES)
def test_a_cancelled_answer_is_451(place: str) -> None:
    """RFC 3463 §3.4: nothing is wrong with it that an operator would want to read."""
    assert Asked(place, lambda: fail(CancelledError())).answer() == "451 4.3.0"


@pytest.mark.parametrize("error", [SystemExit(1), GeneratorExit()])
@pytest.mark.parametrize("place", ["getDelivery", "validateFrom", "validateTo", "deliver"])
def test_code_that_wants_to_exit_fails_like_any_other(place: str, error: BaseException, logged: LoggedErrors) -> None:
    """RFC 2033 §4.2: the replies are owed, and it is not the server's end."""

    def fail(*_: object) -> None:
        raise error

    deliveries = ScriptedDeliveries()
    setattr(deliveries, place, fail)
    client = greeted(deliveries)
    said = client.say("MAIL FROM:<a@x>", "RCPT TO:<b@x>", "RCPT TO:<c@x>")
    if place == "deliver":
        said += client.content()
    assert "451 4.3.0" in codes(said)
    assert len(said) == (5 if place == "deliver" else 3)
    assert codes(client.say("NOOP")) == ["250 2.0.0"]
    assert logged.take()
