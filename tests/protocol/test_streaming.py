"""Deliveries that read the content while it comes: what they are given, and what the client is told."""

from __future__ import annotations

from typing import Any

import pytest
from dialogue import Client, codes, server, with_recipients
from streamed import by_hand, result_of, streaming
from twisted.internet.defer import Deferred

from lmtp_twisted import BareNewlines, PermanentFailure, TemporaryFailure
from lmtp_twisted.errors import NotStored
from lmtp_twisted.testing import RecordingObserver, ScriptedDeliveries


def test_deliver_is_called_at_354_and_the_octets_come_as_they_arrive() -> None:
    """RFC 5321 §4.1.1.4: decoded, as ever; what may begin the end mark waits for what follows it."""
    client, deliveries = streaming()
    assert codes(client.say("DATA")) == ["354"]
    assert len(deliveries.messages) == 1
    for segment, so_far in [
        (b"Subj", b"Subj"),
        (b"ect: x\r\n\r\nHello", b"Subject: x\r\n\r\nHello"),
        (b"\r\n.", b"Subject: x\r\n\r\nHello"),
        (b".dots\r\n", b"Subject: x\r\n\r\nHello\r\n.dots"),
    ]:
        assert client.send(segment) == []
        assert deliveries.contents == [so_far]
    assert codes(client.send(b".\r\n")) == ["250 2.0.0"]
    assert deliveries.contents == [b"Subject: x\r\n\r\nHello\r\n.dots\r\n"]


@pytest.mark.parametrize("policy", [BareNewlines.NORMALISE, BareNewlines.REJECT])
@pytest.mark.parametrize(
    "segments",
    [
        [b"DATA\r\n", b"one", b"\r", b"\ntwo\r\n", b".\r\n"],
        [b"BDAT 10 LAST\r\n", b"one", b"\r", b"\n", b"two\r", b"\n"],
        [b"BDAT 4\r\none\r", b"BDAT 6 LAST\r\n", b"\n", b"two\r\n"],
        [b"BDAT 3\r\none", b"BDAT 1\r\n\rBDAT 6 LAST\r\n\n", b"two\r\n"],
    ],
)
def test_what_is_held_back_is_not_the_end(policy: BareNewlines, segments: list[bytes]) -> None:
    """A CR at the end of a segment may be half of a line's end (RFC 5321 §2.3.8)."""
    client, deliveries = streaming(bare_newlines=policy)
    replies = [reply for segment in segments for reply in client.send(segment)]
    assert codes(replies)[-1] == "250 2.0.0"
    assert deliveries.contents == [b"one\r\ntwo\r\n"]


def test_a_refused_content_that_began_with_what_is_held_back_is_completed_for_nobody() -> None:
    """A bare CR alone in a segment, with the policy that refuses it."""
    client, hand = by_hand(bare_newlines=BareNewlines.REJECT)
    client.say("DATA")
    chunk = result_of(hand.read())
    client.send(b"\r")
    client.send(b"\r")
    assert chunk != [b""]
    assert not any(isinstance(found, StopAsyncIteration) for found in chunk)
    assert codes(client.send(b"x\r\n.\r\n"))[-1].startswith("550 5.6")
    hand.outcome.callback(None)


def test_with_bdat_it_is_called_at_the_first_chunk() -> None:
    """RFC 3030 §2: one content of all chunks."""
    client, deliveries = streaming()
    assert codes(client.send(b"BDAT 3\r\n")) == []
    assert len(deliveries.messages) == 1
    assert codes(client.send(b"abcBDAT 2\r\nd")) == ["250 2.0.0"]
    assert deliveries.contents == [b"abcd"]
    assert codes(client.send(b"eBDAT 0 LAST\r\n")) == ["250 2.0.0", "250 2.0.0"]
    assert deliveries.contents == [b"abcde"]
    assert len(deliveries.messages) == 1


@pytest.mark.parametrize("octets", [b"DATA\r\n.\r\n", b"BDAT 0 LAST\r\n"])
def test_an_empty_content_is_complete_at_once(octets: bytes) -> None:
    """The iterator yields nothing."""
    client, deliveries = streaming()
    assert codes(client.send(octets))[-1] == "250 2.0.0"
    assert deliveries.contents == [b""]


def test_a_delivery_is_told_the_accepted_and_distinct_recipients() -> None:
    """RFC 2033 §4.2: one delivery for a recipient that is given twice, and two replies."""
    asked: list[Any] = []
    deliveries = ScriptedDeliveries(
        {"b@x": TemporaryFailure("busy")}, recipients={"no@x": PermanentFailure("no")}, streams=True
    )
    deliveries.streams = lambda recipients: bool(asked.append(recipients)) or True  # type: ignore[method-assign]
    client = with_recipients(deliveries, "a@x", "b@x")
    client.say("RCPT TO:<no@x>", "RCPT TO:<a@x>")
    replies = client.content()
    assert codes(replies) == ["250 2.0.0", "451 4.3.0", "250 2.0.0"]
    assert [reply.split()[2] for reply in replies] == ["<a@x>", "<b@x>", "<a@x>"]
    assert [[str(recipient) for recipient in recipients] for recipients in asked] == [["a@x", "b@x"]]
    assert [str(recipient) for recipient in deliveries.messages[0].recipients] == ["a@x", "b@x"]


@pytest.mark.parametrize("answer", [False, None, 1, "yes", ZeroDivisionError()])
def test_only_true_streams(answer: Any, logged: Any) -> None:
    """Every delivery takes a message that is stored."""

    def streams(_: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    deliveries = ScriptedDeliveries()
    deliveries.streams = streams  # type: ignore[method-assign]
    client = with_recipients(deliveries)
    assert codes(client.say("DATA")) == ["354"]
    assert deliveries.messages == []
    assert codes(client.send(b"x\r\n.\r\n")) == ["250 2.0.0"]
    assert len(logged.take()) == (answer is not False)


def test_outcomes_wait_for_the_dot() -> None:
    """RFC 2033 §4.2: whatever comes before it."""
    early, late = Deferred(), Deferred()  # type: Deferred[Any], Deferred[Any]
    client, _ = streaming(lambda message: [early, late, "at once"], "a@x", "b@x", "c@x")
    client.say("DATA")
    early.callback("early")
    assert client.send(b"Hello\r\n") == []
    replies = client.send(b".\r\n")
    assert codes(replies) == ["250 2.0.0"]
    assert replies[0].endswith("early")
    late.errback(PermanentFailure("late"))
    replies = client.read()
    assert codes(replies) == ["554 5.3.0", "250 2.0.0"]
    assert replies[1].endswith("at once")
    assert codes(client.say("NOOP")) == ["250 2.0.0"]


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        (lambda message: [None, None], ["250 2.0.0", "250 2.0.0"]),
        (lambda message: ["text", PermanentFailure("no", code=552, enhanced="5.2.2")], ["250 2.0.0", "552 5.2.2"]),
        (lambda message: [None], ["451 4.3.0", "451 4.3.0"]),
        (lambda message: 7, ["451 4.3.0", "451 4.3.0"]),
        (lambda message: 1 // 0, ["451 4.3.0", "451 4.3.0"]),
        (lambda message: Deferred(), []),
    ],
    ids=["delivered", "mixed", "short", "wrong", "raised", "never"],
)
def test_any_outcome_before_the_dot_is_one_reply_for_each_recipient(
    outcomes: Any, expected: list[str], logged: Any
) -> None:
    """RFC 2033 §4.2: the content is read away, and none of it runs as a command."""
    client, _ = streaming(outcomes, "a@x", "b@x")
    assert codes(client.say("DATA")) == ["354"]
    assert client.send(b"QUIT\r\n" * 200_000) == []
    assert codes(client.send(b"\r\n.\r\n")) == expected
    logged.take()
    if not expected:
        assert codes(client.after(541)) == ["451 4.4.7"] * 2
    assert codes(client.say("NOOP")) == ["250 2.0.0"]


def test_completed_fires_at_the_dot() -> None:
    """Each time it is asked for it is another Deferred, also when all is over."""
    client, hand = by_hand()
    client.say("DATA")
    first, second = result_of(hand.message.completed), result_of(hand.message.completed)
    client.send(b"Hello\r\n")
    assert first == second == []
    client.send(b".\r\n")
    assert first == second == [None]
    assert result_of(hand.message.completed) == [None]
    hand.outcome.callback([None])
    assert codes(client.read()) == ["250 2.0.0"]


def test_a_completed_that_was_cancelled_is_forgotten() -> None:
    """Also by another one that fires before it."""
    client, hand = by_hand()
    client.say("DATA")
    hand.message.completed.addErrback(lambda _: None).cancel()
    hand.message.completed.addCallback(lambda _: last.cancel())
    last = hand.message.completed.addErrback(lambda _: None)
    client.send(b".\r\n")
    hand.outcome.callback([None])
    assert codes(client.read()) == ["250 2.0.0"]


def test_a_stored_message_is_completed() -> None:
    """So a delivery that streams takes it as it is."""
    fired: list[Any] = []

    async def deliver(message: Any) -> list[None]:
        fired.append(await message.completed)
        fired.append(b"".join([chunk async for chunk in message.chunks()]))
        return [None]

    client = with_recipients(ScriptedDeliveries(deliver=deliver))
    assert codes(client.content("Hello\r\n")) == ["250 2.0.0"]
    assert fired == [None, b"Hello\r\n"]


@pytest.mark.parametrize(
    ("before", "last", "headers"),
    [
        (b"Subject: x\r\nTo: y\r\n", b"\r\nbody", [("Subject", "x"), ("To", "y")]),
        (b"Subject: x\r\n\r", b"\n", [("Subject", "x")]),
        (b"Subject: x\n", b"\nbody", [("Subject", "x")]),
        (b"\r", b"\nbody", []),
        (b"", b"\nbody", []),
    ],
)
def test_the_headers_are_there_once_they_have_come(before: bytes, last: bytes, headers: list[Any]) -> None:
    """RFC 5322 §2.1: octet by octet too."""
    client, hand = by_hand()
    client.send(b"BDAT %d\r\n" % (len(before) + len(last)))
    for octet in before:
        client.send(bytes([octet]))
        with pytest.raises(NotStored):
            hand.message.headers  # noqa: B018  # it is what is asked
    client.send(last)
    assert hand.message.headers.items() == headers
    hand.outcome.callback([None])


def test_a_content_that_is_all_header_has_it_when_it_is_complete() -> None:
    """And no more of it than is kept of others."""
    client, hand = by_hand()
    client.send(b"BDAT 12 LAST\r\nSubject: x\r\n")
    assert hand.message.headers["Subject"] == "x"
    hand.outcome.callback([None])


def test_what_is_not_stored_cannot_be_had() -> None:
    """A clear error, not a wrong answer."""
    client, hand = by_hand()
    client.say("DATA")
    client.send(b"Hello\r\n")
    message = hand.message
    for ask in (message.blocks, message.open, message.read, lambda: message.size, message.chunks):
        with pytest.raises(NotStored):
            ask()
    assert not message.inMemory
    assert message.id in repr(message)
    client.send(b".\r\n")
    assert message.size == 7
    assert message.trace().endswith(message.received)
    hand.outcome.callback([None])


def test_observers_hear_of_it_as_of_any_other() -> None:
    """The seconds count from the dot."""
    observer = RecordingObserver()
    client, hand = by_hand("a@x", "b@x", observers=[observer])
    client.say("DATA")
    client.after(20)
    early: Deferred[Any] = Deferred()
    hand.outcome.callback(["early", early])
    client.after(20)
    client.send(b"Hello\r\n.\r\n")
    client.reactor.advance(5)
    early.callback(None)
    (ended,) = [event for event in observer.events if event.name == "transactionEnded"]
    assert [(outcome.reply.code, outcome.size, outcome.seconds) for outcome in ended.outcomes] == [
        (250, 7, 0.0),
        (250, 7, 5.0),
    ]


def test_the_next_message_of_a_session_may_be_stored() -> None:
    """Each is asked for."""
    answers = [True, False, True]
    deliveries = ScriptedDeliveries(streams=True)
    deliveries.streams = lambda recipients: answers.pop()  # type: ignore[method-assign]
    client = Client(server(deliveries))
    client.say("LHLO c")
    for number in range(3):
        client.say("MAIL FROM:<a@x>", "RCPT TO:<b@x>")
        assert codes(client.content(f"Number {number}\r\n")) == ["250 2.0.0"]
    assert deliveries.contents == [b"Number 0\r\n", b"Number 1\r\n", b"Number 2\r\n"]
