"""Servers that end before Postfix has heard of all recipients: nothing is lost, what was answered is not doubled."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from occasions import within
from private_postfix import Postfix, domain_of
from real_servers import Serve
from scripts import ByMailbox
from twisted.internet.defer import Deferred, maybeDeferred

from lmtp_twisted.testing import ScriptedDeliveries

pytestmark = pytest.mark.peer("postfix")


def mailboxes(deliveries: ScriptedDeliveries) -> list[list[str]]:
    """The local parts of each message's recipients."""
    return [[recipient.address.local for recipient in message.recipients] for message in deliveries.messages]


@pytest_twisted.ensureDeferred
async def test_a_connection_that_is_lost_after_the_dot_defers_just_those_without_an_answer(
    postfix: Postfix, serve: Serve
) -> None:
    """RFC 2033 §4.2: what was answered 250 is the server's; all others are tried again, and cancelled here."""
    cancelled: list[Deferred[Any]] = []
    never: Deferred[None] = Deferred(cancelled.append)
    deliveries = ScriptedDeliveries(ByMailbox({"c": never}))
    server = await serve(0, deliveries)
    domain = domain_of(server.where)
    queue_id = await postfix.submit([f"{name}@{domain}" for name in "abcde"])
    answered = await postfix.attempts(queue_id, 2)
    assert [(attempt.local, attempt.status) for attempt in answered] == [("a", "sent"), ("b", "sent")]

    await server.stop()
    assert cancelled == [never]
    attempts = (await postfix.attempts(queue_id, 5))[2:]
    assert [(attempt.local, attempt.status, attempt.dsn) for attempt in attempts] == [
        (name, "deferred", "4.4.2") for name in "cde"
    ]
    await postfix.deferred(queue_id)

    again = ScriptedDeliveries()
    await serve(server.port, again)
    await postfix.flush()
    attempts = (await postfix.attempts(queue_id, 8))[5:]
    assert [(attempt.local, attempt.status) for attempt in attempts] == [(name, "sent") for name in "cde"]
    await postfix.removed(queue_id)
    assert mailboxes(deliveries) == [["a", "b", "c", "d", "e"]]
    assert mailboxes(again) == [["c", "d", "e"]]


@pytest_twisted.ensureDeferred
async def test_a_server_that_shuts_down_answers_for_the_message_past_its_dot(postfix: Postfix, serve: Serve) -> None:
    """All final replies are sent before the session ends."""
    late: Deferred[str] = Deferred()
    server = await serve(0, ScriptedDeliveries(ByMailbox({"b": late})))
    domain = domain_of(server.where)
    queue_id = await postfix.submit([f"{name}@{domain}" for name in "abc"])
    await postfix.attempts(queue_id, 1)
    await maybeDeferred(server.listening.stopListening)
    drained = server.factory.drain()
    refused = await postfix.submit([f"d@{domain}"])
    (attempt,) = await postfix.attempts(refused, 1)
    assert (attempt.status, attempt.dsn) == ("deferred", "4.4.1")
    assert not drained.called
    late.callback("Just in time")
    attempts = await postfix.attempts(queue_id, 3)
    assert {attempt.status for attempt in attempts} == {"sent"}
    assert "Just in time" in attempts[1].reply
    await within(drained, lambda: "the end of all sessions")


@pytest_twisted.ensureDeferred
async def test_a_server_that_shuts_down_sends_postfix_away_until_it_is_back(postfix: Postfix, serve: Serve) -> None:
    """RFC 5321 §3.8: 421 to a kept connection and to a new one; the mail is delivered later."""
    server = await serve(0, ScriptedDeliveries())
    domain = domain_of(server.where, kept=True)
    first = await postfix.submit([f"a@{domain}"])
    await postfix.removed(first)
    assert len(server.factory.sessions) == 1

    drained = server.factory.drain()
    second = await postfix.submit([f"b@{domain}", f"c@{domain}"])
    attempts = await postfix.attempts(second, 2)
    assert {(attempt.status, attempt.dsn) for attempt in attempts} == {("deferred", "4.3.2")}
    assert all("421 4.3.2" in attempt.reply for attempt in attempts)
    await postfix.deferred(second)
    await server.stop()
    await within(drained, lambda: "the end of all sessions")

    back = ScriptedDeliveries()
    await serve(server.port, back)
    await postfix.flush()
    attempts = (await postfix.attempts(second, 4))[2:]
    assert {attempt.status for attempt in attempts} == {"sent"}
    assert mailboxes(back) == [["b", "c"]]
