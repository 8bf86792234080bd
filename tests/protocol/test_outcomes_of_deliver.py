"""What deliver gives as a whole: a list with an outcome for each recipient, and all else."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from answers import (
    CANCELLERS,
    LATER,
    WAYS,
    delivering,
    raising_canceller,
)
from dialogue import LoggedErrors, codes, greeted
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from lmtp_twisted import PermanentFailure, Reply, TemporaryFailure
from lmtp_twisted.testing import ScriptedDeliveries


@pytest.mark.parametrize("kind", [list, tuple, type("Listlike", (list,), {})])
@pytest.mark.parametrize("way", WAYS)
def test_outcomes_may_be_a_list_or_a_tuple(kind: type, way: Callable[..., Any]) -> None:
    """One for each distinct recipient, in order, at once or later."""
    client = delivering(lambda message: way(lambda: kind([None, PermanentFailure("no"), "text"])), "a@x", "b@x", "c@x")
    assert codes(client.content()) == ["250 2.0.0", "554 5.3.0", "250 2.0.0"]


@pytest.mark.parametrize("way", LATER)
def test_a_list_that_comes_later_may_hold_what_comes_later(way: Callable[..., Any]) -> None:
    """A Deferred of a list of Deferreds."""
    waiting: list[Deferred[Any]] = [Deferred(), Deferred()]
    client = delivering(lambda message: way(lambda: list(waiting)), "a@x", "b@x")
    assert client.content() == []
    waiting[1].callback(None)
    assert client.read() == []
    waiting[0].errback(TemporaryFailure("later"))
    assert codes(client.read()) == ["451 4.3.0", "250 2.0.0"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "outcomes",
    [
        [],
        [None],
        [None] * 3,
        ["ok"] * 100,
        (),
        None,
        True,
        False,
        "delivered",
        Reply(250),
        7,
        {"a@x": None, "b@x": None},
        {None, True},
        iter([None, None]),
        range(2),
        b"ab",
        PermanentFailure,
    ],
    ids=repr,
)
def test_anything_else_or_of_another_length_is_451_for_each_recipient(
    outcomes: Any, way: Callable[..., Any], logged
) -> None:
    """RFC 2033 §4.2: the number of replies is that of the recipients, duplicates too, not of the outcomes."""
    client = delivering(lambda message: way(lambda: outcomes), "a@x", "b@x", "a@x")
    replies = client.content()
    assert codes(replies) == ["451 4.3.0"] * 3
    assert [re.search("<(.*)>", line)[1] for line in replies] == ["a@x", "b@x", "a@x"]  # type: ignore[index]
    assert len(logged.take()) == 1
    assert codes(client.say("NOOP")) == ["250 2.0.0"]


@pytest.mark.parametrize("nested", [[], [None], (None,), [[None]], ["text"], [Deferred]])
def test_a_list_within_the_list_is_no_outcome(nested: Any, logged: LoggedErrors) -> None:
    """Of that recipient alone."""
    client = delivering(lambda message: [None, nested, None], "a@x", "b@x", "c@x")
    assert codes(client.content()) == ["250 2.0.0", "451 4.3.0", "250 2.0.0"]
    assert len(logged.take()) == 1


def test_an_awaitable_of_a_list_is_no_outcome(logged: LoggedErrors) -> None:
    """Of that recipient alone."""
    client = delivering(lambda message: [succeed([None]), None], "a@x", "b@x")
    assert codes(client.content()) == ["451 4.3.0", "250 2.0.0"]
    assert len(logged.take()) == 1


def test_refusals_in_the_list_need_not_be_raised() -> None:
    """A DeliveryError among the outcomes."""
    client = delivering(lambda message: [PermanentFailure("no"), TemporaryFailure("later")], "a@x", "b@x")
    assert codes(client.content()) == ["554 5.3.0", "451 4.3.0"]


def test_failures_in_the_list_are_what_they_hold(logged: LoggedErrors) -> None:
    """As ``gatherResults(consumeErrors=True)`` and DeferredList would give them."""
    failures = [Failure(PermanentFailure("no")), Failure(ZeroDivisionError())]
    client = delivering(lambda message: failures, "a@x", "b@x")
    assert codes(client.content()) == ["554 5.3.0", "451 4.3.0"]
    assert len(logged.take()) == 1


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize(
    ("error", "answer"), [(PermanentFailure("no"), "554 5.3.0"), (ZeroDivisionError(), "451 4.3.0")]
)
def test_one_awaitable_for_all_recipients_is_the_outcome_of_all(
    error: Exception, answer: str, later: bool, logged
) -> None:
    """``[stored] * len(message.recipients)``: never a 250 for the second where it failed."""
    stored: Deferred[None] = Deferred()
    if not later:
        stored.errback(error)
    client = delivering(lambda message: [stored] * 3, "a@x", "b@x", "c@x")
    replies = client.content()
    if later:
        assert replies == []
        stored.errback(error)
        replies = client.read()
    assert codes(replies)[0] == answer
    assert [line[0] for line in replies] == [answer[0]] * 3
    logged.take()


def test_one_awaitable_for_all_recipients_may_succeed() -> None:
    """``[stored] * len(message.recipients)``."""
    stored: Deferred[Any] = Deferred()
    client = delivering(lambda message: [stored] * 2, "a@x", "b@x")
    client.content()
    stored.callback("stored once")
    replies = client.read()
    assert [line.endswith("stored once") for line in replies] == [True, True]


@pytest.mark.parametrize("method", ["validateTo", "validateFrom"])
def test_one_deferred_returned_again_and_again_says_the_same_each_time(method: str) -> None:
    """A look-up that is made once and kept."""
    refused: Deferred[Any] = Deferred()
    refused.errback(PermanentFailure("no"))
    kept = {"a@x": lambda: refused, "b@x": lambda: refused, "c@x": lambda: refused}
    if method == "validateTo":
        client = greeted(ScriptedDeliveries(recipients=kept))
        client.say("MAIL FROM:<a@x>")
        assert codes(client.say("RCPT TO:<a@x>", "RCPT TO:<b@x>", "RCPT TO:<c@x>")) == ["550 5.1.1"] * 3
    else:
        client = greeted(ScriptedDeliveries(senders=kept))
        assert codes(client.say("MAIL FROM:<a@x>", "MAIL FROM:<b@x>", "MAIL FROM:<c@x>")) == ["550 5.7.1"] * 3


def test_a_coroutine_given_twice_is_run_once(logged: LoggedErrors) -> None:
    """A programming error: the second is no 250."""
    ran: list[int] = []

    async def store() -> None:
        ran.append(1)

    def give(message: Any) -> Any:
        return [store()] * 2

    client = delivering(give, "a@x", "b@x")
    replies = client.content()
    assert ran == [1]
    assert codes(replies)[0] == "250 2.0.0"
    assert codes(replies)[1] in ("451 4.3.0", "250 2.0.0")
    logged.take()


@pytest.mark.parametrize("canceller", CANCELLERS)
def test_awaitables_in_a_list_of_the_wrong_length_are_cancelled(
    canceller: Callable[..., Any], logged: LoggedErrors
) -> None:
    """Nobody waits for them."""
    waiting: list[Deferred[Any]] = [Deferred(canceller) for _ in range(3)]
    client = delivering(lambda message: list(waiting), "a@x", "b@x")
    assert codes(client.content()) == ["451 4.3.0"] * 2
    assert canceller is raising_canceller or all(deferred.called for deferred in waiting)
    assert len(logged.take()) == 1 + 3 * (canceller is raising_canceller)


def test_coroutines_in_a_list_of_the_wrong_length_are_not_run(logged: LoggedErrors) -> None:
    """What is answered 451 must not be delivered."""
    ran: list[int] = []

    async def store() -> None:
        ran.append(1)

    client = delivering(lambda message: [store(), store()], "a@x")
    assert codes(client.content()) == ["451 4.3.0"]
    assert ran == []
    assert len(logged.take()) == 1


def test_a_list_that_comes_after_the_time_out_is_stopped() -> None:
    """Coroutines in it are not run, Deferreds in it are cancelled."""
    ran: list[int] = []
    cancelled: list[Any] = []

    async def store() -> None:
        ran.append(1)

    outcomes: Deferred[Any] = Deferred(lambda deferred: deferred.callback([store(), Deferred(cancelled.append)]))
    client = delivering(lambda message: outcomes, "a@x", "b@x")
    client.content()
    assert codes(client.after(540)) == ["451 4.4.7"] * 2
    assert ran == []
    assert len(cancelled) == 1


def test_the_time_of_a_list_and_of_what_is_in_it_is_one() -> None:
    """RFC 5321 §4.5.3.2.6: the client counts from its dot."""
    outcomes: Deferred[Any] = Deferred()
    client = delivering(lambda message: outcomes, "a@x", "b@x")
    client.content()
    assert client.after(500) == []
    outcomes.callback([Deferred(), None])
    assert client.after(39) == []
    assert codes(client.after(1)) == ["451 4.4.7", "250 2.0.0"]
