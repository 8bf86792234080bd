"""
What holds a session back and what lets it go on: answers that are awaited, output that is not read, content that is
written to a file, a client that half-closes or is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from dialogue import Client, codes, connected, delivered, greeted, with_recipients, with_sender
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer

from lmtp_twisted import PermanentFailure
from lmtp_twisted.flow import AHEAD, LINGER
from lmtp_twisted.testing import FakePool, FakeReactor, ScriptedDeliveries, fake_spool

MESSAGE = ("DATA", "Subject: x", "", "Hello", ".")


def is_reading(client: Client) -> bool:
    """Whether the server reads what the client sends."""
    state: str = client.transport.producerState
    return state == "producing"


def with_half_close(client: Client, *, stalled: bool = False) -> list[str]:
    """
    Give the transport of a client the half-close of a real one. Returns what becomes of it, as it does.

    :param stalled: the client does not read, so that the half-close has to wait for what is to be sent before it.
    """
    calls: list[str] = []
    close = client.transport.loseConnection

    def lose_connection() -> None:
        calls.append("close")
        close()

    def lose_write_connection() -> None:
        calls.append("half-close")
        if not stalled:
            client.protocol.writeConnectionLost()

    client.transport.loseWriteConnection = lose_write_connection  # type: ignore[attr-defined]
    client.transport.loseConnection = lose_connection  # type: ignore[method-assign]
    return calls


# A connection that is lost


def test_what_was_sent_ahead_is_not_run_once_the_connection_is_lost() -> None:
    """RFC 5321 §4.1.1.10: nobody would hear the replies."""
    slow: Deferred[None] = Deferred(lambda deferred: None)
    deliveries = ScriptedDeliveries({"one@example.org": slow})
    client = with_recipients(deliveries)
    client.say(*MESSAGE, "MAIL FROM:<next@x>", "RCPT TO:<next@x>", *MESSAGE)
    before = len(deliveries.calls)
    client.lose()
    assert slow.called
    assert len(deliveries.calls) == before
    assert client.read() == []


@pytest.mark.parametrize("place", ["getDelivery", "validateFrom", "validateTo"])
@pytest.mark.parametrize("fires", ["never", "in its canceller", "afterwards"])
def test_nothing_is_run_when_an_answer_comes_after_the_connection_was_lost(place: str, fires: str) -> None:
    """Neither the command that waited nor those behind it."""
    canceller = (lambda deferred: deferred.callback(None)) if fires == "in its canceller" else None
    answer: Deferred[Any] = Deferred(canceller)
    deliveries = ScriptedDeliveries(
        senders={"a@x": answer} if place == "validateFrom" else {},
        recipients={"b@x": answer} if place == "validateTo" else {},
    )
    if place == "getDelivery":
        deliveries.getDelivery = lambda session: answer  # type: ignore[method-assign, assignment, return-value]
    client = greeted(deliveries)
    client.say("MAIL FROM:<a@x>", "RCPT TO:<b@x>", "RCPT TO:<c@x>", *MESSAGE)
    calls = [name for name, _ in deliveries.calls]
    client.lose()
    if fires == "afterwards":
        answer.callback(None)
    assert [name for name, _ in deliveries.calls if name != "aborted"] == calls
    assert client.read() == []


def test_a_transport_that_resumes_us_after_the_end_runs_nothing() -> None:
    """A trap of LineReceiver."""
    deliveries = ScriptedDeliveries({"one@example.org": Deferred()})
    client = with_recipients(deliveries)
    client.say(*MESSAGE, "MAIL FROM:<next@x>")
    before = len(deliveries.calls)
    client.lose()
    client.protocol.resumeProducing()
    assert len(deliveries.calls) == before
    assert client.transport.value() == b""


def test_a_delivery_that_succeeds_after_the_connection_was_lost_is_no_reply() -> None:
    """Its outcome was to be cancelled, and came all the same."""
    slow: Deferred[None] = Deferred(lambda deferred: deferred.callback(None))
    client = with_recipients(ScriptedDeliveries({"one@example.org": slow}))
    client.content()
    client.lose()
    assert client.transport.value() == b""


# Octets that come ahead


def test_commands_that_come_while_one_waits_are_run_after_it_in_order() -> None:
    """RFC 2920 §3.2."""
    slow: Deferred[None] = Deferred()
    deliveries = ScriptedDeliveries({"one@example.org": slow})
    client = with_recipients(deliveries)
    client.content()
    for octet in b"MAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nRCPT TO:<>\r\nNOOP\r\n":
        assert client.send(bytes((octet,))) == []
    slow.callback(None)
    assert codes(client.read()) == ["250 2.0.0", "250 2.1.0", "250 2.1.5", "501 5.1.3", "250 2.0.0"]


def test_the_transport_is_not_paused_while_little_comes() -> None:
    """A paused transport does not see a disconnect."""
    slow: Deferred[None] = Deferred()
    client = with_recipients(ScriptedDeliveries({"one@example.org": slow}))
    client.content()
    client.send(b"NOOP\r\n" * (AHEAD // 6))
    assert is_reading(client)
    slow.callback(None)
    assert len(client.read()) == 1 + AHEAD // 6


def test_the_transport_is_paused_once_more_than_64_kib_wait_and_resumed_after() -> None:
    """Nothing is lost, and the order is kept."""
    slow: Deferred[None] = Deferred()
    deliveries = ScriptedDeliveries({"one@example.org": slow})
    client = with_recipients(deliveries)
    client.content()
    body = b"x" * 30_000 + b"\r\n"
    data = b"".join(b"MAIL FROM:<a@x>\r\nRCPT TO:<r%d@x>\r\nDATA\r\n%b.\r\n" % (number, body) for number in range(10))
    sent = 0
    while is_reading(client):
        client.send(data[sent : sent + 1000])
        sent += 1000
    assert AHEAD < sent <= AHEAD + 2000
    slow.callback(None)
    assert is_reading(client)
    client.send(data[sent:])
    assert delivered(client)[1:] == [body] * 10
    assert [str(message.recipients[0]) for message in deliveries.messages[1:]] == [f"r{n}@x" for n in range(10)]


def test_a_client_that_is_always_ahead_is_never_more_than_so_much_ahead() -> None:
    """Every command waits, and each time that one is answered there is room for more: but never for all of it."""
    waiting: list[Deferred[None]] = []

    def answer() -> Deferred[None]:
        waiting.append(Deferred())
        return waiting[-1]

    deliveries = ScriptedDeliveries()
    deliveries.validateTo = lambda recipient: answer()  # type: ignore[method-assign, assignment]
    client = with_sender(deliveries, max_recipients=100_000)
    line = b"RCPT TO:<someone@example.org>\r\n"
    sent = answered = 0
    for _ in range(6000):
        while is_reading(client):
            client.send(line * 200)
            sent += 200
            assert (sent - answered) * len(line) <= AHEAD + 400 * len(line)
        waiting.pop().callback(None)
        answered += 1
    assert sent > 6000
    while waiting:
        waiting.pop().callback(None)
        answered += 1
    assert answered == sent


def test_the_transport_is_paused_while_content_is_written_to_a_file() -> None:
    """The spool is a reason to wait like any other."""
    reactor, pool = FakeReactor(), FakePool(immediate=False)
    client = with_recipients(reactor=reactor, spool=fake_spool(reactor, pool, threshold=100_000))
    client.say("DATA")
    content = b"".join(b"line %06d\r\n" % number for number in range(50_000))
    assert len(content) > 500_000
    sent = 0
    while sent < len(content):
        while is_reading(client) and sent < len(content):
            client.send(content[sent : sent + 8192])
            sent += 8192
        if sent < len(content):
            assert client.factory.spool.used <= 100_000 + 2 * AHEAD + 300_000
            assert pool.run() == 1
    client.send(b".\r\nNOOP\r\n")
    while pool.run():
        pass
    assert codes(client.read()) == ["250 2.0.0", "250 2.0.0"]
    assert delivered(client) == [content]


def test_a_connection_lost_while_content_is_written_to_a_file_leaves_nothing() -> None:
    """The fixtures look after the timers and the budget."""
    reactor, pool = FakeReactor(), FakePool(immediate=False)
    deliveries = ScriptedDeliveries()
    client = with_recipients(deliveries, reactor=reactor, spool=fake_spool(reactor, pool, threshold=1000))
    client.say("DATA")
    client.send(b"x" * 5000 + b"\r\n.\r\nNOOP\r\n")
    client.lose()
    assert pool.run() == 1
    assert deliveries.messages == []
    assert deliveries.calls[-1][0] == "aborted"
    assert client.transport.value() == b""


# Output that is not read


def test_the_protocol_takes_part_in_flow_control() -> None:
    """Twisted's transports ask for both."""
    client = connected()
    assert IPushProducer.providedBy(client.protocol)
    assert IHalfCloseableProtocol.providedBy(client.protocol)
    assert client.transport.producer is client.protocol
    assert client.transport.streaming


def test_while_output_is_not_read_no_command_is_run() -> None:
    """Who does not read may not make us write more."""
    client = greeted()
    client.transport.producer.pauseProducing()
    assert client.say("NOOP", "RSET") == []
    client.transport.producer.resumeProducing()
    assert codes(client.read()) == ["250 2.0.0", "250 2.0.0"]


def test_output_that_drains_in_mid_delivery_does_not_resume_the_commands() -> None:
    """Two reasons to wait, and one of them still stands."""
    slow: Deferred[None] = Deferred()
    client = with_recipients(ScriptedDeliveries({"one@example.org": slow}))
    client.say(*MESSAGE, "NOOP")
    client.transport.producer.pauseProducing()
    client.transport.producer.resumeProducing()
    assert client.read() == []
    client.say("NOOP")
    slow.callback(None)
    assert codes(client.read()) == ["250 2.0.0"] * 3


def test_a_delivery_that_ends_while_output_is_not_read_does_not_resume_the_commands() -> None:
    """Its replies are written: they are owed. What follows waits."""
    slow: Deferred[None] = Deferred()
    deliveries = ScriptedDeliveries({"one@example.org": slow})
    client = with_recipients(deliveries)
    client.say(*MESSAGE, "MAIL FROM:<next@x>")
    client.transport.producer.pauseProducing()
    before = len(deliveries.calls)
    slow.callback(None)
    assert codes(client.read()) == ["250 2.0.0"]
    assert len(deliveries.calls) == before
    client.transport.producer.resumeProducing()
    assert codes(client.read()) == ["250 2.1.0"]


def test_a_client_that_never_reads_is_aborted_after_a_time() -> None:
    """It would keep its session, and what waits for it, for ever."""
    client = greeted(write_timeout=30)
    client.transport.producer.pauseProducing()
    assert client.say(*["NOOP"] * 10) == []
    client.after(29)
    assert not client.is_closed
    client.after(1)
    assert client.transport.disconnected


def test_a_client_that_reads_slowly_is_not_aborted() -> None:
    """The time begins anew whenever the buffer has been emptied."""
    client = greeted(write_timeout=30, idle_timeout=1000)
    for _ in range(5):
        client.transport.producer.pauseProducing()
        client.after(20)
        client.transport.producer.resumeProducing()
        client.after(50)
    assert codes(client.say("NOOP")) == ["250 2.0.0"]


def test_a_client_that_never_reads_within_a_delivery_is_aborted_and_the_delivery_cancelled() -> None:
    """RFC 5321 §4.5.3.2.6 bounds the other side's patience, this one ours."""
    cancelled: list[object] = []
    client = with_recipients(ScriptedDeliveries({"one@example.org": Deferred(cancelled.append)}), write_timeout=30)
    client.content()
    client.transport.producer.pauseProducing()
    client.after(30)
    assert client.is_closed
    client.lose()
    assert len(cancelled) == 1


def test_the_idle_timer_does_not_fire_while_output_is_not_read() -> None:
    """The client may be reading; the time limit of writing decides."""
    client = greeted(idle_timeout=10, write_timeout=100)
    client.transport.producer.pauseProducing()
    assert client.after(50) == []
    assert not client.is_closed
    client.transport.producer.resumeProducing()
    assert client.after(9) == []
    assert codes(client.after(1)) == ["421 4.4.2"]


# A client that half-closes


@pytest.mark.parametrize("stage", [connected, greeted, with_recipients])
def test_an_idle_client_that_half_closes_is_closed(stage: Callable[..., Client]) -> None:
    """It can say nothing more."""
    client = stage()
    client.half_close()
    assert client.is_closed
    assert client.read() == []


@pytest.mark.parametrize("rest", [b"NOOP", b"NOOP\r", b"QUIT"])
def test_a_line_that_was_never_ended_is_not_run(rest: bytes) -> None:
    """RFC 5321 §2.3.8."""
    client = greeted()
    client.send(rest)
    client.half_close()
    assert client.read() == []
    assert client.is_closed


def test_all_that_came_before_the_half_close_is_run() -> None:
    """As ``nc -N`` sends a session from a file."""
    waiting: list[Deferred[None]] = [Deferred() for _ in range(4)]
    answers = iter(waiting)
    deliveries = ScriptedDeliveries(deliver=lambda message: [next(answers)])
    deliveries.validateTo = lambda recipient: next(answers)  # type: ignore[method-assign]
    client = greeted(deliveries)
    replies = client.say(*["MAIL FROM:<a@x>", "RCPT TO:<b@x>", *MESSAGE] * 2)
    client.half_close()
    for deferred in waiting:
        assert not client.is_closed
        deferred.callback(None)
        replies += client.read()
    assert codes(replies) == ["250 2.1.0", "250 2.1.5", "354", "250 2.0.0"] * 2
    assert client.is_closed


def test_a_half_closed_client_whose_delivery_never_ends_gets_its_451() -> None:
    """RFC 2033 §4.2."""
    client = with_recipients(ScriptedDeliveries({"one@example.org": Deferred()}))
    client.content()
    client.half_close()
    assert codes(client.after(540)) == ["451 4.4.7"]
    assert client.is_closed


def test_a_half_closed_client_that_does_not_read_is_waited_for() -> None:
    """It gets all its replies before we close."""
    client = greeted()
    client.transport.producer.pauseProducing()
    client.say("NOOP", "NOOP")
    client.half_close()
    assert not client.is_closed
    client.transport.producer.resumeProducing()
    assert codes(client.read()) == ["250 2.0.0", "250 2.0.0"]
    assert client.is_closed


def test_a_half_close_while_content_is_written_to_a_file_loses_no_reply() -> None:
    """RFC 2033 §4.2."""
    reactor, pool = FakeReactor(), FakePool(immediate=False)
    client = with_recipients(None, "a@x", "b@x", reactor=reactor, spool=fake_spool(reactor, pool, threshold=1000))
    client.say("DATA")
    client.send(b"x" * 5000 + b"\r\n.\r\nQUIT\r\n")
    client.half_close()
    assert not client.is_closed
    while pool.run():
        pass
    assert codes(client.read()) == ["250 2.0.0", "250 2.0.0", "221 2.0.0"]
    assert client.is_closed


def test_a_half_close_before_a_delayed_greeting_is_greeted_and_closed() -> None:
    """RFC 5321 §4.3.1."""
    client = connected(greeting_delay=2)
    client.half_close()
    assert codes(client.after(2)) == ["220"]
    assert client.is_closed


# The end


@pytest.mark.parametrize("last", [b"GET / HTTP/1.1\r\n", b"NOOP\n", b"BDAT x\r\n", b"BDAT 9999999999999\r\n"])
def test_where_the_client_may_still_be_sending_our_side_is_closed_first(last: bytes) -> None:
    """RFC 9293 §3.6: to close a socket with unread octets resets it, and takes the last reply away."""
    client = greeted()
    calls = with_half_close(client)
    assert len(client.send(last)) == 1
    assert calls == ["half-close"]
    for _ in range(3):
        assert client.send(b"x" * 100_000) == []
    client.half_close()
    assert calls == ["half-close", "close"]


def test_a_client_that_goes_on_sending_is_not_read_for_ever() -> None:
    """RFC 9293 §3.6."""
    client = greeted()
    with_half_close(client)
    client.send(b"GET / HTTP/1.1\r\n")
    client.after(LINGER - 0.1)
    assert not client.transport.disconnected
    assert client.after(0.1) == []
    assert client.transport.disconnected


def test_a_client_that_has_not_read_its_replies_yet_is_given_the_time_to() -> None:
    """RFC 2033 §4.2: a lost reply is a second delivery, so what is owed is not thrown away with what is unwanted."""
    client = greeted(write_timeout=60)
    with_half_close(client, stalled=True)
    client.send(b"GET / HTTP/1.1\r\n")
    client.after(59)
    assert not client.transport.disconnected
    client.protocol.writeConnectionLost()
    client.after(LINGER - 1)
    assert not client.transport.disconnected
    client.after(1)
    assert client.transport.disconnected


def test_a_client_that_never_reads_its_replies_is_not_waited_for_for_ever() -> None:
    """Where the session is over, as where it is not."""
    client = greeted(write_timeout=60)
    with_half_close(client, stalled=True)
    client.send(b"GET / HTTP/1.1\r\n")
    client.after(60)
    assert client.transport.disconnected


def test_after_quit_the_connection_is_closed_at_once() -> None:
    """RFC 5321 §4.1.1.10: the client has said that it sends nothing more."""
    client = greeted()
    calls = with_half_close(client)
    client.say("QUIT")
    assert calls == ["close"]


def test_a_client_that_has_half_closed_is_closed_at_once() -> None:
    """Nothing more can come."""
    slow: Deferred[None] = Deferred()
    client = with_recipients(ScriptedDeliveries({"one@example.org": slow}))
    calls = with_half_close(client)
    client.say(*MESSAGE, "GET / HTTP/1.1")
    client.half_close()
    slow.callback(None)
    assert codes(client.read()) == ["250 2.0.0", "421 4.7.0"]
    assert calls == ["close"]


def test_a_connection_that_does_not_close_is_aborted_after_a_time() -> None:
    """A client that never reads keeps its last replies in the transport's buffer."""
    client = greeted(write_timeout=30)
    client.say("QUIT")
    client.after(29)
    assert not client.transport.disconnected
    client.after(1)
    assert client.transport.disconnected


def test_closing_resumes_a_paused_transport() -> None:
    """Else it would never see its client close."""
    client = with_sender(ScriptedDeliveries(recipients={"a@x": Deferred()}))
    with_half_close(client)
    client.say("RCPT TO:<a@x>")
    client.send(b"NOOP\r\n" * 20_000)
    assert not is_reading(client)
    client.factory.drain()
    assert codes(client.read()) == ["421 4.3.2"]
    assert is_reading(client)
    assert client.transport.producer is None


def test_the_producer_is_unregistered_at_the_end() -> None:
    """A paused producer would keep the transport from closing."""
    client = greeted()
    client.say("QUIT")
    assert client.transport.producer is None


def test_a_refused_session_reads_its_client_away_too() -> None:
    """RFC 5321 §3.8."""
    client = with_recipients(ScriptedDeliveries(recipients={"no@x": PermanentFailure("no")}), max_bad_commands=2)
    calls = with_half_close(client)
    assert codes(client.say("X", "X", "X"))[-1] == "421 4.7.0"
    assert calls == ["half-close"]


def test_replies_to_a_client_that_does_not_read_are_bounded_within_one_segment_too() -> None:
    """Each LHLO is a few octets, and its reply a few hundred: past a number of them the client has to read first."""
    client = connected()
    written: list[int] = []
    write = client.transport.write

    def write_and_fill(data: bytes) -> None:
        written.append(len(data))
        write(data)
        if not client.protocol.paused:
            client.protocol.pauseProducing()

    client.transport.write = write_and_fill  # type: ignore[method-assign]
    client.send(b"LHLO c\r\n" * 8000)
    assert len(written) == 1
    assert written[0] < 100_000
    # It reads: all that was asked is answered in the end.
    while client.protocol.has_input:
        client.protocol.resumeProducing()
    client.protocol.resumeProducing()
    assert max(written) < 100_000
    assert len(written) >= 8000 // 202
