"""How a session ends that does not QUIT: idle, shutting down, too many (RFC 5321 §3.8, §4.5.3.2.7)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from dialogue import (
    Client,
    codes,
    connected,
    greeted,
    server,
    with_recipients,
    with_sender,
)
from twisted.internet.defer import Deferred

from lmtp_twisted.testing import FakePool, FakeReactor, ScriptedDeliveries, fake_spool

MESSAGE = ("Subject: x", "", "Hello", ".")


def test_an_idle_client_is_421_after_five_minutes() -> None:
    """RFC 5321 §4.5.3.2.7."""
    client = greeted()
    assert client.after(299) == []
    assert codes(client.after(1)) == ["421 4.4.2"]
    assert client.is_closed


@pytest.mark.parametrize("stage", [connected, greeted, with_sender, with_recipients])
def test_the_idle_time_is_a_setting_and_counts_from_the_last_octets(stage: Callable[..., Client]) -> None:
    """RFC 5321 §4.5.3.2.7."""
    client = stage(idle_timeout=20)
    assert client.after(19) == []
    client.send(b"NO")
    assert client.after(19) == []
    assert codes(client.after(1)) == ["421 4.4.2"]
    assert client.is_closed


def test_a_client_that_stops_within_a_content_is_idle_too() -> None:
    """RFC 5321 §4.5.3.2.5."""
    deliveries = ScriptedDeliveries()
    client = with_recipients(deliveries, idle_timeout=20)
    client.say("DATA", "Subject: x")
    assert codes(client.after(20)) == ["421 4.4.2"]
    client.lose()
    assert deliveries.messages == []
    assert deliveries.calls[-1][0] == "aborted"


def test_the_idle_timer_never_fires_while_a_delivery_is_pending() -> None:
    """It is we who are slow."""
    slow: Deferred[None] = Deferred()
    client = with_recipients(ScriptedDeliveries({"one@example.org": slow}), idle_timeout=20)
    client.content()
    for _ in range(20):
        assert client.after(10) == []
    slow.callback(None)
    assert codes(client.read()) == ["250 2.0.0"]
    assert not client.is_closed


def test_the_idle_time_begins_anew_with_the_last_reply() -> None:
    """RFC 5321 §4.5.3.2.7: it is the time that the client takes for its next command."""
    slow: Deferred[None] = Deferred()
    client = with_recipients(ScriptedDeliveries({"one@example.org": slow}), idle_timeout=20)
    client.content()
    assert client.after(19) == []
    slow.callback(None)
    assert codes(client.read()) == ["250 2.0.0"]
    assert client.after(19) == []
    assert codes(client.after(1)) == ["421 4.4.2"]


@pytest.mark.parametrize("method", ["getDelivery", "validateFrom", "validateTo"])
def test_the_idle_timer_never_fires_while_the_application_is_asked(method: str) -> None:
    """It is we who are slow."""
    answer: Deferred[object] = Deferred()
    deliveries = ScriptedDeliveries(
        senders={"a@x": answer} if method == "validateFrom" else {},
        recipients={"b@x": answer} if method == "validateTo" else {},
    )
    if method == "getDelivery":
        deliveries.getDelivery = lambda session: answer  # type: ignore[method-assign, assignment, return-value]
    client = greeted(deliveries, idle_timeout=20)
    client.say("MAIL FROM:<a@x>", "RCPT TO:<b@x>")
    for _ in range(20):
        assert client.after(10) == []
    answer.callback(deliveries if method == "getDelivery" else None)
    assert codes(client.read())[-1] == "250 2.1.5"


def test_idle_sessions_are_421_when_the_server_shuts_down() -> None:
    """RFC 5321 §3.8."""
    factory = server()
    clients = [Client(factory) for _ in range(3)]
    clients[1].say("LHLO c")
    clients[2].say("LHLO c", "MAIL FROM:<a@x>", "RCPT TO:<b@x>")
    done: list[None] = []
    factory.drain().addCallback(done.append)
    for client in clients:
        assert codes(client.read()) == ["421 4.3.2"]
        assert client.is_closed
    assert done == []
    for client in clients:
        client.lose()
    assert done == [None]


def test_drain_without_sessions_is_done_at_once() -> None:
    """RFC 5321 §3.8."""
    done: list[None] = []
    factory = server()
    factory.drain().addCallback(done.append)
    factory.drain().addCallback(done.append)
    assert done == [None, None]


def test_a_client_that_comes_after_the_drain_is_done_disturbs_nobody() -> None:
    """RFC 5321 §3.8: it hears its 421, and who has drained has heard of the end once."""
    done: list[None] = []
    factory = server()
    factory.drain().addCallback(done.append)
    late = Client(factory)
    assert codes(late.greeting) == ["421 4.3.2"]
    late.lose()
    assert done == [None]


def test_all_who_drain_hear_of_the_end() -> None:
    """RFC 5321 §3.8."""
    client = connected()
    done: list[None] = []
    client.factory.drain().addCallback(done.append)
    client.factory.drain().addCallback(done.append)
    assert codes(client.read()) == ["421 4.3.2"]
    client.lose()
    assert done == [None, None]


def test_a_new_connection_while_the_server_shuts_down_is_421() -> None:
    """RFC 5321 §3.8."""
    client = greeted()
    client.factory.drain()
    late = Client(client.factory)
    assert codes(late.greeting) == ["421 4.3.2"]
    assert late.is_closed
    assert late.say("LHLO c") == []
    client.read()


def test_a_session_past_the_dot_gets_all_its_replies_then_421_at_the_next_command() -> None:
    """RFC 5321 §3.8: never a 421 instead of a reply that is owed."""
    waiting: dict[str, Deferred[None]] = {"a@x": Deferred(), "b@x": Deferred()}
    client = with_recipients(ScriptedDeliveries(waiting), "a@x", "b@x")
    client.content()
    done: list[None] = []
    client.factory.drain().addCallback(done.append)
    assert client.read() == []
    waiting["a@x"].callback(None)
    assert codes(client.read()) == ["250 2.0.0"]
    waiting["b@x"].callback(None)
    assert codes(client.read()) == ["250 2.0.0"]
    assert not client.is_closed
    assert codes(client.say("MAIL FROM:<a@x>")) == ["421 4.3.2"]
    assert client.is_closed
    client.lose()
    assert done == [None]


def test_a_command_that_was_sent_ahead_is_421_after_the_replies() -> None:
    """RFC 5321 §3.8."""
    slow: Deferred[None] = Deferred()
    client = with_recipients(ScriptedDeliveries({"one@example.org": slow}))
    client.content()
    client.say("MAIL FROM:<a@x>", "RCPT TO:<b@x>")
    client.factory.drain()
    slow.callback(None)
    assert codes(client.read()) == ["250 2.0.0", "421 4.3.2"]
    assert client.is_closed


def test_a_client_that_says_nothing_after_its_replies_is_not_waited_for_long() -> None:
    """RFC 5321 §3.8."""
    slow: Deferred[None] = Deferred()
    client = with_recipients(ScriptedDeliveries({"one@example.org": slow}))
    client.content()
    client.factory.drain()
    slow.callback(None)
    assert codes(client.read()) == ["250 2.0.0"]
    assert codes(client.after(10)) == ["421 4.3.2"]
    assert client.is_closed


@pytest.mark.parametrize(
    "data", [b"DATA\r\nSubject: x\r\n", b"BDAT 10\r\nabc", b"BDAT 3\r\nabc", b"BDAT 10 LAST\r\nabc"]
)
def test_a_session_within_its_content_is_421_and_nothing_is_delivered(data: bytes) -> None:
    """RFC 5321 §3.8: no reply is owed yet."""
    deliveries = ScriptedDeliveries()
    client = with_recipients(deliveries)
    client.send(data)
    client.factory.drain()
    assert codes(client.read()) == ["421 4.3.2"]
    assert client.send(b"\r\n.\r\n") == []
    client.lose()
    assert deliveries.messages == []


def test_a_session_that_waits_for_the_application_is_421() -> None:
    """RFC 5321 §3.8."""
    answer: Deferred[None] = Deferred()
    client = with_sender(ScriptedDeliveries(recipients={"a@x": answer}))
    client.say("RCPT TO:<a@x>")
    client.factory.drain()
    assert codes(client.read()) == ["421 4.3.2"]
    answer.callback(None)
    assert client.read() == []


def test_a_session_that_has_not_been_greeted_yet_is_421_and_not_greeted() -> None:
    """RFC 5321 §3.8."""
    client = connected(greeting_delay=2)
    client.factory.drain()
    assert codes(client.read()) == ["421 4.3.2"]
    assert client.after(3) == []


def test_more_than_the_most_sessions_are_421() -> None:
    """RFC 5321 §3.8."""
    factory = server(max_sessions=2)
    first, second = Client(factory), Client(factory)
    third = Client(factory)
    assert codes(third.greeting) == ["421 4.3.2"]
    assert third.is_closed
    third.lose()
    first.lose()
    assert codes(Client(factory).greeting) == ["220"]
    assert codes(second.say("NOOP")) == ["250 2.0.0"]


def test_a_session_that_was_refused_takes_no_place() -> None:
    """RFC 5321 §3.8: it may linger until its client has closed, but nobody is kept out for it."""
    factory = server(max_sessions=1)
    served = Client(factory)
    refused = Client(factory)
    assert codes(refused.greeting) == ["421 4.3.2"]
    served.lose()
    assert codes(Client(factory).greeting) == ["220"]


@pytest.mark.parametrize(
    "method",
    [
        "getDelivery",
        "validateFrom",
        "validateTo",
    ],
)
def test_an_application_that_shuts_the_server_down_from_within_hears_421_last(method: str) -> None:
    """RFC 5321 §3.8: nothing is said after the goodbye."""
    deliveries = ScriptedDeliveries()
    client = greeted(deliveries)

    def shut_down(argument: object) -> object:
        client.factory.drain()
        return deliveries if method == "getDelivery" else None

    setattr(deliveries, method, shut_down)
    replies = client.say("MAIL FROM:<a@x>", "RCPT TO:<b@x>", "NOOP")
    assert codes(replies) == ["250 2.1.0"] * (method == "validateTo") + ["421 4.3.2"]
    assert client.is_closed


def test_an_application_that_shuts_the_server_down_in_its_delivery_gets_its_replies_out() -> None:
    """RFC 5321 §3.8."""
    deliveries = ScriptedDeliveries()
    client = with_recipients(deliveries, "a@x", "b@x")

    def deliver(message: object) -> list[None]:
        client.factory.drain()
        return [None, None]

    deliveries.deliver = deliver  # type: ignore[method-assign]
    assert codes(client.content()) == ["250 2.0.0"] * 2
    assert codes(client.say("NOOP")) == ["421 4.3.2"]


def test_quit_is_221_while_the_server_shuts_down() -> None:
    """RFC 5321 §4.1.1.10: the client ends it itself."""
    slow: Deferred[None] = Deferred()
    client = with_recipients(ScriptedDeliveries({"one@example.org": slow}))
    client.content()
    client.say("quit")
    client.factory.drain()
    slow.callback(None)
    assert codes(client.read()) == ["250 2.0.0", "221 2.0.0"]
    assert client.is_closed


# A server that can wait no longer


def test_where_there_is_no_more_time_what_is_known_is_said_and_the_rest_is_451() -> None:
    """RFC 2033 §4.2: all replies that are owed are given; what is not delivered is cancelled."""
    cancelled: list[object] = []
    waiting: dict[str, Deferred[None]] = {f"{name}@x": Deferred(cancelled.append) for name in "abc"}
    client = with_recipients(ScriptedDeliveries(waiting), "a@x", "b@x", "c@x", "a@x")
    client.content()
    client.say("MAIL FROM:<next@x>")
    waiting["b@x"].callback(None)
    client.factory.drain()
    client.protocol.finish_now()
    replies = client.read()
    assert codes(replies) == ["451 4.3.0", "250 2.0.0", "451 4.3.0", "451 4.3.0", "421 4.3.2"]
    assert [line.split()[2] for line in replies[:4]] == ["<a@x>", "<b@x>", "<c@x>", "<a@x>"]
    assert cancelled == [waiting["a@x"], waiting["c@x"]]
    assert client.is_closed


def test_where_there_is_no_more_time_a_content_that_is_being_stored_is_451() -> None:
    """RFC 2033 §4.2: its end has come, so its replies are owed."""
    reactor, pool = FakeReactor(), FakePool(immediate=False)
    deliveries = ScriptedDeliveries()
    client = with_recipients(deliveries, "a@x", "b@x", reactor=reactor, spool=fake_spool(reactor, pool, threshold=1000))
    client.say("DATA")
    client.send(b"x" * 2000)
    pool.run()
    client.send(b"y\r\n.\r\n")
    client.factory.drain()
    client.protocol.finish_now()
    assert codes(client.read()) == ["451 4.3.0"] * 2
    assert client.is_closed
    pool.run()
    assert client.read() == []
    assert deliveries.messages == []
    assert deliveries.calls[-1][0] == "aborted"


@pytest.mark.parametrize("data", [b"", b"MAIL FROM:<a@x>\r\n", b"MAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nDATA\r\nx"])
def test_where_there_is_no_more_time_a_session_to_which_nothing_is_owed_is_just_closed(data: bytes) -> None:
    """RFC 5321 §3.8: it has heard its 421."""
    client = greeted()
    client.send(data)
    client.factory.drain()
    assert codes(client.read()) == ["421 4.3.2"]
    client.protocol.finish_now()
    assert client.read() == []
    assert client.is_closed
