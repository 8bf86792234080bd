"""
What a process or a machine that died has left in ``tmp`` is removed after 36 hours (maildir(5)).

Each mailbox is swept when it is first opened, and then once a day while it gets mail. That is a thread's work of its
own, one mailbox after the other, so no delivery waits for it. Nothing but files that lie in ``tmp`` itself is removed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
import threading
import time
from collections import OrderedDict, deque
from typing import Any

from twisted.logger import Logger

from lmtp_twisted.backends.maildir.directories import DAY, Mailboxes
from lmtp_twisted.backends.maildir.job import Names
from lmtp_twisted.errors import DeliveryError

_log = Logger(namespace="lmtp_twisted")

#: Seconds for which a file is left alone: a delivery may still be writing it.
STALE = 36 * 3600.0
#: Entries of a ``tmp`` that are looked at in one go, so that it comes to an end.
MOST_ENTRIES = 10_000
#: Mailboxes that may wait for their turn, and those of which we know when it was.
MOST_WAITING, MOST_SWEPT = 10_000, 50_000


class Sweeper:
    """
    Used by several threads at a time.

    :param mailboxes: the mailboxes; it hears of those that are opened.
    :param pool: where the thread comes from.
    """

    def __init__(self, mailboxes: Mailboxes, pool: Any) -> None:
        self._mailboxes = mailboxes
        self._pool = pool
        self._lock = threading.Lock()
        self._waiting: deque[Names] = deque()
        self._swept: OrderedDict[Names, float] = OrderedDict()
        self._is_working = False
        mailboxes.opened = self.add

    def add(self, names: Names) -> None:
        """
        A mailbox was opened. Does not block.

        :param names: of the mailbox.
        """
        now = time.monotonic()
        with self._lock:
            if now - self._swept.get(names, -DAY) < DAY or len(self._waiting) >= MOST_WAITING:
                return
            self._swept[names] = now
            self._swept.move_to_end(names)
            if len(self._swept) > MOST_SWEPT:
                self._swept.popitem(last=False)
            self._waiting.append(names)
            if self._is_working:
                return
            self._is_working = True
        self._pool.callInThread(self._work)

    def stop(self) -> None:
        """Sweep no more than what is being looked at. Those that wait have their turn when they are next opened."""
        with self._lock:
            for names in self._waiting:
                self._swept.pop(names, None)
            self._waiting.clear()

    def _work(self) -> None:
        """In a thread."""
        while (names := self._next()) is not None:
            try:
                self._sweep(names)
            except (FileNotFoundError, DeliveryError):
                # The mailbox is gone again.
                pass
            except OSError as error:
                _log.warn("tmp of {mailbox} was not swept: {error}", mailbox="/".join(names), error=error)
            except Exception:
                _log.failure("tmp of {mailbox} was not swept", mailbox="/".join(names))

    def _next(self) -> Names | None:
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._is_working = False
            return None

    def _sweep(self, names: Names) -> None:
        tmp = self._mailboxes.open_tmp(names)
        try:
            removed = sweep(tmp, time.time())
        finally:
            os.close(tmp)
        if removed:
            _log.info(
                "{count} files of deliveries that never ended were removed from tmp of {mailbox}",
                count=removed,
                mailbox="/".join(names),
            )


def sweep(tmp: int, now: float, most: int = MOST_ENTRIES) -> int:
    """
    Remove the files of a directory that nobody has touched for 36 hours. No link is followed, and only files go.

    :param tmp: the open directory.
    :param now: seconds of :func:`time.time`.
    :param most: entries that are looked at.
    :returns: how many files were removed.
    :raises OSError: where it cannot be read, or something in it not be removed.
    """
    removed = 0
    with os.scandir(tmp) as entries:
        for entry in itertools.islice(entries, most):
            # Gone already: its delivery has ended, or somebody else sweeps too.
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                # A change of the inode also counts: a backup that was brought back has old files that are new here.
                if stat.S_ISREG(status.st_mode) and max(status.st_mtime, status.st_ctime) < now - STALE:
                    os.unlink(entry.name, dir_fd=tmp)
                    removed += 1
    return removed
