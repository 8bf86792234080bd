"""
What the methods of a delivery may return, brought to one form: a plain value, or a Deferred where there is something
to wait for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import CoroutineType
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from lmtp_twisted.errors import DeliveryError
from lmtp_twisted.wire.replies import INTERNAL_ERROR

_log = Logger(namespace="lmtp_twisted")

#: What code of an application may end in. A future of asyncio that was cancelled raises what is no Exception, a Failure
#: is none either, though code of Twisted's raises it, and no delivery is to end the server by ``sys.exit()``.
FAILURES = (Exception, asyncio.CancelledError, GeneratorExit, SystemExit, Failure)


def deferred_of(result: object) -> Deferred[Any] | None:
    """
    :param result: what a method of an application returned.
    :returns: ``None`` for a plain value; else a Deferred of what the Deferred, coroutine, :class:`asyncio.Future` or
        other awaitable gives.
    :raises RuntimeError: for a future of asyncio, where Twisted does not run on asyncio's loop.
    """
    # All that can be waited for has it, Deferreds and coroutines too; this is asked several times a message.
    if result is None or not hasattr(type(result), "__await__"):
        return None
    if isinstance(result, Deferred):
        return _own(result)
    if isinstance(result, CoroutineType):
        return Deferred.fromCoroutine(result)
    if asyncio.isfuture(result):
        if not result.get_loop().is_running():
            raise RuntimeError(
                "an awaitable of asyncio needs Twisted's asyncio reactor: "
                "twistd --reactor=asyncio, or asyncioreactor.install()"
            )
        return Deferred.fromFuture(result)
    return Deferred.fromCoroutine(_wait_for(result)) if isinstance(result, Awaitable) else None


def _own(theirs: Deferred[Any]) -> Deferred[Any]:
    """
    A Deferred of ours with the same result. What we do with it changes nothing for the application's, which may well be
    returned a second time: that must then say the same again, a refusal too.
    """
    ours: Deferred[Any] = Deferred(lambda _: cancel(theirs))

    def pass_on(result: Any) -> Any:
        if not ours.called:
            ours.callback(result)
        # No failure may be left unhandled, so a refusal becomes a value: an answer that says the same.
        if not isinstance(result, Failure):
            return result
        if isinstance(result.value, DeliveryError):
            return result.value
        return DeliveryError(INTERNAL_ERROR.code, INTERNAL_ERROR.enhanced, INTERNAL_ERROR.text)

    theirs.addBoth(pass_on)
    return ours


async def _wait_for(result: Awaitable[Any]) -> Any:
    return await result


def go_on(value: Any, then: Callable[[Any], Any]) -> Any:
    """
    ``then(value)``: at once, or as a Deferred where the value has yet to come.

    :param value: what a method of an application returned.
    :param then: may return an awaitable in its turn.
    """
    waiting = deferred_of(value)
    if waiting is None:
        return then(value)

    def come(value: Any) -> Any:
        result = then(value)
        further = deferred_of(result)
        return result if further is None else further

    return waiting.addCallback(come)


def abort(delivery: Any, reason: str) -> None:
    """
    Tell a delivery that its ``deliver`` will not be called. What goes wrong there is logged.

    :param delivery: an :class:`~lmtp_twisted.interfaces.ILMTPDelivery`.
    :param reason: in a few words.
    """
    try:
        waiting = deferred_of(delivery.aborted(reason))
    except FAILURES:
        _log.failure("aborted failed")
        return
    if waiting is not None:
        waiting.addErrback(lambda failure: _log.failure("aborted failed", failure))


def ending(at_work: Sequence[Deferred[Any]], clock: Any, seconds: float) -> Deferred[None]:
    """
    Let Deferreds of an application end by themselves, but not for ever.

    :param at_work: those whose results are dealt with.
    :param clock: an :class:`~twisted.internet.interfaces.IReactorTime`.
    :param seconds: after which they are cancelled.
    :returns: fires when all have ended or were cancelled.
    """
    ended: Deferred[None] = Deferred()

    def too_late() -> None:
        for waiting in at_work:
            cancel(waiting)
        end(None)

    def end(_: object) -> None:
        if timer.active():
            timer.cancel()
        if not ended.called:
            ended.callback(None)

    timer = clock.callLater(seconds, too_late)
    DeferredList(at_work).addCallback(end)
    return ended


def cancel(waiting: Deferred[Any]) -> None:
    """Cancel a Deferred of an application. A canceller that fails is logged."""
    try:
        waiting.cancel()
    except FAILURES:
        _log.failure("a canceller failed")
