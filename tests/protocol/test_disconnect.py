"""The connection ends in the place of a reply, where an application asks for it, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
from dialogue import Client, codes, greeted, server, with_recipients, with_sender
from twisted.internet.defer import CancelledError, Deferred

from lmtp_twisted import Reply
from lmtp_twisted.disconnect import Disconnect
from lmtp_twisted.fallback import FirstOf
from lmtp_twisted.fanout import AllOf
from lmtp_twisted.routing import Router
from lmtp_twisted.testing import RecordingObserver, ScriptedDeliveries

CONTENT = b"Subject: x\r\n\r\nHello\r\n.\r\n"


def sent(client: Client, data: bytes) -> bytes:
    """What comes back, which may end in the middle of a line."""
    client.protocol.dataReceived(data)
    octets: bytes = client.transport.value()
    client.transport.clear()
    return octets


def past_the_354(client: Client, data: bytes = CONTENT) -> bytes:
    assert codes(client.say("DATA")) == ["354"]
    return sent(client, data)


@pytest.mark.parametrize("after", [0, 1, 2])
def test_replies_before_its_turn_are_sent_and_none_after_it(after: int) -> None:
    """RFC 2033 §4.2 is broken on purpose: fewer replies than recipients."""
    names = ["a@x", "b@x", "c@x"]
    client = with_recipients(ScriptedDeliveries({names[after]: Disconnect()}), *names)
    replies = past_the_354(client).splitlines()
    assert [reply[:9] for reply in replies] == [b"250 2.0.0"] * after
    assert client.is_closed


def test_it_waits_for_its_turn() -> None:
    late: Deferred[None] = Deferred()
    client = with_recipients(ScriptedDeliveries({"a@x": late, "b@x": Disconnect()}), "a@x", "b@x", "c@x")
    assert past_the_354(client) == b""
    assert not client.is_closed
    late.callback(None)
    assert codes(client.read()) == ["250 2.0.0"]
    assert client.is_closed


@pytest.mark.parametrize("octets", [1, 12, None])
def test_a_part_of_the_reply_may_be_sent(octets: int | None) -> None:
    client = with_recipients(ScriptedDeliveries({"a@x": Disconnect(250, "2.0.0", "Fine", octets)}), "a@x", "b@x")
    whole = f"250 2.0.0 <a@x> {client.protocol.session.id}.1.1 Fine\r\n".encode()
    assert past_the_354(client) == whole[:octets]
    assert client.is_closed


def test_deliveries_under_way_are_cancelled() -> None:
    cancelled: list[Deferred[Any]] = []
    never: Deferred[None] = Deferred(cancelled.append)
    client = with_recipients(ScriptedDeliveries({"a@x": Disconnect(), "b@x": never}), "a@x", "b@x")
    assert past_the_354(client) == b""
    assert cancelled == [never]
    never.addErrback(lambda failure: failure.trap(CancelledError))


@pytest.mark.parametrize(("reset", "aborts"), [(False, False), (True, True)])
def test_the_connection_is_closed_or_reset(reset: bool, aborts: bool) -> None:
    client = with_recipients(ScriptedDeliveries({"a@x": Disconnect(reset=reset)}), "a@x")
    past_the_354(client)
    assert bool(client.transport.disconnected) is aborts or client.transport.disconnecting


def test_what_the_client_sent_behind_the_content_is_not_run() -> None:
    deliveries = ScriptedDeliveries({"a@x": Disconnect()})
    client = with_recipients(deliveries, "a@x")
    assert past_the_354(client, CONTENT + b"MAIL FROM:<a@x>\r\nQUIT\r\n") == b""
    assert [name for name, _ in deliveries.calls].count("validateFrom") == 1


def test_at_MAIL_and_RCPT_the_transaction_is_aborted() -> None:
    for scripted in ({"senders": {"a@x": Disconnect()}}, {"recipients": {"b@x": Disconnect(octets=6, text="no")}}):
        deliveries = ScriptedDeliveries(**scripted)  # type: ignore[arg-type]  # one of two
        client = greeted(deliveries)
        expected = b"" if "senders" in scripted else b"250 2.1.0 Sender OK\r\n451 4."
        assert sent(client, b"MAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nDATA\r\n") == expected
        assert client.is_closed
        assert deliveries.calls[-1] == ("aborted", "connection lost")
        client.lose()
        assert [name for name, _ in deliveries.calls].count("aborted") == 1


def test_an_answer_that_comes_late_does_it_too() -> None:
    late: Deferred[Reply] = Deferred()
    client = with_sender(ScriptedDeliveries(recipients={"b@x": late}))
    assert client.say("RCPT TO:<b@x>", "NOOP") == []
    late.callback(Disconnect())
    assert client.read() == []
    assert client.is_closed


def test_observers_are_told_of_each_recipient_what_it_would_have_been() -> None:
    """The one that was cut in the middle was told nothing."""
    observer = RecordingObserver()
    cut = Disconnect(250, "2.0.0", "Delivered", 5)
    client = with_recipients(
        ScriptedDeliveries({"b@x": cut, "c@x": Deferred()}), "a@x", "b@x", "c@x", observers=[observer]
    )
    past_the_354(client)
    (ended,) = (event for event in observer.events if event.name == "transactionEnded")
    assert [(outcome.reply.code, outcome.reply.enhanced) for outcome in ended.outcomes] == [
        (250, "2.0.0"),
        (451, "4.4.2"),
        (451, "4.3.0"),
    ]


def test_a_streamed_message_ends_so_at_its_dot() -> None:
    client = with_recipients(ScriptedDeliveries({"b@x": Disconnect()}, streams=True), "a@x", "b@x")
    assert codes(client.say("DATA")) == ["354"]
    client.send(b"Hello\r\n")
    assert not client.is_closed
    assert sent(client, b".\r\n").startswith(b"250 2.0.0 <a@x>")
    assert client.is_closed


@pytest.mark.parametrize("combine", [FirstOf, AllOf, lambda backends: Router([], backends[0])])
def test_it_gets_through_what_combines_backends(combine: Any) -> None:
    client = with_recipients(combine([ScriptedDeliveries({"b@x": Disconnect()})]), "a@x", "b@x")
    assert past_the_354(client).startswith(b"250 2.0.0 <a@x>")
    assert client.is_closed


def test_no_code_leads_to_it() -> None:
    """RFC 5321 §3.8: 421 closes, and is not for deliveries to say. Only the type counts."""
    client = with_recipients(ScriptedDeliveries({"a@x": Reply(451, "4.4.2", "Disconnected")}), "a@x")
    assert past_the_354(client).startswith(b"451 4.4.2 <a@x>")
    assert not client.is_closed


def test_a_connection_that_is_lost_already_is_not_lost_twice() -> None:
    late: Deferred[Reply] = Deferred()
    client = Client(server(ScriptedDeliveries({"a@x": late})))
    client.say("LHLO c", "MAIL FROM:<s@x>", "RCPT TO:<a@x>")
    past_the_354(client)
    client.lose()
    assert late.called


def test_a_recipient_given_twice_is_dropped_once() -> None:
    client = with_recipients(ScriptedDeliveries({"b@x": Disconnect()}), "a@x", "b@x", "b@x", "a@x")
    assert past_the_354(client).count(b"\r\n") == 1
    assert client.is_closed
