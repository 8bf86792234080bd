"""What getDelivery gives and what aborted does, and when they are called."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from answers import (
    CANCELLERS,
    RAISING,
    WAYS,
    Awaitable,
    can_raise,
    coroutine,
    giving,
    raising_canceller,
    return_failure,
)
from dialogue import LoggedErrors, codes, greeted, with_recipients
from twisted.internet.defer import Deferred, succeed

from lmtp_twisted import PermanentFailure, Reply, TemporaryFailure
from lmtp_twisted.errors import DeliveryError
from lmtp_twisted.testing import ScriptedDeliveries


@pytest.mark.parametrize("way", WAYS)
def test_a_delivery_may_be_given_in_any_way(way: Callable[..., Any]) -> None:
    """At once, or later."""
    deliveries = giving(lambda: way(lambda: ScriptedDeliveries({"b@x": "by the first"})))
    client = greeted(deliveries)
    assert codes(client.say("MAIL FROM:<a@x>", "RCPT TO:<b@x>")) == ["250 2.1.0", "250 2.1.5"]
    assert client.content()[0].endswith("by the first")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wrong", [None, True, False, "text", 7, object(), PermanentFailure, [], Reply(250)])
def test_what_is_no_delivery_is_451(wrong: Any, way: Callable[..., Any], logged: LoggedErrors) -> None:
    """MAIL is refused, the next one works."""
    client = greeted(giving(lambda: way(lambda: wrong)))
    assert codes(client.say("MAIL FROM:<a@x>", "RCPT TO:<b@x>")) == ["451 4.3.0", "503 5.5.1"]
    assert logged.take()
    assert codes(client.say("MAIL FROM:<a@x>", "RCPT TO:<b@x>")) == ["250 2.1.0", "250 2.1.5"]
    assert codes(client.content()) == ["250 2.0.0"]


@pytest.mark.parametrize("way", RAISING)
@pytest.mark.parametrize(
    ("make", "answer"),
    [
        (lambda: TemporaryFailure("busy", enhanced="4.3.2"), "451 4.3.2"),
        (lambda: PermanentFailure("no"), "550 5.7.1"),
        (lambda: DeliveryError(421, "4.3.2", "bye"), "451 4.3.0"),
        (lambda: ZeroDivisionError("internals"), "451 4.3.0"),
    ],
)
def test_whoever_gives_deliveries_may_refuse_or_fail(
    make, answer: str, way: Callable[..., Any], logged: LoggedErrors
) -> None:
    """At MAIL."""
    client = greeted(giving(lambda: way(make())))
    replies = client.say("MAIL FROM:<a@x>", "RCPT TO:<b@x>", "DATA")
    assert codes(replies) == [answer, "503 5.5.1", "503 5.5.1"]
    assert "internals" not in " ".join(replies)
    assert len(logged.take()) == (answer == "451 4.3.0")
    assert codes(client.say("MAIL FROM:<a@x>")) == ["250 2.1.0"]


def test_a_delivery_that_is_never_given_is_451() -> None:
    """RFC 3463 §3.5."""
    client = greeted(giving(Deferred))
    assert client.say("MAIL FROM:<a@x>") == []
    assert codes(client.after(540)) == ["451 4.4.7"]
    assert codes(client.say("MAIL FROM:<a@x>")) == ["250 2.1.0"]


@pytest.mark.parametrize("canceller", CANCELLERS)
def test_a_connection_lost_while_a_delivery_is_asked_for_ends_the_session(
    canceller: Callable[..., Any], logged
) -> None:
    """Nothing is left."""
    client = greeted(giving(lambda: Deferred(canceller)))
    client.say("MAIL FROM:<a@x>", "RCPT TO:<b@x>")
    client.lose()
    assert client.read() == []
    assert len(logged.take()) == (canceller is raising_canceller)


@pytest.mark.parametrize(
    "answer",
    [
        lambda: None,
        lambda: "text",
        lambda: 7,
        Deferred,
        lambda: succeed(None),
        lambda: coroutine(lambda: None),
        lambda: Awaitable(None),
    ],
)
def test_what_aborted_gives_is_ignored(answer: Callable[[], Any]) -> None:
    """The session does not wait for it."""
    deliveries = ScriptedDeliveries()
    deliveries.aborted = lambda reason: answer()  # type: ignore[method-assign, assignment]
    client = with_recipients(deliveries)
    assert codes(client.say("RSET", "MAIL FROM:<a@x>")) == ["250 2.0.0", "250 2.1.0"]


@pytest.mark.parametrize(
    ("error", "way"),
    [
        (error, way)
        for error in (ZeroDivisionError, PermanentFailure, asyncio.CancelledError)
        for way in RAISING
        if way is not return_failure and can_raise(way, error())
    ],
)
@pytest.mark.parametrize("when", ["RSET", "LHLO", "lost", "refused sender", "refused content"])
def test_an_aborted_that_fails_is_logged_and_changes_nothing(
    error: type[BaseException], way: Callable[..., Any], when: str, logged
) -> None:
    """Whenever it is called."""
    deliveries = ScriptedDeliveries(senders={"no@x": PermanentFailure("no")})
    deliveries.aborted = lambda reason: way(error())  # type: ignore[method-assign]
    if when == "refused sender":
        client = greeted(deliveries)
        assert codes(client.say("MAIL FROM:<no@x>", "NOOP")) == ["550 5.7.1", "250 2.0.0"]
    else:
        client = with_recipients(deliveries, "a@x", "b@x", size_limit=10)
        if when == "RSET":
            assert codes(client.say("RSET", "NOOP")) == ["250 2.0.0", "250 2.0.0"]
        elif when == "LHLO":
            assert client.say("LHLO c")[-1].startswith("250 ")
        elif when == "refused content":
            assert codes(client.content(b"x" * 20 + b"\r\n")) == ["552 5.3.4"] * 2
        else:
            client.lose()
    (event,) = logged.take()
    assert event["log_failure"].check(error)


@pytest.mark.parametrize("when", ["RSET", "LHLO c", "QUIT", "lost", "BDAT"])
def test_aborted_is_called_once(when: str) -> None:
    """And never after deliver."""
    deliveries = ScriptedDeliveries()
    client = with_recipients(deliveries)
    if when == "BDAT":
        client.send(b"BDAT 3\r\nabc")
    elif when != "lost":
        client.say(when)
    client.lose()
    assert [name for name, _ in deliveries.calls].count("aborted") == 1
    assert all(isinstance(reason, str) and reason for name, reason in deliveries.calls if name == "aborted")


@pytest.mark.parametrize("after", ["RSET", "LHLO c", "QUIT", "lost"])
def test_aborted_is_not_called_once_deliver_has_been(after: str) -> None:
    """Delivered, refused or cancelled."""
    deliveries = ScriptedDeliveries({"c@x": Deferred()} if after == "lost" else {"b@x": PermanentFailure("no")})
    client = with_recipients(deliveries, "a@x", "b@x", "c@x")
    client.content()
    if after != "lost":
        client.say(after)
    client.lose()
    assert "aborted" not in [name for name, _ in deliveries.calls]


def test_a_connection_lost_while_the_sender_is_validated_aborts_once() -> None:
    """After the answer was cancelled, so that no two calls are under way."""
    order: list[str] = []
    answer: Deferred[Any] = Deferred(lambda deferred: order.append("cancelled"))
    deliveries = ScriptedDeliveries(senders={"a@x": answer})
    deliveries.aborted = lambda reason: order.append("aborted")  # type: ignore[method-assign, assignment]
    client = greeted(deliveries)
    client.say("MAIL FROM:<a@x>")
    client.lose()
    assert order == ["cancelled", "aborted"]


def test_no_call_is_made_while_the_one_before_is_under_way() -> None:
    """However much the client has sent ahead."""
    waiting: list[Deferred[Any]] = []
    under_way: list[str] = []
    most = 0

    class Delivery:
        def _begin(self, name: str) -> Deferred[Any]:
            nonlocal most
            under_way.append(name)
            most = max(most, len(under_way))
            waiting.append(Deferred())
            return waiting[-1].addCallback(lambda value: (under_way.remove(name), value)[1])

        def getDelivery(self, session: Any) -> Any:
            return self._begin("getDelivery").addCallback(lambda _: self)

        def validateFrom(self, sender: Any) -> Any:
            return self._begin("validateFrom")

        def validateTo(self, recipient: Any) -> Any:
            return self._begin("validateTo")

        def deliver(self, message: Any) -> Any:
            return self._begin("deliver").addCallback(lambda _: [None] * len(message.recipients))

        def aborted(self, reason: str) -> Any:
            return self._begin("aborted")

    client = greeted(Delivery())
    client.say(*["MAIL FROM:<a@x>", "RCPT TO:<a@x>", "RCPT TO:<b@x>", "DATA", "x", "."] * 2, "QUIT")
    replies: list[str] = []
    for _ in range(10):
        assert not client.is_closed
        waiting.pop().callback(None)
        replies += client.read()
    assert most == 1
    assert codes(replies) == ["250 2.1.0", "250 2.1.5", "250 2.1.5", "354", "250 2.0.0", "250 2.0.0"] * 2 + [
        "221 2.0.0"
    ]
