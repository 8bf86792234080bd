"""Waiting for what happens, instead of for time to pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from twisted.internet import reactor
from twisted.internet.defer import Deferred, TimeoutError

T = TypeVar("T")
R = TypeVar("R")

#: Seconds after which what has not happened will not.
DEADLINE = 30.0


async def within(waiting: Deferred[R], what: Callable[[], str], deadline: float = DEADLINE) -> R:
    """
    Wait for a Deferred, but not for ever.

    :param what: says what was waited for, and what is known of it.
    :raises AssertionError: at the deadline.
    """
    try:
        return await waiting.addTimeout(deadline, reactor)
    except TimeoutError:
        raise AssertionError(f"not within {deadline} s: {what()}") from None


class Occasions(Generic[T]):
    """
    What happened, in order, and those who wait for something in it.

    :param name: what they are, for whoever waits in vain.
    :ivar seen: all of it.
    """

    def __init__(self, name: str) -> None:
        self.seen: list[T] = []
        self._name = name
        self._waiting: list[tuple[Callable[[Sequence[T]], Any], Deferred[Any]]] = []

    def add(self, thing: T) -> None:
        """It happened."""
        self.seen.append(thing)
        waiting, self._waiting = self._waiting, []
        for condition, deferred in waiting:
            found = condition(self.seen)
            if not found:
                self._waiting.append((condition, deferred))
            elif not deferred.called:
                deferred.callback(found)

    async def until(self, condition: Callable[[Sequence[T]], R], deadline: float = DEADLINE) -> R:
        """
        :param condition: looks at all that happened, and gives something true once that is enough.
        :returns: what it gave.
        :raises AssertionError: at the deadline, with the last of what happened.
        """
        found = condition(self.seen)
        if found:
            return found
        waiting: Deferred[R] = Deferred()
        self._waiting.append((condition, waiting))
        return await within(
            waiting,
            lambda: f"the end of {self._name} is\n" + "\n".join(str(thing) for thing in self.seen[-80:]),
            deadline,
        )

    async def count(self, number: int) -> list[T]:
        """Wait until so much has happened, and give all of it."""
        return list(await self.until(lambda seen: seen if len(seen) >= number else ()))
