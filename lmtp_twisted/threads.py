"""A thread pool of our own: the reactor's also resolves names, and must never be kept waiting by a disk."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from twisted.python.threadpool import ThreadPool

#: Threads of a pool at the most. They wait for disks, not for processors.
THREADS = 16

_default: WeakKeyDictionary[Any, ThreadPool] = WeakKeyDictionary()


def make_pool(threads: int = THREADS) -> ThreadPool:
    """
    :param threads: how many there are at the most; none until there is something to do.
    :returns: a started pool; whoever makes it calls its ``stop``.
    """
    pool = ThreadPool(minthreads=0, maxthreads=threads, name="lmtp")
    pool.start()
    return pool


def use_pool(reactor: Any, pool: Any) -> None:
    """
    Let a pool be the default one of a reactor. Whoever gives it sees to its end.

    :param reactor: a reactor that has no default pool yet.
    :param pool: a :class:`~twisted.python.threadpool.ThreadPool` or what stands for one in a test.
    """
    _default[reactor] = pool


def default_pool(reactor: Any) -> ThreadPool:
    """
    The pool for those who were given none: one for each reactor, stopped when the reactor stops.

    :param reactor: an :class:`~twisted.internet.interfaces.IReactorCore`.
    """
    pool = _default.get(reactor)
    if pool is None:
        pool = _default[reactor] = make_pool()
        add_trigger = getattr(reactor, "addSystemEventTrigger", None)
        if add_trigger is not None:
            add_trigger("after", "shutdown", pool.stop)
    return pool
