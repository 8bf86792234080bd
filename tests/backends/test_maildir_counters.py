"""What the store counts: how large its batches are, with many sessions and with one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.python.threadpool import ThreadPool

from lmtp_twisted.backends.maildir import MaildirBackend
from lmtp_twisted.message import ReceivedMessage

Receive = Callable[..., ReceivedMessage]
MESSAGES = 20


async def send(backend: MaildirBackend, receive: Receive, session: int) -> None:
    """One session: the next message comes when the one before is answered."""
    for _ in range(MESSAGES):
        message = receive(f"user{session}@example.org")
        delivery: Any = backend.getDelivery(message.session)
        (outcome,) = await delivery.deliver(message)
        assert outcome is None


async def serve(root: Path, pool: ThreadPool, receive: Receive, sessions: int) -> MaildirBackend:
    """Let so many sessions send at a time."""
    backend = MaildirBackend(str(root), hostname="mx.example.org", reactor=reactor, pool=pool)
    await gatherResults([Deferred.fromCoroutine(send(backend, receive, number)) for number in range(sessions)])
    await backend.shut_down()
    return backend


@pytest_twisted.ensureDeferred
async def test_with_fifty_sessions_the_mean_batch_is_above_four(
    tmp_path: Path, pool: ThreadPool, receive: Receive
) -> None:
    """Each sync is shared: that is what makes the store fast."""
    lane, large = (await serve(tmp_path, pool, receive, 50)).lanes
    counters = lane.counters
    assert counters.jobs == 50 * MESSAGES
    assert counters.mean > 4
    assert 4 < counters.largest <= 64
    assert counters.seconds > 0
    assert (large.counters.batches, large.counters.mean) == (0, 0)


@pytest_twisted.ensureDeferred
async def test_with_one_session_each_message_goes_alone(tmp_path: Path, pool: ThreadPool, receive: Receive) -> None:
    """None waits for others to come."""
    lane, _ = (await serve(tmp_path, pool, receive, 1)).lanes
    assert (lane.counters.batches, lane.counters.jobs, lane.counters.largest) == (MESSAGES, MESSAGES, 1)
