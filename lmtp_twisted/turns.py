"""
Whose turn it is: no client keeps the others waiting by sending more than its share.

A turn of the reactor reads from all sessions that have sent something, up to 64 KiB from each, and that can be ten
thousand commands. A few dozen clients that send commands without a pause would make others wait for seconds. So there
is a limit to the time that commands and contents may take until others have their turn. Sessions that come after it
wait for the end of the reactor's turn, where the time begins anew; one whose share was too little for it comes after
those that said less.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from lmtp_twisted.outbox import Outbox

_log = Logger(namespace="lmtp_twisted")

#: Seconds that the input of all sessions may take in a turn of the reactor.
TURN = 0.01
#: Seconds that the input of one session may take before others have their turn.
SHARE = 0.001


class Turns:
    """
    What all sessions of a factory share.

    :param clock: an :class:`~twisted.internet.interfaces.IReactorTime`.
    :param outbox: knows when a turn of the reactor ends.
    """

    def __init__(self, clock: Any, outbox: Outbox) -> None:
        self._seconds: Callable[[], float] = clock.seconds
        self._outbox = outbox
        self._spent = 0.0
        self._is_next_planned = False
        # Those whose share was enough for them the last time, and the others.
        self._next: deque[Callable[[], None]] = deque()
        self._later: deque[Callable[[], None]] = deque()

    @property
    def is_over(self) -> bool:
        """Whether the time of this turn is used up."""
        return self._spent >= TURN

    def begin(self) -> float:
        """
        A session's input is looked at.

        :returns: what :meth:`end` and :meth:`is_used_up` have to be given.
        """
        return self._seconds()

    def is_used_up(self, begun: float) -> bool:
        """Whether the session has had its share."""
        return self._seconds() - begun >= SHARE

    def end(self, begun: float) -> None:
        """It is not looked at any more."""
        # A clock that is set back gives no time back.
        self._spent += max(self._seconds() - begun, 0.0)

    def wait(self, go_on: Callable[[], None], *, is_patient: bool) -> None:
        """
        :param go_on: called when it is this session's turn.
        :param is_patient: others come first.
        """
        (self._later if is_patient else self._next).append(go_on)
        self._plan()

    def forget(self, go_on: Callable[[], None]) -> None:
        """It need not be called any more."""
        for waiting in (self._next, self._later):
            if go_on in waiting:
                waiting.remove(go_on)
        if not (self._next or self._later) and self._is_next_planned:
            self._is_next_planned = False
            self._outbox.discard(self._begin)

    def _plan(self) -> None:
        if not self._is_next_planned:
            self._is_next_planned = True
            self._outbox.add(self._begin)

    def _begin(self) -> None:
        """A new turn."""
        self._spent = 0.0
        while (self._next or self._later) and not self.is_over:
            go_on = (self._next or self._later).popleft()
            try:
                go_on()
            except Exception:
                # What is wrong with one session must not keep the others for ever.
                _log.failure("a session could not go on")
        self._is_next_planned = False
        if self._next or self._later:
            self._plan()
