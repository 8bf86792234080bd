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


class Turn:
    """
    One program's, from when it is put into the queue on.

    :param work: runs it.
    :ivar done: fires with what ``work`` returned, or failed with. Cancelled, it ends the program.
    :ivar stop: set where nobody waits any more.
    """

    __slots__ = ("done", "stop", "work")

    def __init__(self, work: Work) -> None:
        self.work = work
        self.stop = Event()
        self.done: Deferred[Any] = Deferred(lambda _: self.stop.set())


class Queue:
    """
    :param reactor: its ``callFromThread`` brings results back.
    :param most: how many run at a time.
    """

    def __init__(self, reactor: Any, most: int) -> None:
        self._reactor = reactor
        self._most = most
        self._running = 0
        self._waiting: deque[Turn] = deque()
        self._idle: list[Deferred[None]] = []

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def put(self, work: Work) -> Deferred[Any]:
        """
        :param work: called in a thread when its turn has come.
        :returns: what it returns. When that is cancelled, ``work`` is told to stop, or never called.
        """
        turn = Turn(work)
        self._waiting.append(turn)
        self._start()
        return turn.done

    def _start(self) -> None:
        while self._waiting and self._running < self._most:
            turn = self._waiting.popleft()
            if not turn.stop.is_set():
                self._running += 1
                # A thread of its own: it waits for as long as the program runs, and costs little beside it.
                Thread(target=self._run, args=(turn,), name="lmtp pipe", daemon=True).start()

    def _run(self, turn: Turn) -> None:
        try:
            result = turn.work(turn.stop)
        except BaseException:
            result = Failure()
        self._reactor.callFromThread(self._ended, turn, result)

    def _ended(self, turn: Turn, result: Any) -> None:
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
