"""``/metrics`` for Prometheus: what was gathered at the last full second, in its text format or as OpenMetrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import twisted
from lmtp_twisted.daemon.monitoring.catalogue import BY_SAMPLE, CATALOGUE, SEPARATOR, Kind, Metric
from lmtp_twisted.daemon.monitoring.gathering import Gatherer, Tick
from lmtp_twisted.daemon.options import installed_version
from lmtp_twisted.daemon.web.plain import Shown

if TYPE_CHECKING:
    from prometheus_client.core import Metric as Family

_OF_BACKEND = "What a backend tells of itself, see its documentation."


def check_installed() -> None:
    """
    :raises ValueError: where the package is not there that writes metrics.
    """
    if find_spec("prometheus_client") is None:
        raise ValueError("it needs prometheus_client: pip install 'lmtp-twisted[http]'")


class Metrics(Shown):
    """
    :param gatherer: what is shown.
    """

    def __init__(self, gatherer: Gatherer) -> None:
        super().__init__()
        self._gatherer = gatherer
        self._registry: Any = None

    def render_GET(self, request: Any) -> bytes:
        """The figures, as the client likes them."""
        # Not earlier: it is an extra, and takes a while.
        from prometheus_client import CollectorRegistry, PlatformCollector
        from prometheus_client.exposition import choose_encoder

        if self._registry is None:
            self._registry = CollectorRegistry(auto_describe=False)
            self._registry.register(self)
            PlatformCollector(self._registry)
        accepted = b", ".join(request.requestHeaders.getRawHeaders(b"accept", []))
        encoder, content_type = choose_encoder(accepted.decode("latin-1"))
        request.setHeader(b"content-type", content_type.encode())
        request.setHeader(b"vary", b"accept")
        body: bytes = encoder(self._registry)
        return body

    def collect(self) -> Iterator[Family]:
        """For the registry."""
        return families(self._gatherer.latest)


def families(tick: Tick) -> Iterator[Family]:
    """
    :param tick: what was gathered.
    :returns: the same, as Prometheus' client knows it.
    """
    from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily

    yield GaugeMetricFamily("lmtp_processes", "Processes that take mail and answer.", tick.members)
    yield GaugeMetricFamily("lmtp_gathered_timestamp_seconds", "The second that all this is of.", tick.time)
    versions = {"version": installed_version(), "twisted": twisted.__version__}
    yield InfoMetricFamily("lmtp_build", "What runs.", versions)
    for metric in (*CATALOGUE, *_of_backends(tick.figures)):
        if any(sample in tick.figures for sample in metric.samples):
            yield _family(metric, tick.figures)


def _of_backends(figures: Mapping[str, Any]) -> Iterable[Metric]:
    """What backends of others tell."""
    metrics = []
    for sample in sorted(figures.keys() - BY_SAMPLE.keys()):
        name, _, end = sample.rpartition("_")
        if end == "total":
            metrics.append(Metric(name, Kind.COUNTER, _OF_BACKEND, ("backend",)))
        elif end == "bucket":
            metrics.append(Metric(name, Kind.HISTOGRAM, _OF_BACKEND, ("backend",)))
        elif not (end == "sum" and f"{name}_bucket" in figures):
            metrics.append(Metric(sample, Kind.GAUGE, _OF_BACKEND, ("backend",)))
    return metrics


def _family(metric: Metric, figures: Mapping[str, Mapping[str, float]]) -> Family:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    if metric.kind is Kind.HISTOGRAM:
        return _histogram(metric, figures)
    kind = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    family: Any = kind(metric.name, metric.help, labels=metric.labels)
    for labels, value in figures[metric.samples[0]].items():
        family.add_metric(labels.split(SEPARATOR) if metric.labels else [], value)
    return family  # type: ignore[no-any-return]  # two classes that have nothing in common but this


def _histogram(metric: Metric, figures: Mapping[str, Mapping[str, float]]) -> Family:
    from prometheus_client.core import HistogramMetricFamily

    counts, sums = (figures.get(sample, {}) for sample in metric.samples)
    by_labels: dict[str, list[tuple[str, float]]] = {}
    for key, count in counts.items():
        labels, _, end = key.rpartition(SEPARATOR)
        by_labels.setdefault(labels, []).append((end, count))
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, buckets in by_labels.items():
        buckets.sort(key=lambda bucket: float(bucket[0]))
        below, cumulative = 0.0, []
        for end, count in buckets:
            below += count
            cumulative.append((end, below))
        family.add_metric(labels.split(SEPARATOR), cumulative, sums.get(labels, 0.0))
    return family
