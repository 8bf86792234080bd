"""
What one process counts.

:meth:`Counts.snapshot` gives ``{sample: {labels: number}}``: the name of a sample as Prometheus has it, and for each of
its label values, joined by ``"\\x1f"`` in the order of the catalogue, a number. All numbers can be added to those of
another process. Of a histogram there is a number for each bucket, not cumulative, and the sum::

    {"lmtp_sessions_open": {"": 2},
     "lmtp_sessions_total": {"": 17},
     "lmtp_replies_total": {"2xx\\x1fmaildir": 40, "4xx\\x1fmaildir": 1},
     "lmtp_delivery_seconds_bucket": {"maildir\\x1f0.005": 38, "maildir\\x1f+Inf": 3},
     "lmtp_delivery_seconds_sum": {"maildir": 1.25}}

Messages are counted many at a time, by plain numbers, and made into labels once a second.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

from twisted.logger import ILogObserver, LogEvent, LogLevel
from zope.interface import implementer

from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.daemon.monitoring.catalogue import Figures, joined
from lmtp_twisted.daemon.monitoring.reasons import reason_of
from lmtp_twisted.daemon.monitoring.recent import Recent
from lmtp_twisted.envelope import Envelope, Outcome, Recipient, Sender
from lmtp_twisted.interfaces import ISessionObserver
from lmtp_twisted.limits import Limit
from lmtp_twisted.session import SessionInfo
from lmtp_twisted.wire.replies import DELIVERED, Reply

#: Upper ends of the buckets of delivery seconds; one more is for all above.
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
#: The same as the values of a label.
BUCKET_LABELS = (*(f"{end:g}" for end in BUCKETS), "+Inf")

# Messages that may be pending, and recipients of one.
_MOST_PENDING = 16
_MANY = 20
_FIRST = BUCKETS[0]
_CLASSES = ((2, "2xx"), (4, "4xx"), (5, "5xx"))


class _OfBackend:
    """What is counted for one backend."""

    __slots__ = ("accepted", "backend", "cells", "refused", "seconds")

    def __init__(self, backend: Any) -> None:
        # Held, so that no other can have its id.
        self.backend = backend
        # Final replies by the first digit of the code, then by the bucket of their seconds.
        self.cells = {digit: [0] * len(BUCKET_LABELS) for digit, _ in _CLASSES}
        self.refused = [0] * 6
        self.accepted = 0
        self.seconds = 0.0

    @property
    def answered(self) -> int:
        return sum(map(sum, self.cells.values()))


@implementer(ISessionObserver)
class Counts:
    """
    Of one generation of backends.

    :param context: the backends.
    :param recent: what happened lately: is told of all that is not only counted.
    :ivar commands: by verb, for the factories to count.
    """

    def __init__(self, context: BackendContext, recent: Recent) -> None:
        self.commands: dict[str, int] = {}
        self._context = context
        self._label_of = context.label_of
        self._recent = recent
        self._sessions = self._ended = self._senders_refused = self._messages = self._abandoned = self._octets = 0
        # By the id of the backend: they need not be hashable.
        self._backends: dict[int, _OfBackend] = {}
        self._refusals: dict[str, int] = {}
        self._pending: list[tuple[SessionInfo, Envelope, tuple[Outcome, ...]]] = []
        self._limits = dict.fromkeys(Limit, 0)
        self._tls: dict[str, int] = {}
        self._logins: dict[str, int] = {}

    def sessionStarted(self, session: SessionInfo) -> None:
        """See :class:`~lmtp_twisted.interfaces.ISessionObserver`."""
        self._sessions += 1

    def sessionSecured(self, session: SessionInfo) -> None:
        """See :class:`~lmtp_twisted.interfaces.ISessionObserver`."""
        if session.tls is not None:
            _count(self._tls, session.tls.version)

    def sessionAuthenticated(self, session: SessionInfo) -> None:
        """See :class:`~lmtp_twisted.interfaces.ISessionObserver`."""
        _count(self._logins, joined(session.mechanism or "XCLIENT", "ok"))

    def authenticationFailed(self, session: SessionInfo, mechanism: str) -> None:
        """See :class:`~lmtp_twisted.interfaces.ISessionObserver`."""
        _count(self._logins, joined(mechanism, "failed"))

    def limitReached(self, session: SessionInfo, limit: Limit) -> None:
        """See :class:`~lmtp_twisted.interfaces.ISessionObserver`."""
        self._limits[limit] += 1

    def senderRefused(self, session: SessionInfo, sender: Sender | None, reply: Reply) -> None:
        """See :class:`~lmtp_twisted.interfaces.ISessionObserver`."""
        self._senders_refused += 1
        _count(self._refusals, joined("mail", reason_of(reply)))
        self._recent.sender_refused(session, sender, reply)

    def recipientRefused(
        self, session: SessionInfo, sender: Sender, recipient: Recipient | None, reply: Reply, backend: Any
    ) -> None:
        """See :class:`~lmtp_twisted.interfaces.ISessionObserver`."""
        _count(self._refusals, joined("rcpt", reason_of(reply)))
        self._of(backend).refused[reply.code // 100] += 1
        self._recent.recipient_refused(session, sender, recipient, reply, self._label_of(backend))

    def transactionEnded(self, session: SessionInfo, envelope: Envelope, outcomes: tuple[Outcome, ...]) -> None:
        """See :class:`~lmtp_twisted.interfaces.ISessionObserver`."""
        pending = self._pending
        pending.append((session, envelope, outcomes))
        if len(pending) >= _MOST_PENDING or len(outcomes) > _MANY:
            self.catch_up()
            return
        for outcome in outcomes:
            if outcome.reply is not DELIVERED:
                # What failed is remembered with its time and its peer.
                self.catch_up()
                return

    def catch_up(self) -> None:
        """Count what is pending: many at a time cost a fraction of what each costs in the midst of other work."""
        pending, self._pending = self._pending, []
        for session, envelope, outcomes in pending:
            self._count(session, envelope, outcomes)

    def _count(self, session: SessionInfo, envelope: Envelope, outcomes: tuple[Outcome, ...]) -> None:
        if not outcomes:
            self._abandoned += 1
            self._of(None).accepted += len(envelope.recipients)
            return
        self._messages += 1
        self._octets += outcomes[0].size
        domains = self._recent.domains
        reply, backend, seconds, slowest = None, self, -1.0, 0.0
        for outcome in outcomes:
            # Recipients that were answered together share all this.
            if outcome.seconds != seconds or outcome.reply is not reply or outcome.backend is not backend:
                reply, backend, seconds = outcome.reply, outcome.backend, outcome.seconds
                row = self._backends.get(id(backend)) or self._of(backend)
                digit = 2 if reply is DELIVERED else reply.code // 100
                cell = row.cells[digit]
                bucket = 0 if seconds <= _FIRST else bisect_left(BUCKETS, seconds)
                if seconds > slowest:
                    slowest = seconds
            cell[bucket] += 1
            row.seconds += seconds
            try:
                domains[outcome.recipient.address.domain][digit] += 1
            except KeyError:
                self._recent.count_domain(outcome.recipient.address.domain, digit)
            if digit != 2:
                self._failed(session, envelope, outcome)
        if slowest > self._recent.slow:
            outcome = max(outcomes, key=lambda outcome: outcome.seconds)
            self._recent.was_slow(session, envelope.sender, outcome, self._label_of(outcome.backend))

    def _failed(self, session: SessionInfo, envelope: Envelope, outcome: Outcome) -> None:
        where = "content" if outcome.backend is None else "delivery"
        _count(self._refusals, joined(where, reason_of(outcome.reply)))
        self._recent.failed(session, envelope.sender, outcome, self._label_of(outcome.backend), where)

    def sessionEnded(self, session: SessionInfo) -> None:
        """See :class:`~lmtp_twisted.interfaces.ISessionObserver`."""
        self._ended += 1

    def _of(self, backend: Any) -> _OfBackend:
        row = self._backends.get(id(backend))
        if row is None:
            row = self._backends[id(backend)] = _OfBackend(backend)
        return row

    def snapshot(self) -> Figures:
        """What was counted until now."""
        self.catch_up()
        return {
            "lmtp_sessions_open": {"": self._sessions - self._ended},
            "lmtp_sessions_total": {"": self._sessions},
            "lmtp_commands_total": self._commands(),
            "lmtp_messages_total": {"": self._messages},
            "lmtp_abandoned_transactions_total": {"": self._abandoned},
            "lmtp_content_bytes_total": {"": self._octets},
            "lmtp_refusals_total": dict(self._refusals),
            "lmtp_limits_total": {limit.value: count for limit, count in self._limits.items()},
            "lmtp_tls_sessions_total": dict(self._tls),
            "lmtp_authentications_total": dict(self._logins),
            **self._by_backend(),
        }

    def _commands(self) -> dict[str, float]:
        """MAIL and RCPT in their turn are known by what became of them."""
        commands: dict[str, float] = dict(self.commands)
        _count(commands, "MAIL", self._messages + self._abandoned + self._senders_refused)
        rows = self._backends.values()
        _count(commands, "RCPT", sum(row.answered + row.accepted + sum(row.refused) for row in rows))
        return commands

    def _by_backend(self) -> Figures:
        for _, backend in self._context.labelled:
            # From the beginning: nothing is missed of what grows from zero.
            self._of(backend)
        recipients: dict[str, float] = {}
        replies: dict[str, float] = {}
        buckets: dict[str, float] = {}
        seconds: dict[str, float] = {}
        for row in self._backends.values():
            label = self._label_of(row.backend)
            for digit, name in _CLASSES:
                key = joined(name, label)
                _count(replies, key, sum(row.cells[digit]))
                _count(recipients, key, row.answered + row.accepted if digit == 2 else row.refused[digit])
            if row.backend is None:
                # It was refused before it could be delivered.
                continue
            _count(seconds, label, row.seconds)
            for end, counts in zip(BUCKET_LABELS, zip(*row.cells.values(), strict=True), strict=True):
                _count(buckets, joined(label, end), sum(counts))
        return {
            "lmtp_recipients_total": recipients,
            "lmtp_replies_total": replies,
            "lmtp_delivery_seconds_bucket": buckets,
            "lmtp_delivery_seconds_sum": seconds,
        }


@implementer(ILogObserver)
class ErrorCount:
    """
    Counts events of the log.

    :ivar counts: by level.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {"error": 0, "critical": 0}

    def __call__(self, event: LogEvent) -> None:
        """An event: those of Twisted's old log that are errors are critical ones here."""
        level = event.get("log_level")
        if level is LogLevel.error or level is LogLevel.critical:
            self.counts[level.name] += 1


def _count(counts: dict[str, Any], key: str, more: float = 1) -> None:
    counts[key] = counts.get(key, 0) + more
