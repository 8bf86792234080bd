"""Where jobs wait for threads, and threads report back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.logger import globalLogPublisher
from twisted.python.threadpool import ThreadPool

from lmtp_twisted.backends.maildir.job import Job
from lmtp_twisted.backends.maildir.lanes import Lane
from lmtp_twisted.message import ReceivedMessage
from lmtp_twisted.testing import FakePool, FakeReactor
from lmtp_twisted.threads import make_pool

Receive = Callable[..., ReceivedMessage]


class Work:
    """Files nothing, and says what it was given and what came back."""

    def __init__(self) -> None:
        self.batches: list[list[Job]] = []
        self.answered: list[Job] = []
        self.threads: set[int] = set()

    def file(self, batch: list[Job]) -> None:
        self.batches.append(list(batch))
        self.threads.add(threading.get_ident())

    @property
    def sizes(self) -> list[int]:
        return [len(batch) for batch in self.batches]


@pytest.fixture
def jobs(receive: Receive) -> Callable[[int], list[Job]]:
    return lambda count, mailboxes=1: [  # type: ignore[misc]  # a default of a lambda
        Job(receive("a@x"), [(str(number),) for number in range(mailboxes)]) for _ in range(count)
    ]


def lane(work: Work, pool: Any, clock: Any = None, **options: Any) -> Lane:
    return Lane(clock or FakeReactor(), pool, work.file, work.answered.append, **{"threads": 1, "jobs": 16, **options})


def test_what_waits_is_filed_together_and_answered_in_order(no_linger: None, jobs: Any) -> None:
    work, pool, given = Work(), FakePool(immediate=False), jobs(5)
    tested = lane(work, pool)
    for job in given:
        tested.put(job)
    assert tested.depth == 5
    pool.run()
    assert tested.depth == 0
    assert work.batches == [given]
    assert work.answered == given


def test_a_batch_has_a_bound(no_linger: None, jobs: Any) -> None:
    work, pool = Work(), FakePool(immediate=False)
    tested = lane(work, pool)
    for job in jobs(40):
        tested.put(job)
    pool.run()
    assert work.sizes == [16, 16, 8]


def test_a_batch_has_a_bound_of_mailboxes_too(no_linger: None, jobs: Any) -> None:
    """Nobody should wait for thousands of directories."""
    work, pool = Work(), FakePool(immediate=False)
    tested = lane(work, pool, mailboxes=10)
    for job in jobs(5, 6):
        tested.put(job)
    pool.run()
    assert work.sizes == [2, 2, 1]


def test_a_lane_of_single_jobs_batches_none(no_linger: None, jobs: Any) -> None:
    work, pool = Work(), FakePool(immediate=False)
    tested = lane(work, pool, jobs=1)
    for job in jobs(3):
        tested.put(job)
    pool.run()
    assert work.sizes == [1, 1, 1]


def test_a_thread_leaves_when_nothing_waits_and_another_comes_when_something_does(no_linger: None, jobs: Any) -> None:
    work, pool = Work(), FakePool(immediate=False)
    tested = lane(work, pool)
    for job in jobs(2):
        tested.put(job)
        assert pool.run() == 1
    assert work.sizes == [1, 1]


def test_further_threads_come_while_jobs_wait_up_to_a_bound(no_linger: None, jobs: Any) -> None:
    work, pool = Work(), FakePool(immediate=False)
    tested = lane(work, pool, threads=3)
    for job in jobs(10):
        tested.put(job)
    assert pool.run() == 3
    assert sum(work.sizes) == 10


def test_jobs_that_share_no_batch_do_not_wait_for_each_other(no_linger: None, jobs: Any) -> None:
    """Nobody waits behind 100 MB."""
    pool = FakePool(immediate=False)
    tested = lane(Work(), pool, threads=2, jobs=1)
    for job in jobs(2):
        tested.put(job)
    assert pool.run() == 2


def test_what_comes_after_the_last_thread_had_looked_is_not_forgotten(no_linger: None, jobs: Any) -> None:
    """It looks in its own thread, and that it has left is known in the reactor thread."""
    work, pool, clock = Work(), FakePool(immediate=False), FakeReactor()
    later: list[Callable[[], None]] = []
    clock.callFromThread = lambda function, *arguments: later.append(  # type: ignore[method-assign, assignment]
        lambda: function(*arguments)
    )
    tested = lane(work, pool, clock)
    first, second = jobs(2)
    tested.put(first)
    pool.run()
    tested.put(second)
    assert pool.run() == 0
    for call in later:
        call()
    assert pool.run() == 1
    assert work.batches == [[first], [second]]


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_a_batch_that_cannot_be_filed_is_answered_all_the_same(
    no_linger: None, jobs: Any, error: type[BaseException]
) -> None:
    """A session that waits for an answer would wait for its time-out."""
    pool, answered, logged = FakePool(), [], []

    def file(batch: list[Job]) -> None:
        raise error

    globalLogPublisher.addObserver(logged.append)
    try:
        tested = Lane(FakeReactor(), pool, file, answered.append, threads=1)
        for job in jobs(2):
            tested.put(job)
    finally:
        globalLogPublisher.removeObserver(logged.append)
    assert len(answered) == 2
    assert [event["log_failure"].type for event in logged] == [error, error]


@pytest_twisted.ensureDeferred
async def test_jobs_are_filed_in_threads_and_answered_in_the_reactors(pool: ThreadPool, jobs: Any) -> None:
    work, done, where = Work(), Deferred[None](), set()

    def answer(job: Job) -> None:
        where.add(threading.get_ident())
        work.answered.append(job)
        if len(work.answered) == 100:
            done.callback(None)

    tested = Lane(reactor, pool, work.file, answer, threads=4, jobs=16)
    given = jobs(100)
    for job in given:
        tested.put(job)
    await done
    tested.dismiss()
    assert where == {threading.get_ident()}
    assert threading.get_ident() not in work.threads
    assert sorted(map(id, work.answered)) == sorted(map(id, given))


@pytest_twisted.ensureDeferred
async def test_dismissed_threads_leave_at_once(jobs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that stops does not wait for those who have nothing to do."""
    monkeypatch.setattr("lmtp_twisted.backends.maildir.lanes.LINGER", 3600)
    pool, answered = make_pool(), Deferred[Job]()
    tested = Lane(reactor, pool, lambda batch: None, answered.callback, threads=4)
    (job,) = jobs(1)
    tested.put(job)
    assert await answered is job
    threads = list(pool.threads)
    assert [thread.is_alive() for thread in threads] == [True]
    tested.dismiss()
    pool.stop()
    assert [thread.is_alive() for thread in threads] == [False]
