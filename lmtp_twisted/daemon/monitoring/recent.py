"""
What happened lately in one process: failures, slow deliveries, and what became of recipients by their domain.

All of it is bounded. What must not be lost is the log's to keep.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import count
from operator import add, sub
from typing import Any

import attrs

from lmtp_twisted.envelope import Outcome, Recipient, Sender
from lmtp_twisted.session import SessionInfo
from lmtp_twisted.wire.replies import Reply

#: Failures that are remembered.
MOST_FAILURES = 500
#: Slow deliveries that are told.
MOST_SLOW = 20
#: Domains that are told, each with its numbers.
MOST_DOMAINS = 50
#: Minutes for which slow deliveries and domains are remembered.
MINUTES = 15

# Domains that are counted each for itself in a minute.
_DOMAINS_A_MINUTE = 1000
_OTHER = "other"

#: What became of the recipients of a domain: by the first digit of the reply's code.
Digits = list[int]
#: Makes a record of what is remembered: in most cases nobody ever asks for it.
Record = Callable[[], dict[str, Any]]


@attrs.define(eq=False)
class _Minute:
    """
    What is remembered of one minute.

    :ivar began: when, by the clock.
    :ivar domains: by domain.
    :ivar others: all further domains together.
    :ivar slowest: a heap of seconds, a number that breaks ties, and the record.
    """

    began: float
    domains: dict[str, Digits] = attrs.field(factory=dict)
    others: Digits = attrs.field(factory=lambda: [0] * 6)
    slowest: list[tuple[float, int, Record]] = attrs.field(factory=list)


class Recent:
    """
    :param now: seconds since 1970.
    :ivar domains: what to count outcomes in; where a domain is not there, :meth:`count_domain` does it.
    :ivar slow: a message that took longer is one for :meth:`was_slow`.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._failures: deque[Record] = deque(maxlen=MOST_FAILURES)
        self._minutes: deque[_Minute] = deque(maxlen=MINUTES + 1)
        self._numbers = count()
        self._begin_minute(now())

    def _begin_minute(self, now: float) -> None:
        # Outcomes by domain of the minutes that are over; None where they are to be put together.
        self._over: dict[str, Digits] | None = None
        self._minute = _Minute(now)
        self._minutes.append(self._minute)
        self.domains = self._minute.domains
        self.slow = 0.0

    def turn(self) -> None:
        """Look at the clock. To be called every few seconds."""
        now = self._now()
        if not 0 <= now - self._minute.began < 60:
            self._begin_minute(now)
        while self._minutes[0].began < now - 60 * (MINUTES + 1):
            self._minutes.popleft()
            self._over = None

    def count_domain(self, domain: str, digit: int) -> None:
        """
        A recipient of a domain has its reply.

        :param digit: the first of the reply's code.
        """
        counts = self.domains.get(domain)
        if counts is None:
            if len(self.domains) < _DOMAINS_A_MINUTE:
                counts = self.domains[domain] = [0] * 6
            else:
                counts = self._minute.others
        counts[digit] += 1

    def sender_refused(self, session: SessionInfo, sender: Sender | None, reply: Reply) -> None:
        """A failure."""
        self._remember("mail", session, sender, None, reply, "", session.id)

    def recipient_refused(
        self, session: SessionInfo, sender: Sender, recipient: Recipient | None, reply: Reply, backend: str
    ) -> None:
        """A failure."""
        if recipient is not None:
            self.count_domain(recipient.address.domain, reply.code // 100)
        self._remember("rcpt", session, sender, recipient, reply, backend, session.id)

    def failed(self, session: SessionInfo, sender: Sender, outcome: Outcome, backend: str, where: str) -> None:
        """A failure."""
        self._remember(where, session, sender, outcome.recipient, outcome.reply, backend, outcome.reply_id)

    def _remember(self, where: str, session: SessionInfo, *rest: Any) -> None:
        # XCLIENT may change the peer.
        record = partial(_record, self._now(), session.peer_name, *rest)
        self._failures.append(lambda: {"at": where, **record()})

    def was_slow(self, session: SessionInfo, sender: Sender, outcome: Outcome, backend: str) -> None:
        """A message took long, and this recipient of it longest: it is remembered, unless others took longer still."""
        record = partial(
            _record,
            self._now(),
            session.peer_name,
            sender,
            outcome.recipient,
            outcome.reply,
            backend,
            outcome.reply_id,
        )
        slowest = self._minute.slowest
        measured = {"seconds": outcome.seconds, "size": outcome.size}
        heapq.heappush(slowest, (outcome.seconds, next(self._numbers), lambda: {**record(), **measured}))
        if len(slowest) > MOST_SLOW:
            heapq.heappop(slowest)
        if len(slowest) == MOST_SLOW:
            self.slow = slowest[0][0]

    def events(self) -> dict[str, Any]:
        """What is told, see :mod:`lmtp_twisted.daemon.monitoring`."""
        self.turn()
        slowest = heapq.nlargest(MOST_SLOW, (slow for minute in self._minutes for slow in minute.slowest))
        domains, others = self._of_domains()
        answer = {
            "failures": [record() for record in reversed(self._failures)],
            "slowest": [record() for _, _, record in slowest],
            "domains": [{"domain": domain, **_classes(digits)} for domain, digits in domains],
            _OTHER: _classes(others),
        }
        return events_as_one([answer])

    def _of_domains(self) -> tuple[list[tuple[str, Digits]], Digits]:
        """
        The domains with the most recipients, and all others together. It is asked for each second, and there may be
        thousands: what does not change any more is put together once a minute.
        """
        if self._over is None:
            *minutes, _ = self._minutes
            self._over = {}
            for minute in minutes:
                for domain, digits in minute.domains.items():
                    _add(self._over.setdefault(domain, [0] * 6), digits)
        domains = dict(self._over)
        for domain, digits in self._minute.domains.items():
            before = domains.get(domain)
            domains[domain] = digits if before is None else list(map(add, before, digits))
        most = heapq.nlargest(MOST_DOMAINS, domains.items(), key=lambda item: sum(item[1]))
        others = [sum(counts) for counts in zip(*domains.values(), strict=True)] or [0] * 6
        for minute in self._minutes:
            _add(others, minute.others)
        for _, digits in most:
            others = list(map(sub, others, digits))
        return most, others


def _record(
    time: float,
    peer: str,
    sender: Sender | None,
    recipient: Recipient | None,
    reply: Reply,
    backend: str,
    id: str,
) -> dict[str, Any]:
    return {
        "time": time,
        "id": id,
        "peer": peer,
        "sender": "" if sender is None else str(sender),
        "recipient": None if recipient is None else str(recipient),
        "reply": str(reply.encoded[:-2], "ascii"),
        "backend": backend,
    }


def _add(digits: Digits, more: Digits) -> None:
    for digit, number in enumerate(more):
        digits[digit] += number


def _classes(digits: Digits) -> dict[str, int]:
    return {"2xx": digits[2], "4xx": digits[4], "5xx": digits[5]}


def events_as_one(answers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Several answers as one of the same form, with no more in it than one has."""
    answers = list(answers)
    domains: dict[str, dict[str, int]] = {}
    other = {"2xx": 0, "4xx": 0, "5xx": 0}
    for answer in answers:
        _add_classes(other, answer[_OTHER])
        for row in answer["domains"]:
            _add_classes(domains.setdefault(row["domain"], dict.fromkeys(other, 0)), row)
    by_number = sorted(domains.items(), key=lambda item: (-sum(item[1].values()), item[0]))
    for _, further in by_number[MOST_DOMAINS:]:
        _add_classes(other, further)
    failures = (failure for answer in answers for failure in answer["failures"])
    slowest = (slow for answer in answers for slow in answer["slowest"])
    return {
        "failures": sorted(failures, key=lambda record: -record["time"])[:MOST_FAILURES],
        "slowest": sorted(slowest, key=lambda record: -record["seconds"])[:MOST_SLOW],
        "domains": [{"domain": domain, **classes} for domain, classes in by_number[:MOST_DOMAINS]],
        _OTHER: other,
    }


def _add_classes(sums: dict[str, int], more: Mapping[str, int]) -> None:
    for name in sums:
        sums[name] += more[name]
