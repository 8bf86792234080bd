"""The easy ways in: a function for each recipient, a function for each message, a base class."""

from __future__ import annotations

import inspect
from contextlib import suppress
from typing import Any

import pytest
from dialogue import Client, LoggedErrors, codes, server, with_recipients
from twisted.internet.defer import CancelledError, Deferred, succeed
from zope.interface.verify import verifyObject

from lmtp_twisted import LMTPFactory, PermanentFailure, RecipientDelivery, TemporaryFailure
from lmtp_twisted.interfaces import ILMTPDelivery, ILMTPDeliveryFactory
from lmtp_twisted.testing import Conversation, FakeReactor, ScriptedDeliveries


def in_turns(deliver: Any, count: int, parallel: int, **settings: Any) -> Client:
    """A client in a transaction with so many recipients, of which so many are delivered to at a time."""

    class Deliveries(RecipientDelivery):
        def getDelivery(self, session: Any) -> Any:
            return self

        def deliverTo(self, message: Any, recipient: Any) -> Any:
            return deliver(message, recipient)

    Deliveries.parallel = parallel
    return with_recipients(Deliveries(), *(f"r{number}@x" for number in range(count)), **settings)


# Which of them


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"backend": ScriptedDeliveries(), "deliver": print},
        {"deliver": print, "deliverMessage": print},
        {"backend": ScriptedDeliveries(), "deliver": print, "deliverMessage": print},
        {"deliver": "print"},
        {"deliverMessage": 7},
        {"backend": object()},
        {"backend": print},
        {"backend": "maildir:mail"},
    ],
)
def test_just_one_of_backend_deliver_and_deliver_message_is_given(arguments: dict[str, Any]) -> None:
    """A mistake shows where it is made, not at the first message."""
    with pytest.raises(TypeError):
        LMTPFactory(reactor=FakeReactor(), **arguments)


def test_a_backend_need_not_declare_its_interface() -> None:
    """Whatever has getDelivery is one."""

    class Duck:
        def getDelivery(self, session: Any) -> Any:
            return ScriptedDeliveries()

    client = with_recipients(Duck())
    assert codes(client.content()) == ["250 2.0.0"]


@pytest.mark.parametrize("way", ["deliver", "deliverMessage"])
def test_what_stands_for_the_function_provides_the_interfaces(way: str) -> None:
    """So that routers and policies can wrap it."""
    factory = server(**{way: lambda *arguments: None})
    assert verifyObject(ILMTPDeliveryFactory, factory.backend)
    assert verifyObject(ILMTPDelivery, factory.backend.getDelivery(None))


def test_the_fakes_and_the_base_class_provide_the_interfaces() -> None:
    """They are public."""
    assert verifyObject(ILMTPDelivery, RecipientDelivery())
    assert verifyObject(ILMTPDelivery, ScriptedDeliveries())
    assert verifyObject(ILMTPDeliveryFactory, ScriptedDeliveries())


# A function for each recipient


def test_the_function_is_called_for_each_distinct_recipient() -> None:
    """RFC 2033 §4.2: one delivery, as many replies as were asked for."""
    calls: list[tuple[str, str]] = []

    def deliver(message: Any, recipient: Any) -> str:
        calls.append((message.id, str(recipient)))
        return f"to {recipient}"

    client = with_recipients(None, "a@x", "b@x", "a@x", deliver=deliver)
    assert [line.partition("to ")[2] for line in client.content()] == ["a@x", "b@x", "a@x"]
    assert [recipient for _, recipient in calls] == ["a@x", "b@x"]


@pytest.mark.parametrize("count", [3, 30])
def test_what_the_function_gives_is_the_outcome_of_that_recipient(count: int, logged: LoggedErrors) -> None:
    """At once, as a Deferred, as a coroutine, raised; below and above the bound."""

    async def later(value: Any) -> Any:
        return value

    def deliver(message: Any, recipient: Any) -> Any:
        kind = int(str(recipient)[1:-2]) % 6
        if kind == 0:
            return None
        if kind == 1:
            return succeed("text")
        if kind == 2:
            return later(PermanentFailure("no"))
        if kind == 3:
            raise TemporaryFailure("later", enhanced="4.2.2")
        if kind == 4:
            raise ZeroDivisionError
        return 7

    client = with_recipients(None, *(f"r{number}@x" for number in range(count)), deliver=deliver)
    expected = ["250 2.0.0", "250 2.0.0", "554 5.3.0", "451 4.2.2", "451 4.3.0", "451 4.3.0"] * 5
    assert codes(client.content()) == expected[:count]
    assert len(logged.take()) == expected[:count].count("451 4.3.0")


def test_by_default_all_senders_and_recipients_are_accepted() -> None:
    """Who wants to refuse gives a policy."""
    client = with_recipients(None, "anyone@x", "someone@y", deliver=lambda message, recipient: None)
    assert codes(client.say("RSET")) == ["250 2.0.0"]


# A function for each message


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (None, ["250 2.0.0"] * 3),
        (True, ["250 2.0.0"] * 3),
        ("text", ["250 2.0.0"] * 3),
        (PermanentFailure("no"), ["554 5.3.0"] * 3),
        ([None, PermanentFailure("no"), "text"], ["250 2.0.0", "554 5.3.0", "250 2.0.0"]),
        ((TemporaryFailure("later"), None, None), ["451 4.3.0", "250 2.0.0", "250 2.0.0"]),
    ],
)
@pytest.mark.parametrize("way", ["at once", "deferred", "coroutine", "later"])
def test_the_function_gives_one_outcome_for_all_or_a_list(answer: Any, expected: list[str], way: str) -> None:
    """RFC 2033 §4.2."""
    waiting: Deferred[Any] = Deferred()

    async def coroutine() -> Any:
        return answer

    def deliver(message: Any) -> Any:
        return {"at once": lambda: answer, "deferred": lambda: succeed(answer), "coroutine": coroutine}.get(
            way, lambda: waiting
        )()

    client = with_recipients(None, "a@x", "b@x", "c@x", deliverMessage=deliver)
    replies = client.content()
    if way == "later":
        assert replies == []
        waiting.callback(answer)
        replies = client.read()
    assert codes(replies) == expected


@pytest.mark.parametrize("answer", [[], [None], [None] * 4, 7, False, {"a@x": None}])
def test_a_wrong_answer_of_the_function_is_451_for_all(answer: Any, logged: LoggedErrors) -> None:
    """RFC 2033 §4.2."""
    client = with_recipients(None, "a@x", "b@x", "c@x", deliverMessage=lambda message: answer)
    assert codes(client.content()) == ["451 4.3.0"] * 3
    assert logged.take()


@pytest.mark.parametrize(
    ("error", "answer"), [(PermanentFailure("no"), "554 5.3.0"), (ZeroDivisionError(), "451 4.3.0")]
)
@pytest.mark.parametrize("way", ["raise", "coroutine"])
def test_what_the_function_raises_is_the_outcome_of_all(
    error: Exception, answer: str, way: str, logged: LoggedErrors
) -> None:
    """RFC 2033 §4.2."""

    async def coroutine(message: Any) -> None:
        raise error

    def function(message: Any) -> None:
        raise error

    deliver = coroutine if inspect.iscoroutinefunction(coroutine) and way == "coroutine" else function
    client = with_recipients(None, "a@x", "b@x", deliverMessage=deliver)
    assert codes(client.content()) == [answer] * 2
    logged.take()


def test_a_message_that_is_given_up_never_reaches_the_function() -> None:
    """RSET."""
    messages: list[Any] = []
    client = with_recipients(None, deliverMessage=messages.append)
    assert codes(client.say("RSET", "NOOP")) == ["250 2.0.0"] * 2
    assert messages == []


# So many at a time


def test_the_deliveries_of_a_message_are_all_under_way_at_once_up_to_a_bound() -> None:
    """The next begins when one ends."""
    under_way: list[Deferred[None]] = []
    most = 0

    def deliver(message: Any, recipient: Any) -> Deferred[None]:
        nonlocal most
        under_way.append(Deferred())
        most = max(most, len(under_way))
        return under_way[-1]

    client = in_turns(deliver, 10, parallel=3)
    assert client.content() == []
    replies: list[str] = []
    for _ in range(10):
        assert len(under_way) == min(3, 10 - len(replies))
        under_way.pop(0).callback(None)
        replies += client.read()
    assert most == 3
    assert codes(replies) == ["250 2.0.0"] * 10


@pytest.mark.parametrize("count", [1, 3, 4])
def test_the_bound_itself_is_not_one_too_many_or_few(count: int) -> None:
    """The bound is what may be under way."""
    begun: list[str] = []

    def deliver(message: Any, recipient: Any) -> Deferred[None]:
        begun.append(str(recipient))
        return Deferred()

    in_turns(deliver, count, parallel=3).content()
    assert len(begun) == min(count, 3)


def test_the_default_bound_is_twenty() -> None:
    """For ``deliver=`` too."""
    begun: list[str] = []

    def deliver(message: Any, recipient: Any) -> Deferred[None]:
        begun.append(str(recipient))
        return Deferred()

    with_recipients(None, *(f"r{number}@x" for number in range(50)), deliver=deliver).content()
    assert RecipientDelivery.parallel == 20
    assert len(begun) == 20


def test_replies_are_in_order_whichever_delivery_ends_first() -> None:
    """RFC 2033 §4.2."""
    under_way: dict[str, Deferred[str]] = {}

    def deliver(message: Any, recipient: Any) -> Deferred[str]:
        under_way[str(recipient)] = Deferred()
        return under_way[str(recipient)]

    client = in_turns(deliver, 6, parallel=2)
    client.content()
    lines: list[str] = []
    for name in ("r1@x", "r2@x", "r3@x", "r0@x", "r5@x", "r4@x"):
        under_way[name].callback(name)
        lines += client.read()
    assert [line.split()[-1] for line in lines] == [f"r{number}@x" for number in range(6)]


def test_a_thousand_deliveries_that_never_wait_are_no_recursion() -> None:
    """But for the first, all are done at once when their turn comes."""
    first: list[Deferred[None]] = []

    def deliver(message: Any, recipient: Any) -> Any:
        if len(first) < 20:
            first.append(Deferred())
            return first[-1]
        return None

    client = in_turns(deliver, 1000, parallel=20)
    client.content()
    for deferred in first:
        deferred.callback(None)
    assert codes(client.read()) == ["250 2.0.0"] * 1000


def test_a_thousand_deliveries_that_never_wait_at_all() -> None:
    """In one turn of the reactor."""
    client = in_turns(lambda message, recipient: None, 1000, parallel=1)
    assert codes(client.content()) == ["250 2.0.0"] * 1000


@pytest.mark.parametrize("end", ["time-out", "lost"])
def test_no_delivery_begins_once_the_message_is_over(end: str) -> None:
    """What is answered 451 must not be delivered; those under way are cancelled."""
    begun: list[str] = []
    cancelled: list[Any] = []

    def deliver(message: Any, recipient: Any) -> Any:
        begun.append(str(recipient))
        return Deferred(cancelled.append)

    client = in_turns(deliver, 5, parallel=2)
    client.content()
    if end == "time-out":
        assert codes(client.after(540)) == ["451 4.4.7"] * 5
        assert codes(client.say("NOOP")) == ["250 2.0.0"]
    else:
        client.lose()
    assert begun == ["r0@x", "r1@x"]
    assert len(cancelled) == 2


def test_a_delivery_that_does_not_heed_its_cancellation_changes_nothing_when_it_ends() -> None:
    """Neither does it begin the next."""
    begun: list[str] = []
    still: list[Deferred[None]] = []

    async def deliver(message: Any, recipient: Any) -> None:
        begun.append(str(recipient))
        for _ in range(2):
            still.append(Deferred())
            with suppress(CancelledError):
                await still[-1]

    client = in_turns(deliver, 3, parallel=1)
    client.content()
    assert codes(client.after(540)) == ["451 4.4.7"] * 3
    still[-1].callback(None)
    assert client.read() == []
    assert begun == ["r0@x"]
    assert codes(client.say("NOOP")) == ["250 2.0.0"]


def test_outcomes_that_came_before_the_time_out_stand() -> None:
    """RFC 2033 §4.2."""
    under_way: list[Deferred[None]] = []

    def deliver(message: Any, recipient: Any) -> Any:
        under_way.append(Deferred())
        return under_way[-1]

    client = in_turns(deliver, 5, parallel=2)
    client.content()
    under_way[1].callback(None)
    under_way[2].callback(None)
    assert codes(client.after(540)) == ["451 4.4.7", "250 2.0.0", "250 2.0.0", "451 4.4.7", "451 4.4.7"]


@pytest.mark.parametrize("count", [2, 5])
def test_one_deferred_for_several_recipients_is_the_outcome_of_each(count: int, logged: LoggedErrors) -> None:
    """A delivery that stores the message once: never a 250 for the second where it failed."""
    stored: Deferred[Any] = Deferred()
    client = in_turns(lambda message, recipient: stored, count, parallel=3)
    client.content()
    stored.errback(PermanentFailure("no"))
    assert codes(client.read()) == ["554 5.3.0"] * count
    logged.take()


def test_a_delivery_that_raises_does_not_stop_those_that_wait_for_their_turn(logged: LoggedErrors) -> None:
    """Of that recipient alone."""

    def deliver(message: Any, recipient: Any) -> Any:
        if str(recipient) in ("r0@x", "r3@x"):
            raise ZeroDivisionError
        return None

    client = in_turns(deliver, 5, parallel=1)
    assert codes(client.content()) == ["451 4.3.0", "250 2.0.0", "250 2.0.0", "451 4.3.0", "250 2.0.0"]
    assert len(logged.take()) == 2


def test_deliver_to_must_be_overridden(logged: LoggedErrors) -> None:
    """Else every recipient is 451, and the log says why."""

    class Forgotten(RecipientDelivery):
        def getDelivery(self, session: Any) -> Any:
            return self

    client = with_recipients(Forgotten(), "a@x", "b@x")
    assert codes(client.content()) == ["451 4.3.0"] * 2
    assert all(event["log_failure"].check(NotImplementedError) for event in logged.take())


def test_the_hooks_of_the_base_class_may_be_overridden() -> None:
    """It is a delivery like any other."""
    aborted: list[str] = []

    class Deliveries(RecipientDelivery):
        def getDelivery(self, session: Any) -> Any:
            return self

        def validateFrom(self, sender: Any) -> Any:
            return "hello"

        def validateTo(self, recipient: Any) -> Any:
            if str(recipient) == "no@x":
                raise PermanentFailure("no")
            return None

        def deliverTo(self, message: Any, recipient: Any) -> Any:
            return "done"

        def aborted(self, reason: str) -> Any:
            aborted.append(reason)

    client = with_recipients(Deliveries(), "yes@x")
    assert codes(client.say("RCPT TO:<no@x>")) == ["550 5.1.1"]
    assert client.content()[0].endswith("done")
    client.say("MAIL FROM:<a@x>", "RSET")
    assert aborted == ["RSET"]


def test_one_delivery_at_a_time_is_the_least() -> None:
    """A bound of none would leave every recipient waiting for ever."""

    class Strict(RecipientDelivery):
        parallel = 0

        def getDelivery(self, session: Any) -> Any:
            return self

        def deliverTo(self, message: Any, recipient: Any) -> Any:
            return None

    client = Conversation(LMTPFactory(Strict(), reactor=FakeReactor()))
    client.say("LHLO c", "MAIL FROM:<a@x>", "RCPT TO:<b@x>", "RCPT TO:<c@x>", "DATA")
    assert [line[:9] for line in client.say(".")] == ["250 2.0.0"] * 2
    client.lose()
