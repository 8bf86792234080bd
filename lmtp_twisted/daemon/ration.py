"""How many lines what anybody can cause without end may take: a flood must not fill the disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: So many lines are for free ...
MOST = 100
#: ... in so many seconds.
SECONDS = 10.0


class Ration:
    """
    :param clock: an :class:`~twisted.internet.interfaces.IReactorTime`.
    :param tell: is told, at the end of a time in which there were too many, how many were left out.
    """

    def __init__(self, clock: Any, tell: Callable[[int], None]) -> None:
        self._clock = clock
        self._tell = tell
        self._began = float("-inf")
        self._count = 0
        self._end: Any = None

    def allows_one(self) -> bool:
        """Whether there may be one more line; where not, it is counted."""
        now = self._clock.seconds()
        # A clock that was set back begins anew, too.
        if self._end is None and not 0 <= now - self._began < SECONDS:
            self._began, self._count = now, 0
        self._count += 1
        if self._count <= MOST:
            return True
        if self._end is None:
            self._end = self._clock.callLater(self._began + SECONDS - now, self._over)
        return False

    def _over(self) -> None:
        self._end = None
        left_out, self._count = self._count - MOST, 0
        self._began = float("-inf")
        self._tell(left_out)

    def close(self) -> None:
        """Tell what there is to tell now."""
        if self._end is not None:
            self._end.cancel()
            self._over()
