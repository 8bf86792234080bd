"""Questions to a disk, few at a time."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError

from lmtp_twisted.lookups import THREADS, Lookups
from lmtp_twisted.testing import FakePool, FakeReactor


def asked(pool: FakePool) -> Lookups:
    return Lookups(FakeReactor(), pool)  # type: ignore[arg-type]  # a pool without threads


def test_no_more_than_a_few_threads_are_taken_however_many_ask() -> None:
    """The pool has others to serve."""
    pool = FakePool(immediate=False)
    lookups = asked(pool)
    answers: list[int] = []
    for number in range(5):
        lookups.run(lambda number=number: number).addCallback(answers.append)  # type: ignore[misc]  # a default
    taken = [pool.run() for _ in range(4)]
    assert taken == [THREADS, THREADS, 1, 0]
    assert answers == [0, 1, 2, 3, 4]


def test_a_failure_is_the_answer_and_the_next_has_its_turn() -> None:
    pool = FakePool(immediate=False)
    lookups = asked(pool)
    failed = [lookups.run(lambda: 1 / 0) for _ in range(3)]
    while pool.run():
        pass
    caught: list[object] = []
    for one in failed:
        one.addErrback(lambda failure: caught.append(failure.trap(ZeroDivisionError)))
    assert caught == [ZeroDivisionError] * 3


def test_who_is_gone_before_his_turn_is_forgotten() -> None:
    """Clients that come, ask and go while a disk is slow must not pile up."""
    pool, called = FakePool(immediate=False), []
    lookups = asked(pool)
    answers = [lookups.run(called.append, number) for number in range(THREADS + 1)]
    answers[-1].cancel()
    answers[-1].addErrback(lambda failure: failure.trap(CancelledError))
    assert not lookups._waiting
    pool.run()
    assert called == [0, 1]


@pytest.mark.parametrize("function", [lambda: 1, lambda: 1 / 0])
def test_a_thread_counts_until_it_ends_though_nobody_waits_for_it(function: object) -> None:
    pool, called = FakePool(immediate=False), []
    lookups = asked(pool)
    for _ in range(THREADS):
        given_up = lookups.run(function)  # type: ignore[arg-type]  # it is one
        given_up.addErrback(lambda failure: failure.trap(CancelledError))
        given_up.cancel()
    lookups.run(called.append, 1)
    assert pool.run() == THREADS
    assert called == []
    pool.run()
    assert called == [1]
