"""Postfix's load generator in its LMTP mode: many messages over many sessions, and no reply too few or too many."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import pytest_twisted
from programs import run
from real_servers import RealServer, Serve

from lmtp_twisted import PermanentFailure
from lmtp_twisted.testing import ScriptedDeliveries

pytestmark = pytest.mark.peer("postfix")


async def smtp_source(server: RealServer, *options: str) -> tuple[int, str]:
    """Run it against the server. It ends at the first negative reply, and waits for each that it expects."""
    place = f"127.0.0.1:{server.where}" if isinstance(server.where, int) else f"unix:{server.path}"
    addresses = ("-f", "sender@example.net", "-t", "box@example.org")
    ended = await run("smtp-source", "-L", "-M", "client.example.net", *addresses, *options, place)
    return ended.status, ended.errors


@pytest.mark.parametrize("kept", [True, False], ids=["kept connections", "a connection for each message"])
@pytest_twisted.ensureDeferred
async def test_many_messages_over_many_sessions_are_each_answered_for_each_recipient(
    serve: Serve, where: int | Path, kept: bool
) -> None:
    """RFC 2033 §4.2"""
    deliveries = ScriptedDeliveries()
    server = await serve(where, deliveries)
    options = ("-s", "10", "-m", "200", "-r", "5", "-l", "4096", *(("-d",) if kept else ()))
    assert await smtp_source(server, *options) == (0, "")
    assert len(deliveries.messages) == 200
    assert {len(message.recipients) for message in deliveries.messages} == {5}
    assert len({message.id for message in deliveries.messages}) == 200
    sessions = 10 if kept else 200
    await server.sessions.until("sessionEnded", sessions)
    assert len(server.sessions.named("sessionStarted")) == sessions


@pytest_twisted.ensureDeferred
async def test_a_large_message_is_taken_whole(serve: Serve) -> None:
    """Several times: it lies in a file each time, and the sessions wait for their files independently."""
    deliveries = ScriptedDeliveries()
    server = await serve(0, deliveries)
    assert await smtp_source(server, "-s", "3", "-m", "6", "-l", "3000000") == (0, "")
    assert Counter(message.inMemory for message in deliveries.messages) == {False: 6}
    assert all(3_000_000 <= message.size < 3_100_000 for message in deliveries.messages)
    assert len({message.read()[-1000:] for message in deliveries.messages}) == 1


@pytest_twisted.ensureDeferred
async def test_it_stops_at_the_recipient_whose_delivery_failed(serve: Serve) -> None:
    """The reply that it tells of is that recipient's."""
    server = await serve(0, ScriptedDeliveries({"2box@example.org": PermanentFailure("Not wanted")}))
    status, errors = await smtp_source(server, "-r", "3")
    assert status == 1
    assert "end of data rejected: 554 5.3.0 <2box@example.org> " in errors
