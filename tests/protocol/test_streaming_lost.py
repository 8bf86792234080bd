"""What a delivery that streams hears where its content is refused or lost, and what the client is told."""

from __future__ import annotations

from typing import Any

import pytest
from dialogue import Client, codes
from streamed import by_hand, result_of, streaming
from twisted.internet.defer import CancelledError, Deferred

from lmtp_twisted import BareNewlines, PermanentFailure
from lmtp_twisted.errors import ContentLost, NotStored
from lmtp_twisted.testing import RecordingObserver

LOOP = b"Received: x\r\n" * 3 + b"\r\n"

#: How a content is refused or lost: the settings, what the client says and does, the replies, and what the delivery is
#: told.
REFUSED: dict[str, tuple[dict[str, Any], list[bytes | float | str], list[str], tuple[int, str]]] = {
    "size": ({"size_limit": 20}, [b"DATA\r\n", b"x" * 30, b"\r\n.\r\n"], ["354", *["552 5.3.4"] * 3], (552, "5.3.4")),
    "drained": ({"size_limit": 20}, [b"DATA\r\n", b"x" * 300], ["354", *["552 5.3.4"] * 3], (552, "5.3.4")),
    "loop": ({"max_received": 2}, [b"DATA\r\n" + LOOP + b".\r\n"], ["354", *["554 5.4.6"] * 3], (554, "5.4.6")),
    "bare LF": (
        {"bare_newlines": BareNewlines.REJECT},
        [b"DATA\r\nx\ny\r\n", b".\r\n"],
        ["354", *["550 5.6.0"] * 3],
        (550, "5.6.0"),
    ),
    "bare CR at the end": (
        {"bare_newlines": BareNewlines.REJECT},
        [b"BDAT 2\r\nx\r", b"BDAT 0 LAST\r\n"],
        ["250 2.0.0", *["550 5.6.0"] * 3],
        (550, "5.6.0"),
    ),
    "failed chunk": (
        {"size_limit": 20},
        [b"BDAT 9\r\nQUIT\r\n\r\n\r", b"BDAT 12\r\nQUIT\r\nQUIT\r\n", b"BDAT 0 LAST\r\n"],
        ["250 2.0.0", "552 5.3.4", *["552 5.3.4"] * 3],
        (552, "5.3.4"),
    ),
    "RSET between chunks": ({}, [b"BDAT 3\r\nabcRSET\r\n"], ["250 2.0.0", "250 2.0.0"], (451, "4.3.0")),
    "LHLO between chunks": ({}, [b"BDAT 3\r\nabcLHLO d\r\n"], ["250 2.0.0", *["250"] * 9], (451, "4.3.0")),
    "QUIT between chunks": ({}, [b"BDAT 3\r\nabcQUIT\r\n", "lose"], ["250 2.0.0", "221 2.0.0"], (451, "4.3.0")),
    "broken BDAT": ({}, [b"BDAT 3\r\nabcBDAT x\r\n"], ["250 2.0.0", "501 5.5.4"], (451, "4.3.0")),
    "huge chunk": (
        {"size_limit": 20},
        [b"BDAT 3\r\nabcBDAT 1000\r\n"],
        ["250 2.0.0", "552 5.3.4"],
        (451, "4.3.0"),
    ),
    "disconnect": ({}, [b"DATA\r\n", b"Hello\r\n", "lose"], ["354"], (451, "4.3.0")),
    "half-close": ({}, [b"DATA\r\n", b"Hello\r\n", "half", "lose"], ["354"], (451, "4.3.0")),
    "silence": ({}, [b"DATA\r\nHello\r\n", 301.0], ["354", "421 4.4.2"], (451, "4.3.0")),
    "silence between chunks": ({}, [b"BDAT 3\r\nabc", 301.0], ["250 2.0.0", "421 4.4.2"], (451, "4.3.0")),
    "session time": (
        {"session_timeout": 60},
        [b"DATA\r\nHello\r\n", 61.0],
        ["354", "421 4.7.0"],
        (451, "4.3.0"),
    ),
    "shutdown": ({}, [b"DATA\r\nHello\r\n", "drain"], ["354", "421 4.3.2"], (451, "4.3.0")),
    "too many bad commands": (
        {"max_bad_commands": 1},
        [b"BDAT 3\r\nabcFOO\r\n"],
        ["250 2.0.0", "500 5.5.2", "421 4.7.0"],
        (451, "4.3.0"),
    ),
}


def play(client: Client, steps: list[bytes | float | str]) -> list[str]:
    """The codes of all replies."""
    lines: list[str] = []
    for step in steps:
        if isinstance(step, bytes):
            lines += client.send(step)
        elif isinstance(step, float):
            lines += client.after(step)
        elif step == "lose":
            client.lose()
        elif step == "half":
            client.half_close()
        else:
            assert step == "drain"
            client.factory.drain()
            lines += client.read()
    return [code[:3] if code.startswith(("250-", "250 8", "250 L", "250 S")) else code for code in codes(lines)]


@pytest.mark.parametrize("cause", REFUSED)
@pytest.mark.parametrize("early", [None, [None, None], [PermanentFailure("no"), "yes"]], ids=["late", "250", "mixed"])
def test_whatever_the_outcomes_are_a_refused_content_is_refused_for_each_recipient(cause: str, early: Any) -> None:
    """RFC 2033 §4.2: as many replies as without streaming, and the same."""
    settings, steps, expected, _ = REFUSED[cause]
    client, _ = streaming(lambda message: Deferred() if early is None else early, "a@x", "b@x", "a@x", **settings)
    assert play(client, steps) == expected
    client.reactor.advance(31)


@pytest.mark.parametrize("cause", REFUSED)
def test_completed_and_chunks_fail_before_anything_is_committed(cause: str) -> None:
    """The delivery hears why; and ``aborted``, which is for those whose ``deliver`` was not called, is not."""
    settings, steps, expected, told = REFUSED[cause]
    errors: list[Any] = []

    async def deliver(message: Any) -> list[Any]:
        message.completed.addErrback(lambda failure: errors.append(failure.value))
        try:
            async for _ in message.chunks():
                pass
        except ContentLost as error:
            errors.append(error)
            raise
        raise AssertionError("it was complete")

    client, deliveries = streaming(deliver, "a@x", "b@x", "a@x", **settings)
    assert play(client, steps) == expected
    assert [(type(error), error.code, error.enhanced) for error in errors] == [(ContentLost, *told)] * 2
    assert all(error.text for error in errors)
    assert [name for name, _ in deliveries.calls if name in ("deliver", "aborted")] == ["deliver"]
    assert result_of(deliveries.messages[0].completed)[0].code == told[0]
    with pytest.raises(ContentLost):
        deliveries.messages[0].forRecipients(deliveries.messages[0].recipients)


@pytest.mark.parametrize("octets", [b"BDAT 30\r\n" + b"x" * 30, b"BDAT 30 LAST\r\n" + b"x" * 30])
def test_of_a_first_chunk_that_is_too_large_a_delivery_hears_by_aborted(octets: bytes) -> None:
    """There is nothing to read."""
    client, deliveries = streaming(size_limit=20)
    assert codes(client.send(octets + b"RSET\r\n"))[:1] == ["552 5.3.4"]
    assert [name for name, _ in deliveries.calls][3:] == ["aborted"]


def test_a_delivery_that_lets_it_through_is_not_in_the_log(logged: Any) -> None:
    """It is a refusal like others: the fixture looks at the log."""
    client, deliveries = streaming(size_limit=20)
    assert codes(client.content("x" * 30 + "\r\n")) == ["552 5.3.4"]
    assert [name for name, _ in deliveries.calls][-1] == "lost"
    assert logged.take() == []


def test_what_is_told_first_stands() -> None:
    """A content that was too large is not lost again with the connection."""
    client, hand = by_hand(size_limit=20)
    client.say("DATA")
    client.send(b"x" * 30)
    client.lose()
    (error,) = result_of(hand.message.completed)
    assert error.code == 552
    hand.outcome.callback([None])


def test_what_was_read_before_was_not_complete() -> None:
    """Octets that wait to be read are not given any more."""
    client, hand = by_hand()
    client.say("DATA")
    client.send(b"Hello\r\nWorld")
    assert result_of(hand.read()) == [b"Hello\r\nWorld"]
    client.send(b"unread")
    client.lose()
    (error,) = result_of(hand.read())
    assert str(error) == "451 4.3.0 connection lost"
    hand.outcome.errback(error)


def test_observers_hear_of_a_content_that_was_lost_as_of_one_that_never_came() -> None:
    """No reply was owed; of one that is refused each reply is told."""
    observer = RecordingObserver()
    client, _ = streaming(
        lambda message: ["early"] * len(message.recipients), "a@x", "b@x", observers=[observer], size_limit=20
    )
    client.send(b"BDAT 3\r\nabcRSET\r\n")
    client.say("MAIL FROM:<a@x>", "RCPT TO:<b@x>")
    client.content("x" * 30 + "\r\n")
    ended = [event.outcomes for event in observer.events if event.name == "transactionEnded"]
    assert [[outcome.reply.code for outcome in outcomes] for outcomes in ended] == [[], [552]]


# Clearing up


def clearing_up(steps: list[Any], **settings: Any) -> tuple[Client, list[Any]]:
    """A delivery that takes its time to end; what became of it."""
    became: list[Any] = []

    async def deliver(message: Any) -> list[Any]:
        try:
            async for _ in message.chunks():
                pass
        except ContentLost:
            gone: Deferred[None] = Deferred()
            became.append(gone)
            try:
                await gone
                became.append("cleared up")
            except CancelledError:
                became.append("cancelled")
            raise
        return [None]

    client, _ = streaming(deliver, **settings)
    play(client, steps)
    return client, became


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (
            [b"BDAT 3\r\nabcRSET\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nNOOP\r\n"],
            ["250 2.1.0", "250 2.1.5", "250 2.0.0"],
        ),
        ([b"DATA\r\n" + b"x" * 30 + b"\r\n.\r\nNOOP\r\n"], ["250 2.0.0"]),
    ],
    ids=["RSET", "size"],
)
@pytest.mark.parametrize("ends", ["cleared up", "cancelled"])
def test_it_may_clear_up_before_the_session_goes_on(steps: list[Any], expected: list[str], ends: str) -> None:
    """A session has one delivery at a time; what takes half a minute is cancelled."""
    client, became = clearing_up(steps, size_limit=20)
    assert len(became) == 1
    assert client.read() == []
    if ends == "cancelled":
        assert client.after(29) == []
        assert codes(client.after(1.1)) == expected
    else:
        became[0].callback(None)
        assert codes(client.read()) == expected
    assert became[1:] == [ends]


@pytest.mark.parametrize("ends", ["cleared up", "cancelled"])
def test_it_may_clear_up_after_the_connection(ends: str) -> None:
    """Nobody waits for it, but it does not take for ever."""
    client, became = clearing_up([b"DATA\r\nHello\r\n", "lose"])
    if ends == "cancelled":
        client.reactor.advance(30)
    else:
        became[0].callback(None)
    assert became[1:] == [ends]


def test_a_client_that_goes_while_it_clears_up_changes_nothing() -> None:
    """There is nobody to go on with."""
    client, became = clearing_up([b"BDAT 3\r\nabcRSET\r\nNOOP\r\n"])
    client.lose()
    became[0].callback(None)
    assert became[1:] == ["cleared up"]
    assert client.read() == []


def test_one_that_does_not_heed_its_cancellation_holds_nobody() -> None:
    """RFC 2033 §4.2."""
    still: list[Deferred[None]] = []

    async def deliver(message: Any) -> None:
        for _ in range(3):
            try:
                still.append(Deferred())
                await still[-1]
            except CancelledError:
                continue

    client, _ = streaming(deliver)
    assert codes(client.send(b"BDAT 3\r\nabcRSET\r\nNOOP\r\n")) == ["250 2.0.0"] * 2
    assert codes(client.after(30)) == ["250 2.0.0"]
    client.lose()
    still[-1].callback(None)


def test_outcomes_that_come_after_the_content_was_lost_are_stopped() -> None:
    """Nobody wants them."""
    client, hand = by_hand()
    client.say("DATA")
    client.lose()
    cancelled: list[Any] = []
    hand.outcome.callback([Deferred(cancelled.append)])
    assert len(cancelled) == 1


# After the dot


def test_after_the_dot_the_time_out_is_that_of_other_deliveries() -> None:
    """451 4.4.7, and it is cancelled."""
    cancelled: list[Any] = []
    client, _ = streaming(lambda message: Deferred(cancelled.append), delivery_timeout=100)
    client.say("DATA")
    client.after(200)
    client.send(b"Hello\r\n.\r\n")
    assert client.after(99) == []
    assert cancelled == []
    assert codes(client.after(1)) == ["451 4.4.7"]
    assert len(cancelled) == 1


def test_after_the_dot_a_lost_connection_cancels_what_is_not_delivered() -> None:
    """As it does with other deliveries."""
    cancelled: list[Any] = []
    client, _ = streaming(lambda message: [None, Deferred(cancelled.append)], "a@x", "b@x")
    client.say("DATA")
    assert codes(client.send(b"Hello\r\n.\r\n")) == ["250 2.0.0"]
    client.lose()
    assert len(cancelled) == 1


def test_after_the_dot_a_server_that_stops_waits_for_the_replies() -> None:
    """RFC 5321 §3.8."""
    client, _ = by_hand()
    client.send(b"DATA\r\nHello\r\n.\r\n")
    client.factory.drain()
    assert client.read() == []
    client.protocol.finish_now()
    assert codes(client.read()) == ["451 4.3.0"]


def test_after_all_outcomes_there_is_nothing_to_read() -> None:
    """A delivery that reads on is told so."""
    client, hand = by_hand()
    client.say("DATA")
    client.send(b"Hello\r\n")
    waiting = result_of(hand.read())
    hand.outcome.callback([None])
    assert waiting == [b"Hello"]
    (error,) = result_of(hand.read())
    assert isinstance(error, ContentLost)
    assert codes(client.send(b".\r\n")) == ["250 2.0.0"]
    with pytest.raises(NotStored):
        hand.message.forRecipients(hand.message.recipients)
