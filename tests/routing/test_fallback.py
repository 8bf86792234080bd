"""One backend after the other: what leads to the next, and what is an answer."""

from __future__ import annotations

from typing import Any

import pytest
from dialogues import content, finals, names, rcpt, session
from twisted.internet.defer import Deferred, fail

from lmtp_twisted import DeliveryError, PermanentFailure, TemporaryFailure
from lmtp_twisted.fallback import FirstOf
from lmtp_twisted.testing import FakeReactor, ScriptedDeliveries

DOWN = TemporaryFailure("down", enhanced="4.4.1")
BROKEN = TemporaryFailure("broken", enhanced="4.3.0")


class Absent(ScriptedDeliveries):
    """Gives no delivery."""

    def getDelivery(self, session: Any) -> Any:
        raise TemporaryFailure("busy", enhanced="4.3.2")


def test_a_chain_needs_backends() -> None:
    with pytest.raises(ValueError, match="needs backends"):
        FirstOf([])


def test_while_the_first_takes_all_the_second_hears_nothing() -> None:
    first, second = ScriptedDeliveries(), ScriptedDeliveries()
    client = session(FirstOf([first, second]))
    assert rcpt(client, "a@x", "b@x") == ["250 2.1.5", "250 2.1.5"]
    assert content(client) == ["250 2.0.0 <a@x>", "250 2.0.0 <b@x>"]
    assert names(first) == [["a@x", "b@x"]]
    assert second.calls == []


@pytest.mark.parametrize(
    "outcome", [DOWN, BROKEN, TemporaryFailure("?"), TemporaryFailure("?", enhanced="4.0.0"), ValueError()]
)
def test_an_outcome_that_says_that_the_backend_is_in_trouble_leads_to_the_next(outcome: Exception) -> None:
    """The same message, for those alone that the first could not take."""
    first, second = ScriptedDeliveries({"b@x": outcome}), ScriptedDeliveries()
    client = session(FirstOf([first, second]))
    rcpt(client, "a@x", "b@x", "c@x")
    assert content(client) == ["250 2.0.0 <a@x>", "250 2.0.0 <b@x>", "250 2.0.0 <c@x>"]
    assert names(second) == [["b@x"]]
    assert second.messages[0].read() == b"Subject: x\r\n\r\nHello\r\n"


@pytest.mark.parametrize(
    "outcome",
    [
        PermanentFailure("no"),
        PermanentFailure("gone", enhanced="5.4.4"),
        TemporaryFailure("full", code=452, enhanced="4.2.2"),
        TemporaryFailure("too many", code=452, enhanced="4.5.3"),
        TemporaryFailure("not yet", enhanced="4.7.1"),
    ],
)
@pytest.mark.parametrize("when", ["RCPT", "deliver"])
def test_any_other_refusal_is_an_answer(outcome: DeliveryError, when: str) -> None:
    script = {"a@x": outcome}
    first = ScriptedDeliveries(recipients=script) if when == "RCPT" else ScriptedDeliveries(script)
    second = ScriptedDeliveries()
    client = session(FirstOf([first, second]))
    replies = rcpt(client, "a@x")
    if when == "deliver":
        replies = content(client)
    assert replies[0][0] == ("5" if isinstance(outcome, PermanentFailure) else "4")
    assert second.calls == []


def test_what_was_taken_is_never_delivered_again() -> None:
    """A 250 is followed by no second delivery, whatever becomes of the others."""
    first = ScriptedDeliveries({"b@x": DOWN})
    second, third = ScriptedDeliveries({"b@x": DOWN}), ScriptedDeliveries({"b@x": DOWN})
    client = session(FirstOf([first, second, third]))
    rcpt(client, "a@x", "b@x")
    assert content(client) == ["250 2.0.0 <a@x>", "451 4.4.1 <b@x>"]
    assert (names(first), names(second), names(third)) == ([["a@x", "b@x"]], [["b@x"]], [["b@x"]])


@pytest.mark.parametrize("when", ["getDelivery", "MAIL", "RCPT"])
def test_trouble_before_the_message_leads_to_the_next_at_once(when: str) -> None:
    first: ScriptedDeliveries = Absent()
    if when == "MAIL":
        first = ScriptedDeliveries(senders={"sender@example.net": DOWN})
    elif when == "RCPT":
        first = ScriptedDeliveries(recipients={"a@x": lambda: fail(DOWN)})
    second = ScriptedDeliveries()
    client = session(FirstOf([first, second]))
    assert rcpt(client, "a@x") == ["250 2.1.5"]
    assert content(client) == ["250 2.0.0 <a@x>"]
    assert names(second) == [["a@x"]]
    assert first.messages == []
    if when != "getDelivery":
        assert first.calls[-1][0] == "aborted"


def test_the_sender_is_refused_where_none_can_take_mail() -> None:
    client = session(FirstOf([Absent(), Absent()]))
    assert rcpt(client, "a@x") == ["503 5.5.1"]


def test_a_sender_that_is_refused_for_good_is_not_asked_about_again() -> None:
    first = ScriptedDeliveries(senders={"sender@example.net": PermanentFailure("no")})
    second = ScriptedDeliveries()
    client = session(FirstOf([first, second]))
    assert rcpt(client, "a@x") == ["503 5.5.1"]
    assert second.calls == []


def test_where_the_first_is_down_a_permanent_refusal_of_the_second_bounces_nothing() -> None:
    """What the second does not know may exist at the first."""
    first = ScriptedDeliveries(recipients={"a@x": DOWN})
    second = ScriptedDeliveries(recipients={"a@x": PermanentFailure("unknown")})
    third = ScriptedDeliveries()
    client = session(FirstOf([first, second, third]))
    assert rcpt(client, "a@x") == ["451 4.4.1"]
    assert third.calls == []


def test_recipients_of_a_message_may_be_at_several_backends() -> None:
    first, second = ScriptedDeliveries(recipients={"b@x": DOWN}), ScriptedDeliveries({"b@x": PermanentFailure("no")})
    client = session(FirstOf([first, second]))
    rcpt(client, "a@x", "b@x", "a@x")
    assert content(client) == ["250 2.0.0 <a@x>", "554 5.3.0 <b@x>", "250 2.0.0 <a@x>"]
    assert (names(first), names(second)) == ([["a@x"]], [["b@x"]])


def test_the_next_may_refuse_at_its_own_rcpt() -> None:
    first = ScriptedDeliveries({"a@x": DOWN, "b@x": DOWN, "c@x": DOWN})
    second = ScriptedDeliveries(recipients={"a@x": PermanentFailure("unknown"), "b@x": BROKEN})
    third = ScriptedDeliveries()
    client = session(FirstOf([first, second, third]))
    rcpt(client, "a@x", "b@x", "c@x")
    assert content(client) == ["451 4.4.1 <a@x>", "250 2.0.0 <b@x>", "250 2.0.0 <c@x>"]
    assert (names(second), names(third)) == ([["c@x"]], [["b@x"]])


def test_a_delivery_all_of_whose_recipients_are_refused_hears_so() -> None:
    first = ScriptedDeliveries({"a@x": DOWN})
    second = ScriptedDeliveries(recipients={"a@x": PermanentFailure("unknown")})
    client = session(FirstOf([first, second]))
    rcpt(client, "a@x")
    assert content(client) == ["451 4.4.1 <a@x>"]
    assert second.calls[-1] == ("aborted", "none of its recipients was accepted")


def test_a_reply_that_is_known_does_not_wait_for_the_next_backend() -> None:
    """RFC 2033 §4.2; the next gets all that is left in one piece."""
    slow: Deferred[Any] = Deferred()
    first, second = ScriptedDeliveries({"b@x": DOWN, "c@x": slow}), ScriptedDeliveries()
    client = session(FirstOf([first, second]))
    rcpt(client, "a@x", "b@x", "c@x")
    assert content(client) == ["250 2.0.0 <a@x>"]
    assert second.calls == []
    slow.errback(DOWN)
    assert finals(client.read()) == ["250 2.0.0 <b@x>", "250 2.0.0 <c@x>"]
    assert names(second) == [["b@x", "c@x"]]


@pytest.mark.parametrize("lost", [True, False])
def test_what_nobody_waits_for_any_more_goes_to_no_further_backend(lost: bool) -> None:
    """The time-out and the end of a connection cancel; a cancelled delivery looks like one that is in trouble."""
    reactor = FakeReactor()
    first, second = ScriptedDeliveries({"a@x": Deferred(), "b@x": DOWN}), ScriptedDeliveries()
    client = session(FirstOf([first, second]), reactor)
    rcpt(client, "a@x", "b@x")
    assert content(client) == []
    if lost:
        client.lose()
    else:
        reactor.advance(541)
        assert finals(client.read()) == ["451 4.4.7 <a@x>", "451 4.4.7 <b@x>"]
    assert second.calls == []


def test_where_one_outcome_is_cancelled_the_others_come_to_an_end() -> None:
    """Whoever combines outcomes may still wait for them."""
    first, second = ScriptedDeliveries({"a@x": Deferred(), "b@x": DOWN, "c@x": Deferred()}), ScriptedDeliveries()
    got: list[Any] = []

    class Combined(FirstOf):
        def getDelivery(self, session: Any) -> Any:
            delivery = super().getDelivery(session)
            deliver = delivery.deliver

            def and_keep(message: Any) -> Any:
                got.extend(deliver(message))
                return [None] * len(got)

            delivery.deliver = and_keep  # type: ignore[method-assign]
            return delivery

    client = session(Combined([first, second]))
    rcpt(client, "a@x", "b@x", "c@x")
    content(client)
    replies: list[Any] = []
    for outcome in got:
        outcome.addCallback(replies.append)
    got[0].cancel()
    assert [reply.enhanced for reply in replies] == ["4.3.0", "4.4.1", "4.3.0"]
    assert second.calls == []


@pytest.mark.parametrize("step", ["getDelivery", "validateFrom", "validateTo"])
def test_an_answer_of_the_next_that_nobody_waits_for_is_the_end_of_its_delivery(step: str) -> None:
    waiting: Deferred[Any] = Deferred()

    class Slow(ScriptedDeliveries):
        def getDelivery(self, session: Any) -> Any:
            return waiting if step == "getDelivery" else super().getDelivery(session)

    first = ScriptedDeliveries({"a@x": DOWN})
    second = Slow(
        senders={"sender@example.net": waiting} if step == "validateFrom" else {},
        recipients={"a@x": waiting} if step == "validateTo" else {},
    )
    client = session(FirstOf([first, second]))
    rcpt(client, "a@x")
    assert content(client) == []
    client.lose()
    assert second.messages == []
    assert [name for name, _ in second.calls].count("aborted") == (step != "getDelivery")


def test_a_reset_aborts_what_was_asked() -> None:
    first, second = ScriptedDeliveries(recipients={"a@x": DOWN}), ScriptedDeliveries()
    client = session(FirstOf([first, second]))
    rcpt(client, "a@x")
    client.say("RSET")
    assert (first.calls[-1], second.calls[-1]) == (("aborted", "RSET"), ("aborted", "RSET"))


def test_vrfy_is_answered_by_the_first_that_can() -> None:
    class Verifying(ScriptedDeliveries):
        def __init__(self, answer: Any) -> None:
            super().__init__()
            self.answer = answer

        def verifyAddress(self, recipient: Any) -> Any:
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

    yes, no, down = Verifying("yes"), Verifying(PermanentFailure("no")), Verifying(DOWN)
    for backends, reply in [
        ((down, yes), "250"),
        ((down, no), "451"),
        ((no, yes), "550"),
        ((ScriptedDeliveries(),), "252"),
    ]:
        client = session(FirstOf(backends))
        assert client.say("VRFY a@x")[0][:3] == reply
        assert all(backend.calls[-1][0] in ("aborted", "getDelivery") for backend in backends if backend.calls)
