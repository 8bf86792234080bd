"""
Where jobs wait for threads, and threads report back.

A thread takes all that waits, up to a bound, files it as one batch and reports it to the reactor in one call: the
more there is to do, the fewer syncs a message costs. It goes on while something waits and then leaves the pool. How
many are at work only the reactor thread knows and changes, so nothing has to be locked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import attrs
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from lmtp_twisted.backends.maildir.job import Job

_log = Logger(namespace="lmtp_twisted")


@attrs.define(eq=False)
class Lane:
    """
    :ivar reactor: its ``callFromThread`` takes the reports.
    :ivar pool: where the threads come from.
    :ivar file: files a batch; called in a thread.
    :ivar answer: called in the reactor thread with each job that was filed.
    :ivar threads: how many work at a time at the most.
    :ivar jobs: how many a batch has at the most.
    :ivar mailboxes: when a batch has so many, no further job joins it.
    """

    reactor: Any
    pool: ThreadPool
    file: Callable[[list[Job]], None]
    answer: Callable[[Job], None]
    threads: int
    jobs: int = 1
    mailboxes: int = 200
    _waiting: deque[Job] = attrs.field(factory=deque, init=False)
    _working: int = attrs.field(default=0, init=False)

    def put(self, job: Job) -> None:
        """A job more. Called in the reactor thread."""
        self._waiting.append(job)
        # Each further thread needs twice as many that wait: large batches do with fewer syncs, and many threads get in
        # each other's way.
        if self._working < self.threads and len(self._waiting) >= 1 << self._working:
            self._start()

    def _start(self) -> None:
        self._working += 1
        self.pool.callInThread(self._work)

    def _work(self) -> None:
        """In a thread."""
        is_last = False
        while not is_last:
            batch = self._take()
            try:
                self.file(batch)
            except BaseException:
                # Nothing was filed as far as the jobs know, and so they will say.
                _log.failure("a batch was not filed")
            finally:
                is_last = not self._waiting
                self.reactor.callFromThread(self._report, batch, is_last)

    def _take(self) -> list[Job]:
        batch: list[Job] = []
        mailboxes = 0
        while len(batch) < self.jobs and mailboxes < self.mailboxes:
            try:
                job = self._waiting.popleft()
            except IndexError:
                break
            batch.append(job)
            mailboxes += len(job.mailboxes)
        return batch

    def _report(self, batch: list[Job], is_last: bool) -> None:
        """In the reactor thread."""
        if is_last:
            self._working -= 1
            # Something may have come after the thread had looked, and found all threads at work.
            if self._waiting:
                self._start()
        for job in batch:
            self.answer(job)
