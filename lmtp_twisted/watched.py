"""
A file that is read anew when it has changed.

It is looked at when it is asked for, in a thread, once a second at the most; who asks then waits for that. New content
takes the place of the old as a whole. Where it cannot be read or makes no sense, the old stays, and the log says why.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

_log = Logger(namespace="lmtp_twisted")

#: Seconds for which a file is taken to be as it was.
FRESH = 1.0
#: Seconds that are waited for a look at it.
PATIENCE = 5.0
#: Octets that it may have.
MOST_OCTETS = 256 * 1024 * 1024

T = TypeVar("T")


class WatchedFile(Generic[T]):
    """
    Used in the reactor thread.

    :param path: of the file, which is text in UTF-8.
    :param parse: makes a value of its text; raises :exc:`ValueError` where it makes no sense. Called in a thread.
    :param reactor: takes what the thread has read.
    :param pool: where the thread comes from.
    :raises ValueError: where it cannot be read or makes no sense, in one line.
    """

    def __init__(self, path: str, parse: Callable[[str], T], reactor: Any, pool: ThreadPool) -> None:
        if not path:
            raise ValueError("a file is needed")
        # A daemon changes its directory.
        self._path = os.path.abspath(path)
        self._parse = parse
        self._reactor = reactor
        self._pool = pool
        self._signature: tuple[int, int, int] | None = None
        self._problem: str | None = None
        self._looked = float("-inf")
        self._is_looking = False
        # Those who wait for the look under way; ``None`` where it takes too long to wait for.
        self._waiting: list[Deferred[T]] | None = []
        try:
            self._value = self._parse(self._read())
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: {_words(error)}")

    def current(self) -> T | Deferred[T]:
        """The value of what is in the file, or a Deferred of it, which does not fail."""
        if self._reactor.seconds() - self._looked < FRESH or self._waiting is None:
            return self._value
        waiting: Deferred[T] = Deferred()
        self._waiting.append(waiting)
        if not self._is_looking:
            self._is_looking = True
            timer = self._reactor.callLater(PATIENCE, self._give_up)
            looked: Deferred[T | None] = deferToThreadPool(self._reactor, self._pool, self._look)
            looked.addBoth(self._found, timer)
        return waiting

    def _look(self) -> T | None:
        """In a thread. The new value, if there is one."""
        found = os.stat(self._path)
        if (found.st_ino, found.st_size, found.st_mtime_ns) == self._signature:
            return None
        return self._parse(self._read())

    def _read(self) -> str:
        with open(self._path, "rb") as file:
            found = os.fstat(file.fileno())
            if found.st_size > MOST_OCTETS:
                raise ValueError(f"it is larger than {MOST_OCTETS} octets")
            # Also where it makes no sense: that is said once.
            self._signature = found.st_ino, found.st_size, found.st_mtime_ns
            return file.read(MOST_OCTETS).decode("utf-8")

    def _found(self, result: T | Failure | None, timer: Any) -> None:
        self._is_looking = False
        if timer.active():
            timer.cancel()
        problem = None
        if isinstance(result, Failure):
            problem = _words(result.value)
            if problem != self._problem:
                _log.error("{path}: {problem}: what it held before stays in use", path=self._path, problem=problem)
        elif result is not None:
            self._value = result
            _log.info("{path} was read anew", path=self._path)
        self._problem = problem
        self._go_on()
        self._waiting = []

    def _give_up(self) -> None:
        _log.error("{path} cannot be read in {seconds} s: not waited for", path=self._path, seconds=PATIENCE)
        self._go_on()
        self._waiting = None

    def _go_on(self) -> None:
        self._looked = self._reactor.seconds()
        waiting, self._waiting = self._waiting or [], []
        for deferred in waiting:
            if not deferred.called:
                deferred.callback(self._value)


def _words(error: BaseException | None) -> str:
    if isinstance(error, OSError):
        return str(error.strerror)
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
