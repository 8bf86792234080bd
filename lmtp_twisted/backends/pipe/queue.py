"""Programs that run and programs that wait for their turn. It is used in the reactor thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Event, Thread
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

#: What a program does, in a thread: called with what it is ended by.
Work = Callable[[Event], Any]


class _Turn:
    """
    One program's, from when it is put into the queue on.

    :ivar work: runs it; ``None`` once it has begun, or never will.
    :ivar stop: set where nobody waits for it any more.
    :ivar done: fires with what ``work`` returned, or failed with.
    """

    __slots__ = ("done", "stop", "work")

    def __init__(self, work: Work, done: Deferred[Any]) -> None:
        self.work: Work | None = work
        self.stop = Event()
        self.done = done


class Queue:
    """
    :param reactor: its ``callFromThread`` brings results back.
    :param most: how many run at a time.
    """

    def __init__(self, reactor: Any, most: int) -> None:
        self._reactor = reactor
        self._most = most
        self._running = 0
        self._turns: deque[_Turn] = deque()
        # Those of them that were not cancelled.
        self._waiting = 0
        self._idle: list[Deferred[None]] = []

    def __len__(self) -> int:
        """How many wait."""
        return self._waiting

    @property
    def running(self) -> int:
        """How many run."""
        return self._running

    def put(self, work: Work) -> Deferred[Any]:
        """
        :param work: called in a thread when its turn has come.
        :returns: what it returns. When that is cancelled, ``work`` is told to stop, or never called.
        """
        done: Deferred[Any] = Deferred(lambda _: self._cancel(turn))
        turn = _Turn(work, done)
        self._turns.append(turn)
        self._waiting += 1
        self._start()
        return done

    def _cancel(self, turn: _Turn) -> None:
        turn.stop.set()
        if turn.work is not None:
            # It stands in the queue still, but without its message.
            turn.work = None
            self._waiting -= 1

    def _start(self) -> None:
        while self._turns and self._running < self._most:
            turn = self._turns.popleft()
            work, turn.work = turn.work, None
            if work is None:
                continue
            self._waiting -= 1
            # A thread of its own: it waits for as long as the program runs, and costs little beside it.
            thread = Thread(target=self._run, args=(turn, work), name="lmtp pipe", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # The system has no thread left.
                turn.done.errback(Failure())
            else:
                self._running += 1

    def _run(self, turn: _Turn, work: Work) -> None:
        try:
            result = work(turn.stop)
        except BaseException:
            result = Failure()
        self._reactor.callFromThread(self._ended, turn, result)

    def _ended(self, turn: _Turn, result: Any) -> None:
        self._running -= 1
        if not turn.stop.is_set():
            turn.done.callback(result)
        self._start()
        if not self._running:
            idle, self._idle = self._idle, []
            for deferred in idle:
                deferred.callback(None)

    def until_idle(self) -> Deferred[None]:
        """
        Wait for what runs or waits.

        :returns: fires when nothing does.
        """
        if not self._running:
            return succeed(None)
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        return idle
