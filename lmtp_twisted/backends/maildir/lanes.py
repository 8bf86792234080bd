"""
Where jobs wait for threads, and threads report back.

A thread takes all that waits, up to a bound, files it as one batch and reports it to the reactor in one call: the
more there is to do, the fewer syncs a message costs. A thread that finds nothing lingers a little, since waking one
costs less than having the pool begin one, and then leaves the pool. How many there are only the reactor thread knows
and changes, so nothing has to be locked.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

import attrs
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from lmtp_twisted.backends.maildir.job import Job

_log = Logger(namespace="lmtp_twisted")

#: Seconds that a thread waits for more to do.
LINGER = 0.2
#: Upper ends by which batches are counted; one more is for all above.
SIZES = (1, 2, 5, 10, 20, 50, 100)


@attrs.define
class Counters:
    """
    What went through a lane. Changed in the reactor thread only.

    :ivar batches: that were filed.
    :ivar jobs: that were in them.
    :ivar largest: jobs of the largest of them.
    :ivar seconds: that threads took for them in all.
    :ivar sizes: batches by their jobs, see :data:`SIZES`.
    """

    batches: int = 0
    jobs: int = 0
    largest: int = 0
    seconds: float = 0.0
    sizes: list[int] = attrs.field(factory=lambda: [0] * (len(SIZES) + 1))

    @property
    def mean(self) -> float:
        """Jobs of a batch; 0 where there was none."""
        return self.jobs / self.batches if self.batches else 0.0


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
    :ivar counters: what went through.
    """

    reactor: Any
    pool: ThreadPool
    file: Callable[[list[Job]], None]
    answer: Callable[[Job], None]
    threads: int
    jobs: int = 1
    mailboxes: int = 200
    counters: Counters = attrs.field(factory=Counters, init=False)
    # None tells one thread to leave.
    _waiting: SimpleQueue[Job | None] = attrs.field(factory=SimpleQueue, init=False)
    _working: int = attrs.field(default=0, init=False)

    @property
    def depth(self) -> int:
        """How many jobs wait for a thread, about."""
        return self._waiting.qsize()

    def put(self, job: Job) -> None:
        """A job more. Called in the reactor thread."""
        self._waiting.put(job)
        # Where jobs share a batch a second thread would only take its jobs away.
        if not self._working or (self._working < self.threads and self._waiting.qsize() >= min(2, self.jobs)):
            self._start()

    def dismiss(self) -> None:
        """Have the threads leave once nothing waits any more. Called in the reactor thread."""
        for _ in range(self._working):
            self._waiting.put(None)

    def _start(self) -> None:
        self._working += 1
        self.pool.callInThread(self._work)

    def _work(self) -> None:
        """In a thread."""
        while batch := self._take():
            began = time.monotonic()
            try:
                self.file(batch)
            except BaseException:
                # Nothing was filed as far as the jobs know, and so they will say.
                _log.failure("a batch was not filed")
            self.reactor.callFromThread(self._report, batch, time.monotonic() - began)
        self.reactor.callFromThread(self._left)

    def _take(self) -> list[Job]:
        """The next batch; empty where there was none for a while."""
        batch: list[Job] = []
        mailboxes = 0
        try:
            job = self._waiting.get(timeout=LINGER)
            while job is not None:
                batch.append(job)
                mailboxes += len(job.mailboxes)
                if len(batch) >= self.jobs or mailboxes >= self.mailboxes:
                    break
                job = self._waiting.get_nowait()
        except Empty:
            pass
        return batch

    def _report(self, batch: list[Job], seconds: float) -> None:
        """In the reactor thread."""
        counters = self.counters
        counters.batches += 1
        counters.jobs += len(batch)
        counters.largest = max(counters.largest, len(batch))
        counters.seconds += seconds
        counters.sizes[bisect_left(SIZES, len(batch))] += 1
        for job in batch:
            self.answer(job)

    def _left(self) -> None:
        """In the reactor thread: one leaves. Something may have come after it had looked."""
        self._working -= 1
        if not self._working and not self._waiting.empty():
            self._start()
