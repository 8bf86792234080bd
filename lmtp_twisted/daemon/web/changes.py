"""Waiting for mail: all who wait share one look at the revision."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from lmtp_twisted.daemon.members import Members

_log = Logger(namespace="lmtp_twisted")

#: Seconds between two looks, while somebody waits.
LOOK_AFTER = 0.1
#: Who may wait at a time.
MOST_WAITING = 50


def revision_of(answers: dict[str, Any]) -> str:
    """
    :param answers: to the question ``inbox``.
    :returns: what is another text where anything has changed.
    """
    return ",".join(f"{member}.{answers[member]['revision']}" for member in sorted(answers))


class Changes:
    """
    :param members: who is asked.
    :param reactor: the clock.
    """

    def __init__(self, members: Members, reactor: Any) -> None:
        self._members = members
        self._waiting: list[tuple[str, Deferred[None]]] = []
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor
        self._reactor = reactor

    @property
    def is_full(self) -> bool:
        """Whether nobody more may wait."""
        return len(self._waiting) >= MOST_WAITING

    def after(self, revision: str, seconds: float) -> Deferred[None]:
        """
        :param revision: that is known.
        :param seconds: to wait for another at the most.
        :returns: fires when there is another, or the time is over.
        """
        waiting: Deferred[None] = Deferred()
        entry = (revision, waiting)
        timer = self._reactor.callLater(seconds, waiting.callback, None)
        self._waiting.append(entry)

        def over(result: Any) -> Any:
            if timer.active():
                timer.cancel()
            if entry in self._waiting:
                self._waiting.remove(entry)
            if not self._waiting and self._looking.running:
                self._looking.stop()
            return result

        waiting.addBoth(over)
        if not self._looking.running:
            self._looking.start(LOOK_AFTER, now=False).addErrback(
                lambda failure: _log.failure("nobody looks for new messages any more", failure)
            )
        return waiting

    def _look(self) -> Deferred[None]:
        def answered(answers: dict[str, Any]) -> None:
            now = revision_of(answers)
            for known, waiting in list(self._waiting):
                if known != now and not waiting.called:
                    waiting.callback(None)

        return self._members.ask("inbox").addCallback(answered)
