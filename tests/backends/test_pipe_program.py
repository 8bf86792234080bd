"""One program from its start to its end: what it reads, what it says, and how it is ended."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path

import pytest

from lmtp_twisted.backends.pipe import program as pipe_program
from lmtp_twisted.backends.pipe.program import KEPT, Cut, Ended, Program, run

# Longer than any of these tests may take.
LONG = 60.0


def shell(script: str, *blocks: bytes, seconds: float = LONG, stop: threading.Event | None = None) -> Ended:
    """Run a script of the shell; what it finds in ``$$`` is its process group."""
    program = Program("/bin/sh", [b"sh", b"-c", script.encode()], {b"PATH": os.environb[b"PATH"]}, "/")
    return run(program, iter(blocks), seconds, stop or threading.Event())


def lives(process: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another process does."""
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.005)


@pytest.fixture
def pids(tmp_path: Path) -> Iterator[Callable[[], list[int]]]:
    """The numbers that a script has written into ``pids``; what lives of them is killed in the end."""

    def read() -> list[int]:
        file = tmp_path / "pids"
        return [int(number) for number in file.read_text().split()] if file.exists() else []

    yield read
    for process in read():
        if lives(process):
            os.kill(process, signal.SIGKILL)


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL follows SIGTERM soon."""
    monkeypatch.setattr(pipe_program, "GRACE", 0.1)


# What it reads and says


def test_it_reads_all_blocks_in_order(tmp_path: Path) -> None:
    blocks = [bytes([65 + number % 26]) * (number * 1000 + 1) for number in range(200)]
    assert shell(f"cat >{tmp_path}/read", *blocks) == Ended(0)
    assert (tmp_path / "read").read_bytes() == b"".join(blocks)


def test_its_status_and_the_beginning_of_its_errors_are_known() -> None:
    assert shell("echo no room >&2; exit 73") == Ended(73, b"no room\n")


def test_what_it_wrote_last_is_known() -> None:
    """It has ended before we read it."""
    for number in range(20):
        assert shell(f"echo {number} >&2; exit 1").errors == b"%d\n" % number


def test_its_output_goes_nowhere() -> None:
    assert shell("yes | head -c 10000000; exit 3") == Ended(3)


@pytest.mark.parametrize("script", ["exit 0", "exec <&-; exit 0", "head -c 10 >/dev/null; exit 0"])
def test_it_need_not_read_its_input(script: str) -> None:
    """It has answered for the message; how much of it it wanted to see is its own business."""
    assert shell(script, *[b"x" * 65536] * 200) == Ended(0)


def test_it_may_read_slowly(tmp_path: Path) -> None:
    """No block is asked for before the last one is read: a large message is never in memory."""
    asked = 0

    def blocks() -> Iterator[bytes]:
        nonlocal asked
        for _ in range(100):
            asked += 1
            yield b"x" * 65536

    reads, goes_on = tmp_path / "reads", tmp_path / "goes on"
    os.mkfifo(reads)
    os.mkfifo(goes_on)
    seen: list[int] = []

    def look() -> None:
        reads.read_bytes()
        seen.append(asked)
        goes_on.write_bytes(b"")

    looking = threading.Thread(target=look)
    looking.start()
    script = f"head -c 65536 >/dev/null; echo >'{reads}'; cat '{goes_on}'; cat >/dev/null"
    program = Program("/bin/sh", [b"sh", b"-c", script.encode()], {b"PATH": os.environb[b"PATH"]}, "/")
    assert run(program, blocks(), LONG, threading.Event()) == Ended(0)
    looking.join()
    assert seen[0] < 10
    assert asked == 100


def test_an_empty_message_is_an_end_at_once(tmp_path: Path) -> None:
    assert shell(f"cat >{tmp_path}/read") == Ended(0)
    assert (tmp_path / "read").read_bytes() == b""


def test_it_may_close_its_errors_and_go_on() -> None:
    assert shell("exec 2>&-; cat >/dev/null; exit 7", b"x" * 100_000) == Ended(7)


def test_errors_beyond_what_is_kept_are_read_all_the_same() -> None:
    ended = shell("head -c 900000 /dev/zero | tr '\\0' e >&2; exit 5")
    assert (ended.status, ended.cut, ended.errors) == (5, None, b"e" * KEPT)


def test_a_flood_of_errors_ends_it() -> None:
    ended = shell("yes >&2")
    assert (ended.status, ended.cut, len(ended.errors)) == (-signal.SIGTERM, Cut.ERRORS, KEPT)


# What it has


def test_it_has_none_of_our_descriptors() -> None:
    """Not even those that are made to be inherited."""
    reading, writing = os.pipe()
    os.set_inheritable(reading, True)
    os.set_inheritable(writing, True)
    try:
        ended = shell("ls /proc/self/fd | tr '\\n' ' ' >&2")
    finally:
        os.close(reading)
        os.close(writing)
    # The last is that of the directory.
    assert ended.errors == b"0 1 2 3 "


def test_it_has_only_the_environment_that_it_is_given() -> None:
    program = Program("/usr/bin/env", [b"env"], {b"A": b"\xc3\xa9 $(id)", b"B": b""}, "/")
    script = Program("/bin/sh", [b"sh", b"-c", b"env >&2"], {b"A": b"\xc3\xa9 $(id)", b"B": b""}, "/")
    assert run(program, iter(()), LONG, threading.Event()) == Ended(0)
    lines = run(script, iter(()), LONG, threading.Event()).errors.splitlines()
    assert sorted(lines) == [b"A=\xc3\xa9 $(id)", b"B=", b"PWD=/"]


def test_it_leads_a_session_of_its_own_and_takes_signals_as_usual() -> None:
    ended = shell("ps -o pid=,pgid=,sid= -p $$ >&2; grep SigIgn /proc/$$/status >&2")
    numbers, ignored = ended.errors.splitlines()
    assert len(set(numbers.split())) == 1
    # Python ignores SIGPIPE, and a program must not.
    assert int(ignored.split()[1], 16) & 1 << (signal.SIGPIPE - 1) == 0


def test_what_cannot_be_started_is_an_error_and_leaves_no_descriptor(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("no interpreter is named")
    script.chmod(0o700)
    before = len(os.listdir("/proc/self/fd"))
    cases = [(str(script), "/", "format"), ("/nonexistent", "/", "No such"), ("/bin/sh", "/nonexistent", "No such")]
    for path, directory, complaint in cases:
        with pytest.raises(OSError, match=complaint):
            run(Program(path, [b"x"], {}, directory), iter(()), LONG, threading.Event())
    assert len(os.listdir("/proc/self/fd")) == before


def test_nothing_is_left_of_it() -> None:
    """Neither a descriptor nor a zombie."""
    before = set(os.listdir("/proc/self/fd"))
    for script in ("exit 0", "exit 1", "kill -9 $$", "cat >/dev/null", "yes >&2"):
        shell(script, b"x" * 200_000)
    assert set(os.listdir("/proc/self/fd")) <= before
    # Other children than these may be at work for other tests.
    with contextlib.suppress(ChildProcessError):
        assert os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


# How it ends


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGPIPE])
def test_a_signal_is_told_from_a_status(number: signal.Signals) -> None:
    assert shell(f"kill -{number.value} $$") == Ended(-number)


def test_when_it_is_killed_what_it_has_started_is_killed_as_well(tmp_path: Path, pids: Callable[[], list[int]]) -> None:
    """The message comes again, so nobody may still be busy with it."""
    script = f"sleep 600 & echo $! >{tmp_path}/pids; kill -9 $$"
    assert shell(script) == Ended(-signal.SIGKILL)
    (sleep,) = pids()
    until(lambda: not lives(sleep))


def test_what_it_leaves_running_is_not_waited_for(tmp_path: Path, pids: Callable[[], list[int]]) -> None:
    """Not though it has all its pipes, and the message is not read."""
    script = f"exec 3<&0; sleep 600 <&3 & echo $! >{tmp_path}/pids; echo bye >&2; exit 4"
    assert shell(script, *[b"x" * 65536] * 10) == Ended(4, b"bye\n")
    (sleep,) = pids()
    assert lives(sleep)


def test_what_it_leaves_running_may_write_for_ever(tmp_path: Path, pids: Callable[[], list[int]]) -> None:
    ended = shell(f"yes >&2 & echo $! >{tmp_path}/pids; exit 0")
    assert (ended.status, ended.cut) == (0, None)


def test_it_is_ended_with_all_that_it_has_started_when_it_takes_too_long(
    tmp_path: Path, pids: Callable[[], list[int]]
) -> None:
    ended = shell(f"sleep 600 & echo $! >{tmp_path}/pids; wait", b"x" * 10, seconds=0.2)
    assert ended == Ended(-signal.SIGTERM, b"", Cut.TIME)
    (sleep,) = pids()
    until(lambda: not lives(sleep))


@pytest.mark.usefixtures("short_grace")
def test_it_is_killed_when_it_does_not_heed_sigterm(tmp_path: Path, pids: Callable[[], list[int]]) -> None:
    script = f"trap '' TERM; sh -c 'echo $$ >{tmp_path}/pids; sleep 600' & while :; do sleep 600; done"
    assert shell(script, seconds=0.2) == Ended(-signal.SIGKILL, b"", Cut.TIME)
    (child,) = pids()
    until(lambda: not lives(child))


@pytest.mark.usefixtures("short_grace")
def test_one_that_is_stopped_is_killed() -> None:
    """SIGTERM waits with it."""
    assert shell("kill -STOP $$", seconds=0.2) == Ended(-signal.SIGKILL, b"", Cut.TIME)


def test_it_may_tidy_up_when_it_is_ended() -> None:
    ended = shell("trap 'echo tidied >&2; exit 0' TERM; while :; do sleep 0.01; done", seconds=0.3)
    assert (ended.status, ended.cut) == (0, Cut.TIME)
    assert ended.errors.endswith(b"tidied\n")


def test_one_that_is_ended_never_sees_an_end_of_its_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would take half a message for a whole one, and keep it."""
    monkeypatch.setattr(pipe_program, "GRACE", 0.3)
    script = f"trap '' TERM; cat >/dev/null; : >{tmp_path}/whole"
    program = Program("/bin/sh", [b"sh", b"-c", script.encode()], {b"PATH": os.environb[b"PATH"]}, "/")
    assert run(program, repeat(b"x" * 65536), 0.2, threading.Event()) == Ended(-signal.SIGKILL, b"", Cut.TIME)
    assert not (tmp_path / "whole").exists()


def test_another_thread_ends_it(tmp_path: Path) -> None:
    stop = threading.Event()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    def wait() -> None:
        fifo.read_bytes()
        stop.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert shell(f"echo >{fifo}; sleep 600", stop=stop) == Ended(-signal.SIGTERM, b"", Cut.CANCELLED)
    waiting.join()


def test_where_the_message_cannot_be_read_it_is_killed_at_once(tmp_path: Path) -> None:
    """It must not take what it has for the whole message."""

    def blocks() -> Iterator[bytes]:
        yield b"half of it\n"
        raise OSError("the disk is gone")

    program = Program("/bin/sh", [b"sh", b"-c", f"cat >/dev/null; : >{tmp_path}/whole".encode()], {}, "/")
    with pytest.raises(OSError, match="the disk is gone"):
        run(program, blocks(), LONG, threading.Event())
    assert not (tmp_path / "whole").exists()
