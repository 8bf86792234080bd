"""The charts hold what ``/metrics`` says of the same seconds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http.client import HTTPConnection
from itertools import pairwise
from threading import Event, Thread
from typing import Any

import pytest
from headless import Browser
from page_server import Server

pytestmark = pytest.mark.peer("chromium")

#: Seconds that are compared.
SECONDS = 8
#: The series of the charts, each under the name that the test has for it.
DRAWN = """
const series = {};
for (const { definition, plot } of page.charts) {
  definition.series.forEach(({ label }, i) => { series[`${definition.name} ${label}`] = plot.data[i + 1]; });
}
return [page.charts[0].plot.data[0], series];
"""
SERIES = {
    "messages": "mail Messages",
    "recipients": "mail Recipients",
    "octets": "octets Octets",
    "new": "arrivals New",
    "connected": "sessions Connected",
    "2xx": "replies 2xx",
    "4xx": "replies 4xx",
    "5xx": "replies 5xx",
    "early": "replies before DATA",
}
SHARES = {"latency p50": 0.5, "latency p95": 0.95, "latency p99": 0.99}
#: What is read of the metrics, each under the name that the test has for it; of several samples it is the sum.
SAMPLES = {
    "messages": r"lmtp_messages_total\S*",
    "octets": r"lmtp_content_bytes_total\S*",
    "new": r"lmtp_sessions_total\S*",
    "connected": r"lmtp_sessions_open\S*",
    "2xx": r'lmtp_replies_total\{[^}]*class="2xx"[^}]*\}',
    "4xx": r'lmtp_replies_total\{[^}]*class="4xx"[^}]*\}',
    "5xx": r'lmtp_replies_total\{[^}]*class="5xx"[^}]*\}',
    "early": r'lmtp_refusals_total\{[^}]*at="(?:mail|rcpt)"[^}]*\}',
}
BUCKET = re.compile(r'lmtp_delivery_seconds_bucket\{[^}]*le="([^"]+)"[^}]*\} (\S+)')


class Scrapes:
    """
    Asks for the metrics again and again, as somebody would who knows nothing of the page.

    :ivar seen: the figures of each second, once.
    """

    def __init__(self, port: int) -> None:
        self.seen: list[dict[str, Any]] = []
        self._connection = HTTPConnection("127.0.0.1", port, timeout=30)
        self._over = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> Scrapes:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(30)
        self._connection.close()

    def _run(self) -> None:
        while not self._over.wait(0.1):
            self._connection.request("GET", "/metrics")
            figures = figures_of(self._connection.getresponse().read().decode())
            if not self.seen or self.seen[-1] != figures:
                self.seen.append(figures)


def figures_of(text: str) -> dict[str, Any]:
    """The figures that the charts are of."""
    figures: dict[str, Any] = {
        name: sum(float(value) for value in re.findall(rf"^{sample} (\S+)$", text, re.MULTILINE))
        for name, sample in SAMPLES.items()
    }
    buckets: dict[float, float] = {}
    for end, count in BUCKET.findall(text):
        buckets[float(end)] = buckets.get(float(end), 0) + float(count)
    figures["recipients"] = figures["2xx"] + figures["4xx"] + figures["5xx"]
    figures["buckets"] = dict(sorted(buckets.items()))
    return figures


def quantile(share: float, before: dict[float, float], after: dict[float, float]) -> float | None:
    """As Prometheus' ``histogram_quantile`` of the deliveries between two scrapes, whose buckets are cumulative."""
    counts = [(end, after[end] - before.get(end, 0)) for end in after]
    total = counts[-1][1] if counts else 0
    if not total:
        return None
    start = below = 0.0
    for end, count in counts:
        if count >= share * total:
            return start if end == float("inf") else start + (end - start) * (share * total - below) / (count - below)
        start, below = end, count
    raise AssertionError("the last bucket has all")


def seconds_of(seen: Sequence[dict[str, Any]], times: Sequence[int], drawn: dict[str, list[Any]]) -> list[int]:
    """
    The seconds of the charts that the scrapes are of: the counters have grown by as much from each to the next, and the
    gauge is the same. Empty where there are none.
    """
    sums: list[dict[str, float]] = [dict.fromkeys(SERIES, 0.0)]
    for i in range(1, len(times)):
        grown = {name: drawn[series][i] * (times[i] - times[i - 1]) for name, series in SERIES.items()}
        sums.append({name: round(sums[-1][name] + grown[name]) for name in SERIES})
    for i, total in enumerate(sums):
        total["connected"] = drawn[SERIES["connected"]][i]
    for start in range(len(times)):
        wanted = [
            {name: sums[start][name] + figures[name] - seen[0][name] for name in SERIES}
            | {"connected": figures["connected"]}
            for figures in seen
        ]
        if all(one in sums for one in wanted):
            return [sums.index(one) for one in wanted]
    return []


def test_the_charts_hold_what_the_metrics_say_of_the_same_seconds(page: Browser, busy: Server) -> None:
    page.show(busy.web)
    page.js("document.querySelector('input[name=step][value=\"1\"]').click()")
    with Scrapes(busy.web) as scrapes:
        start = page.js("return page.history.now")
        page.until("return page.history.now > arguments[0] + arguments[1]", start, SECONDS)
    seen = scrapes.seen
    last = page.js("return page.history.now")
    # What was scraped last the page may hear only now.
    page.until("return page.history.now > arguments[0] + 1", last)
    times, drawn = page.js(DRAWN)
    seconds = seconds_of(seen, times, drawn)
    assert len(seconds) >= SECONDS - 2, (seen, times, drawn)
    assert len(set(seconds)) == len(seconds)
    compared = 0
    for (before, after), (earlier, later) in zip(pairwise(seen), pairwise(seconds), strict=True):
        if later != earlier + 1:
            continue
        for series, share in SHARES.items():
            wanted = quantile(share, before["buckets"], after["buckets"])
            assert drawn[series][later] == (None if wanted is None else pytest.approx(wanted))
            compared += wanted is not None
    assert compared >= 3 * (SECONDS // 2)
    assert page.console() == []
