"""
How what was written is brought to disk: in threads only.

fsync(2) waits for one file, and each costs a write of its own and a flush of the disk's cache, however many of them one
thread makes in a row. syncfs(2) waits for all that was written to a file system, with one commit of its journal and one
flush. For a batch of messages that is several times faster and, with one fsync behind it, no less durable: on Linux it
waits until the data and the directories are on disk and, since 5.8, reports what could not be written. What it did not
report before 6.13 is a file system that has given up, its journal aborted or the whole of it shut down; fsync does.

It also waits for what others have written there. So its time is watched: where it takes much longer than the fsyncs
would have, these take its place for a while.
"""

from __future__ import annotations

import contextlib
import enum
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence

import attrs

#: Seconds that a sync of the file system may take beyond what the fsyncs instead of it would be expected to.
PATIENCE = 0.1
#: Seconds without it after one that took longer: at first, and at the most.
FIRST_REST, LONGEST_REST = 10.0, 640.0
#: File systems of which we know that syncfs returns when the journal is committed and the disk's cache flushed.
_FILE_SYSTEMS = frozenset({"ext4"})

_MOUNTS = "/proc/self/mountinfo"
try:
    import ctypes

    _syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
except (ImportError, OSError):
    # A Python without libffi, or one that is linked as a whole.
    _syncfs = None


class Fsync(enum.Enum):
    """How to wait for the disk."""

    #: Together with other messages where that is faster.
    YES = "yes"
    #: For each file and directory by itself.
    EACH = "each"
    #: Not at all: a loss of power loses mail that was answered with 250.
    NO = "no"


def syncfs(descriptor: int) -> None:
    """
    Wait until all that was written to the file system of an open file is on disk (syncfs(2)).

    :raises OSError: where some of it, not necessarily of ours, is not.
    """
    assert _syncfs is not None
    if _syncfs(descriptor):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def sync_all(descriptor: int) -> None:
    """
    The same, or the next best where there is no syncfs: all that there is.

    :raises OSError: where some of it is not on disk, and this can be known.
    """
    if _syncfs is None:
        os.sync()
    else:
        syncfs(descriptor)


@attrs.define(eq=False)
class _Pace:
    """
    What one file system has shown.

    :ivar can_sync_together: whether syncfs may be used at all.
    :ivar each: seconds of one fsync, averaged; 0 where none was made yet.
    :ivar rests_until: when syncfs may be tried again, in seconds of the clock.
    :ivar rest: how long the next rest will be.
    """

    can_sync_together: bool
    each: float = 0.0
    rests_until: float = 0.0
    rest: float = FIRST_REST

    def was_together(self, ended: float, seconds: float, count: int) -> None:
        if ended - seconds < self.rests_until:
            # It began before another thread found out the same.
            return
        if seconds <= PATIENCE + 2 * self.each * count:
            self.rest = FIRST_REST
        else:
            self.rests_until = ended + self.rest
            self.rest = min(2 * self.rest, LONGEST_REST)

    def was_each(self, seconds: float) -> None:
        self.each = seconds if not self.each else 0.8 * self.each + 0.2 * seconds


class Disk:
    """
    Used by several threads at a time. Of the time that syncs take one may lose what another has seen, no more.

    :param fsync: how to wait.
    :param clock: gives seconds.
    """

    def __init__(self, fsync: Fsync, clock: Callable[[], float] = time.monotonic) -> None:
        self.fsync = fsync
        self._clock = clock
        self._paces: dict[int, _Pace] = {}

    def sync(self, device: int, descriptors: Sequence[int], *, are_files: bool) -> dict[int, OSError]:
        """
        Wait until files, or what directories hold, of one file system are on disk.

        :param device: the file system, as in ``st_dev``.
        :param descriptors: open files or directories.
        :param are_files: which of the two.
        :returns: for those that are not on disk, why.
        """
        if self.fsync is Fsync.NO or not descriptors:
            return {}
        pace = self._paces.get(device)
        if pace is None:
            together = self.fsync is Fsync.YES and can_sync_together(device)
            pace = self._paces.setdefault(device, _Pace(together))
        if len(descriptors) == 1:
            # Nothing to do together. It may be large, and its time says nothing of the others.
            return _fsync(descriptors)
        began = self._clock()
        if pace.can_sync_together and began >= pace.rests_until:
            try:
                syncfs(descriptors[0])
                # It says whether the file system has given up, and flushes once more where there is no journal.
                os.fsync(descriptors[0])
            except OSError:
                # Something is not on disk: each says by itself whether it is that.
                pass
            else:
                ended = self._clock()
                pace.was_together(ended, ended - began, len(descriptors))
                return {}
        began = self._clock()
        if are_files:
            _begin(descriptors)
        errors = _fsync(descriptors)
        pace.was_each((self._clock() - began) / len(descriptors))
        return errors


def _fsync(descriptors: Sequence[int]) -> dict[int, OSError]:
    """One by one: for those that are not on disk, why."""
    errors: dict[int, OSError] = {}
    for descriptor in descriptors:
        try:
            os.fsync(descriptor)
        except OSError as error:
            errors[descriptor] = error
    return errors


def _begin(descriptors: Sequence[int]) -> None:
    """
    Have the kernel begin to write files, and not wait. Where it allots blocks as it writes (ext4, XFS), one commit of
    its journal then serves several of them, and not each fsync has to make one.
    """
    if hasattr(os, "posix_fadvise"):
        for descriptor in descriptors:
            with contextlib.suppress(OSError):
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def can_sync_together(device: int) -> bool:
    """
    Whether syncfs does for a file system all that fsync does, errors included.

    :param device: as in ``st_dev``.
    """
    release = re.match(r"(\d+)\.(\d+)", os.uname().release)
    if _syncfs is None or release is None or os.uname().sysname != "Linux":
        return False
    return (int(release[1]), int(release[2])) >= (5, 8) and not _FILE_SYSTEMS.isdisjoint(_types_of(device))


def _types_of(device: int) -> Iterator[str]:
    """The type of the file system with this number (proc_pid_mountinfo(5)); nothing where it is not mounted as such."""
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as mounts:
            for line in mounts:
                mount, _, source = line.partition(" - ")
                if mount.split(" ")[2] == number:
                    yield source.split(" ")[0]
    except OSError:
        return
