"""
One program, run by the thread that calls :func:`run`, from its start to its end. Nothing here knows of mail.

Twisted's ``spawnProcess`` is not used: it makes no process group, so what a program has started could not be ended with
it; it runs Python between fork and exec where a user or a directory is wanted; and it looks at every open descriptor,
each session's, in the reactor's thread. ``subprocess`` does all this in C, and a thread may wait for a disk.
"""

from __future__ import annotations

import enum
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from threading import Event
from typing import IO

import attrs

from lmtp_twisted.backends.pipe.account import Account

#: Seconds between SIGTERM and SIGKILL.
GRACE = 2.0
#: Octets of its standard error that are kept, and how many it may write.
KEPT, MOST_ERRORS = 4096, 1024 * 1024
# Octets of a write: what an empty pipe of Linux holds.
_PIECE = 64 * 1024
# Seconds between two looks whether it has ended: at first, and at the most.
_SHORT, _LONG = 0.0005, 0.05


class Cut(enum.Enum):
    """Why a program was ended before it ended by itself."""

    CANCELLED = "nobody waits for it any more"
    TIME = "it took too long"
    ERRORS = "it wrote too much to its standard error"


@attrs.frozen
class Program:
    """
    :ivar path: of the file to run.
    :ivar arguments: its own name first.
    :ivar environment: all of it.
    :ivar directory: where it runs.
    :ivar account: as whom it runs; ``None`` is who we are.
    """

    path: str
    arguments: Sequence[bytes]
    environment: Mapping[bytes, bytes]
    directory: str
    account: Account | None = None

    def start(self) -> subprocess.Popen[bytes]:
        """
        Start it in a session of its own, with none of our descriptors.

        :raises OSError: where it cannot be started.
        """
        account = self.account
        return subprocess.Popen(  # noqa: S603  # no shell, and the operator chose the program
            self.arguments,
            executable=self.path,
            bufsize=0,
            stdin=subprocess.PIPE,
            # Nobody would read it; and it is no place for an answer, since many programs chat there.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=self.directory,
            env=self.environment,
            start_new_session=True,
            user=None if account is None else account.uid,
            group=None if account is None else account.gid,
            extra_groups=None if account is None else account.groups,
        )


@attrs.frozen
class Ended:
    """
    :ivar status: the exit status, or minus the number of the signal.
    :ivar errors: how its standard error began, :data:`KEPT` octets at the most.
    :ivar cut: why it was ended, if it did not end by itself.
    """

    status: int
    errors: bytes = b""
    cut: Cut | None = None


def run(program: Program, blocks: Iterator[bytes], seconds: float, stop: Event) -> Ended:
    """
    Run it to its end, and with it what it has started if it is ended or dies of a signal. What a program that exits
    leaves running is its own business, but is not waited for.

    :param program: what to run.
    :param blocks: its standard input, not empty ones. It need not read them.
    :param seconds: it may take.
    :param stop: set by another thread, ends it.
    :raises OSError: where it cannot be started.
    :raises Exception: of ``blocks``; it is killed then, and never sees an end of its input.
    """
    # What can fail for want of descriptors comes before the program.
    with selectors.DefaultSelector() as selector:
        return _Run(program.start(), selector, blocks, seconds, stop).to_its_end()


class _Run:
    def __init__(
        self,
        process: subprocess.Popen[bytes],
        selector: selectors.BaseSelector,
        blocks: Iterator[bytes],
        seconds: float,
        stop: Event,
    ) -> None:
        self._process = process
        self._selector = selector
        self._blocks = blocks
        self._stop = stop
        self._deadline = time.monotonic() + seconds
        self._piece = memoryview(b"")
        self._errors = b""
        self._written = 0
        self._cut: Cut | None = None
        self._pause = _LONG
        assert process.stdin is not None
        assert process.stderr is not None
        self._stdin: IO[bytes] = process.stdin
        self._stderr: IO[bytes] = process.stderr

    def to_its_end(self) -> Ended:
        process = self._process
        try:
            self._watch(self._stdin, selectors.EVENT_WRITE, self._write)
            self._watch(self._stderr, selectors.EVENT_READ, self._read)
            while process.poll() is None:
                self._look_at_the_clock()
                for key, _ in self._selector.select(self._pause):
                    key.data()
                # The end of its errors is most of the time its own; then it is a matter of microseconds.
                self._pause = min(2 * self._pause, _LONG)
            self._take_the_rest()
        except BaseException:
            self._signal(signal.SIGKILL)
            raise
        finally:
            status = process.wait()
            # The number is not given to another group yet: the kernel gives them out in turn.
            if self._cut is not None or status < 0:
                self._signal(signal.SIGKILL)
            self._stdin.close()
            self._stderr.close()
        return Ended(status, self._errors, self._cut)

    def _watch(self, pipe: IO[bytes], event: int, act: Callable[[], None]) -> None:
        os.set_blocking(pipe.fileno(), False)
        self._selector.register(pipe, event, act)

    def _look_at_the_clock(self) -> None:
        now = time.monotonic()
        if self._cut is not None:
            if now >= self._deadline:
                self._signal(signal.SIGKILL)
        elif self._stop.is_set():
            self._end(Cut.CANCELLED)
        elif now >= self._deadline:
            self._end(Cut.TIME)

    def _end(self, cut: Cut) -> None:
        self._cut = cut
        self._deadline = time.monotonic() + GRACE
        self._signal(signal.SIGTERM)
        # No more input, and no end of it either: half a message must not look like a whole one.
        if not self._stdin.closed:
            self._selector.unregister(self._stdin)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _write(self) -> None:
        if not self._piece:
            self._piece = memoryview(next(self._blocks, b""))
        try:
            if self._piece:
                self._piece = self._piece[os.write(self._stdin.fileno(), self._piece[:_PIECE]) :]
                return
        except BlockingIOError:
            return
        except BrokenPipeError:
            # It does not want to read it, which is for it to know.
            pass
        self._selector.unregister(self._stdin)
        self._stdin.close()

    def _read(self) -> None:
        data = self._take()
        if data == b"":
            self._selector.unregister(self._stderr)
            self._pause = _SHORT
        elif self._written > MOST_ERRORS and self._cut is None:
            self._end(Cut.ERRORS)

    def _take(self) -> bytes | None:
        """What it has written since; empty at the end."""
        try:
            data = os.read(self._stderr.fileno(), _PIECE)
        except BlockingIOError:
            return None
        self._errors += data[: KEPT - len(self._errors)]
        self._written += len(data)
        return data

    def _take_the_rest(self) -> None:
        """What it wrote last. Whoever else has the pipe may write for ever."""
        while len(self._errors) < KEPT and self._take():
            pass
