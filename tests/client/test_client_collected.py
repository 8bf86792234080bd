"""Deliveries that are under way when a program ends: they are collected, and nothing of them runs any more."""

from __future__ import annotations

import gc
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from lmtp_twisted.client.endpoints import Target
from lmtp_twisted.client.pool import ConnectionPool
from lmtp_twisted.client.settings import ClientSettings


class _Endpoint:
    """Its connections are never made."""

    def connect(self, factory: Any) -> Deferred[Any]:
        return Deferred()


def test_deliveries_that_are_collected_wake_nobody() -> None:
    """One of them has the only connection, and the others wait for it: all of them are gone at the same time."""
    failures: list[object] = []

    def begin() -> None:
        settings = ClientSettings(hostname="c", max_connections=1)
        pool = ConnectionPool(Target("nowhere", _Endpoint()), settings, Clock())
        for _ in range(3):
            Deferred.fromCoroutine(pool.acquire()).addErrback(failures.append)

    begin()
    gc.collect()
    assert failures == []
