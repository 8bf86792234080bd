"""A file that is read anew when it has changed, as a whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, globalLogPublisher

from lmtp_twisted.testing import FakePool, FakeReactor
from lmtp_twisted.watched import FRESH, PATIENCE, WatchedFile


def number(text: str) -> int:
    return int(text)


class Watched:
    """A file that holds a number."""

    def __init__(self, directory: Path, immediate: bool = True) -> None:
        self.path = directory / "number"
        self.path.write_text("1")
        self.reactor = FakeReactor()
        self.pool = FakePool(immediate)
        self.file: WatchedFile[int] = WatchedFile(str(self.path), number, self.reactor, self.pool)  # type: ignore[arg-type]

    def replace(self, text: str) -> None:
        other = self.path.with_suffix(".new")
        other.write_text(text)
        os.replace(other, self.path)

    def now(self) -> Any:
        current = self.file.current()
        return current.result if isinstance(current, Deferred) and current.called else current


@pytest.fixture
def logged() -> Any:
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    yield lambda: [event["log_level"].name for event in events if event["log_namespace"] == "lmtp_twisted"]
    globalLogPublisher.removeObserver(events.append)


def test_new_content_is_there_a_second_later(tmp_path: Path, logged: Any) -> None:
    watched = Watched(tmp_path)
    assert watched.now() == 1
    watched.replace("2")
    assert watched.now() == 1
    watched.reactor.advance(FRESH)
    assert watched.now() == 2
    assert logged() == ["info"]


@pytest.mark.parametrize("text", ["x", "", "\N{LATIN SMALL LETTER E WITH ACUTE}", None])
def test_content_that_makes_no_sense_leaves_the_old_in_place_and_is_said_once(
    tmp_path: Path, logged: Any, text: str | None
) -> None:
    watched = Watched(tmp_path)
    watched.path.unlink() if text is None else watched.replace(text)
    for _ in range(3):
        watched.reactor.advance(FRESH)
        assert watched.now() == 1
    assert logged() == ["error"]
    watched.replace("3")
    watched.reactor.advance(FRESH)
    assert watched.now() == 3
    assert logged() == ["error", "info"]


def test_content_that_is_no_utf_8_is_refused(tmp_path: Path, logged: Any) -> None:
    watched = Watched(tmp_path)
    watched.path.write_bytes(b"\xff2")
    watched.reactor.advance(FRESH)
    assert watched.now() == 1
    assert logged() == ["error"]


def test_those_who_ask_meanwhile_wait_for_the_same_look(tmp_path: Path) -> None:
    watched = Watched(tmp_path, immediate=False)
    watched.replace("2")
    first, second = watched.file.current(), watched.file.current()
    assert isinstance(first, Deferred)
    assert isinstance(second, Deferred)
    second.addErrback(lambda _: None)
    second.cancel()
    assert watched.pool.run() == 1
    assert first.result == 2
    assert watched.file.current() == 2


def test_a_look_that_takes_too_long_is_not_waited_for(tmp_path: Path) -> None:
    """Nobody's mail is held up by a disk that hangs; once it answers, what it says counts."""
    watched = Watched(tmp_path, immediate=False)
    watched.replace("2")
    waiting = watched.file.current()
    assert isinstance(waiting, Deferred)
    watched.reactor.advance(PATIENCE)
    assert waiting.result == 1
    watched.reactor.advance(10)
    assert watched.file.current() == 1
    assert watched.pool.run() == 1
    assert watched.file.current() == 2


@pytest.mark.parametrize(("text", "words"), [(None, "No such file or directory"), ("x", "invalid literal")])
def test_at_the_start_what_is_wrong_is_said_with_the_files_name(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "number"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=f"{path}: {words}"):
        WatchedFile(str(path), number, FakeReactor(), FakePool())  # type: ignore[arg-type]  # a pool without threads
    with pytest.raises(ValueError, match="a file is needed"):
        WatchedFile("", number, FakeReactor(), FakePool())  # type: ignore[arg-type]  # a pool without threads
