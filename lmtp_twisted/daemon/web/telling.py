"""
What the status page is told: all of it at first, and then each second what is new.

A tick is a list, so that 900 of them are small. Its columns, which ``assets/history.js`` has as well: the second that
it ends with; how many seconds it is; sessions open; processes that serve; then what was counted in that time: sessions
begun, messages, octets of content, final replies of class 2, 4 and 5, senders and recipients refused; and a list of
deliveries by the bucket of their time.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from operator import sub
from typing import Any

import attrs

from lmtp_twisted.daemon.monitoring.figures import BUCKETS
from lmtp_twisted.daemon.monitoring.gathering import Gatherer

_GAUGES = ("sessions", "members")
_COUNTERS = ("sessions_total", "messages", "bytes", "2xx", "4xx", "5xx", "refused")
#: Before all seconds, as the gatherer has it.
NEVER = 0
#: Sessions that are told: they change all the time.
MOST_SESSIONS = 100


@attrs.frozen
class Event:
    """
    What is sent to a page.

    :ivar after: the second that it goes on from.
    :ivar until: its last second.
    :ivar data: as it is written.
    """

    after: int
    until: int
    data: bytes


class Telling:
    """
    Makes the events of :doc:`the page </status-page>` (server-sent events, the HTML standard §9.2).

    :param gatherer: who knows what there is to tell.
    :param about: facts of the server that do not change.
    """

    def __init__(self, gatherer: Gatherer, about: Mapping[str, object]) -> None:
        self._gatherer = gatherer
        self._about = {**about, "buckets": BUCKETS}
        # Another run of the server counts from nought, so its ticks do not follow ours.
        self._run = secrets.token_hex(6)
        self._last: dict[str, Any] = {}
        self._until = NEVER
        self._begun: Event | None = None

    def place(self, event_id: str) -> int:
        """
        :param event_id: the last that a page has heard.
        :returns: its second, or :data:`NEVER` where that is no event of ours, or one too old to go on from.
        """
        run, _, time = event_id.partition("-")
        if run != self._run or not (time.isascii() and time.isdecimal()):
            return NEVER
        times = self._gatherer.series()["time"]
        # int() of what is longer takes its time.
        return int(time) if len(time) < 20 and times and times[0] <= int(time) <= times[-1] else NEVER

    async def since(self, after: int) -> Event:
        """
        For one page that has not heard of all.

        :param after: what :meth:`place` has given.
        :returns: all that came later, and the lists as they are.
        """
        if after == NEVER and self._begun is not None and self._begun.until == self._gatherer.latest.time:
            return self._begun
        event = self._event("tick" if after else "state", after, await self._lists())
        if after == NEVER:
            # Many pages that come at once cost no more than one.
            self._begun = event
        return event

    def begin(self) -> None:
        """Somebody looks again: what nobody has heard is no news."""
        self._last, self._until = {}, self._gatherer.latest.time

    async def news(self) -> Event:
        """
        For all pages that have heard the event before.

        :returns: the ticks since it, the lists that have changed, and the failures that it did not have.
        """
        last, self._last = self._last, await self._lists()
        known = set(map(_key, last.get("failures", ())))
        changed = {name: value for name, value in self._last.items() if value != last.get(name)}
        changed["failures"] = [failure for failure in self._last["failures"] if _key(failure) not in known]
        event = self._event("tick", self._until, changed)
        self._until = event.until
        return event

    async def _lists(self) -> dict[str, Any]:
        connected = await self._gatherer.sessions()
        shown = {"total": connected["total"], "sessions": connected["sessions"][:MOST_SESSIONS]}
        return {**await self._gatherer.events(), "sessions": shown}

    def _event(self, kind: str, after: int, lists: Mapping[str, Any]) -> Event:
        data = {"ticks": ticks_of(self._gatherer.series(), after), **lists}
        if kind == "state":
            data["about"] = self._about
        until = self._gatherer.latest.time
        text = json.dumps(data, separators=(",", ":"))
        return Event(after, until, f"event: {kind}\nid: {self._run}-{until}\ndata: {text}\n\n".encode())


def ticks_of(series: Mapping[str, Sequence[Any]], after: int) -> list[list[Any]]:
    """
    :param series: as the :class:`~lmtp_twisted.daemon.monitoring.gathering.Gatherer` has it.
    :param after: the second whose successors are wanted.
    :returns: their ticks, the oldest first. The first second of the series has none: it is not known what was before.
    """
    times = series["time"]
    start = len(times)
    while start > 0 and times[start - 1] > after:
        start -= 1
    return [
        [
            times[i],
            times[i] - times[i - 1],
            *(series[name][i] for name in _GAUGES),
            *(series[name][i] - series[name][i - 1] for name in _COUNTERS),
            list(map(sub, series["delivery_seconds"][i], series["delivery_seconds"][i - 1])),
        ]
        for i in range(max(start, 1), len(times))
    ]


def _key(failure: Mapping[str, Any]) -> tuple[Any, ...]:
    return failure["time"], failure["id"], failure["recipient"]
