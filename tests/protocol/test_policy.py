"""A policy that is asked before a backend."""

from __future__ import annotations

from typing import Any

import pytest
from dialogue import LoggedErrors, codes, greeted, with_recipients, with_sender
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface.verify import verifyObject

from lmtp_twisted import PermanentFailure, Reply, TemporaryFailure
from lmtp_twisted.interfaces import ILMTPDelivery, ILMTPDeliveryFactory
from lmtp_twisted.policy import PolicyFirst
from lmtp_twisted.testing import ScriptedDeliveries


async def _coroutine(value: Any) -> Any:
    if isinstance(value, Exception):
        raise value
    return value


def _now(value: Any) -> Any:
    return lambda: value


def _deferred(value: Any) -> Any:
    return lambda: fail(value) if isinstance(value, Exception) else succeed(value)


def _later(value: Any) -> Any:
    return lambda: _coroutine(value)


WAYS = [_now, _deferred, _later]


def names(deliveries: ScriptedDeliveries) -> list[str]:
    """The methods that were called."""
    return [name for name, _ in deliveries.calls]


def test_the_policy_is_asked_first_and_does_not_deliver() -> None:
    """Its deliver is not called."""
    policy, backend = ScriptedDeliveries(), ScriptedDeliveries()
    client = with_recipients(backend, "a@x", "b@x", policy=policy)
    assert codes(client.content()) == ["250 2.0.0"] * 2
    assert names(policy) == ["getDelivery", "validateFrom", "validateTo", "validateTo"]
    assert names(backend) == ["getDelivery", "validateFrom", "validateTo", "validateTo", "deliver"]


def test_it_is_a_delivery_factory_itself() -> None:
    """So that policies can be stacked."""
    stacked = PolicyFirst(ScriptedDeliveries(), PolicyFirst(ScriptedDeliveries(), ScriptedDeliveries()))
    assert verifyObject(ILMTPDeliveryFactory, stacked)
    assert verifyObject(ILMTPDelivery, stacked.getDelivery(None))  # type: ignore[arg-type]
    assert codes(with_recipients(stacked).content()) == ["250 2.0.0"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("refusal", "sender", "recipient"),
    [
        (PermanentFailure("no"), "550 5.7.1", "550 5.1.1"),
        (TemporaryFailure("later", code=450, enhanced="4.7.1"), "450 4.7.1", "450 4.7.1"),
        (Reply(553, "5.7.1", "no"), "553 5.7.1", "553 5.7.1"),
    ],
)
def test_what_the_policy_refuses_the_backend_never_hears_of(
    way: Any, refusal: Any, sender: str, recipient: str
) -> None:
    """With the policy's codes, or those of the place."""
    policy = ScriptedDeliveries(senders={"no@x": way(refusal)}, recipients={"no@x": way(refusal)})
    backend = ScriptedDeliveries()
    client = greeted(backend, policy=policy)
    assert codes(client.say("MAIL FROM:<no@x>")) == [sender]
    assert "validateFrom" not in names(backend)
    client.say("MAIL FROM:<yes@x>")
    assert codes(client.say("RCPT TO:<no@x>", "RCPT TO:<yes@x>")) == [recipient, "250 2.1.5"]
    assert names(backend).count("validateTo") == 1
    assert codes(client.content()) == ["250 2.0.0"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("answer", [None, True, "the policy's words", Reply(250, "2.1.5", "the policy's words")])
def test_what_the_policy_accepts_the_backend_decides(way: Any, answer: Any) -> None:
    """The backend's answer is the one that counts."""
    policy = ScriptedDeliveries(senders={"a@x": way(answer)}, recipients={"b@x": way(answer), "no@x": way(answer)})
    backend = ScriptedDeliveries(recipients={"no@x": PermanentFailure("no"), "b@x": "the backend's words"})
    client = greeted(backend, policy=policy)
    replies = client.say("MAIL FROM:<a@x>", "RCPT TO:<b@x>", "RCPT TO:<no@x>")
    assert codes(replies) == ["250 2.1.0", "250 2.1.5", "550 5.1.1"]
    assert replies[1].endswith("the backend's words")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", ["policy", "backend"])
def test_either_may_be_late(place: str, way: Any) -> None:
    """Each waits for the other."""
    answer: Deferred[Any] = Deferred()
    late = ScriptedDeliveries(recipients={"b@x": answer})
    other = ScriptedDeliveries(recipients={"b@x": way(None)})
    policy, backend = (late, other) if place == "policy" else (other, late)
    client = with_sender(backend, policy=policy)
    assert client.say("RCPT TO:<b@x>", "NOOP") == []
    assert names(backend).count("validateTo") == (place == "backend")
    answer.callback(None)
    assert codes(client.read()) == ["250 2.1.5", "250 2.0.0"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wrong", [7, False, Reply(421), [None]])
def test_a_wrong_answer_of_the_policy_is_451_and_the_backend_is_not_asked(
    way: Any, wrong: Any, logged: LoggedErrors
) -> None:
    """Never taken for a yes."""
    policy = ScriptedDeliveries(recipients={"b@x": way(wrong)})
    backend = ScriptedDeliveries()
    client = with_sender(backend, policy=policy)
    assert codes(client.say("RCPT TO:<b@x>")) == ["451 4.3.0"]
    assert "validateTo" not in names(backend)
    assert len(logged.take()) == 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", ["policy", "backend"])
@pytest.mark.parametrize("method", ["validateFrom", "validateTo"])
def test_an_exception_of_either_is_451(place: str, method: str, way: Any, logged: LoggedErrors) -> None:
    """Logged once."""
    failing = ScriptedDeliveries(
        senders={"a@x": way(ZeroDivisionError())} if method == "validateFrom" else {},
        recipients={"b@x": way(ZeroDivisionError())} if method == "validateTo" else {},
    )
    policy, backend = (failing, ScriptedDeliveries()) if place == "policy" else (ScriptedDeliveries(), failing)
    client = greeted(backend, policy=policy)
    replies = codes(client.say("MAIL FROM:<a@x>", "RCPT TO:<b@x>"))
    assert replies == (["451 4.3.0", "503 5.5.1"] if method == "validateFrom" else ["250 2.1.0", "451 4.3.0"])
    assert len(logged.take()) == 1


class _Giving:
    """Gives deliveries as it is told."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def getDelivery(self, session: Any) -> Any:
        answer = self._answer() if callable(self._answer) else self._answer
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", ["policy", "backend"])
def test_either_may_give_its_delivery_later(place: str, way: Any) -> None:
    """At MAIL."""
    policy: Any = ScriptedDeliveries()
    backend: Any = ScriptedDeliveries()
    if place == "policy":
        policy = _Giving(way(policy))
    else:
        backend = _Giving(way(backend))
    assert codes(with_recipients(backend, policy=policy).content()) == ["250 2.0.0"]


@pytest.mark.parametrize("way", WAYS)
def test_a_policy_that_refuses_to_give_a_delivery_refuses_the_mail(way: Any) -> None:
    """The backend is not asked."""
    backend = ScriptedDeliveries()
    client = greeted(backend, policy=_Giving(way(TemporaryFailure("busy", enhanced="4.3.2"))))
    assert codes(client.say("MAIL FROM:<a@x>")) == ["451 4.3.2"]
    assert backend.calls == []


@pytest.mark.parametrize("way", WAYS)
def test_a_backend_that_refuses_to_give_a_delivery_aborts_that_of_the_policy(way: Any) -> None:
    """A refused MAIL after getDelivery: what the policy has reserved is released."""
    policy = ScriptedDeliveries()
    client = greeted(_Giving(way(TemporaryFailure("busy", enhanced="4.3.2"))), policy=policy)
    assert codes(client.say("MAIL FROM:<a@x>")) == ["451 4.3.2"]
    assert names(policy) == ["getDelivery", "aborted"]


def test_both_hear_that_a_message_is_aborted() -> None:
    """RSET, and all else that ends a transaction."""
    policy, backend = ScriptedDeliveries(), ScriptedDeliveries()
    client = with_recipients(backend, policy=policy)
    client.say("RSET")
    assert names(policy)[-1] == names(backend)[-1] == "aborted"
    assert policy.calls[-1] == backend.calls[-1]


def test_the_backend_hears_of_a_sender_that_the_policy_has_refused() -> None:
    """It has given a delivery."""
    policy = ScriptedDeliveries(senders={"no@x": PermanentFailure("no")})
    backend = ScriptedDeliveries()
    greeted(backend, policy=policy).say("MAIL FROM:<no@x>")
    assert names(backend) == ["getDelivery", "aborted"]
    assert names(policy) == ["getDelivery", "validateFrom", "aborted"]


def test_a_policy_whose_aborted_fails_does_not_keep_it_from_the_backend(logged: LoggedErrors) -> None:
    """Each is told on its own."""
    policy, backend = ScriptedDeliveries(), ScriptedDeliveries()

    def aborted(reason: str) -> None:
        raise ZeroDivisionError

    policy.aborted = aborted  # type: ignore[method-assign]
    client = with_recipients(backend, policy=policy)
    assert codes(client.say("RSET")) == ["250 2.0.0"]
    assert names(backend)[-1] == "aborted"
    assert len(logged.take()) == 1


def test_a_policy_whose_aborted_is_a_coroutine_is_awaited() -> None:
    """As any method of a delivery may be."""
    ran: list[str] = []
    policy = ScriptedDeliveries()

    async def aborted(reason: str) -> None:
        ran.append(reason)

    policy.aborted = aborted  # type: ignore[method-assign, assignment]
    with_recipients(ScriptedDeliveries(), policy=policy).say("RSET")
    assert ran == ["RSET"]


def test_a_policy_goes_with_a_function_too() -> None:
    """``LMTPFactory(policy=…, deliver=…)``."""
    policy = ScriptedDeliveries(recipients={"no@x": PermanentFailure("no")})
    client = with_sender(None, policy=policy, deliver=lambda message, recipient: "done")
    assert codes(client.say("RCPT TO:<no@x>", "RCPT TO:<yes@x>")) == ["550 5.1.1", "250 2.1.5"]
    assert client.content()[0].endswith("done")
