"""What contents cost: memory, the budget of the process, descriptors."""

from __future__ import annotations

import errno
import gc
import os
import tracemalloc
from typing import Any

import pytest
from dialogue import LoggedErrors, codes, opened
from spooled import FailingPool, a_content, message_of, send, spooling
from twisted.internet.defer import Deferred

from lmtp_twisted import PermanentFailure
from lmtp_twisted.spool import BLOCK, Content
from lmtp_twisted.testing import FakePool, FakeReactor, ScriptedDeliveries, fake_spool


def descriptors() -> int:
    """How many files this process has open."""
    return len(os.listdir("/proc/self/fd"))


def test_a_content_in_tiny_segments_costs_no_more_memory_than_one_in_large_ones() -> None:
    """A million segments are not a million objects."""
    content = Content(fake_spool(FakeReactor(), threshold=10_000_000))
    tracemalloc.start()
    try:
        for _ in range(200_000):
            content.append(b"ab\n")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    content.finish()
    assert content.size == 600_000
    assert peak < 1_500_000
    assert content.read() == b"ab\n" * 200_000
    assert len(list(content.blocks())) < 50


def test_a_large_content_never_lies_in_memory_as_a_whole() -> None:
    """However large: what has not been written yet is bounded."""
    client = spooling(threshold=200_000)
    spool = client.factory.spool
    client.say("DATA")
    most = 0
    for _ in range(400):
        client.send(b"x" * 65_534 + b"\r\n")
        most = max(most, spool.used)
    # What may be a header block is kept besides.
    assert most <= BLOCK + 65_536 + Content.HEAD
    assert codes(client.send(b".\r\n")) == ["250 2.0.0"]
    assert message_of(client).size == 400 * 65_536


@pytest.mark.parametrize("threshold", [1000, 10_000_000], ids=["file", "memory"])
@pytest.mark.parametrize(
    "end",
    [
        "success",
        "refusal",
        "exception",
        "RSET",
        "LHLO",
        "lost",
        "lost past the dot",
        "time-out",
        "large",
        "QUIT",
        "idle",
    ],
)
def test_the_budget_is_given_back_after_each_message(end: str, threshold: int, logged: LoggedErrors) -> None:
    """However it ends."""
    outcome: Any = {
        "refusal": PermanentFailure("no"),
        "exception": ZeroDivisionError(),
        "lost past the dot": Deferred(),
        "time-out": Deferred(),
    }.get(end)
    client = spooling(backend=ScriptedDeliveries({"one@example.org": outcome}), threshold=threshold, size_limit=100_000)
    spool = client.factory.spool
    if end in ("RSET", "LHLO"):
        client.send(b"BDAT 50000\r\n" + b"x" * 50_000)
    else:
        client.say("DATA")
        client.send(b"x" * 49_998 + b"\r\n")
    assert threshold == 1000 or spool.used >= 49_990
    if end in ("success", "refusal", "exception"):
        assert len(client.send(b".\r\n")) == 1
    elif end == "lost":
        client.lose()
    elif end == "lost past the dot":
        client.send(b".\r\n")
        client.lose()
    elif end == "time-out":
        client.send(b".\r\n")
        assert codes(client.after(540)) == ["451 4.4.7"]
    elif end == "large":
        client.send(b"x" * 60_000)
    elif end == "QUIT":
        client.send(b".\r\nQUIT\r\n")
    elif end == "idle":
        assert codes(client.after(300)) == ["421 4.4.2"]
        client.lose()
    else:
        client.say("RSET" if end == "RSET" else "LHLO c")
    logged.take()
    assert spool.used == 0


def test_the_budget_is_held_while_a_delivery_is_pending() -> None:
    """The content is in memory all that time."""
    slow: Deferred[None] = Deferred()
    client = spooling(backend=ScriptedDeliveries({"one@example.org": slow}))
    send(client, a_content(50_000))
    assert client.factory.spool.used == 50_000
    slow.callback(None)
    assert client.factory.spool.used == 0


@pytest.mark.parametrize("end", ["success", "refusal", "RSET", "lost", "lost past the dot", "large", "no room"])
def test_no_descriptor_is_left_open(end: str, logged: LoggedErrors) -> None:
    """However a message ends: the file goes with its last reader."""
    outcome: Any = {"refusal": PermanentFailure("no"), "lost past the dot": Deferred()}.get(end)
    gc.collect()
    before = descriptors()
    for _ in range(2):
        pool: FakePool | None = FailingPool(OSError(errno.ENOSPC, "full"), after=1) if end == "no room" else None
        deliveries = ScriptedDeliveries({"one@example.org": outcome})
        client = spooling(backend=deliveries, threshold=1000, size_limit=1_000_000, pool=pool)
        client.send(b"BDAT 50000\r\n" + b"x" * 50_000)
        assert descriptors() == before + 1
        if end == "RSET":
            client.say("RSET")
        elif end == "lost":
            client.lose()
        elif end == "large":
            client.send(b"BDAT 999999 LAST\r\n" + b"x" * 999_999)
        else:
            client.send(b"BDAT 600000 LAST\r\n" + b"x" * 600_000)
        if end == "lost past the dot":
            client.lose()
        deliveries.calls.clear()
        deliveries.messages.clear()
        logged.take()
        del client, deliveries

        for left in opened:
            if not left.is_lost:
                left.lose()
        opened.clear()
        gc.collect()
        assert descriptors() == before
