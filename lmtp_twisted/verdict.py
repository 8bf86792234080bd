"""
What an application's answer means for the client. Every answer of a delivery enters through here, so that none of
them, however wrong, can put the session out of step.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from types import CoroutineType
from typing import Any

import attrs
from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure

from lmtp_twisted.awaiting import FAILURES, cancel, deferred_of
from lmtp_twisted.errors import DeliveryError, is_enhanced
from lmtp_twisted.wire.replies import (
    CANCELLED,
    CANNOT_VERIFY,
    DEFAULT_ENHANCED,
    DELIVERED,
    INTERNAL_ERROR,
    RECIPIENT_OK,
    SENDER_OK,
    Reply,
)

_log = Logger(namespace="lmtp_twisted")


@attrs.frozen
class Question:
    """
    One place where an application is asked.

    :ivar name: the method, for the log.
    :ivar accepted: the reply to ``None`` and ``True``; its code and enhanced code also go with a ``str``.
    :ivar code: what a :class:`~lmtp_twisted.errors.DeliveryError` without a code says, of class 5.
    :ivar enhanced: what one without an enhanced code says, where the class is 5.
    """

    name: str
    accepted: Reply
    code: int
    enhanced: str

    def verdict(self, answer: object) -> Reply:
        """
        :param answer: what the application returned, or the :class:`~twisted.python.failure.Failure` it ended in.
        :returns: a reply of class 2, 4 or 5, never 421. For what an application must not answer it is 451 4.3.0, and
            the log says why.
        """
        try:
            reply = self._reply_to(answer)
        except Exception:
            _log.failure("{method} gave something that cannot be understood", method=self.name)
            return INTERNAL_ERROR
        if reply is None:
            _log.error("{method} gave {answer!r}, which is no outcome: answered 451", method=self.name, answer=answer)
            return INTERNAL_ERROR
        return reply

    def _reply_to(self, answer: object) -> Reply | None:
        if answer is None or answer is True:
            return self.accepted
        if isinstance(answer, str):
            return attrs.evolve(self.accepted, text=answer)
        if isinstance(answer, Reply):
            return _well_formed(answer) if _can_be_said(answer.code) else None
        if isinstance(answer, DeliveryError):
            if answer.code is None or (_can_be_said(answer.code) and answer.code >= 400):
                return Reply.from_error(answer, self.code, self.enhanced)
            return None
        return self._failed(answer) if isinstance(answer, Failure) else None

    def _failed(self, failure: Failure) -> Reply | None:
        if failure.check(DeliveryError):
            return self._reply_to(failure.value)
        if failure.check(CancelledError):
            return CANCELLED
        _log.failure("{method} failed{hint}: answered 451", failure, method=self.name, hint=_hint(failure))
        return INTERNAL_ERROR


CONNECTION = Question("validateConnection", Reply(220), 554, "5.7.1")
DELIVERY = Question("getDelivery", SENDER_OK, 550, "5.7.1")
SENDER = Question("validateFrom", SENDER_OK, 550, "5.7.1")
RECIPIENT = Question("validateTo", RECIPIENT_OK, 550, "5.1.1")
VERIFY = Question("verifyAddress", RECIPIENT_OK, 550, "5.1.1")
OUTCOME = Question("deliver", DELIVERED, 554, "5.3.0")


def verify(delivery: Any, recipient: Any) -> Any:
    """
    Ask a delivery that may answer VRFY.

    :param delivery: an :class:`~lmtp_twisted.interfaces.ILMTPDelivery`.
    :param recipient: whom the client named.
    :returns: its answer; 252 where it has none.
    """
    ask = getattr(delivery, "verifyAddress", None)
    return CANNOT_VERIFY if ask is None else ask(recipient)


def backend_for(delivery: Any, recipient: Any, backend: Any) -> Any:
    """
    Ask a delivery that may contain others whose a recipient is.

    :param delivery: an :class:`~lmtp_twisted.interfaces.ILMTPDelivery`.
    :param recipient: the recipient.
    :param backend: who gave the delivery.
    :returns: the backend of the recipient; the one that gave the delivery where this does not say another.
    """
    ask = getattr(delivery, "backendFor", None)
    if ask is None:
        return backend
    try:
        return ask(recipient)
    except FAILURES:
        _log.failure("backendFor failed")
        return backend


def wants_to_stream(delivery: Any, recipients: Sequence[Any]) -> bool:
    """
    Ask a delivery whether it reads the content while it comes.

    :param delivery: an :class:`~lmtp_twisted.interfaces.ILMTPDelivery`.
    :param recipients: for whom: those that were accepted, each once.
    :returns: ``False`` too where it has no such method, and where that fails: every delivery takes a message that is
        stored.
    """
    ask = getattr(delivery, "streams", None)
    if ask is None:
        return False
    try:
        answer = ask(tuple(recipients))
    except FAILURES:
        _log.failure("streams failed: the message is stored")
        return False
    if answer is not True and answer is not False:
        _log.error("streams gave {answer!r}, which is neither True nor False: the message is stored", answer=answer)
        discard(answer)
    return answer is True


def one_for_each(result: Any, count: int) -> Sequence[Any]:
    """
    What ``deliver`` gave, as one outcome or awaitable of one for each recipient, however wrong it was.

    :param result: what it returned, or the :class:`~twisted.python.failure.Failure` it ended in.
    :param count: how many recipients there are.
    """
    if isinstance(result, (list, tuple)) and len(result) == count:
        return result
    if isinstance(result, Failure):
        reply = OUTCOME.verdict(result)
    else:
        reply = INTERNAL_ERROR
        _log.error(
            "deliver gave {result!r} instead of a list of {count} outcomes: answered 451", result=result, count=count
        )
        discard(result)
    return [DeliveryError(reply.code, reply.enhanced, reply.text)] * count


def discard(outcomes: Any) -> None:
    """
    What ``deliver`` gave, when nobody waits for it any more: stop what can be stopped.

    :param outcomes: anything.
    """
    for outcome in outcomes if isinstance(outcomes, (list, tuple)) else [outcomes]:
        if isinstance(outcome, CoroutineType):
            # Only a coroutine that never began does nothing.
            outcome.close()
            continue
        with suppress(RuntimeError):
            waiting = deferred_of(outcome)
            if waiting is not None:
                waiting.addErrback(lambda _: None)
                cancel(waiting)


def _can_be_said(code: object) -> bool:
    return isinstance(code, int) and (200 <= code < 300 or 400 <= code < 600) and code != 421


def _well_formed(reply: Reply) -> Reply:
    """The reply with an enhanced status code of the class of its code (RFC 2034 §4) and a text."""
    digit = str(reply.code)[0]
    if not is_enhanced(reply.enhanced) or reply.enhanced[0] != digit:
        reply = attrs.evolve(reply, enhanced=DEFAULT_ENHANCED[int(digit)])
    return reply if isinstance(reply.text, str) else attrs.evolve(reply, text=str(reply.text))


def _hint(failure: Failure) -> str:
    """What asyncio says where its awaitables meet another reactor tells nobody what to do about it."""
    if failure.check(RuntimeError) and str(failure.value) in (
        "no running event loop",
        "await wasn't used with future",
    ):
        return " (asyncio's need Twisted's asyncio reactor, and in a coroutine Deferred.fromFuture around them)"
    return ""
