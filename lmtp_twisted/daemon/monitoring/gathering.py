"""
What all processes count, as one: asked for once a second, added, and kept for 15 minutes.

This is what ``/metrics`` gives and what the status page draws, so both say the same of the same second::

    gatherer = Gatherer(members, reactor)
    gatherer.start()            # a tick each second, at full seconds of the clock; gatherer.stop() ends it
    gatherer.latest             # the Tick of the last second: .time and .figures, the sum of all processes
    gatherer.ticked.append(f)   # f(tick) is called with each tick; gatherer.ticked.remove(f)
    gatherer.series()           # the last 900 ticks, in the form below
    gatherer.sessions()         # a Deferred of the answers to "sessions" as one
    gatherer.events()           # the same of "events"

``series()`` gives columns, one number for each tick, the oldest first; all as they were at that second (counters are
not differences: who draws a rate subtracts)::

    {"time": [1764012345, …],               # seconds since 1970
     "sessions": [12, …],                   # gauge: lmtp_sessions_open
     "members": [2, …],                     # gauge: processes that answered
     "sessions_total": […], "messages": […], "bytes": […],              # counters
     "2xx": […], "4xx": […], "5xx": […],    # counters: final replies by class, all backends together
     "refused": […],                        # counter: senders and recipients refused at MAIL and RCPT
     "delivery_seconds_sum": […],           # counter
     "delivery_seconds": [[0, 3, 9, …], …]} # counters: for each tick deliveries by bucket, not cumulative; the upper
                                            # ends are figures.BUCKETS, and one more for all above

Where nothing could be asked in a second, that second is missing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from lmtp_twisted.daemon.members import Members
from lmtp_twisted.daemon.monitoring.catalogue import SEPARATOR, Figures, added, cumulative
from lmtp_twisted.daemon.monitoring.connected import sessions_as_one
from lmtp_twisted.daemon.monitoring.figures import BUCKET_LABELS
from lmtp_twisted.daemon.monitoring.recent import events_as_one

_log = Logger(namespace="lmtp_twisted")

#: Ticks that are kept, one a second.
TICKS = 900
# Processes whose last figures are kept each for itself: one that is slow to answer comes back.
_MOST_KEYS = 64


@attrs.frozen
class Tick:
    """
    One second.

    :ivar time: seconds since 1970.
    :ivar members: processes that answered.
    :ivar figures: the sum of all that there are or were.
    """

    time: int
    members: int
    figures: Mapping[str, Mapping[str, float]]


class Totals:
    """
    The sum of all processes, which does not go down where one is gone or late: what it has counted stays, and only
    what it had under way does not.
    """

    def __init__(self) -> None:
        self._gone: Figures = {}
        # By process, what it counted when it last answered; who answered last is last.
        self._last: dict[str, Figures] = {}

    def of(self, answers: Mapping[str, Figures]) -> Figures:
        """
        :param answers: the snapshots of those that answered.
        :returns: the sum.
        """
        for key, figures in answers.items():
            self._last.pop(key, None)
            self._last[key] = cumulative(figures)
        while len(self._last) > max(_MOST_KEYS, len(answers)):
            oldest = next(iter(self._last))
            self._gone = added([self._gone, self._last.pop(oldest)])
        missing = [figures for key, figures in self._last.items() if key not in answers]
        return added([self._gone, *missing, *answers.values()])


class Gatherer:
    """
    :param members: who is asked.
    :param reactor: the clock: its seconds are those since 1970.
    :param own: gives what this process has counted, where it is none of the members.
    :ivar latest: the last tick; before the first one, one without figures.
    :ivar ticked: are called with each tick.
    """

    def __init__(self, members: Members, reactor: Any, own: Callable[[], Figures] = dict) -> None:
        self._own = own
        self._members = members
        self._reactor = reactor
        self._totals = Totals()
        self._timer: Any = None
        self._rows: deque[dict[str, Any]] = deque(maxlen=TICKS)
        self.latest = Tick(0, 0, {})
        self.ticked: list[Callable[[Tick], object]] = []

    def start(self) -> None:
        """Begin to ask, at once and then at each full second."""
        self._ask()

    def stop(self) -> None:
        """Ask no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ask(self) -> None:
        now = self._reactor.seconds()
        # What the clock was set to may have lost its last digits.
        second = int(now + 0.001)
        self._timer = self._reactor.callLater(second + 1 - now, self._ask)
        self._members.ask("figures").addCallback(lambda answers: self._tick(second, answers))

    def _tick(self, second: int, answers: Mapping[str, Figures]) -> None:
        if second <= self.latest.time:
            # It was late, and the next is there already.
            return
        self.latest = tick = Tick(second, len(answers), added([self._totals.of(answers), self._own()]))
        self._rows.append(_row(tick))
        for listener in list(self.ticked):
            try:
                listener(tick)
            except Exception:
                _log.failure("what was counted could not be told")

    def series(self) -> dict[str, list[Any]]:
        """The ticks that are kept, see above."""
        rows = list(self._rows)
        return {name: [row[name] for row in rows] for name in _row(self.latest)}

    def sessions(self) -> Deferred[dict[str, Any]]:
        """Who is connected now."""
        return self._members.ask("sessions").addCallback(sessions_as_one)

    def events(self) -> Deferred[dict[str, Any]]:
        """What happened lately."""
        return self._members.ask("events").addCallback(lambda answers: events_as_one(answers.values()))


def _row(tick: Tick) -> dict[str, Any]:
    """What is drawn of a tick."""
    figures = tick.figures
    buckets = _by_label(figures.get("lmtp_delivery_seconds_bucket", {}), 1)
    replies = _by_label(figures.get("lmtp_replies_total", {}), 0)
    refusals = _by_label(figures.get("lmtp_refusals_total", {}), 0)
    return {
        "time": tick.time,
        "members": tick.members,
        "sessions": _sum(figures, "lmtp_sessions_open"),
        "sessions_total": _sum(figures, "lmtp_sessions_total"),
        "messages": _sum(figures, "lmtp_messages_total"),
        "bytes": _sum(figures, "lmtp_content_bytes_total"),
        **{name: replies.get(name, 0) for name in ("2xx", "4xx", "5xx")},
        "refused": refusals.get("mail", 0) + refusals.get("rcpt", 0),
        "delivery_seconds_sum": _sum(figures, "lmtp_delivery_seconds_sum"),
        "delivery_seconds": tuple(buckets.get(end, 0) for end in BUCKET_LABELS),
    }


def _sum(figures: Mapping[str, Mapping[str, float]], sample: str) -> float:
    return sum(figures.get(sample, {}).values())


def _by_label(values: Mapping[str, float], place: int) -> dict[str, float]:
    """The values added up by one of their labels."""
    sums: dict[str, float] = {}
    for labels, value in values.items():
        label = labels.split(SEPARATOR)[place]
        sums[label] = sums.get(label, 0) + value
    return sums
