"""
Which figures there are: their names, kinds and labels, and what they are.

The values of labels come from bounded sets: verbs, classes, mechanisms and limits of ours, labels of backends from the
configuration, registered status codes. Nothing that came over the wire is a label.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping

import attrs

#: What stands between the values of labels in a snapshot.
SEPARATOR = "\x1f"


class Kind(enum.Enum):
    """What Prometheus calls the type of a metric."""

    #: Only grows, as long as the server runs.
    COUNTER = "counter"
    #: Goes up and down.
    GAUGE = "gauge"
    #: Counts by upper end, and a sum.
    HISTOGRAM = "histogram"


@attrs.frozen
class Metric:
    """
    One figure.

    :ivar name: as Prometheus has it, of a counter without ``_total``.
    :ivar kind: its type.
    :ivar help: what it is, in a sentence.
    :ivar labels: their names, in the order of a snapshot; of a histogram without that of the bucket.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()

    @property
    def samples(self) -> tuple[str, ...]:
        """The names in a snapshot."""
        if self.kind is Kind.COUNTER:
            return (f"{self.name}_total",)
        return (f"{self.name}_bucket", f"{self.name}_sum") if self.kind is Kind.HISTOGRAM else (self.name,)


_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM

#: In the order in which they are shown.
CATALOGUE: tuple[Metric, ...] = (
    Metric("lmtp_sessions_open", _G, "Sessions of now."),
    Metric("lmtp_sessions", _C, "Connections that were made, those that were turned away included."),
    Metric(
        "lmtp_commands",
        _C,
        "Commands, whatever the reply; MAIL and RCPT once their message is over.",
        ("verb",),
    ),
    Metric("lmtp_messages", _C, "Messages whose content was complete, refused ones included."),
    Metric("lmtp_abandoned_transactions", _C, "Transactions that were given up before their content was complete."),
    Metric("lmtp_content_bytes", _C, "Octets of complete contents."),
    Metric(
        "lmtp_recipients",
        _C,
        "RCPT commands by the class of their reply, once their message is over.",
        ("class", "backend"),
    ),
    Metric("lmtp_replies", _C, "Final replies, one for each accepted RCPT, by class.", ("class", "backend")),
    Metric("lmtp_delivery_seconds", _H, "From the final dot to the reply, of what a backend delivered.", ("backend",)),
    Metric("lmtp_refusals", _C, "What was refused, by where and by enhanced status code.", ("at", "reason")),
    Metric("lmtp_limits", _C, "Limits that clients have reached.", ("limit",)),
    Metric("lmtp_tls_sessions", _C, "TLS handshakes that were completed.", ("version",)),
    Metric("lmtp_authentications", _C, "Attempts to authenticate.", ("mechanism", "result")),
    Metric("lmtp_errors", _C, "Events of the log of these levels.", ("level",)),
    Metric("lmtp_spool_memory_bytes", _G, "Octets of contents in memory."),
    Metric("lmtp_spool_files", _G, "Contents that lie in a file."),
    Metric("lmtp_backend_waiting", _G, "What waits in a backend's queue.", ("backend",)),
    Metric("lmtp_backend_working", _G, "What a backend has under way.", ("backend",)),
    Metric("lmtp_backend_connections", _G, "Connections that a backend has.", ("backend",)),
    Metric("lmtp_backend_batch_messages", _H, "Messages that were stored as one batch.", ("backend",)),
    Metric("lmtp_backend_batch_seconds", _C, "Seconds that threads took to store batches.", ("backend",)),
    Metric("lmtp_reloads", _C, "Reloads, by whether what they said was put to use.", ("result",)),
    Metric("lmtp_worker_restarts", _C, "Workers that were started in the place of one that had ended."),
    Metric("process_resident_memory_bytes", _G, "Resident memory."),
    Metric("process_cpu_seconds", _C, "Processor time, of the user and of the system."),
    Metric("process_open_fds", _G, "Open files."),
)

#: By the name of the sample.
BY_SAMPLE: Mapping[str, Metric] = {sample: metric for metric in CATALOGUE for sample in metric.samples}


def joined(*values: str) -> str:
    """The values of labels as a snapshot has them."""
    return SEPARATOR.join(values)


def is_cumulative(sample: str) -> bool:
    """Whether it only grows, so that what a process counted stays true when the process is gone."""
    metric = BY_SAMPLE.get(sample)
    return sample.endswith("_total") if metric is None else metric.kind is not Kind.GAUGE


Figures = dict[str, dict[str, float]]


def cumulative(figures: Mapping[str, Mapping[str, float]]) -> Figures:
    """What stays of a snapshot when what it was made of is gone."""
    return {sample: dict(values) for sample, values in figures.items() if is_cumulative(sample)}


def added(many: Iterable[Mapping[str, Mapping[str, float]]]) -> Figures:
    """The sum of several snapshots."""
    total: Figures = {}
    for figures in many:
        for sample, values in figures.items():
            sums = total.setdefault(sample, {})
            for labels, value in values.items():
                sums[labels] = sums.get(labels, 0) + value
    return total
