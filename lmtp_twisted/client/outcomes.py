"""
The reply of each recipient of one message: each is given once, by whatever is known first. The last one waits until the
delivery has ended: who sends one message after the other finds the connection free then.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from lmtp_twisted.errors import DeliveryError
from lmtp_twisted.wire.replies import Reply


class Outcomes:
    """
    :param count: how many there are.
    :ivar deferreds: fire with a reply each. One that is cancelled is left out.
    :ivar stop: called when all that have no reply are cancelled.
    """

    def __init__(self, count: int) -> None:
        self.deferreds: list[Deferred[Reply]] = [Deferred(partial(self._cancel, place)) for place in range(count)]
        self.stop: Callable[[], None] = lambda: None
        self._open = set(range(count))
        self._last: tuple[int, Any] | None = None

    def _cancel(self, place: int, _outcome: Deferred[Reply]) -> None:
        self._open.discard(place)
        if not self._open:
            self.stop()

    def is_open(self, place: int) -> bool:
        """Whether somebody waits for this one."""
        return place in self._open

    def fill(self, place: int, outcome: Any) -> None:
        """
        :param place: of the recipient.
        :param outcome: a reply; or a :class:`~lmtp_twisted.errors.DeliveryError`, which is made one; or a failure.
        """
        if place in self._open:
            self._open.discard(place)
            if self._open:
                self._give(place, outcome)
            else:
                self._last = (place, outcome)

    def _give(self, place: int, outcome: Any) -> None:
        waiting = self.deferreds[place]
        if waiting.called:
            return
        if isinstance(outcome, Failure):
            waiting.errback(outcome)
        else:
            waiting.callback(Reply.from_error(outcome) if isinstance(outcome, DeliveryError) else outcome)

    def finish(self, result: Any) -> None:
        """
        The delivery has ended.

        :param result: a failure is that of all that have no reply.
        """
        if isinstance(result, Failure):
            self.fill_rest(result)
        if self._last is not None:
            self._give(*self._last)

    def fill_rest(self, outcome: Any) -> None:
        """As :meth:`fill`, for all that have none."""
        for place in sorted(self._open):
            self.fill(place, outcome)
