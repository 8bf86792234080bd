"""
Several answers as one: for a recipient whose mail goes more than one way.

The worst decides. A temporary failure is worse than a permanent one: what the client tries again may yet arrive
everywhere, and what it returns to its sender will not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from lmtp_twisted.awaiting import FAILURES, abort, cancel, deferred_of
from lmtp_twisted.envelope import Recipient, Sender
from lmtp_twisted.session import SessionInfo
from lmtp_twisted.verdict import DELIVERY, OUTCOME, RECIPIENT, SENDER, VERIFY, discard, verify
from lmtp_twisted.wire.replies import Reply


def worst(replies: Sequence[Reply]) -> Reply:
    """
    :param replies: at least one.
    :returns: the first of class 4, else the first of class 5, else the first with the highest code.
    """
    for digit in (4, 5):
        for reply in replies:
            if reply.code // 100 == digit:
                return reply
    # That it cannot be told is 252, which is less than a yes.
    return max(replies, key=lambda reply: reply.code)


async def introduce(backend: Any, session: SessionInfo, sender: Sender) -> tuple[Any, Reply]:
    """
    Have a backend give a delivery, and ask this about the sender.

    :returns: the delivery and its answer; or ``None`` and the refusal of either.
    :raises twisted.internet.defer.CancelledError: where nobody waits for it any more.
    """
    delivery = await result_of(lambda: backend.getDelivery(session), _unwanted)
    if isinstance(delivery, Failure):
        return None, DELIVERY.verdict(delivery)
    try:
        reply = SENDER.verdict(await result_of(lambda: delivery.validateFrom(sender)))
    except BaseException:
        abort(delivery, "the answer about the sender is not waited for")
        raise
    if reply.is_positive:
        return delivery, reply
    abort(delivery, "sender refused")
    return None, reply


async def verify_by(backend: Any, session: SessionInfo, recipient: Recipient) -> Reply:
    """
    Ask a backend whether there is a recipient, by a delivery of its own.

    :raises twisted.internet.defer.CancelledError: where nobody waits for it any more.
    """
    delivery = await result_of(lambda: backend.getDelivery(session), _unwanted)
    if isinstance(delivery, Failure):
        return DELIVERY.verdict(delivery)
    try:
        return VERIFY.verdict(await result_of(lambda: verify(delivery, recipient)))
    finally:
        abort(delivery, "VRFY")


async def ask_about(delivery: Any, recipient: Recipient) -> Reply:
    """
    Ask a delivery about a recipient.

    :raises twisted.internet.defer.CancelledError: where nobody waits for it any more.
    """
    return RECIPIENT.verdict(await result_of(lambda: delivery.validateTo(recipient)))


async def result_of(call: Callable[[], Any], unwanted: Callable[[Any], None] = discard) -> Any:
    """
    :param call: calls a method of an application.
    :param unwanted: gets what comes when nobody waits for it any more.
    :returns: what it gives, or the :class:`~twisted.python.failure.Failure` that it ends in.
    :raises twisted.internet.defer.CancelledError: where nobody waits for it any more.
    """
    try:
        result = call()
        waiting = deferred_of(result)
    except FAILURES:
        return Failure()
    if waiting is None:
        return result
    # In a box, a failure too: what is raised here is then that nobody waits.
    return (await _boxed(waiting, unwanted))[0]


def _boxed(waiting: Deferred[Any], unwanted: Callable[[Any], None]) -> Deferred[tuple[Any]]:
    is_cancelled = False

    def stop(_: Deferred[tuple[Any]]) -> None:
        nonlocal is_cancelled
        is_cancelled = True
        cancel(waiting)

    def come(result: Any) -> None:
        if not is_cancelled:
            box.callback((result,))
        elif not isinstance(result, Failure):
            unwanted(result)

    box: Deferred[tuple[Any]] = Deferred(stop)
    waiting.addBoth(come)
    return box


def _unwanted(delivery: Any) -> None:
    abort(delivery, "it came too late")


def shared(outcome: Any, count: int) -> list[Any]:
    """
    One outcome for several who wait for it.

    :param outcome: of a delivery: a value or an awaitable.
    :param count: how many they are.
    :returns: for each a :class:`~lmtp_twisted.wire.replies.Reply` or a Deferred of it. Cancelling one cancels all.
    """
    waiting = reply_of(outcome)
    if isinstance(waiting, Reply):
        return [waiting] * count
    parts: list[Deferred[Reply]] = [Deferred(lambda _: cancel(waiting)) for _ in range(count)]

    def came(reply: Reply) -> None:
        for part in parts:
            if not part.called:
                part.callback(reply)

    waiting.addCallback(came)
    return list(parts)


def worst_of(outcomes: Sequence[Any]) -> Any:
    """
    The worst of several outcomes, once all are known.

    :param outcomes: of deliveries: values or awaitables.
    :returns: a :class:`~lmtp_twisted.wire.replies.Reply`, or a Deferred of it. Cancelling it cancels all.
    """
    replies = [reply_of(outcome) for outcome in outcomes]
    waiting = [reply for reply in replies if isinstance(reply, Deferred)]
    if not waiting:
        return worst(replies)

    def stop(_: Deferred[Reply]) -> None:
        for deferred in waiting:
            cancel(deferred)

    all_known: Deferred[Reply] = Deferred(stop)
    missing = len(waiting)

    def came(reply: Reply, place: int) -> None:
        nonlocal missing
        replies[place] = reply
        missing -= 1
        if not missing and not all_known.called:
            all_known.callback(worst(replies))

    for place, reply in enumerate(replies):
        if isinstance(reply, Deferred):
            reply.addCallback(came, place)
    return all_known


def reply_of(outcome: Any) -> Any:
    """
    :param outcome: of a delivery: a value or an awaitable.
    :returns: a :class:`~lmtp_twisted.wire.replies.Reply`, or a Deferred of one, which never fails.
    """
    try:
        waiting = deferred_of(outcome)
    except RuntimeError:
        return OUTCOME.verdict(Failure())
    return OUTCOME.verdict(outcome) if waiting is None else waiting.addBoth(OUTCOME.verdict)
