"""Questions that go to several processes, and the answers that come in time."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

_log = Logger(namespace="lmtp_twisted")

#: Seconds that an answer may take.
PATIENCE = 1.0
#: Questions that one process may leave unanswered before it is asked no more until it has caught up.
MOST_UNANSWERED = 20


class Asked(Protocol):
    """A process that can be asked, at the other end of a channel."""

    unanswered: int

    def say(self, message: dict[str, Any]) -> None:
        """Send it a message."""

    def is_behind(self) -> None:
        """It is not asked, since it has left too many questions unanswered."""


@attrs.define
class _Inquiry:
    """One question: who has not answered yet, and what the others said."""

    waiting: set[str]
    answered: Deferred[dict[str, Any]]
    answers: dict[str, Any] = attrs.field(factory=dict)
    timer: Any = None


class Inquiries:
    """
    :param reactor: the clock.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._numbers = count()
        self._open: dict[int, _Inquiry] = {}

    def ask(self, members: Mapping[str, Asked], question: str, argument: Any) -> Deferred[dict[str, Any]]:
        """
        :param members: who is asked, by their keys.
        :returns: fires with what they answer within :data:`PATIENCE`.
        """
        number, inquiry = next(self._numbers), _Inquiry(set(), Deferred())
        for key, member in members.items():
            if member.unanswered < MOST_UNANSWERED:
                member.unanswered += 1
                inquiry.waiting.add(key)
                member.say({"ask": number, "question": question, "argument": argument})
            else:
                member.is_behind()
        self._open[number] = inquiry
        inquiry.timer = self._reactor.callLater(PATIENCE, self._close, number)
        self._close_if_complete(number)
        return inquiry.answered

    def answer(self, key: str, message: Mapping[str, Any]) -> None:
        """
        An answer has come, perhaps too late.

        :param message: with ``data``, unless the process had none.
        """
        inquiry = self._open.get(message["answer"])
        if inquiry is None or key not in inquiry.waiting:
            return
        inquiry.waiting.discard(key)
        if "data" in message:
            inquiry.answers[key] = message["data"]
        self._close_if_complete(message["answer"])

    def gone(self, key: str) -> None:
        """A process is gone, and will answer nothing."""
        for number, inquiry in list(self._open.items()):
            inquiry.waiting.discard(key)
            self._close_if_complete(number)

    def _close_if_complete(self, number: int) -> None:
        if not self._open[number].waiting:
            self._close(number)

    def _close(self, number: int) -> None:
        inquiry = self._open.pop(number)
        if inquiry.timer.active():
            inquiry.timer.cancel()
        inquiry.answered.callback(inquiry.answers)
