"""What the daemon's log makes of the events of Twisted's."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import ILogObserver, Logger, LogLevel, LogPublisher, globalLogPublisher
from twisted.python import log as legacy_log
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from lmtp_twisted.daemon.logs import Log, WrittenLog
from lmtp_twisted.daemon.writer import LineWriter

Read = Callable[[], list[str]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of the log."""
    return tmp_path / "lmtp.log"


def _logger(path: Path, level: str, namespace: str = "lmtp_twisted") -> Logger:
    return Logger(namespace=namespace, observer=LogPublisher(WrittenLog(level, LineWriter(str(path)))))


def _texts(path: Path) -> list[str]:
    """The lines without their times."""
    return [
        re.sub(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d{4} ", "", line) for line in path.read_text().splitlines()
    ]


def test_it_is_an_observer_of_twisteds_log(path: Path) -> None:
    verifyObject(ILogObserver, WrittenLog("info", LineWriter(str(path))))


def test_an_event_is_a_line(path: Path) -> None:
    _logger(path, "info").info("{count} messages", count=3)
    assert _texts(path) == ["info [lmtp] 3 messages"]


def test_the_time_is_that_of_the_event(path: Path) -> None:
    WrittenLog("info", LineWriter(str(path)))({"log_time": 0.25, "log_level": LogLevel.info, "log_format": "x"})
    assert re.match(r"19(69-12-31|70-01-01)T\d\d:\d\d:\d\d\.250[+-]\d{4} info \[-\] x$", path.read_text())


@pytest.mark.parametrize(
    ("level", "seen"),
    [
        ("debug", ["debug", "info", "warn", "error", "critical"]),
        ("info", ["info", "warn", "error", "critical"]),
        ("warn", ["warn", "error", "critical"]),
        ("error", ["error", "critical"]),
    ],
)
def test_events_below_the_level_are_not_logged(path: Path, level: str, seen: list[str]) -> None:
    logger = _logger(path, level)
    for name in ("debug", "info", "warn", "error", "critical"):
        getattr(logger, name)("text")
    assert _texts(path) == [f"{name} [lmtp] text" for name in seen]


def test_an_event_below_the_level_is_not_even_formatted(path: Path) -> None:
    class Formatted:
        def __format__(self, _: str) -> str:
            raise AssertionError("it was formatted")

    _logger(path, "warn").info("{it}", it=Formatted())
    assert path.read_text() == ""


def test_the_part_of_the_program_is_named(path: Path) -> None:
    _logger(path, "info", "twisted.internet.tcp").info("text")
    _logger(path, "info", "some\nwhere").info("text")
    assert _texts(path) == ["info [twisted.internet.tcp] text", r"info [some\nwhere] text"]


def test_line_ends_in_an_event_do_not_begin_a_line(path: Path) -> None:
    _logger(path, "info").info("{text}", text="a\r\n2026-01-01T00:00:00.000+0000 info [lmtp] forged\u2028Zoë")
    assert _texts(path) == [r"info [lmtp] a\r\n2026-01-01T00:00:00.000+0000 info [lmtp] forged\u2028Zoë"]


def test_an_event_that_cannot_be_formatted_is_logged_all_the_same(path: Path) -> None:
    _logger(path, "info").info("{missing}")
    (text,) = _texts(path)
    assert text.startswith("info [lmtp] Unable to format event")


def test_a_failure_has_its_traceback_below_indented(path: Path) -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        _logger(path, "info").failure("it failed")
    first, *below = _texts(path)
    assert first == "critical [lmtp] it failed"
    assert below[0] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") for line in below)
    assert "lines" in below[-1]


def test_a_failure_that_gives_no_traceback_is_logged_all_the_same(path: Path) -> None:
    class Broken:
        def getTraceback(self) -> str:
            raise RuntimeError

    _logger(path, "info").error("it failed", log_failure=Broken())
    assert _texts(path) == ["error [lmtp] it failed", "    (no traceback: RuntimeError)"]


@pytest.fixture
def legacy(path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """:mod:`twisted.python.log` writing to the path; it has one publisher, which is that of the process."""
    observer = WrittenLog("info", LineWriter(str(path)))
    globalLogPublisher.addObserver(observer)
    yield legacy_log
    globalLogPublisher.removeObserver(observer)


def test_events_of_the_old_log_are_lines_too(path: Path, legacy: Any) -> None:
    legacy.msg("two\nlines", system="Protocol,1,127.0.0.1")
    legacy.msg("text")
    assert _texts(path) == [r"info [Protocol,1,127.0.0.1] two\nlines", "info [-] text"]


def test_what_twisted_says_at_each_start_is_not_logged(path: Path, legacy: Any) -> None:
    """Where it listens is said by us, and a cache of plugins that cannot be written is not missed."""
    legacy.msg("Door starting on 2524")
    legacy.msg("Door (TLS) starting on '/run/lmtp'")
    legacy.msg(
        format="Unable to write to plugin cache %(path)s: error number %(errno)d",
        path="/usr/lib/twisted/plugins/dropin.cache",
        errno=13,
    )
    legacy.msg("Site starting on 8080")
    Logger(namespace="own").info("Door starting on time")
    assert _texts(path) == ["info [-] Site starting on 8080", "info [own] Door starting on time"]


def test_failures_of_the_old_log_have_their_traceback_once_and_below(path: Path, legacy: Any) -> None:
    failure = Failure(ValueError("wrong"))
    legacy.err(failure, "it failed")
    legacy.err(failure)
    texts = _texts(path)
    assert [text for text in texts if not text.startswith(" ")] == [
        "critical [-] it failed",
        "critical [-] Unhandled error",
    ]
    assert path.read_text().count("builtins.ValueError: wrong") == 2


def test_what_is_said_is_written_as_a_line_of_its_own(path: Path) -> None:
    log = WrittenLog("info", LineWriter(str(path)))
    log.say("info", "one", "two")
    assert _texts(path) == ["info [lmtp] one", "info [lmtp] two"]


def test_a_log_knows_what_is_wanted(path: Path) -> None:
    log = WrittenLog("info", LineWriter(str(path)))
    assert [log.has(level) for level in ("debug", "info", "warn", "error")] == [False, True, True, True]


def test_where_twistd_logs_in_its_own_way_lines_are_events(path: Path) -> None:
    seen: list[tuple[Any, Any]] = []

    def observe(event: Any) -> None:
        seen.append((event["log_level"], event["log_format"].format(**event)))

    globalLogPublisher.addObserver(observe)
    try:
        log = Log("info")
        log.start()
        log.say("info", "one", "{two}")
        log.reopen()
        log.stop()
    finally:
        globalLogPublisher.removeObserver(observe)
    assert seen == [(LogLevel.info, "one"), (LogLevel.info, "{two}")]
    assert not log.can_reopen


def test_what_was_promised_comes_before_what_is_logged_after_it(path: Path) -> None:
    """And has the time of when it was."""
    writer = LineWriter(str(path))
    log = WrittenLog("info", writer)
    writer.start()
    log.promise(lambda: log.say("info", "promised", seconds=0.25))
    Logger(namespace="lmtp_twisted", observer=LogPublisher(log)).info("later")
    writer.stop()
    assert _texts(path) == ["info [lmtp] promised", "info [lmtp] later"]
    assert re.match(r"19(69-12-31|70-01-01)T\d\d:\d\d:\d\d\.250", path.read_text())
