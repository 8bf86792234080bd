"""
Every answer that a delivery can give, right or wrong, in every place where it is asked. None puts the session out of
step: the number of replies is exact, what is wrong is 451 and logged, and the next command works.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Generator
from typing import Any

import pytest
from dialogue import Client, codes, greeted, with_recipients
from twisted.internet.defer import CancelledError, Deferred, fail, inlineCallbacks, succeed
from twisted.python.failure import Failure

from lmtp_twisted import PermanentFailure, Reply, TemporaryFailure
from lmtp_twisted.errors import DeliveryError
from lmtp_twisted.testing import ScriptedDeliveries


class _BareRefusal(PermanentFailure):
    """Does not call the constructor."""

    def __init__(self) -> None:
        pass


class _NumberAsText(_BareRefusal):
    text = 5  # type: ignore[assignment]


class _NoText(_BareRefusal):
    text = None  # type: ignore[assignment]


class _NumberAsEnhanced(_BareRefusal):
    enhanced = 511  # type: ignore[assignment]


class _EmptyEnhanced(_BareRefusal):
    enhanced = ""


class _InjectingEnhanced(_BareRefusal):
    enhanced = "5.1.1\r\n250 2.0.0 forged"


class _TextAsCode(_BareRefusal):
    code = "550"  # type: ignore[assignment]


class _Closing(_BareRefusal):
    code = 421


class _Accepting(_BareRefusal):
    code = 250


class _HalfACode(_BareRefusal):
    code = 55


class _Zero(_BareRefusal):
    code = 0


class _RaisingText(_BareRefusal):
    @property
    def text(self) -> str:  # type: ignore[override]
        raise ZeroDivisionError


class _Proxy:
    """Says yes to every question for an attribute, as a remote proxy does."""

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: _Proxy()


class _Awaitable:
    """Neither a Deferred nor a coroutine."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __await__(self) -> Generator[Any, Any, Any]:
        if isinstance(self._value, Exception):
            raise self._value
        return self._value
        yield


class _Unspeakable:
    def __repr__(self) -> str:
        raise ZeroDivisionError

    __str__ = __repr__


def _raiser(error: BaseException) -> Callable[[], Any]:
    def raise_it() -> None:
        raise error

    return raise_it


#: Answers that accept: a function that makes one, and the words they put into the reply.
ACCEPTING: dict[str, tuple[Callable[[], Any], str | None]] = {
    "None": (lambda: None, None),
    "True": (lambda: True, None),
    "text": (lambda: "with words", "with words"),
    "empty text": (lambda: "", ""),
    "Reply": (lambda: Reply(250, "2.1.5", "as it is"), "as it is"),
    "Reply without enhanced": (lambda: Reply(250, None, "as it is"), "as it is"),
    "Reply of another enhanced class": (lambda: Reply(250, "5.1.1", "as it is"), "as it is"),
    "Reply of a wrong enhanced type": (lambda: Reply(250, 2, "as it is"), "as it is"),  # type: ignore[arg-type]
    "Reply with no text": (lambda: Reply(250, "2.0.0", None), None),  # type: ignore[arg-type]
}
#: Answers that refuse: a function that makes one, and the code.
REFUSING: dict[str, tuple[Callable[[], Any], str]] = {
    "Reply 4": (lambda: Reply(450, "4.2.1", "later"), "450 4.2.1"),
    "Reply 5": (lambda: Reply(552, "5.2.2", "full"), "552 5.2.2"),
    "PermanentFailure": (lambda: PermanentFailure("no", code=552, enhanced="5.2.2"), "552 5.2.2"),
    "TemporaryFailure": (lambda: TemporaryFailure("later", code=452, enhanced="4.2.2"), "452 4.2.2"),
    "DeliveryError": (lambda: DeliveryError(550, "5.2.1", "no"), "550 5.2.1"),
    "without a code, temporary": (lambda: DeliveryError(enhanced="4.2.2", text="full"), "451 4.2.2"),
}
#: Refusals whose codes are those of the place.
DEFAULTED: dict[str, Callable[[], Any]] = {
    "DeliveryError without a code": lambda: DeliveryError(text="no"),
    "PermanentFailure without a code": lambda: PermanentFailure("no"),
    "subclass without its constructor": _BareRefusal,
    "a number as text": _NumberAsText,
    "no text": _NoText,
    "a number as enhanced": _NumberAsEnhanced,
    "empty enhanced": _EmptyEnhanced,
    "enhanced that injects": _InjectingEnhanced,
}
#: Answers that are wrong: 451 and logged.
WRONG: dict[str, Callable[[], Any]] = {
    "False": lambda: False,
    "0": lambda: 0,
    "1": lambda: 1,
    "250": lambda: 250,
    "float": lambda: 2.5,
    "bytes": lambda: b"delivered",
    "dict": dict,
    "set": set,
    "object": object,
    "class": lambda: PermanentFailure,
    "class that can be awaited": lambda: Deferred,
    "proxy": _Proxy,
    "unspeakable": _Unspeakable,
    "generator": lambda: (x for x in "ab"),
    "exception": lambda: ZeroDivisionError("returned, not raised"),
    "Reply 1": lambda: Reply(150, None, "no"),
    "Reply 3": lambda: Reply(354, None, "go on"),
    "Reply 421": lambda: Reply(421, "4.3.2", "bye"),
    "Reply 0": lambda: Reply(0),
    "Reply 600": lambda: Reply(600),
    "Reply negative": lambda: Reply(-250),
    "Reply text code": lambda: Reply("250"),  # type: ignore[arg-type]
    "Reply no code": lambda: Reply(None),  # type: ignore[arg-type]
    "Reply float code": lambda: Reply(250.0),  # type: ignore[arg-type]
    "Reply unspeakable": lambda: Reply(250, "2.0.0", _Unspeakable()),  # type: ignore[arg-type]
    "DeliveryError 421": lambda: DeliveryError(421, "4.3.2", "bye"),
    "DeliveryError 250": lambda: DeliveryError(250, "2.0.0", "fine"),
    "DeliveryError 354": lambda: DeliveryError(354),
    "DeliveryError 0": lambda: DeliveryError(0),
    "subclass 421": _Closing,
    "subclass 250": _Accepting,
    "subclass 55": _HalfACode,
    "subclass 0": _Zero,
    "subclass text code": _TextAsCode,
    "subclass whose text fails": _RaisingText,
}
#: What may be raised: 451 and logged.
RAISED: dict[str, Callable[[], BaseException]] = {
    "ZeroDivisionError": lambda: ZeroDivisionError("internals"),
    "RuntimeError": lambda: RuntimeError("no running event loop"),
    "OSError": lambda: OSError(28, "internals"),
    "StopIteration": StopIteration,
    "AssertionError": AssertionError,
    "asyncio.CancelledError": asyncio.CancelledError,
    "unspeakable": type("UnspeakableError", (Exception,), {"__str__": _Unspeakable.__repr__}),
    "unicode": lambda: ValueError("\ud800\r\n250 2.0.0 forged"),
    "DeliveryError 421": lambda: DeliveryError(421, "4.3.2", "bye"),
    "DeliveryError 250": lambda: DeliveryError(250, "2.0.0", "fine"),
    "subclass whose text fails": _RaisingText,
}


# How an answer can come


def _at_once(make: Callable[[], Any]) -> Any:
    return make()


def _deferred(make: Callable[[], Any]) -> Any:
    return succeed(make())


def _chained(make: Callable[[], Any]) -> Any:
    return succeed(None).addCallback(lambda _: succeed(make()))


async def _coroutine(make: Callable[[], Any]) -> Any:
    return make()


@inlineCallbacks
def _inline(make: Callable[[], Any]) -> Generator[Any, Any, Any]:
    yield succeed(None)
    return make()


def _other_awaitable(make: Callable[[], Any]) -> Any:
    return _Awaitable(make())


WAYS = [_at_once, _deferred, _chained, _coroutine, _inline, _other_awaitable]
LATER = [_deferred, _chained, _coroutine, _inline, _other_awaitable]

PLACES = {"validateFrom": "550 5.7.1", "validateTo": "550 5.1.1", "deliver": "554 5.3.0"}


class _Asked:
    """A dialogue in which one method is asked, and answers as it is told."""

    def __init__(self, place: str, answer: Callable[[], Any], **settings: Any) -> None:
        self.place = place
        self.deliveries = ScriptedDeliveries()
        if place == "validateFrom":
            self.deliveries.validateFrom = lambda sender: answer() if str(sender) == "a@x" else None  # type: ignore[method-assign]
        elif place == "validateTo":
            self.deliveries.validateTo = lambda recipient: answer() if str(recipient) == "b@x" else None  # type: ignore[method-assign]
        else:
            self.deliveries.deliver = lambda message: [  # type: ignore[method-assign]
                answer() if str(recipient) == "b@x" else None for recipient in message.recipients
            ]
        self.client: Client = greeted(self.deliveries, **settings)
        if place == "validateFrom":
            self.replies = self.client.say("MAIL FROM:<a@x>")
        else:
            assert codes(self.client.say("MAIL FROM:<a@x>", "RCPT TO:<first@x>")) == ["250 2.1.0", "250 2.1.5"]
            self.replies = self.client.say("RCPT TO:<b@x>")
            if place == "deliver":
                assert codes(self.replies) == ["250 2.1.5"]
                assert codes(self.client.say("RCPT TO:<last@x>")) == ["250 2.1.5"]
                replies = self.client.content()
                assert len(replies) in (1, 3)
                assert codes(replies[:1]) == ["250 2.0.0"]
                self.last = replies[2:]
                self.replies = replies[1:2]

    def read_later(self) -> None:
        """What comes once the answer is there."""
        replies = self.client.read()
        if self.place == "deliver":
            assert len(replies) == 2
            self.replies, self.last = replies[:1], replies[1:]
        else:
            self.replies = replies

    def answer(self) -> str:
        """The codes of the one reply. What follows in the session is in step."""
        (reply,) = self.replies
        positive = reply.startswith("2")
        client = self.client
        if self.place == "validateFrom":
            if positive:
                assert codes(client.say("MAIL FROM:<again@x>")) == ["503 5.5.1"]
                assert codes(client.say("RCPT TO:<first@x>")) == ["250 2.1.5"]
                assert codes(client.content()) == ["250 2.0.0"]
            else:
                assert codes(client.say("RCPT TO:<first@x>")) == ["503 5.5.1"]
        if self.place == "validateTo":
            assert codes(client.content()) == ["250 2.0.0"] * (1 + positive)
        if self.place == "deliver":
            assert codes(self.last) == ["250 2.0.0"]
        assert codes(client.say("NOOP", "MAIL FROM:<next@x>", "RCPT TO:<next@x>")) == [
            "250 2.0.0",
            "250 2.1.0",
            "250 2.1.5",
        ]
        assert codes(client.content()) == ["250 2.0.0"]
        return codes([reply])[0]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ACCEPTING)
def test_answers_that_accept(name: str, place: str, way: Callable[..., Any]) -> None:
    """The codes are those of the place, or the reply's."""
    make, words = ACCEPTING[name]
    asked = _Asked(place, lambda: way(make))
    if words is not None:
        assert asked.replies[0].endswith(words)
    assert asked.answer().startswith("250 2.")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", REFUSING)
def test_answers_that_refuse(name: str, place: str, way: Callable[..., Any]) -> None:
    """RFC 3463: with their own codes, returned or given by an awaitable."""
    make, answer = REFUSING[name]
    assert _Asked(place, lambda: way(make)).answer() == answer


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", DEFAULTED)
def test_refusals_without_codes_of_their_own(name: str, place: str) -> None:
    """RFC 3463: the codes are those of the place, whatever the subclass has made of itself."""
    asked = _Asked(place, DEFAULTED[name])
    assert "forged" not in asked.replies[0]
    assert asked.answer() == PLACES[place]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", WRONG)
def test_answers_that_are_wrong(name: str, place: str, way: Callable[..., Any], logged) -> None:  # type: ignore[no-untyped-def]
    """451 4.3.0, and an error in the log."""
    asked = _Asked(place, lambda: way(WRONG[name]))
    assert "internals" not in asked.replies[0]
    assert asked.answer() == "451 4.3.0"
    assert len(logged.take()) == 1


def _raise_later(error: BaseException) -> Any:
    return fail(error)  # type: ignore[arg-type]


async def _raise_in_coroutine(error: BaseException) -> Any:
    raise error


@inlineCallbacks
def _raise_inline(error: BaseException) -> Generator[Any, Any, Any]:
    yield succeed(None)
    raise error


def _return_failure(error: BaseException) -> Any:
    return Failure(error)


def _raise_awaited(error: BaseException) -> Any:
    return _Awaitable(error)


def _raise(error: BaseException) -> Any:
    raise error


RAISING = [_raise, _raise_later, _raise_in_coroutine, _raise_inline, _return_failure, _raise_awaited]


def _can_raise(way: Callable[..., Any], error: BaseException) -> bool:
    """Python makes a RuntimeError of a StopIteration in a coroutine; awaitables here raise Exceptions alone."""
    if isinstance(error, StopIteration):
        return way is _raise
    return way is not _raise_awaited or isinstance(error, Exception)


@pytest.mark.parametrize(
    ("name", "way"), [(name, way) for name, make in RAISED.items() for way in RAISING if _can_raise(way, make())]
)
@pytest.mark.parametrize("place", PLACES)
def test_what_is_raised(name: str, place: str, way: Callable[..., Any], logged) -> None:  # type: ignore[no-untyped-def]
    """451 4.3.0, and a traceback in the log, nothing of it on the wire."""
    error = RAISED[name]()
    if place == "deliver" and way is _raise:
        # Raised by deliver itself: every recipient has it.
        client = with_recipients(ScriptedDeliveries(deliver=lambda message: way(error)), "a@x", "b@x", "a@x")
        replies = client.content()
        assert codes(replies) == ["451 4.3.0"] * 3
        assert codes(client.say("NOOP")) == ["250 2.0.0"]
    else:
        asked = _Asked(place, lambda: way(error))
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
    if place == "deliver" and way is _raise:
        client = with_recipients(ScriptedDeliveries(deliver=lambda message: way(make())), "a@x", "b@x", "a@x")
        assert codes(client.content()) == [answer] * 3
    else:
        assert _Asked(place, lambda: way(make())).answer() == answer


@pytest.mark.parametrize("place", PLACES)
def test_a_cancelled_answer_is_451(place: str) -> None:
    """RFC 3463 §3.4: nothing is wrong with it that an operator would want to read."""
    assert _Asked(place, lambda: fail(CancelledError())).answer() == "451 4.3.0"


# asyncio without its reactor


@pytest.fixture
def loop():  # type: ignore[no-untyped-def]
    """A loop that does not run."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.mark.parametrize("place", PLACES)
def test_a_future_of_asyncio_without_its_reactor_is_451_and_the_log_says_what_to_do(place: str, loop, logged) -> None:  # type: ignore[no-untyped-def]
    """The session does not hang."""
    assert _Asked(place, loop.create_future).answer() == "451 4.3.0"
    (event,) = logged.take()
    assert "asyncio reactor" in str(event["log_failure"].value)


@pytest.mark.parametrize("place", PLACES)
def test_asyncio_in_a_coroutine_without_its_reactor_is_451_and_the_log_says_what_to_do(place: str, logged) -> None:  # type: ignore[no-untyped-def]
    """The session does not hang."""
    asked = _Asked(place, lambda: asyncio.sleep(1))
    assert asked.answer() == "451 4.3.0"
    (event,) = logged.take()
    assert "asyncio" in event["log_format"].format(**event)


@pytest.mark.parametrize("place", PLACES)
def test_a_coroutine_that_awaits_a_future_without_its_reactor_is_451(place: str, loop, logged) -> None:  # type: ignore[no-untyped-def]
    """The session does not hang."""

    async def wait() -> None:
        await loop.create_future()

    assert _Asked(place, wait).answer() == "451 4.3.0"
    (event,) = logged.take()
    assert "asyncio" in event["log_format"].format(**event)


# Answers that come late or never


@pytest.mark.parametrize("place", PLACES)
def test_an_answer_may_come_later(place: str) -> None:
    """Commands behind it wait for it."""
    answer: Deferred[Any] = Deferred()
    asked = _Asked(place, lambda: answer)
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
    asked = _Asked(place, lambda: Deferred(cancelled.append), delivery_timeout=100)
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
    asked = _Asked(place, lambda: answer)
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


def _no_canceller(deferred: Deferred[Any]) -> None:
    """Does nothing: Deferred fails it."""


def _raising_canceller(deferred: Deferred[Any]) -> None:
    raise ZeroDivisionError


def _accepting_canceller(deferred: Deferred[Any]) -> None:
    deferred.callback(None)


def _refusing_canceller(deferred: Deferred[Any]) -> None:
    deferred.errback(PermanentFailure("cancelled"))


def _failing_canceller(deferred: Deferred[Any]) -> None:
    deferred.errback(ZeroDivisionError())


CANCELLERS = [_no_canceller, _raising_canceller, _accepting_canceller, _refusing_canceller, _failing_canceller]


@pytest.mark.parametrize("canceller", CANCELLERS)
@pytest.mark.parametrize("place", PLACES)
def test_whatever_a_canceller_does_the_time_out_stands(place: str, canceller: Callable[..., Any], logged) -> None:  # type: ignore[no-untyped-def]
    """Deferred.cancel is the application's code too."""
    asked = _Asked(place, lambda: Deferred(canceller))
    asked.client.reactor.advance(541)
    asked.read_later()
    assert asked.answer() == "451 4.4.7"
    assert len(logged.take()) == (canceller is _raising_canceller)


@pytest.mark.parametrize("canceller", CANCELLERS)
@pytest.mark.parametrize("place", PLACES)
def test_whatever_a_canceller_does_a_lost_connection_ends_the_session(place: str, canceller, logged) -> None:  # type: ignore[no-untyped-def]
    """Nothing is written, nothing is left: the fixtures look after that."""
    asked = _Asked(place, lambda: Deferred(canceller))
    asked.client.lose()
    assert asked.client.read() == []
    assert len(logged.take()) == (canceller is _raising_canceller)


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

    asked = _Asked(place, wait)
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

    asked = _Asked(place, wait)
    asked.client.reactor.advance(541)
    asked.read_later()
    assert asked.answer() == "451 4.4.7"
    still[-1].callback(None)
    assert asked.client.read() == []


# getDelivery


def _giving(answer: Callable[[], Any]) -> ScriptedDeliveries:
    """Deliveries whose first is given as told."""
    deliveries = ScriptedDeliveries()
    ordinary = deliveries.getDelivery
    answers = [answer]

    def give(session: Any) -> Any:
        return answers.pop()() if answers else ordinary(session)

    deliveries.getDelivery = give  # type: ignore[method-assign]
    return deliveries


@pytest.mark.parametrize("way", WAYS)
def test_a_delivery_may_be_given_in_any_way(way: Callable[..., Any]) -> None:
    """At once, or later."""
    deliveries = _giving(lambda: way(lambda: ScriptedDeliveries({"b@x": "by the first"})))
    client = greeted(deliveries)
    assert codes(client.say("MAIL FROM:<a@x>", "RCPT TO:<b@x>")) == ["250 2.1.0", "250 2.1.5"]
    assert client.content()[0].endswith("by the first")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wrong", [None, True, False, "text", 7, object(), PermanentFailure, [], Reply(250)])
def test_what_is_no_delivery_is_451(wrong: Any, way: Callable[..., Any], logged) -> None:  # type: ignore[no-untyped-def]
    """MAIL is refused, the next one works."""
    client = greeted(_giving(lambda: way(lambda: wrong)))
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
def test_whoever_gives_deliveries_may_refuse_or_fail(make, answer: str, way: Callable[..., Any], logged) -> None:  # type: ignore[no-untyped-def]
    """At MAIL."""
    client = greeted(_giving(lambda: way(make())))
    replies = client.say("MAIL FROM:<a@x>", "RCPT TO:<b@x>", "DATA")
    assert codes(replies) == [answer, "503 5.5.1", "503 5.5.1"]
    assert "internals" not in " ".join(replies)
    assert len(logged.take()) == (answer == "451 4.3.0")
    assert codes(client.say("MAIL FROM:<a@x>")) == ["250 2.1.0"]


def test_a_delivery_that_is_never_given_is_451() -> None:
    """RFC 3463 §3.5."""
    client = greeted(_giving(Deferred))
    assert client.say("MAIL FROM:<a@x>") == []
    assert codes(client.after(540)) == ["451 4.4.7"]
    assert codes(client.say("MAIL FROM:<a@x>")) == ["250 2.1.0"]


@pytest.mark.parametrize("canceller", CANCELLERS)
def test_a_connection_lost_while_a_delivery_is_asked_for_ends_the_session(
    canceller: Callable[..., Any], logged
) -> None:  # type: ignore[no-untyped-def]
    """Nothing is left."""
    client = greeted(_giving(lambda: Deferred(canceller)))
    client.say("MAIL FROM:<a@x>", "RCPT TO:<b@x>")
    client.lose()
    assert client.read() == []
    assert len(logged.take()) == (canceller is _raising_canceller)


# What deliver gives as a whole


def _delivering(give: Callable[[Any], Any], *recipients: str) -> Client:
    return with_recipients(ScriptedDeliveries(deliver=give), *recipients)


@pytest.mark.parametrize("kind", [list, tuple, type("Listlike", (list,), {})])
@pytest.mark.parametrize("way", WAYS)
def test_outcomes_may_be_a_list_or_a_tuple(kind: type, way: Callable[..., Any]) -> None:
    """One for each distinct recipient, in order, at once or later."""
    client = _delivering(lambda message: way(lambda: kind([None, PermanentFailure("no"), "text"])), "a@x", "b@x", "c@x")
    assert codes(client.content()) == ["250 2.0.0", "554 5.3.0", "250 2.0.0"]


@pytest.mark.parametrize("way", LATER)
def test_a_list_that_comes_later_may_hold_what_comes_later(way: Callable[..., Any]) -> None:
    """A Deferred of a list of Deferreds."""
    waiting: list[Deferred[Any]] = [Deferred(), Deferred()]
    client = _delivering(lambda message: way(lambda: list(waiting)), "a@x", "b@x")
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
) -> None:  # type: ignore[no-untyped-def]
    """RFC 2033 §4.2: the number of replies is that of the recipients, duplicates too, not of the outcomes."""
    client = _delivering(lambda message: way(lambda: outcomes), "a@x", "b@x", "a@x")
    replies = client.content()
    assert codes(replies) == ["451 4.3.0"] * 3
    assert [re.search("<(.*)>", line)[1] for line in replies] == ["a@x", "b@x", "a@x"]  # type: ignore[index]
    assert len(logged.take()) == 1
    assert codes(client.say("NOOP")) == ["250 2.0.0"]


@pytest.mark.parametrize("nested", [[], [None], (None,), [[None]], ["text"], [Deferred]])
def test_a_list_within_the_list_is_no_outcome(nested: Any, logged) -> None:  # type: ignore[no-untyped-def]
    """Of that recipient alone."""
    client = _delivering(lambda message: [None, nested, None], "a@x", "b@x", "c@x")
    assert codes(client.content()) == ["250 2.0.0", "451 4.3.0", "250 2.0.0"]
    assert len(logged.take()) == 1


def test_an_awaitable_of_a_list_is_no_outcome(logged) -> None:  # type: ignore[no-untyped-def]
    """Of that recipient alone."""
    client = _delivering(lambda message: [succeed([None]), None], "a@x", "b@x")
    assert codes(client.content()) == ["451 4.3.0", "250 2.0.0"]
    assert len(logged.take()) == 1


def test_refusals_in_the_list_need_not_be_raised() -> None:
    """A DeliveryError among the outcomes."""
    client = _delivering(lambda message: [PermanentFailure("no"), TemporaryFailure("later")], "a@x", "b@x")
    assert codes(client.content()) == ["554 5.3.0", "451 4.3.0"]


def test_failures_in_the_list_are_what_they_hold(logged) -> None:  # type: ignore[no-untyped-def]
    """As ``gatherResults(consumeErrors=True)`` and DeferredList would give them."""
    failures = [Failure(PermanentFailure("no")), Failure(ZeroDivisionError())]
    client = _delivering(lambda message: failures, "a@x", "b@x")
    assert codes(client.content()) == ["554 5.3.0", "451 4.3.0"]
    assert len(logged.take()) == 1


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize(
    ("error", "answer"), [(PermanentFailure("no"), "554 5.3.0"), (ZeroDivisionError(), "451 4.3.0")]
)
def test_one_awaitable_for_all_recipients_is_the_outcome_of_all(
    error: Exception, answer: str, later: bool, logged
) -> None:  # type: ignore[no-untyped-def]
    """``[stored] * len(message.recipients)``: never a 250 for the second where it failed."""
    stored: Deferred[None] = Deferred()
    if not later:
        stored.errback(error)
    client = _delivering(lambda message: [stored] * 3, "a@x", "b@x", "c@x")
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
    client = _delivering(lambda message: [stored] * 2, "a@x", "b@x")
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


def test_a_coroutine_given_twice_is_run_once(logged) -> None:  # type: ignore[no-untyped-def]
    """A programming error: the second is no 250."""
    ran: list[int] = []

    async def store() -> None:
        ran.append(1)

    def give(message: Any) -> Any:
        return [store()] * 2

    client = _delivering(give, "a@x", "b@x")
    replies = client.content()
    assert ran == [1]
    assert codes(replies)[0] == "250 2.0.0"
    assert codes(replies)[1] in ("451 4.3.0", "250 2.0.0")
    logged.take()


@pytest.mark.parametrize("canceller", CANCELLERS)
def test_awaitables_in_a_list_of_the_wrong_length_are_cancelled(canceller: Callable[..., Any], logged) -> None:  # type: ignore[no-untyped-def]
    """Nobody waits for them."""
    waiting: list[Deferred[Any]] = [Deferred(canceller) for _ in range(3)]
    client = _delivering(lambda message: list(waiting), "a@x", "b@x")
    assert codes(client.content()) == ["451 4.3.0"] * 2
    assert canceller is _raising_canceller or all(deferred.called for deferred in waiting)
    assert len(logged.take()) == 1 + 3 * (canceller is _raising_canceller)


def test_coroutines_in_a_list_of_the_wrong_length_are_not_run(logged) -> None:  # type: ignore[no-untyped-def]
    """What is answered 451 must not be delivered."""
    ran: list[int] = []

    async def store() -> None:
        ran.append(1)

    client = _delivering(lambda message: [store(), store()], "a@x")
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
    client = _delivering(lambda message: outcomes, "a@x", "b@x")
    client.content()
    assert codes(client.after(540)) == ["451 4.4.7"] * 2
    assert ran == []
    assert len(cancelled) == 1


def test_the_time_of_a_list_and_of_what_is_in_it_is_one() -> None:
    """RFC 5321 §4.5.3.2.6: the client counts from its dot."""
    outcomes: Deferred[Any] = Deferred()
    client = _delivering(lambda message: outcomes, "a@x", "b@x")
    client.content()
    assert client.after(500) == []
    outcomes.callback([Deferred(), None])
    assert client.after(39) == []
    assert codes(client.after(1)) == ["451 4.4.7", "250 2.0.0"]


# aborted


@pytest.mark.parametrize(
    "answer",
    [
        lambda: None,
        lambda: "text",
        lambda: 7,
        Deferred,
        lambda: succeed(None),
        lambda: _coroutine(lambda: None),
        lambda: _Awaitable(None),
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
        if way is not _return_failure and _can_raise(way, error())
    ],
)
@pytest.mark.parametrize("when", ["RSET", "LHLO", "lost", "refused sender", "refused content"])
def test_an_aborted_that_fails_is_logged_and_changes_nothing(  # type: ignore[no-untyped-def]
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
