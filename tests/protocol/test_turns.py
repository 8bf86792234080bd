"""Sessions take turns: none keeps the others waiting by sending more than its share."""

from __future__ import annotations

from typing import Any

from dialogue import Client, LoggedErrors, codes, server
from reactor_turns import turn
from twisted.internet.task import Clock

from lmtp_twisted import LMTPFactory
from lmtp_twisted.outbox import Outbox
from lmtp_twisted.testing import FakeReactor, ScriptedDeliveries
from lmtp_twisted.turns import SHARE, TURN, Turns

#: Seconds that the server of these tests takes for each RCPT, so that many of them are more than a share.
COST = SHARE / 10


class Slow(ScriptedDeliveries):
    """Takes a while for each recipient, during which the reactor does nothing else."""

    def __init__(self, reactor: FakeReactor) -> None:
        super().__init__()
        self._reactor = reactor

    def validateTo(self, recipient: Any) -> None:
        self._reactor.rightNow += COST


def slow_server() -> tuple[FakeReactor, LMTPFactory]:
    """A server that is busy with what it does."""
    reactor = FakeReactor()
    return reactor, server(Slow(reactor), reactor=reactor)


def in_transaction(factory: LMTPFactory) -> Client:
    """A client that may name recipients."""
    client = Client(factory)
    client.say("LHLO c", "MAIL FROM:<a@x>")
    return client


def many(count: int = 500) -> list[str]:
    """RCPT commands."""
    return [f"RCPT TO:<r{number}@x>" for number in range(count)]


def test_a_long_burst_is_answered_in_parts_and_in_full() -> None:
    """RFC 2920 §3.2: replies are in the order of the commands, however many turns they take."""
    reactor, factory = slow_server()
    client = in_transaction(factory)
    answered = codes(client.say(*many(), "NOOP", "VRFY x"))
    assert 0 < len(answered) < 500
    turns = 0
    while len(answered) < 502:
        turn(reactor)
        answered += codes(client.read())
        turns += 1
        assert turns < 500
    assert answered == ["250 2.1.5"] * 500 + ["250 2.0.0", "252 2.1.5"]


def test_others_are_answered_before_a_long_burst_has_ended() -> None:
    """Who sends commands without a pause waits for those who do not."""
    reactor, factory = slow_server()
    greedy, other = in_transaction(factory), in_transaction(factory)
    answered = len(greedy.say(*many()))
    while answered < 500:
        replies = other.say("NOOP")
        turn(reactor)
        answered += len(greedy.read())
        assert codes(replies + other.read()) == ["250 2.0.0"]


def test_who_asks_little_comes_before_many_who_ask_much() -> None:
    """However many they are: their rest comes later than what is new."""
    reactor, factory = slow_server()
    greedy = [in_transaction(factory) for _ in range(100)]
    other = in_transaction(factory)
    for client in greedy:
        client.say(*many())
    for _ in greedy:
        turn(reactor)
    # The time of this turn is used up, so it has to wait for one turn.
    assert other.say("NOOP") == []
    turn(reactor)
    assert codes(other.read()) == ["250 2.0.0"]
    assert any(client.protocol.has_input for client in greedy)
    while any(client.protocol.has_input for client in greedy):
        turn(reactor)


def test_a_session_that_is_lost_while_it_waits_runs_nothing() -> None:
    """What it had sent is forgotten."""
    reactor, factory = slow_server()
    client = in_transaction(factory)
    answered = len(client.say(*many()))
    client.lose()
    assert reactor.getDelayedCalls() == []
    assert answered < 500
    assert client.read() == []


def test_a_client_that_half_closes_in_a_long_burst_gets_all_replies() -> None:
    """They are owed."""
    reactor, factory = slow_server()
    client = in_transaction(factory)
    answered = len(client.say(*many()))
    client.protocol.readConnectionLost()
    while not client.transport.disconnecting:
        turn(reactor)
    assert answered + len(client.read()) == 500


def test_those_whose_share_was_enough_come_first_and_all_come() -> None:
    """A turn ends with its time, and those who still wait have the next one."""
    clock = Clock()
    turns = Turns(clock, Outbox(clock))
    done: list[str] = []

    def work(name: str) -> None:
        begun = turns.begin()
        clock.rightNow += TURN / 2
        turns.end(begun)
        done.append(name)

    for name in ("greedy 1", "greedy 2", "modest 1", "modest 2", "modest 3"):
        turns.wait(lambda name=name: work(name), is_patient=name.startswith("greedy"))  # type: ignore[misc]
    turn(clock)
    assert done == ["modest 1", "modest 2"]
    turn(clock)
    assert done == ["modest 1", "modest 2", "modest 3", "greedy 1"]
    turn(clock)
    assert done[-1] == "greedy 2"


def test_a_turn_is_planned_once() -> None:
    """Also where the only one that waits has to wait again."""
    clock = Clock()
    turns = Turns(clock, Outbox(clock))
    done: list[int] = []

    def work() -> None:
        done.append(len(done))
        if len(done) % 3:
            turns.end(turns.begin() - 2 * TURN)
        turns.wait(work, is_patient=True)

    turns.wait(work, is_patient=True)
    for _ in range(30):
        turn(clock)
        assert len(clock.calls) == 1
    assert len(done) < 100


def test_a_clock_that_is_set_back_ends_no_turn_late() -> None:
    """Time that did not pass is not given back."""
    clock = Clock()
    turns = Turns(clock, Outbox(clock))
    begun = turns.begin()
    clock.rightNow -= 1000
    turns.end(begun)
    begun = turns.begin()
    clock.rightNow += 2 * TURN
    turns.end(begun)
    assert turns.is_over


def test_what_goes_wrong_with_one_session_keeps_no_other_waiting(logged: LoggedErrors) -> None:
    clock = Clock()
    turns = Turns(clock, Outbox(clock))
    done: list[str] = []

    def fail() -> None:
        raise RuntimeError

    turns.wait(fail, is_patient=False)
    turns.wait(lambda: done.append("another"), is_patient=False)
    turn(clock)
    turns.wait(lambda: done.append("later"), is_patient=False)
    turn(clock)
    assert done == ["another", "later"]
    assert len(logged.take()) == 1
