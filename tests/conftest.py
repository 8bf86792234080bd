"""What all tests share: nothing is left behind, and a real peer is there or its absence is said."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from peer_programs import PEERS, find
from twisted.internet import reactor
from twisted.logger import LogEvent, globalLogPublisher

if TYPE_CHECKING:
    from rabbitmq_cluster import RabbitCluster

# A busy machine is no defect of what is tested.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("default")

_IS_CI = bool(os.environ.get("LMTP_TWISTED_REQUIRE_PEERS"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where every peer is required, nothing may be skipped for want of anything."""
    report = yield
    if _IS_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Nor a whole file."""
    report = yield
    if _IS_CI and report.skipped:
        report.outcome = "failed"
    return report


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("peer"):
        (name,) = marker.args
        missing = [program for program in PEERS[name] if find(program) is None]
        if missing:
            reason = f"{', '.join(missing)} of {name} not found: make peers installs it"
            pytest.skip(reason)


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    """A delayed call or a failed Deferred that outlives its test is a defect that no assertion has seen."""
    unhandled: list[str] = []

    def observe(event: LogEvent) -> None:
        if "Unhandled error in Deferred" in str(event.get("log_format", "")) and "log_failure" in event:
            unhandled.append(event["log_failure"].getTraceback())

    before: set[Any] = set(reactor.getDelayedCalls())  # type: ignore[attr-defined]  # the real reactor
    globalLogPublisher.addObserver(observe)
    yield
    globalLogPublisher.removeObserver(observe)
    left = [call for call in reactor.getDelayedCalls() if call not in before]  # type: ignore[attr-defined]
    for call in left:
        call.cancel()
    assert not left, f"delayed calls were left behind: {left}"
    assert not unhandled, "\n".join(unhandled)


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitCluster]:
    """One cluster for all tests. Who kills a node of it starts it again; each test has queues of its own."""
    from rabbitmq_cluster import RabbitCluster

    with tempfile.TemporaryDirectory(prefix="rabbitmq-") as directory:
        cluster = RabbitCluster(Path(directory))
        yield cluster
        cluster.close()
