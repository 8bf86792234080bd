"""What a process counts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from monitored import monitored
from twisted.internet.defer import Deferred
from twisted.logger import Logger, LogLevel
from zope.interface.verify import verifyObject

from lmtp_twisted import PermanentFailure, Reply, TemporaryFailure
from lmtp_twisted.daemon.monitoring.catalogue import BY_SAMPLE, is_cumulative
from lmtp_twisted.daemon.monitoring.figures import BUCKET_LABELS, ErrorCount
from lmtp_twisted.daemon.monitoring.reasons import reason_of
from lmtp_twisted.interfaces import ISessionObserver
from lmtp_twisted.session import SessionInfo, TLSInfo
from lmtp_twisted.testing import ScriptedDeliveries


def nonzero(values: dict[str, float]) -> dict[str, float]:
    """With labels parted by blanks."""
    return {labels.replace("\x1f", " "): value for labels, value in values.items() if value}


def test_what_counts_is_an_observer_of_sessions() -> None:
    verifyObject(ISessionObserver, monitored().counts)


def test_all_that_is_told_is_in_the_catalogue_and_json_can_hold_it() -> None:
    """Processes tell each other."""
    server = monitored()
    server.send("b@example.org")
    figures = server.figures
    assert figures.keys() <= BY_SAMPLE.keys()
    for sample, values in figures.items():
        parts = len(BY_SAMPLE[sample].labels) + sample.endswith("_bucket") or 1
        assert all(len(labels.split("\x1f")) == parts for labels in values), sample
    assert json.loads(json.dumps(figures)) == figures
    for answer in (server.sessions, server.events):
        assert json.loads(json.dumps(answer)) == answer


def test_sessions_are_counted_and_those_of_now() -> None:
    server = monitored(max_sessions=2)
    client, _, refused = server.client(), server.client(), server.client()
    refused.lose()
    client.say("QUIT")
    client.lose()
    figures = server.figures
    assert (figures["lmtp_sessions_total"], figures["lmtp_sessions_open"]) == ({"": 3}, {"": 1})
    assert nonzero(figures["lmtp_limits_total"]) == {"sessions": 1}
    assert nonzero(figures["lmtp_commands_total"]) == {"LHLO": 2, "QUIT": 1}


def test_replies_recipients_and_octets_are_counted_by_class_and_backend() -> None:
    """RFC 2033 §4.2: one reply for each accepted RCPT."""
    deliveries = ScriptedDeliveries(
        {"later@x": TemporaryFailure("later", enhanced="4.2.2"), "no@x": PermanentFailure("no", enhanced="5.2.1")},
        recipients={"nobody@x": PermanentFailure("nobody")},
    )
    server = monitored(deliveries)
    server.send("a@x", "later@x", "nobody@x", "no@x", "a@x")
    figures = server.figures
    assert nonzero(figures["lmtp_replies_total"]) == {"2xx store": 2, "4xx store": 1, "5xx store": 1}
    assert nonzero(figures["lmtp_recipients_total"]) == {"2xx store": 4, "5xx store": 1}
    assert nonzero(figures["lmtp_refusals_total"]) == {"rcpt 5.1.1": 1, "delivery 4.2.2": 1, "delivery 5.2.1": 1}
    assert (figures["lmtp_messages_total"], figures["lmtp_content_bytes_total"]) == ({"": 1}, {"": 7})


def test_a_content_that_is_refused_is_nobodys_delivery() -> None:
    """It has no backend, and does not count for the time of deliveries."""
    server = monitored(size_limit=10)
    server.send("a@x", "b@x", content="x" * 20)
    figures = server.figures
    assert nonzero(figures["lmtp_replies_total"]) == {"5xx ": 2}
    assert nonzero(figures["lmtp_refusals_total"]) == {"content 5.3.4": 2}
    assert nonzero(figures["lmtp_limits_total"]) == {"message size": 1}
    assert nonzero(figures["lmtp_delivery_seconds_bucket"]) == {}


def test_a_transaction_that_is_given_up_is_no_message() -> None:
    server = monitored()
    client = server.client()
    client.say("MAIL FROM:<a@x>", "RCPT TO:<b@x>", "RSET")
    figures = server.figures
    assert (figures["lmtp_messages_total"], figures["lmtp_abandoned_transactions_total"]) == ({"": 0}, {"": 1})
    assert nonzero(figures["lmtp_recipients_total"]) == {"2xx ": 1}


def test_seconds_are_counted_by_bucket_and_backend() -> None:
    """A bucket's upper end belongs to it."""
    answers: list[Deferred[None]] = []

    def deliver(message: Any) -> list[Deferred[None]]:
        answers.append(Deferred())
        return [answers[-1]]

    server = monitored(ScriptedDeliveries(deliver=deliver))
    for seconds in (0.0, 0.25, 0.5, 301.0):
        server.send("a@x")
        server.reactor.advance(seconds)
        answers[-1].callback(None)
    figures = server.figures
    assert nonzero(figures["lmtp_delivery_seconds_bucket"]) == {
        "store 0.0005": 1,
        "store 0.25": 1,
        "store 0.5": 1,
        "store +Inf": 1,
    }
    assert [labels.split("\x1f")[1] for labels in figures["lmtp_delivery_seconds_bucket"]] == list(BUCKET_LABELS)
    assert figures["lmtp_delivery_seconds_sum"] == {"store": 301.75}


def test_senders_that_are_refused_are_counted_by_reason() -> None:
    server = monitored(ScriptedDeliveries(senders={"no@x": PermanentFailure("no")}))
    client = server.client()
    client.say("MAIL FROM:<no@x>", "MAIL FROM:<a..b@x>")
    assert nonzero(server.figures["lmtp_refusals_total"]) == {"mail 5.7.1": 1, "mail 5.1.7": 1}


def test_tls_and_logins_are_counted() -> None:
    counts = monitored().counts
    session = SessionInfo(None, None, tls=TLSInfo("TLSv1.3", "x"), user="u", mechanism="PLAIN")  # type: ignore[arg-type]
    counts.sessionSecured(session)
    counts.sessionAuthenticated(session)
    session.mechanism = None
    counts.sessionAuthenticated(session)
    counts.authenticationFailed(session, "LOGIN")
    figures = counts.snapshot()
    assert figures["lmtp_tls_sessions_total"] == {"TLSv1.3": 1}
    assert nonzero(figures["lmtp_authentications_total"]) == {"PLAIN ok": 1, "XCLIENT ok": 1, "LOGIN failed": 1}


@pytest.mark.parametrize(
    ("code", "enhanced", "reason"),
    [
        (550, "5.1.1", "5.1.1"),
        (451, None, "4.3.0"),
        (554, None, "5.3.0"),
        (550, "5.1.999", "5.other"),
        (550, "5.8.1", "5.other"),
        (451, "5.1.1", "4.other"),
        (451, "x", "4.other"),
        (550, "5.1.01", "5.1.1"),
    ],
)
def test_a_reason_is_a_registered_code(code: int, enhanced: str | None, reason: str) -> None:
    """RFC 5248: a backend may say any, and another server may make it say any."""
    assert reason_of(Reply(code, enhanced)) == reason


def test_errors_of_the_log_are_counted() -> None:
    errors = ErrorCount()
    log = Logger(namespace="x", observer=errors)
    for level in (LogLevel.info, LogLevel.warn, LogLevel.error, LogLevel.error, LogLevel.critical):
        log.emit(level, "x")
    errors({"log_format": "without a level"})
    assert errors.counts == {"error": 2, "critical": 1}


def test_the_spool_is_looked_at() -> None:
    """Octets in memory, and files."""
    deliveries = ScriptedDeliveries()
    server = monitored(deliveries)
    server.spool.threshold = 100
    client = server.client()
    client.say("MAIL FROM:<a@x>", "RCPT TO:<b@x>", "DATA", "x" * 50)
    figures = server.figures
    assert (figures["lmtp_spool_memory_bytes"], figures["lmtp_spool_files"]) == ({"": 50}, {"": 0})
    client.say("x" * 200, "x" * 10)
    assert server.figures["lmtp_spool_files"] == {"": 1}
    client.say(".")
    # It lies where it is as long as somebody holds it.
    deliveries.messages.clear()
    deliveries.calls.clear()
    assert (server.figures["lmtp_spool_memory_bytes"], server.figures["lmtp_spool_files"]) == ({"": 0}, {"": 0})


def test_the_process_is_looked_at() -> None:
    figures = monitored().figures
    assert figures["process_resident_memory_bytes"][""] > 1e7
    assert figures["process_open_fds"][""] >= 3
    assert figures["process_cpu_seconds_total"][""] > 0


def test_what_was_counted_before_a_reload_stays() -> None:
    """Its sessions go on beside those of the next generation, until they end."""
    server = monitored(Measured({"waiting": 3, "made_total": 4}))
    later = monitored(Measured({"waiting": 1, "made_total": 1}))
    server.send("b@x")
    both = server.monitor.watch(later.context, server.spool)
    both.sessionStarted(server.client().protocol.session)
    before = server.figures
    assert (before["lmtp_backend_waiting"], before["lmtp_sessions_open"]) == ({"store": 4}, {"": 3})
    server.context.shut_down()
    after = server.figures
    assert (after["lmtp_backend_waiting"], after["lmtp_sessions_open"]) == ({"store": 1}, {"": 1})
    for sample in before:
        if is_cumulative(sample) and sample.startswith("lmtp"):
            assert after[sample] == before[sample], sample


class Measured(ScriptedDeliveries):
    """A backend that tells figures."""

    def __init__(self, figures: Any) -> None:
        super().__init__()
        self.figures = lambda: figures


def test_a_backend_tells_figures_of_its_own() -> None:
    """Those of the same label are added."""
    spread = {"buckets": {"1": 2, "+Inf": 1}, "sum": 9}
    server = monitored(Measured({"waiting": 3, "batch_messages": spread, "made_up_total": 4}))
    server.context.label(Measured({"waiting": 4, "batch_messages": spread}), "store")  # type: ignore[arg-type]
    server.context.label(Measured({"waiting": 1, "Not A Name": 1}), "other")  # type: ignore[arg-type]
    figures = {name: values for name, values in server.figures.items() if name.startswith("lmtp_backend")}
    assert {name: nonzero(values) for name, values in figures.items()} == {
        "lmtp_backend_waiting": {"store": 7, "other": 1},
        "lmtp_backend_batch_messages_bucket": {"store 1": 4, "store +Inf": 2},
        "lmtp_backend_batch_messages_sum": {"store": 18},
        "lmtp_backend_made_up_total": {"store": 4},
    }
