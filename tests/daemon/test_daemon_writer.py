"""How lines get into the file of the log."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lmtp_twisted.daemon import writer as writer_module
from lmtp_twisted.daemon.writer import LineWriter


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of the log."""
    return tmp_path / "lmtp.log"


@pytest.fixture
def writer(path: Path) -> Iterator[LineWriter]:
    """It writes to the path; its thread does not outlive the test."""
    made = LineWriter(str(path))
    yield made
    made.stop()


def test_before_the_start_a_line_is_written_at_once(writer: LineWriter, path: Path) -> None:
    writer.write("one")
    writer.write("two")
    assert path.read_text() == "one\ntwo\n"


def test_lines_are_added_to_a_file_that_exists(path: Path) -> None:
    path.write_text("before\n")
    LineWriter(str(path)).write("after")
    assert path.read_text() == "before\nafter\n"


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        LineWriter(str(tmp_path))


def test_after_the_start_lines_are_written_together(
    path: Path, writer: LineWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "GATHER", 3600.0)
    writer.start()
    writer.write("one")
    assert path.read_text() == ""
    writer.write("two")
    writer.stop()
    assert path.read_text() == "one\ntwo\n"


def test_lines_do_not_wait_for_others_for_long() -> None:
    """The thread writes without being told to: reading blocks until it has."""
    read_end, write_end = os.pipe()
    writer = LineWriter(descriptor=write_end)
    writer.start()
    writer.write("one")
    assert os.read(read_end, 100) == b"one\n"
    writer.stop()
    os.close(read_end)
    os.close(write_end)


def test_an_urgent_line_takes_those_before_it_along_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "GATHER", 3600.0)
    read_end, write_end = os.pipe()
    writer = LineWriter(descriptor=write_end)
    writer.start()
    writer.write("usual")
    writer.write("urgent", urgent=True)
    assert os.read(read_end, 100) == b"usual\nurgent\n"
    writer.stop()
    os.close(read_end)
    os.close(write_end)


def test_after_the_stop_each_line_is_written_at_once(writer: LineWriter, path: Path) -> None:
    writer.start()
    writer.stop()
    writer.write("late")
    assert path.read_text() == "late\n"


def test_it_can_be_started_again(writer: LineWriter, path: Path) -> None:
    for text in ("one", "two"):
        writer.start()
        writer.write(text)
        writer.stop()
    assert path.read_text() == "one\ntwo\n"


def test_lines_of_many_threads_are_all_there_each_whole_and_in_its_order(writer: LineWriter, path: Path) -> None:
    def log(name: str) -> None:
        for number in range(500):
            writer.write(f"{name} {number}")

    writer.start()
    threads = [threading.Thread(target=log, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.stop()
    lines = path.read_text().splitlines()
    assert len(lines) == 2000
    for name in "abcd":
        assert [line for line in lines if line.startswith(name)] == [f"{name} {number}" for number in range(500)]


def test_text_that_cannot_be_encoded_is_written_all_the_same(writer: LineWriter, path: Path) -> None:
    writer.write("Zoë \udcff")
    assert path.read_bytes() == "Zoë \\udcff\n".encode()


# A file that was renamed


def test_reopening_leaves_the_old_lines_in_the_old_file(writer: LineWriter, path: Path, tmp_path: Path) -> None:
    writer.write("old")
    path.rename(tmp_path / "lmtp.log.1")
    writer.write("still old")
    writer.reopen()
    writer.write("new")
    assert (tmp_path / "lmtp.log.1").read_text() == "old\nstill old\n"
    assert path.read_text() == "new\n"


def test_reopening_while_the_thread_writes(writer: LineWriter, path: Path, tmp_path: Path) -> None:
    writer.start()
    writer.write("old")
    path.rename(tmp_path / "lmtp.log.1")
    writer.reopen()
    writer.stop()
    writer.write("new")
    assert (tmp_path / "lmtp.log.1").read_text() == "old\n"
    assert path.read_text() == "new\n"


def test_a_new_file_has_the_mode_of_the_old_one_whatever_the_umask(
    writer: LineWriter, path: Path, tmp_path: Path
) -> None:
    """A daemon has a umask of 077, and had another when it opened its log first."""
    path.chmod(0o644)
    path.rename(tmp_path / "lmtp.log.1")
    umask = os.umask(0o077)
    try:
        writer.reopen()
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_file_that_cannot_be_reopened_leaves_the_old_one_open_and_says_so(
    writer: LineWriter, path: Path, tmp_path: Path
) -> None:
    old = tmp_path / "lmtp.log.1"
    path.rename(old)
    path.mkdir()
    writer.reopen()
    writer.write("next")
    note, line = old.read_text().splitlines()
    assert note.endswith(f"warn [lmtp] the old log stays open, {path}: Is a directory")
    assert line == "next"


def test_a_descriptor_that_was_given_cannot_be_reopened(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as file:
        writer = LineWriter(descriptor=file.fileno())
        assert not writer.has_file
        writer.reopen()
        writer.write("line")
    assert (tmp_path / "out").read_text() == "line\n"


def test_the_name_of_a_file_is_kept_when_the_directory_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    writer = LineWriter("lmtp.log")
    assert writer.has_file
    monkeypatch.chdir("/")
    (tmp_path / "lmtp.log").unlink()
    writer.reopen()
    writer.write("line")
    assert (tmp_path / "lmtp.log").read_text() == "line\n"


# Output that takes nothing


def test_lines_that_could_not_be_written_are_counted_once_it_works_again(
    writer: LineWriter, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_write = os.write
    # The second attempt gets some of its octets out before the disk is full.
    outcomes: list[object] = [OSError(errno.ENOSPC, "No space left on device"), 3, OSError(errno.EIO, "I/O error")]

    def write(descriptor: int, data: bytes) -> int:
        outcome = outcomes.pop(0) if outcomes else len(data)
        if isinstance(outcome, OSError):
            raise outcome
        assert isinstance(outcome, int)
        return really_write(descriptor, data[:outcome])

    monkeypatch.setattr(os, "write", write)
    writer.write("lost")
    writer.write("lost too")
    writer.write("kept")
    writer.write("next")
    torn, note, kept, following = path.read_text().splitlines()
    assert len(torn) == 3
    assert note.endswith("warn [lmtp] 2 lines of this log were lost: I/O error")
    assert [kept, following] == ["kept", "next"]


def test_a_reader_that_does_not_read_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """``twistd -n lmtp | less``: the sessions go on, and the end of the program comes."""
    monkeypatch.setattr(writer_module, "PATIENCE", 0.01)
    monkeypatch.setattr(writer_module, "MOST_WAITING", 10)
    read_end, write_end = os.pipe()
    size = fcntl.fcntl(write_end, fcntl.F_GETPIPE_SZ)
    writer = LineWriter(descriptor=write_end)
    writer.start()
    writer.write("x" * 2 * size, urgent=True)
    assert os.read(read_end, 1) == b"x"
    for _ in range(20):
        writer.write("waits")
    writer.stop()
    writer.write("after the end")
    os.close(read_end)
    for thread in threading.enumerate():
        if thread.name == "lmtp log":
            thread.join()
    os.close(write_end)


def test_lines_beyond_what_may_wait_are_lost_and_counted(
    writer: LineWriter, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "GATHER", 3600.0)
    monkeypatch.setattr(writer_module, "MOST_WAITING", 2)
    writer.start()
    for text in ("one", "two", "three", "four"):
        writer.write(text)
    writer.stop()
    note, *lines = path.read_text().splitlines()
    assert note.endswith("2 lines of this log were lost: its output took none")
    assert lines == ["one", "two"]


def test_into_a_pipe_whole_lines_go_in_pieces_that_are_not_cut_apart_by_other_processes() -> None:
    """pipe(7): PIPE_BUF octets are written in one piece."""
    reading, writing = os.pipe()
    sizes: list[int] = []
    write = os.write

    def note(descriptor: int, data: bytes) -> int:
        sizes.append(len(data))
        return write(descriptor, data)

    lines = ["x" * 1000] * 9 + ["y" * 5000] + ["z" * 1000] * 9
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", note)
        LineWriter(descriptor=writing).write("\n".join(lines))
    os.close(writing)
    assert os.read(reading, 100_000).decode().splitlines() == lines
    os.close(reading)
    assert [size for size in sizes if size > select.PIPE_BUF] == [5001]
    assert len(sizes) <= 9


def test_lines_that_are_promised_are_made_by_the_thread() -> None:
    """In batches: what makes them does so in a row."""
    read_end, write_end = os.pipe()
    writer = LineWriter(descriptor=write_end)
    threads: list[str] = []

    def make() -> None:
        threads.append(threading.current_thread().name)
        writer.write("promised")

    writer.start()
    writer.promise(make)
    assert os.read(read_end, 100) == b"promised\n"
    writer.stop()
    assert threads == ["lmtp log"]
    os.close(read_end)
    os.close(write_end)


def test_without_the_thread_they_are_made_at_once_and_at_the_end_none_is_forgotten(
    path: Path, writer: LineWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "GATHER", 3600.0)
    writer.promise(lambda: writer.write("before"))
    assert path.read_text() == "before\n"
    writer.start()
    writer.promise(lambda: writer.write("promised"))
    writer.stop()
    writer.promise(lambda: writer.write("after"))
    assert path.read_text() == "before\npromised\nafter\n"


def test_lines_that_cannot_be_made_leave_a_line_and_the_thread_goes_on(path: Path, writer: LineWriter) -> None:
    writer.start()
    writer.promise(lambda: writer.write(str(1 / 0)))
    writer.promise(lambda: writer.write("next"))
    writer.stop()
    first, second = path.read_text().splitlines()
    assert first.endswith("warn [lmtp] a record could not be made: ZeroDivisionError('division by zero')")
    assert second == "next"
