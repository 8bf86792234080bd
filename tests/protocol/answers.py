"""Every answer that a delivery can give, right or wrong, and every way in which it can come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any

from dialogue import Client, codes, greeted, with_recipients
from twisted.internet.defer import Deferred, fail, inlineCallbacks, succeed
from twisted.python.failure import Failure

from lmtp_twisted import PermanentFailure, Reply, TemporaryFailure
from lmtp_twisted.errors import DeliveryError
from lmtp_twisted.testing import ScriptedDeliveries


class BareRefusal(PermanentFailure):
    """Does not call the constructor."""

    def __init__(self) -> None:
        pass


class NumberAsText(BareRefusal):
    text = 5  # type: ignore[assignment]


class NoText(BareRefusal):
    text = None  # type: ignore[assignment]


class NumberAsEnhanced(BareRefusal):
    enhanced = 511  # type: ignore[assignment]


class EmptyEnhanced(BareRefusal):
    enhanced = ""


class InjectingEnhanced(BareRefusal):
    enhanced = "5.1.1\r\n250 2.0.0 forged"


class TextAsCode(BareRefusal):
    code = "550"  # type: ignore[assignment]


class Closing(BareRefusal):
    code = 421


class Accepting(BareRefusal):
    code = 250


class HalfACode(BareRefusal):
    code = 55


class Zero(BareRefusal):
    code = 0


class RaisingText(BareRefusal):
    @property
    def text(self) -> str:  # type: ignore[override]
        raise ZeroDivisionError


class Proxy:
    """Says yes to every question for an attribute, as a remote proxy does."""

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: Proxy()


class Awaitable:
    """Neither a Deferred nor a coroutine."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __await__(self) -> Generator[Any, Any, Any]:
        if isinstance(self._value, Exception):
            raise self._value
        return self._value
        yield


class Unspeakable:
    def __repr__(self) -> str:
        raise ZeroDivisionError

    __str__ = __repr__


def raiser(error: BaseException) -> Callable[[], Any]:
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
    "subclass without its constructor": BareRefusal,
    "a number as text": NumberAsText,
    "no text": NoText,
    "a number as enhanced": NumberAsEnhanced,
    "empty enhanced": EmptyEnhanced,
    "enhanced that injects": InjectingEnhanced,
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
    "proxy": Proxy,
    "unspeakable": Unspeakable,
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
    "Reply unspeakable": lambda: Reply(250, "2.0.0", Unspeakable()),  # type: ignore[arg-type]
    "DeliveryError 421": lambda: DeliveryError(421, "4.3.2", "bye"),
    "DeliveryError 250": lambda: DeliveryError(250, "2.0.0", "fine"),
    "DeliveryError 354": lambda: DeliveryError(354),
    "DeliveryError 0": lambda: DeliveryError(0),
    "subclass 421": Closing,
    "subclass 250": Accepting,
    "subclass 55": HalfACode,
    "subclass 0": Zero,
    "subclass text code": TextAsCode,
    "subclass whose text fails": RaisingText,
}


#: What may be raised: 451 and logged.
RAISED: dict[str, Callable[[], BaseException]] = {
    "ZeroDivisionError": lambda: ZeroDivisionError("internals"),
    "RuntimeError": lambda: RuntimeError("no running event loop"),
    "OSError": lambda: OSError(28, "internals"),
    "StopIteration": StopIteration,
    "AssertionError": AssertionError,
    "asyncio.CancelledError": asyncio.CancelledError,
    "unspeakable": type("UnspeakableError", (Exception,), {"__str__": Unspeakable.__repr__}),
    "unicode": lambda: ValueError("\ud800\r\n250 2.0.0 forged"),
    "DeliveryError 421": lambda: DeliveryError(421, "4.3.2", "bye"),
    "DeliveryError 250": lambda: DeliveryError(250, "2.0.0", "fine"),
    "subclass whose text fails": RaisingText,
}


def at_once(make: Callable[[], Any]) -> Any:
    return make()


def deferred(make: Callable[[], Any]) -> Any:
    return succeed(make())


def chained(make: Callable[[], Any]) -> Any:
    return succeed(None).addCallback(lambda _: succeed(make()))


async def coroutine(make: Callable[[], Any]) -> Any:
    return make()


@inlineCallbacks
def inline(make: Callable[[], Any]) -> Generator[Any, Any, Any]:
    yield succeed(None)
    return make()


def other_awaitable(make: Callable[[], Any]) -> Any:
    return Awaitable(make())


WAYS = [at_once, deferred, chained, coroutine, inline, other_awaitable]


LATER = [deferred, chained, coroutine, inline, other_awaitable]


PLACES = {"validateFrom": "550 5.7.1", "validateTo": "550 5.1.1", "deliver": "554 5.3.0"}


class Asked:
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


def raise_later(error: BaseException) -> Any:
    return fail(error)  # type: ignore[arg-type]


async def raise_in_coroutine(error: BaseException) -> Any:
    raise error


@inlineCallbacks
def raise_inline(error: BaseException) -> Generator[Any, Any, Any]:
    yield succeed(None)
    raise error


def return_failure(error: BaseException) -> Any:
    return Failure(error)


def raise_awaited(error: BaseException) -> Any:
    return Awaitable(error)


def raise_at_once(error: BaseException) -> Any:
    raise error


RAISING = [raise_at_once, raise_later, raise_in_coroutine, raise_inline, return_failure, raise_awaited]


def can_raise(way: Callable[..., Any], error: BaseException) -> bool:
    """Python makes a RuntimeError of a StopIteration in a coroutine; awaitables here raise Exceptions alone."""
    if isinstance(error, StopIteration):
        return way is raise_at_once
    return way is not raise_awaited or isinstance(error, Exception)


def no_canceller(deferred: Deferred[Any]) -> None:
    """Does nothing: Deferred fails it."""


def raising_canceller(deferred: Deferred[Any]) -> None:
    raise ZeroDivisionError


def accepting_canceller(deferred: Deferred[Any]) -> None:
    deferred.callback(None)


def refusing_canceller(deferred: Deferred[Any]) -> None:
    deferred.errback(PermanentFailure("cancelled"))


def failing_canceller(deferred: Deferred[Any]) -> None:
    deferred.errback(ZeroDivisionError())


CANCELLERS = [no_canceller, raising_canceller, accepting_canceller, refusing_canceller, failing_canceller]


def giving(answer: Callable[[], Any]) -> ScriptedDeliveries:
    """Deliveries whose first is given as told."""
    deliveries = ScriptedDeliveries()
    ordinary = deliveries.getDelivery
    answers = [answer]

    def give(session: Any) -> Any:
        return answers.pop()() if answers else ordinary(session)

    deliveries.getDelivery = give  # type: ignore[method-assign]
    return deliveries


def delivering(give: Callable[[Any], Any], *recipients: str) -> Client:
    return with_recipients(ScriptedDeliveries(deliver=give), *recipients)
