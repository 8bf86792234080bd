"""Replies that leave at the end of the reactor's turn."""

from __future__ import annotations

from functools import partial

from dialogue import LoggedErrors
from twisted.internet.task import Clock

from lmtp_twisted.outbox import Outbox


def test_all_that_were_added_in_a_turn_leave_at_its_end_in_order() -> None:
    clock = Clock()
    sent: list[str] = []
    outbox = Outbox(clock)
    for name in "abc":
        outbox.add(partial(sent.append, name))
    assert sent == []
    assert len(clock.getDelayedCalls()) == 1
    clock.advance(0)
    assert sent == ["a", "b", "c"]


def test_what_is_added_while_they_leave_leaves_too() -> None:
    clock = Clock()
    sent: list[str] = []
    outbox = Outbox(clock)
    outbox.add(lambda: outbox.add(lambda: sent.append("later")))
    clock.advance(0)
    assert sent == ["later"]
    assert clock.getDelayedCalls() == []


def test_one_session_that_fails_keeps_no_other_from_its_replies(logged: LoggedErrors) -> None:
    clock = Clock()
    sent: list[str] = []
    outbox = Outbox(clock)
    outbox.add(partial(divmod, 1, 0))
    outbox.add(lambda: sent.append("b"))
    clock.advance(0)
    assert sent == ["b"]
    (event,) = logged.take()
    assert event["log_failure"].check(ZeroDivisionError)


def test_a_clock_that_is_set_back_holds_nobody_up() -> None:
    """The reactor's clock is the system's, which may be set."""
    clock = Clock()
    clock.advance(10_000)
    sent: list[str] = []
    outbox = Outbox(clock)
    outbox.add(partial(sent.append, "before"))
    clock.rightNow -= 3600
    outbox.add(partial(sent.append, "after"))
    clock.advance(0)
    assert sent == ["before", "after"]


def test_a_session_that_is_over_leaves_nothing_behind() -> None:
    clock = Clock()
    sent: list[str] = []
    outbox = Outbox(clock)
    over, stays = partial(sent.append, "over"), partial(sent.append, "stays")
    outbox.discard(over)
    outbox.add(over)
    outbox.discard(over)
    assert clock.getDelayedCalls() == []
    outbox.add(over)
    outbox.add(stays)
    outbox.add(over)
    outbox.discard(over)
    clock.advance(0)
    assert sent == ["stays"]
