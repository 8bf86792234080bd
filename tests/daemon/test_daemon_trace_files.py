"""The directory of traces: it holds so much, and what goes wrong there is the trace's loss alone."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import globalLogPublisher

from lmtp_twisted.daemon.tracing import files as files_module
from lmtp_twisted.daemon.tracing.files import TraceFiles
from lmtp_twisted.testing import FakePool, FakeReactor

ONE, TWO, THREE = "f3k9z2q1a0x7c1", "f3k9z2q1a0x7c2", "f3k9z2q1a0x7c3"


def _files(directory: Path, most_octets: int = 1 << 20, pool: FakePool | None = None) -> TraceFiles:
    return TraceFiles(str(directory), most_octets, FakeReactor(), pool or FakePool())


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the log was told."""
    texts: list[str] = []

    def observe(event: Any) -> None:
        texts.append(event["log_format"].format(**event))

    globalLogPublisher.addObserver(observe)
    yield texts
    globalLogPublisher.removeObserver(observe)


def test_each_session_has_a_file_of_its_own_that_only_its_owner_can_read(tmp_path: Path) -> None:
    files = _files(tmp_path)
    files.write(ONE, "a\n")
    files.write(TWO, "b\n")
    files.write(ONE, "c\udc80\n")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        f"{ONE}.trace": "a\nc\\udc80\n",
        f"{TWO}.trace": "b\n",
    }
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_what_comes_while_a_thread_writes_is_written_together_afterwards(tmp_path: Path) -> None:
    pool = FakePool(immediate=False)
    files = _files(tmp_path, pool=pool)
    for text in ("a\n", "b\n", "c\n"):
        files.write(ONE, text)
    closed: list[object] = []
    files.close().addCallback(closed.append)
    assert pool.run() == 1
    assert not closed
    assert pool.run() == 1
    assert closed == [None]
    assert (tmp_path / f"{ONE}.trace").read_text() == "a\nb\nc\n"
    assert files.close().called


def test_the_oldest_make_room_and_nothing_else_does(tmp_path: Path) -> None:
    """By their names: these begin with the time. Files of others stay."""
    (tmp_path / "notes.trace").write_text("x" * 5000)
    (tmp_path / "f3k9z2q1a0x7c0.trace").symlink_to(tmp_path / "notes.trace")
    files = _files(tmp_path, 3000)
    for name in (ONE, TWO, THREE):
        files.write(name, "x" * 999 + "\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "f3k9z2q1a0x7c0.trace",
        f"{TWO}.trace",
        f"{THREE}.trace",
        "notes.trace",
    ]


def test_there_are_only_so_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "MOST_FILES", 32)
    files = _files(tmp_path)
    for number in range(100):
        files.write(f"f3k9z2q1a0x{number:03}", "x\n")
        assert len(list(tmp_path.iterdir())) <= 32
    assert (tmp_path / "f3k9z2q1a0x099.trace").exists()


def test_what_was_there_before_the_start_counts(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"f3k9z2q1a0x7d{number}.trace").write_text("x" * 1000)
    _files(tmp_path, 5000).write("f3k9z2q1a0x7dz", "x\n")
    assert len(list(tmp_path.iterdir())) == 5


def test_a_file_holds_only_so_much_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "MOST_A_FILE", 1000)
    files = _files(tmp_path)
    for _ in range(100):
        files.write(ONE, "x" * 99 + "\n")
    text = (tmp_path / f"{ONE}.trace").read_text()
    assert len(text) < 1100
    assert text.endswith("\n-- what follows is not written: the file is full\n")


def test_a_full_disk_costs_the_trace_and_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    """However much is lost; and one more when there is room again."""
    files = _files(tmp_path)
    write = os.write

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    for _ in range(5):
        files.write(ONE, "12345678\n")
    monkeypatch.setattr(os, "write", write)
    files.write(TWO, "x\n")
    files.write(TWO, "y\n")
    assert told == [
        f"traces are not written: {tmp_path}: No space left on device",
        "traces are written again, 45 octets of them are lost",
    ]
    assert (tmp_path / f"{TWO}.trace").read_text() == "x\ny\n"


def test_a_directory_that_is_gone_too(tmp_path: Path, told: list[str]) -> None:
    files = _files(tmp_path / "gone")
    files.write(ONE, "x\n")
    assert told == [f"traces are not written: {tmp_path}/gone: No such file or directory"]


def test_what_waits_for_a_slow_disk_has_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    monkeypatch.setattr(files_module, "MOST_WAITING", 100)
    pool = FakePool(immediate=False)
    files = _files(tmp_path, pool=pool)
    for _ in range(30):
        files.write(ONE, "123456789\n")
    pool.run()
    pool.run()
    assert (tmp_path / f"{ONE}.trace").stat().st_size == 110
    assert told == ["traces are written again, 190 octets of them are lost"]


def test_a_link_is_not_followed(tmp_path: Path, told: list[str]) -> None:
    """Whoever may make files in the directory cannot have others written to."""
    other = tmp_path / "other"
    other.write_text("")
    (tmp_path / f"{ONE}.trace").symlink_to(other)
    _files(tmp_path).write(ONE, "x\n")
    assert other.read_text() == ""
    assert len(told) == 1
