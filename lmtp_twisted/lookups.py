"""Questions that sessions wait for, few at a time: a slow disk or database must not take every thread of the pool."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

#: How many are asked at a time where nobody says. The others wait; each session asks one.
THREADS = 2


class Lookups:
    """
    Used in the reactor thread.

    :param reactor: takes the answers.
    :param pool: where the threads come from.
    :param threads: how many are asked at a time.
    """

    def __init__(self, reactor: Any, pool: ThreadPool, threads: int = THREADS) -> None:
        self._reactor = reactor
        self._pool = pool
        self._threads = threads
        self._asking = 0
        # In the order in which they came.
        self._waiting: dict[Deferred[Any], tuple[Callable[..., Any], tuple[Any, ...]]] = {}

    def run(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """
        :param function: called in a thread.
        :param arguments: for it.
        :returns: what it returns or raises. Where that is cancelled before its turn, it is never called; a thread that
            has begun goes on, and counts until it ends.
        """
        answer: Deferred[Any] = Deferred(self._forget)
        self._waiting[answer] = function, arguments
        self._go_on()
        return answer

    def _forget(self, answer: Deferred[Any]) -> None:
        self._waiting.pop(answer, None)

    def _go_on(self) -> None:
        while self._waiting and self._asking < self._threads:
            answer = next(iter(self._waiting))
            function, arguments = self._waiting.pop(answer)
            self._asking += 1
            asked: Deferred[Any] = deferToThreadPool(self._reactor, self._pool, function, *arguments)
            asked.addBoth(self._answered, answer)

    def _answered(self, result: Any, answer: Deferred[Any]) -> None:
        self._asking -= 1
        if not answer.called:
            # It takes a failure as one.
            answer.callback(result)
        self._go_on()
