"""The one rule: after the content one reply for each recipient that was accepted (RFC 2033 §4.2)."""

from __future__ import annotations

import re

import pytest
from dialogue import (
    LoggedErrors,
    codes,
    greeted,
    masked,
    with_recipients,
    with_sender,
)
from twisted.internet.defer import Deferred

from lmtp_twisted import PermanentFailure, TemporaryFailure
from lmtp_twisted.testing import ScriptedDeliveries

MESSAGE = ("Subject: x", "", "Hello", ".")


@pytest.mark.parametrize("count", [1, 2, 3, 100])
def test_each_accepted_recipient_gets_one_reply_in_rcpt_order(count: int) -> None:
    """RFC 2033 §4.2."""
    client = with_recipients(None, *(f"r{number}@example.org" for number in range(count)))
    replies = client.content()
    assert codes(replies) == ["250 2.0.0"] * count
    assert [re.search("<(.*?)>", line)[1] for line in replies] == [f"r{n}@example.org" for n in range(count)]  # type: ignore[index]


def test_each_recipient_gets_the_outcome_of_its_own() -> None:
    """RFC 2033 §4.2."""
    deliveries = ScriptedDeliveries(
        {
            "text@x": "Filed under spam",
            "temporary@x": TemporaryFailure("over quota", enhanced="4.2.2"),
            "permanent@x": PermanentFailure("too large for this mailbox", code=552, enhanced="5.2.3"),
            "default@x": PermanentFailure("no"),
        }
    )
    client = with_recipients(deliveries, "ok@x", "text@x", "temporary@x", "permanent@x", "default@x")
    assert masked(client.content()) == [
        "250 2.0.0 <ok@x> ID.1.1 Delivered",
        "250 2.0.0 <text@x> ID.1.2 Filed under spam",
        "451 4.2.2 <temporary@x> ID.1.3 over quota",
        "552 5.2.3 <permanent@x> ID.1.4 too large for this mailbox",
        "554 5.3.0 <default@x> ID.1.5 no",
    ]


def test_a_refused_recipient_gets_no_final_reply() -> None:
    """RFC 2033 §4.2: one reply for each RCPT that was accepted."""
    client = with_sender(ScriptedDeliveries(recipients={"no@x": PermanentFailure("no such user")}))
    assert codes(client.say("RCPT TO:<no@x>", "RCPT TO:<yes@x>", "RCPT TO:<no@x>")) == [
        "550 5.1.1",
        "250 2.1.5",
        "550 5.1.1",
    ]
    assert masked(client.content()) == ["250 2.0.0 <yes@x> ID.1.1 Delivered"]


def test_the_same_recipient_twice_gets_two_replies_and_one_delivery() -> None:
    """RFC 2033 §4.2."""
    deliveries = ScriptedDeliveries({"a@x": TemporaryFailure("busy")})
    client = with_sender(deliveries)
    assert codes(client.say("RCPT TO:<a@x>", "RCPT TO:<b@x>", "RCPT TO:<a@X>")) == ["250 2.1.5"] * 3
    assert masked(client.content()) == [
        "451 4.3.0 <a@x> ID.1.1 busy",
        "250 2.0.0 <b@x> ID.1.2 Delivered",
        "451 4.3.0 <a@x> ID.1.3 busy",
    ]
    assert [str(recipient) for recipient in deliveries.messages[0].recipients] == ["a@x", "b@x"]


def test_a_slow_second_recipient_does_not_hold_back_the_first() -> None:
    """RFC 2033 §4.2: replies in order, each as soon as it and all before it are known."""
    waiting: dict[str, Deferred[None]] = {f"{name}@x": Deferred() for name in "abcd"}
    client = with_recipients(ScriptedDeliveries(waiting), "a@x", "b@x", "c@x", "d@x")
    assert client.content() == []
    waiting["c@x"].callback(None)
    assert client.read() == []
    waiting["a@x"].callback(None)
    assert [line.split()[2] for line in client.read()] == ["<a@x>"]
    waiting["b@x"].callback(None)
    assert [line.split()[2] for line in client.read()] == ["<b@x>", "<c@x>"]
    assert client.say("NOOP") == []
    waiting["d@x"].callback(None)
    assert codes(client.read()) == ["250 2.0.0", "250 2.0.0"]


def test_a_duplicate_behind_a_slow_recipient_waits_for_its_turn() -> None:
    """RFC 2033 §4.2."""
    slow: Deferred[None] = Deferred()
    client = with_recipients(ScriptedDeliveries({"slow@x": slow}), "a@x", "slow@x", "a@x")
    assert [line.split()[2] for line in client.content()] == ["<a@x>"]
    slow.callback(None)
    assert [line.split()[2] for line in client.read()] == ["<slow@x>", "<a@x>"]


def test_no_250_is_sent_before_the_backend_has_committed() -> None:
    """RFC 5321 §4.5.5: a 250 takes over the responsibility."""
    committed: Deferred[None] = Deferred()
    client = with_recipients(ScriptedDeliveries({"one@example.org": committed}))
    assert client.content() == []
    committed.callback(None)
    assert codes(client.read()) == ["250 2.0.0"]


def test_an_unexpected_exception_is_451_and_logged_and_shows_nothing_of_itself(logged: LoggedErrors) -> None:
    """RFC 2033 §4.2, RFC 3463 §3.4."""

    def fail() -> None:
        raise ZeroDivisionError("/srv/secret/path")

    client = with_recipients(ScriptedDeliveries({"a@x": fail}), "a@x", "b@x")
    replies = client.content()
    assert codes(replies) == ["451 4.3.0", "451 4.3.0"]
    assert [line.split()[2] for line in replies] == ["<a@x>", "<b@x>"]
    assert "secret" not in " ".join(replies)
    assert "Zero" not in " ".join(replies)
    (event,) = logged.take()
    assert event["log_failure"].check(ZeroDivisionError)
    assert codes(client.say("NOOP")) == ["250 2.0.0"]


def test_an_exception_of_one_recipient_leaves_the_others_alone(logged: LoggedErrors) -> None:
    """RFC 2033 §4.2."""

    async def deliver(message: object, recipient: object) -> None:
        if str(recipient) == "b@x":
            raise ZeroDivisionError

    client = with_recipients(None, "a@x", "b@x", "c@x", deliver=deliver)
    assert codes(client.content()) == ["250 2.0.0", "451 4.3.0", "250 2.0.0"]
    assert len(logged.take()) == 1


def test_a_delivery_over_its_time_is_cancelled_and_answered_451() -> None:
    """Ten minutes is what a client waits (RFC 5321 §4.5.3.2.6): we answer before."""
    cancelled: list[object] = []
    slow: Deferred[None] = Deferred(cancelled.append)
    client = with_recipients(ScriptedDeliveries({"slow@x": slow}), "a@x", "slow@x", "b@x")
    assert len(client.content()) == 1
    assert client.after(539.9) == []
    assert cancelled == []
    assert masked(client.after(0.1)) == [
        "451 4.4.7 <slow@x> ID.1.2 Delivery took too long",
        "250 2.0.0 <b@x> ID.1.3 Delivered",
    ]
    assert cancelled == [slow]
    assert codes(client.say("NOOP")) == ["250 2.0.0"]


def test_a_delivery_over_its_time_is_cancelled_before_the_next_message_is_begun() -> None:
    """However much was sent ahead: of two deliveries of one session only one is under way."""
    order: list[str] = []
    slow: Deferred[None] = Deferred(lambda deferred: order.append("cancelled"))
    deliveries = ScriptedDeliveries({"slow@x": slow}, senders={"next@x": lambda: order.append("next")})
    client = with_recipients(deliveries, "slow@x")
    client.content()
    client.say("MAIL FROM:<next@x>", "RCPT TO:<next@x>", "DATA", *MESSAGE)
    assert codes(client.after(540)) == ["451 4.4.7", "250 2.1.0", "250 2.1.5", "354", "250 2.0.0"]
    assert order == ["cancelled", "next"]


def test_what_was_answered_stays_delivered_and_the_rest_is_cancelled_when_the_connection_dies() -> None:
    """RFC 2033 §4.2, RFC 1047."""
    cancelled: list[object] = []
    done: Deferred[None] = Deferred(cancelled.append)
    slow: Deferred[None] = Deferred(cancelled.append)
    client = with_recipients(ScriptedDeliveries({"done@x": done, "slow@x": slow}), "done@x", "slow@x")
    client.content()
    done.callback(None)
    assert codes(client.read()) == ["250 2.0.0"]
    client.lose()
    assert cancelled == [slow]
    assert client.read() == []


def test_a_half_closed_client_gets_all_its_replies_and_is_closed_then() -> None:
    """RFC 9293 §3.6: who has half-closed still reads."""
    slow: Deferred[None] = Deferred()
    client = with_recipients(ScriptedDeliveries({"slow@x": slow}), "a@x", "slow@x")
    assert len(client.content()) == 1
    assert client.say("QUIT") == []
    client.half_close()
    assert not client.is_closed
    slow.callback(None)
    assert codes(client.read()) == ["250 2.0.0", "221 2.0.0"]
    assert client.is_closed


@pytest.mark.parametrize("turn", range(4))
def test_reply_ids_are_unique_and_name_the_recipient(turn: int) -> None:
    """RFC 2033 §4.2: a client that miscounts can see it."""
    client = greeted()
    seen: set[str] = set()
    for _ in range(turn + 1):
        client.say("MAIL FROM:<s@x>", "RCPT TO:<a@x>", "RCPT TO:<a@x>", "RCPT TO:<b@x>")
        replies = client.content()
        assert [line.split()[2] for line in replies] == ["<a@x>", "<a@x>", "<b@x>"]
        seen.update(line.split()[3] for line in replies)
    assert len(seen) == 3 * (turn + 1)
    assert all(reply_id.startswith(client.protocol.session.id) for reply_id in seen)
