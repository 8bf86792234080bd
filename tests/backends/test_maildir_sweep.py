"""What a process that died has left in ``tmp`` is removed, and nothing else."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import LogEvent, globalLogPublisher

from lmtp_twisted.backends.maildir import directories, sweep
from lmtp_twisted.backends.maildir.directories import Mailboxes
from lmtp_twisted.backends.maildir.sweep import STALE, Sweeper
from lmtp_twisted.testing import FakePool

HOUR = 3600.0
ALICE = ("example.org", "alice")


@pytest.fixture
def logged() -> Iterator[list[LogEvent]]:
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the sweeper is 37 hours ahead: the kernel lets nobody set when an inode changed."""
    now = time.time() + 37 * HOUR
    monkeypatch.setattr(sweep.time, "time", lambda: now)


def swept(directory: Path, now: float, **options: Any) -> int:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        return sweep.sweep(descriptor, now, **options)
    finally:
        os.close(descriptor)


def mailboxes(root: Path, **options: Any) -> Mailboxes:
    return Mailboxes(str(root), **{"create": True, "fsync": False, **options})


def litter(root: Path, *names: str) -> Path:
    tmp = root.joinpath(*names, "tmp")
    tmp.mkdir(parents=True, exist_ok=True)
    (tmp / "left").write_text("half a mess")
    return tmp


# The directory


def test_a_file_goes_when_nobody_has_touched_it_for_36_hours(tmp_path: Path) -> None:
    """maildir(5)."""
    (tmp_path / "left").write_text("half a mess")
    touched = (tmp_path / "left").stat().st_ctime
    assert swept(tmp_path, touched + STALE) == 0
    assert swept(tmp_path, touched + STALE + 1) == 1
    assert os.listdir(tmp_path) == []


def test_an_old_file_that_has_just_come_here_stays(tmp_path: Path) -> None:
    """As out of a backup."""
    (tmp_path / "old").write_text("")
    os.utime(tmp_path / "old", (1, 1))
    assert swept(tmp_path, time.time() + HOUR) == 0


def test_a_file_from_the_future_stays(tmp_path: Path) -> None:
    """A machine that does not know the time yet must not judge."""
    (tmp_path / "new").write_text("")
    assert swept(tmp_path, 1000.0) == 0


def test_only_files_go(tmp_path: Path) -> None:
    """No link is followed, no directory is entered."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("")
    tmp = tmp_path / "tmp"
    (tmp / "directory").mkdir(parents=True)
    (tmp / "directory/file").write_text("")
    (tmp / "to-a-file").symlink_to(outside / "precious")
    (tmp / "to-a-directory").symlink_to(outside)
    os.mkfifo(tmp / "fifo")
    assert swept(tmp, time.time() + 37 * HOUR) == 0
    assert sorted(os.listdir(tmp)) == ["directory", "fifo", "to-a-directory", "to-a-file"]
    assert os.listdir(outside) == ["precious"]
    assert os.listdir(tmp / "directory") == ["file"]


def test_the_other_links_of_a_file_stay(tmp_path: Path) -> None:
    """A delivery to several mailboxes that died in the midst: what is in ``new`` is whole."""
    tmp = tmp_path / "tmp"
    tmp.mkdir()
    (tmp / "message").write_text("whole")
    os.link(tmp / "message", tmp_path / "message")
    assert swept(tmp, time.time() + 37 * HOUR) == 1
    assert (tmp_path / "message").read_text() == "whole"


def test_there_is_a_bound_to_what_is_looked_at_in_one_go(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / str(number)).write_text("")
    assert swept(tmp_path, time.time() + 37 * HOUR, most=4) == 4
    assert len(os.listdir(tmp_path)) == 6


def test_a_file_that_goes_by_itself_is_no_failure(tmp_path: Path, disk: Any) -> None:
    (tmp_path / "one").write_text("")
    (tmp_path / "two").write_text("")
    disk.fail("unlink", "", errno.ENOENT, times=1)
    assert swept(tmp_path, time.time() + 37 * HOUR) == 1


# The mailboxes


def test_a_mailbox_is_swept_when_it_is_first_opened(tmp_path: Path, later: None, logged: list[LogEvent]) -> None:
    tmp = litter(tmp_path, *ALICE)
    new = tmp_path.joinpath(*ALICE, "new")
    new.mkdir()
    (new / "message").write_text("whole")
    boxes = mailboxes(tmp_path)
    Sweeper(boxes, FakePool())
    boxes.open(ALICE)
    assert os.listdir(tmp) == []
    assert os.listdir(new) == ["message"]
    assert [(event["count"], event["mailbox"]) for event in logged] == [(1, "example.org/alice")]


def test_it_is_a_threads_work_and_no_delivery_waits_for_it(tmp_path: Path, later: None) -> None:
    tmp = litter(tmp_path, *ALICE)
    boxes, pool = mailboxes(tmp_path), FakePool(immediate=False)
    Sweeper(boxes, pool)
    boxes.open(ALICE)
    boxes.open(("example.org", "bob"))
    assert os.listdir(tmp) == ["left"]
    assert pool.run() == 1
    assert os.listdir(tmp) == []


def test_and_again_after_a_day_but_not_before(tmp_path: Path, later: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it is open all the time."""
    clock = [time.monotonic()]
    monkeypatch.setattr(directories.time, "monotonic", lambda: clock[0])
    tmp = litter(tmp_path, *ALICE)
    boxes = mailboxes(tmp_path)
    Sweeper(boxes, FakePool())
    left = []
    for passed in (0, 23 * HOUR, 2 * HOUR):
        clock[0] += passed
        litter(tmp_path, *ALICE)
        boxes.open(ALICE)
        left.append(os.listdir(tmp))
    assert left == [[], ["left"], []]


def test_a_mailbox_that_is_opened_often_is_swept_once(tmp_path: Path) -> None:
    """Where there are more mailboxes than can be open at a time."""
    boxes, pool = mailboxes(tmp_path, most=1), FakePool(immediate=False)
    Sweeper(boxes, pool)
    runs = []
    for name in "abab":
        boxes.open((name,))
        runs.append(pool.run())
    assert runs == [1, 1, 0, 0]


def test_what_is_remembered_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "MOST_SWEPT", 2)
    boxes = mailboxes(tmp_path)
    sweeper = Sweeper(boxes, FakePool())
    for name in "abc":
        boxes.open((name,))
    assert list(sweeper._swept) == [("b",), ("c",)]


def test_what_waits_has_a_bound_and_the_rest_have_their_turn_later(
    tmp_path: Path, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "MOST_WAITING", 1)
    boxes, pool = mailboxes(tmp_path, most=1), FakePool(immediate=False)
    Sweeper(boxes, pool)
    for name in "ab":
        litter(tmp_path, name)
        boxes.open((name,))
    pool.run()
    assert [os.listdir(tmp_path / name / "tmp") for name in "ab"] == [[], ["left"]]
    boxes.open(("a",))
    boxes.open(("b",))
    pool.run()
    assert os.listdir(tmp_path / "b/tmp") == []


def test_a_server_that_stops_does_not_wait_for_the_rest(tmp_path: Path, later: None) -> None:
    boxes, pool = mailboxes(tmp_path), FakePool(immediate=False)
    sweeper = Sweeper(boxes, pool)
    tmp = litter(tmp_path, *ALICE)
    boxes.open(ALICE)
    sweeper.stop()
    pool.run()
    assert os.listdir(tmp) == ["left"]
    boxes.close()
    boxes.open(ALICE)
    pool.run()
    assert os.listdir(tmp) == []


@pytest.mark.parametrize("gone", ["tmp", ""])
def test_a_mailbox_that_is_gone_is_not_made_again(tmp_path: Path, logged: list[LogEvent], gone: str) -> None:
    boxes, pool = mailboxes(tmp_path), FakePool(immediate=False)
    Sweeper(boxes, pool)
    boxes.open(("a",))
    away = tmp_path / "a" / gone
    away.rename(tmp_path / "elsewhere")
    pool.run()
    assert not away.exists()
    assert logged == []


def test_a_tmp_that_has_become_a_link_is_left_alone(tmp_path: Path, later: None, logged: list[LogEvent]) -> None:
    """Who may write in a mailbox cannot lead us elsewhere."""
    outside = litter(tmp_path / "outside")
    boxes, pool = mailboxes(tmp_path / "root"), FakePool(immediate=False)
    (tmp_path / "root").mkdir()
    Sweeper(boxes, pool)
    boxes.open(("a",))
    (tmp_path / "root/a/tmp").rmdir()
    (tmp_path / "root/a/tmp").symlink_to(outside)
    pool.run()
    assert os.listdir(outside) == ["left"]
    assert [event["mailbox"] for event in logged] == ["a"]


@pytest.mark.parametrize("error", [errno.EROFS, ZeroDivisionError()])
def test_one_that_cannot_be_swept_is_logged_and_the_others_are_swept(
    tmp_path: Path, later: None, disk: Any, logged: list[LogEvent], error: int | Exception
) -> None:
    boxes, pool = mailboxes(tmp_path), FakePool(immediate=False)
    Sweeper(boxes, pool)
    for name in "ab":
        litter(tmp_path, name)
        boxes.open((name,))
    disk.fail("unlink", "a/tmp", error)
    pool.run()
    assert [os.listdir(tmp_path / name / "tmp") for name in "ab"] == [["left"], []]
    assert [event["mailbox"] for event in logged] == ["a", "b"]
