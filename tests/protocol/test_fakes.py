"""The public fakes themselves."""

from __future__ import annotations

import pytest
from dialogue import connected, greeted, server
from twisted.internet.address import IPv4Address

from lmtp_twisted import SessionInfo, TemporaryFailure
from lmtp_twisted.testing import Conversation, Event, FakePool, FakeReactor, RecordingObserver, ScriptedDeliveries

HERE = IPv4Address("TCP", "192.0.2.9", 24)


def test_a_conversation_reads_like_the_dialogue_it_causes() -> None:
    """As the module's introduction shows it."""
    client = Conversation(server())
    assert client.greeting == ["220 mx.example.org LMTP ready"]
    assert client.say("LHLO client.example")[-1].startswith("250 ")
    assert client.say("MAIL FROM:<a@example.net>") == ["250 2.1.0 Sender OK"]
    assert not client.is_closed
    client.lose()


def test_a_conversation_does_not_take_half_a_line_for_a_line() -> None:
    """A server whose output ends within a line is broken."""
    client = Conversation(server())
    client.transport.write(b"250 half a li")
    with pytest.raises(AssertionError, match="half a li"):
        client.read()
    client.lose()


@pytest.mark.parametrize("end", ["loseConnection", "abortConnection"])
def test_a_conversation_knows_when_it_is_closed(end: str) -> None:
    """Closed or aborted."""
    client = Conversation(server())
    assert not client.is_closed
    getattr(client.transport, end)()
    assert client.is_closed
    client.protocol.connectionLost()


def test_a_script_raises_returns_and_calls() -> None:
    """An answer is a value, an awaitable, an exception, or a callable that is called for one."""
    deliveries = ScriptedDeliveries(
        senders={"raise@x": TemporaryFailure("later"), "call@x": lambda: "called", "value@x": "a value"}
    )
    client = greeted(deliveries)
    assert client.say("MAIL FROM:<raise@x>") == ["451 4.3.0 later"]
    assert client.say("MAIL FROM:<call@x>", "RSET")[0] == "250 2.1.0 called"
    assert client.say("MAIL FROM:<value@x>") == ["250 2.1.0 a value"]
    assert [name for name, _ in deliveries.calls].count("getDelivery") == 3


def test_a_pool_runs_at_once_or_when_it_is_told() -> None:
    """What it is given, and what is to hear of the result."""
    done: list[object] = []
    FakePool().callInThread(done.append, 1)
    assert done == [1]
    pool = FakePool(immediate=False)
    pool.callInThreadWithCallback(lambda success, result: done.append((success, result)), lambda: 2)
    pool.callInThreadWithCallback(lambda success, result: done.append(success), lambda: 1 / 0)
    pool.callInThread(lambda: 1 / 0)
    assert done == [1]
    assert pool.run() == 3
    assert done == [1, (True, 2), False]
    assert pool.run() == 0


def test_a_reactor_calls_from_threads_at_once_and_turns_its_clock_by_hand() -> None:
    """It is what a factory asks of a reactor."""
    reactor, called = FakeReactor(), []
    reactor.callFromThread(called.append, 1)
    reactor.callLater(5, called.append, 2)
    assert called == [1]
    reactor.advance(5)
    assert called == [1, 2]


def test_an_observer_remembers_all_that_it_heard() -> None:
    """The sessions that are secured and authenticated too."""
    observer = RecordingObserver()
    session = SessionInfo(HERE, HERE)
    observer.sessionSecured(session)
    observer.sessionAuthenticated(session)
    assert observer.events == [Event("sessionSecured", session), Event("sessionAuthenticated", session)]
    client = connected(observers=[observer])
    assert observer.events[2:] == [Event("sessionStarted", client.protocol.session)]
