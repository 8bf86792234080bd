"""What is told to the page, without a server: ticks as a test makes them."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred, succeed

COUNTERS = ("sessions_total", "messages", "bytes", "2xx", "4xx", "5xx", "refused")


def failure(number: int) -> dict[str, Any]:
    """One that no other is like."""
    return {"time": 1000.5 + number, "id": f"id{number}.1.1", "recipient": "b@example.org", "reply": "550 5.1.1 No"}


class FakeGatherer:
    """
    As the real one, as far as the page asks it.

    :ivar asked: how often it was asked for lists.
    :ivar lists: what it answers to that; a Deferred where a test wants to be asked to wait.
    """

    def __init__(self) -> None:
        self.ticked: list[Callable[[object], None]] = []
        self.latest = SimpleNamespace(time=0)
        self.asked = 0
        self.lists: dict[str, Any] = {"failures": [], "slowest": [], "domains": [], "other": {}}
        self.connected: dict[str, Any] = {"total": 0, "sessions": []}
        self.waiting: Deferred[Any] | None = None
        self._series: dict[str, list[Any]] = {
            name: [] for name in ("time", "sessions", "members", "delivery_seconds", *COUNTERS)
        }

    def tick(self, time: int, messages: int = 0, buckets: tuple[int, ...] = (0, 0)) -> None:
        """A second is over."""
        self.latest = SimpleNamespace(time=time)
        values = {"time": time, "sessions": 1, "members": 1, "messages": messages, "delivery_seconds": list(buckets)}
        for name, column in self._series.items():
            column.append(values.get(name, 0))
        for told in list(self.ticked):
            told(None)

    def series(self) -> dict[str, list[Any]]:
        return self._series

    def sessions(self) -> Deferred[Any]:
        return succeed(dict(self.connected))

    def events(self) -> Deferred[Any]:
        self.asked += 1
        return self.waiting if self.waiting is not None else succeed(dict(self.lists))
