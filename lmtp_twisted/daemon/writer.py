"""
Lines on their way to the log's file.

Whoever logs only puts a line into a list; a thread writes what has gathered, ten times a second. So neither a slow disk
nor a reader that has stopped reading our standard output keeps sessions waiting, and the lines of a server that is
stuck in somebody's code come out all the same. Before the thread starts and after it has stopped, each line is written
at once: nothing is lost when the program ends.
"""

from __future__ import annotations

import atexit
import os
import select
import stat
import time
from collections import deque
from collections.abc import Callable
from threading import Event, Lock, Thread
from typing import Any

from lmtp_twisted.daemon.forms import TEXT, Form

#: Seconds that a line may wait for others.
GATHER = 0.1
#: Lines that wait at the most while the output takes none. More are lost, and counted.
MOST_WAITING = 100_000
#: Seconds that an output which takes nothing can hold back the end of the program.
PATIENCE = 5.0


class LineWriter:
    """
    Writes lines to a file or to a descriptor. Thread safe.

    A write that fails loses its lines and is reported, with their number, once writing works again.

    :param path: a file to append to; it is made where it does not exist.
    :param descriptor: what to write to instead of a file.
    :param form: of what it has to say itself.
    :raises OSError: where the file cannot be opened.
    """

    def __init__(self, path: str | None = None, descriptor: int | None = None, form: Form = TEXT) -> None:
        self.form = form
        self._path = None if path is None else os.path.abspath(path)
        if descriptor is None:
            assert self._path is not None, "one of the two is needed"
            descriptor = _open(self._path)
        self._descriptor = descriptor
        # None is where the file is to be opened anew.
        self._lines: list[str | None] = []
        self._promises: deque[Callable[[], None]] = deque()
        self._lost = 0
        self._why = ""
        self._is_torn = False
        # Held by whoever takes lines from the list and writes them.
        self._writing = Lock()
        self._has_lines = Event()
        self._is_urgent = Event()
        self._thread: Thread | None = None
        self._is_stopping = False
        self._is_stuck = False

    @property
    def has_file(self) -> bool:
        """Whether it writes to a file that it opened."""
        return self._path is not None

    # For those who log

    def write(self, line: str, urgent: bool = False) -> None:
        """
        :param line: without its line end, and without any other but those that shall be in the file.
        :param urgent: the line does not wait for others.
        """
        if len(self._lines) >= MOST_WAITING:
            self._lost += 1
            return
        self._lines.append(line)
        if self._thread is None:
            self._flush()
            return
        if urgent:
            self._is_urgent.set()
        if not self._has_lines.is_set():
            self._has_lines.set()

    def promise(self, write: Callable[[], None]) -> None:
        """
        :param write: has lines for :meth:`write`, and makes them when it is called: by the thread, with those that have
            gathered.
        """
        if self._thread is None:
            write()
            return
        # Once, however long the thread is held up by an output that takes nothing.
        if write not in self._promises:
            self._promises.append(write)
        if not self._has_lines.is_set():
            self._has_lines.set()

    def redeem(self) -> None:
        """Have all lines that were promised."""
        while self._promises:
            try:
                write = self._promises.popleft()
            except IndexError:
                # Another thread was faster.
                return
            try:
                write()
            except Exception as error:
                self.write(self._note(f"a record could not be made: {error!r}"))

    def reopen(self) -> None:
        """Open the file anew, since it was renamed. What was logged until now goes to the old one."""
        self.redeem()
        self._lines.append(None)
        if self._thread is None:
            self._flush()
        else:
            self._is_urgent.set()
            self._has_lines.set()

    # For those who run the program

    def start(self) -> None:
        """From now on a thread writes. Not before the process has become a daemon: threads do not survive a fork."""
        atexit.register(self.stop)
        self._is_stopping = False
        self._thread = Thread(target=self._run, name="lmtp log", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what waits; from now on each line is written when it is logged."""
        atexit.unregister(self.stop)
        thread = self._thread
        if thread is not None:
            self._is_stopping = True
            self._is_urgent.set()
            self._has_lines.set()
            thread.join(PATIENCE)
            self._is_stuck = thread.is_alive()
            self._thread = None
        self.redeem()
        self._flush()

    def _run(self) -> None:
        while not self._is_stopping:
            self._has_lines.wait()
            self._is_urgent.wait(GATHER)
            # Cleared before the lines are taken: one that comes meanwhile sets it again.
            self._is_urgent.clear()
            self._has_lines.clear()
            self.redeem()
            self._flush()

    def _flush(self) -> None:
        if self._is_stuck:
            # The thread has the lock, and will not give it back.
            self._lines.clear()
            return
        # Without the thread the caller may be in here already: what it does may log in its turn, a garbage collection
        # even. Then the outer call goes on until nothing is left.
        if not self._writing.acquire(blocking=self._thread is not None):
            return
        try:
            while self._lines:
                waiting = self._lines[:]
                lines: list[Any] = waiting[: waiting.index(None)] if None in waiting else waiting
                if lines:
                    self._write_out(lines)
                    del self._lines[: len(lines)]
                else:
                    del self._lines[0]
                    self._open_anew()
        finally:
            self._writing.release()

    def _write_out(self, lines: list[str]) -> None:
        lost = self._lost
        if lost:
            note = f"{lost} lines of this log were lost: {self._why or 'its output took none'}"
            lines = [self._note(note), *lines]
        data = ("\n" * self._is_torn + "\n".join(lines) + "\n").encode("utf-8", "backslashreplace")
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, self._piece(view)) :]
        except OSError as error:
            self._lost += len(lines) - (1 if lost else 0)
            self._why = str(error.strerror)
            self._is_torn = self._is_torn or len(view) < len(data)
        else:
            self._lost -= lost
            self._why = ""
            self._is_torn = False

    def _piece(self, view: memoryview) -> memoryview:
        """As many whole lines as come out in one piece where other processes write, too."""
        if len(view) <= select.PIPE_BUF or stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            return view
        end = bytes(view[: select.PIPE_BUF]).rfind(b"\n") + 1
        return view[: end or bytes(view).index(b"\n") + 1]

    def _open_anew(self) -> None:
        if self._path is None:
            return
        try:
            new = _open(self._path, stat.S_IMODE(os.fstat(self._descriptor).st_mode))
        except OSError as error:
            self._write_out([self._note(f"the old log stays open, {self._path}: {error.strerror}")])
            return
        os.close(self._descriptor)
        self._descriptor = new

    def _note(self, text: str) -> str:
        return self.form.event(time.time(), "warn", "lmtp", text)


def _open(path: str, mode: int | None = None) -> int:
    """
    :param mode: what a file that is new shall have, whatever the umask of a daemon.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        descriptor = os.open(path, flags | os.O_CREAT, 0o640)
        if mode is not None:
            os.fchmod(descriptor, mode)
        return descriptor
