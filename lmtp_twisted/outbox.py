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

#: Octets that all clients together may leave unread, beyond what the system keeps for each.
MOST_UNREAD = 64 * 1024 * 1024


class Outbox:
    """
    What all sessions of a factory share.

    :param clock: an :class:`~twisted.internet.interfaces.IReactorTime`.
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._waiting: list[Callable[[], None]] = []
        self._call: Any = None
        # By what gives a client up: octets that it has not read. Those who have not for longest come first.
        self._unread: dict[Callable[[], None], int] = {}
        self._unread_in_all = 0

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

    def is_unread(self, give_up: Callable[[], None], octets: int) -> None:
        """
        A client does not read what it is sent. Where too much is unread, who has not read for longest is given up.

        :param give_up: ends its connection.
        :param octets: that wait for it now, in addition to those that did.
        """
        self._unread[give_up] = self._unread.get(give_up, 0) + octets
        self._unread_in_all += octets
        while self._unread_in_all > MOST_UNREAD:
            first = next(iter(self._unread))
            self.is_read(first)
            first()

    def is_read(self, give_up: Callable[[], None]) -> None:
        """It has read all, or is gone."""
        self._unread_in_all -= self._unread.pop(give_up, 0)
