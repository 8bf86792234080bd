"""
``maildirsize`` on disk: in threads only. It is read whole, changed by one write that appends, and replaced by
rename(2), so no two processes that do so harm each other's lines. A symbolic link is replaced, never followed.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
import time

from lmtp_twisted.backends.maildir.maildirsize import LONGEST, NAME, Limits, Record, Usage

# A pipe of this name must not hold us up.
_OLD_FILE = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_NEW_FILE = os.O_CREAT | os.O_EXCL | _OLD_FILE

_counter = itertools.count(1)


class SizeFile:
    """
    An open file. To be closed.

    :ivar record: what it said when it was opened; ``None`` where that is not to be believed.
    :ivar changed: when it was last changed, in seconds of the time of day.
    """

    __slots__ = ("_descriptor", "_directory", "changed", "record")

    def __init__(self, directory: int, descriptor: int) -> None:
        self._directory = directory
        self._descriptor = descriptor
        self.record: Record | None = None
        self.changed = 0.0

    @classmethod
    def open(cls, directory: int, limits: Limits, booted: float, known: Record | None = None) -> SizeFile | None:
        """
        :param directory: descriptor of the mailbox's.
        :param limits: those that it must have.
        :param booted: when the machine was started. What was written before may lack what it lost with its power.
        :param known: what it said before.
        :returns: ``None`` where there is no such file that can be read.
        """
        try:
            file = cls(directory, os.open(NAME, _OLD_FILE, dir_fd=directory))
        except OSError:
            # Who makes a new one hears why none can be had.
            return None
        try:
            status = os.fstat(file._descriptor)
            file.changed = status.st_mtime
            if stat.S_ISREG(status.st_mode) and status.st_size <= LONGEST and status.st_mtime >= booted:
                data = os.pread(file._descriptor, LONGEST, 0)
                if known is not None and data.startswith(known.data):
                    record = known.extended(data[len(known.data) :])
                else:
                    record = Record.parse(data)
                file.record = record if record is not None and record.limits == limits else None
        except BaseException:
            file.close()
            raise
        return file

    @classmethod
    def replace(cls, directory: int, limits: Limits, usage: Usage) -> SizeFile:
        """
        Make it anew.

        :param directory: descriptor of the mailbox's.
        :param limits: of the mailbox.
        :param usage: what it holds.
        """
        name = f"tmp/{time.time_ns()}.P{os.getpid()}Q{next(_counter)}.{NAME}"
        file = cls(directory, os.open(name, _NEW_FILE, 0o600, dir_fd=directory))
        try:
            data = limits.line + usage.line
            file._write(data)
            file.record = Record.parse(data)
            os.rename(name, NAME, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            file.close()
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=directory)
            raise
        return file

    def append(self, usage: Usage) -> None:
        """
        :param usage: what is added, or removed. What it says then is what it said where our line ended.
        """
        self._write(usage.line)
        end = os.lseek(self._descriptor, 0, os.SEEK_CUR)
        if self.record is not None:
            start = len(self.record.data)
            self.record = self.record.extended(os.pread(self._descriptor, end - start, start))

    def is_in_place(self) -> bool:
        """Whether no other has taken its place."""
        try:
            status = os.stat(NAME, dir_fd=self._directory, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(status, os.fstat(self._descriptor))

    def _write(self, data: bytes) -> None:
        # Half a line makes no sense to anybody, so everybody counts anew then.
        if os.write(self._descriptor, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Close it."""
        os.close(self._descriptor)


def booted(now: float) -> float:
    """
    :param now: the time of day in seconds.
    :returns: when the machine was started; 0 where that is not known.
    """
    return now - time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else 0.0
