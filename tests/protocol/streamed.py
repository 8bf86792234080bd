"""Deliveries that read a content by hand, for tests of streaming."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dialogue import Client, with_recipients
from twisted.internet.defer import Deferred

from lmtp_twisted.testing import ScriptedDeliveries


class ByHand:
    """
    A delivery that reads when it is told, and answers when it is told.

    :ivar message: the latest that it was given.
    :ivar outcome: the outcomes of that message.
    """

    def __init__(self) -> None:
        self.message: Any = None
        self.outcome: Deferred[Any] = Deferred()
        self.deliveries = ScriptedDeliveries(deliver=self._deliver, streams=True)
        self._chunks: Any = None

    def _deliver(self, message: Any) -> Any:
        self.message = message
        self.outcome = Deferred()
        self._chunks = message.chunks()
        return self.outcome

    def read(self) -> Deferred[bytes]:
        """The next chunk, when it comes."""
        return Deferred.fromCoroutine(self._chunks.__anext__())

    def leave(self) -> None:
        """Read no more."""
        Deferred.fromCoroutine(self._chunks.aclose())

    @property
    def aborted(self) -> list[Any]:
        """The calls of ``aborted``."""
        return [argument for name, argument in self.deliveries.calls if name == "aborted"]


def result_of(deferred: Deferred[Any]) -> list[Any]:
    """The result of a Deferred, or its exception, where it has one."""
    results: list[Any] = []
    deferred.addCallbacks(results.append, lambda failure: results.append(failure.value))
    return results


def streaming(
    deliver: Callable[[Any], Any] | None = None, *recipients: str, **options: Any
) -> tuple[Client, ScriptedDeliveries]:
    """A client with recipients, and the deliveries that stream."""
    deliveries = ScriptedDeliveries(deliver=deliver, streams=True)
    return with_recipients(deliveries, *recipients, **options), deliveries


def by_hand(*recipients: str, **options: Any) -> tuple[Client, ByHand]:
    """A client with recipients, and a delivery that reads by hand."""
    hand = ByHand()
    return with_recipients(hand.deliveries, *recipients, **options), hand
