"""
Easy ways in: a function instead of a delivery. All are thin adapters, so that a wrong number of outcomes cannot be
written with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from lmtp_twisted.awaiting import FAILURES, cancel, deferred_of
from lmtp_twisted.envelope import Recipient, Sender
from lmtp_twisted.interfaces import ILMTPDelivery, ILMTPDeliveryFactory, IReceivedMessage, IStreamingDelivery
from lmtp_twisted.session import SessionInfo

RecipientCallable = Callable[[IReceivedMessage, Recipient], Any]
MessageCallable = Callable[[IReceivedMessage], Any]


@implementer(IStreamingDelivery)
class RecipientDelivery:
    """
    A base class for deliveries that see to one recipient at a time. Override :meth:`deliverTo`, and what else is
    needed. The recipients of a message are delivered to all at once, up to :attr:`parallel` of them.

    :cvar parallel: how many deliveries of one message may be under way.
    :cvar streaming: whether :meth:`deliverTo` is called before the content has come, with a message for its recipient
        alone. Where a message has more than :attr:`parallel` recipients it is stored first all the same: those who wait
        for their turn would hold back the others.
    """

    parallel: int = 20
    streaming: bool = False

    def validateFrom(self, sender: Sender) -> Any:
        """Accept every sender."""

    def validateTo(self, recipient: Recipient) -> Any:
        """Accept every recipient."""

    def deliverTo(self, message: IReceivedMessage, recipient: Recipient) -> Any:
        """
        Deliver to one recipient.

        :returns: the recipient's outcome, or an awaitable of it.
        :raises lmtp_twisted.errors.DeliveryError: to refuse the message for this recipient.
        """
        raise NotImplementedError

    def aborted(self, reason: str) -> Any:
        """Nothing was reserved."""

    def streams(self, recipients: Sequence[Recipient]) -> bool:
        """As :attr:`streaming` says."""
        return self.streaming and len(recipients) <= self.parallel

    def deliver(self, message: IReceivedMessage) -> Any:
        """Call :meth:`deliverTo` for each recipient."""
        recipients = message.recipients
        if len(recipients) > self.parallel:
            return _InTurns(self.deliverTo, message, self.parallel).outcomes
        if self.streaming:
            parts = [message.forRecipients([recipient]) for recipient in recipients]
            return [self._outcome(part, recipient) for part, recipient in zip(parts, recipients, strict=True)]
        return [self._outcome(message, recipient) for recipient in recipients]

    def _outcome(self, message: IReceivedMessage, recipient: Recipient) -> Any:
        try:
            return self.deliverTo(message, recipient)
        except FAILURES:
            return Failure()


class _InTurns:
    """
    Deliveries to the recipients of one message, so many at a time.

    :param call: delivers to one.
    :param message: the message.
    :param parallel: how many may be under way.
    :ivar outcomes: a Deferred for each recipient.
    """

    def __init__(self, call: RecipientCallable, message: IReceivedMessage, parallel: int) -> None:
        self._call = call
        self._message = message
        self._free = max(1, parallel)
        self._under_way: dict[int, Deferred[Any]] = {}
        self._next = 0
        self._is_starting = False
        self._is_cancelled = False
        self.outcomes: list[Deferred[Any]] = [
            Deferred(partial(self._cancel, place)) for place in range(len(message.recipients))
        ]
        self._start()

    def _start(self) -> None:
        # A loop, not a recursion: a thousand recipients may be delivered to without ever waiting.
        if self._is_starting:
            return
        self._is_starting = True
        while self._free and self._next < len(self.outcomes) and not self._is_cancelled:
            place, self._next = self._next, self._next + 1
            self._free -= 1
            try:
                result = self._call(self._message, self._message.recipients[place])
                waiting = deferred_of(result)
            except FAILURES:
                result, waiting = Failure(), None
            if waiting is None:
                self._ended(result, place)
            else:
                self._under_way[place] = waiting
                waiting.addBoth(self._ended, place)
        self._is_starting = False

    def _ended(self, result: Any, place: int) -> None:
        self._under_way.pop(place, None)
        self._free += 1
        if not self.outcomes[place].called:
            self.outcomes[place].callback(result)
        self._start()

    def _cancel(self, place: int, _outcome: Deferred[Any]) -> None:
        # One is cancelled only where all are: the message is over, and nothing more may begin.
        self._is_cancelled = True
        if place in self._under_way:
            cancel(self._under_way[place])


@implementer(ILMTPDeliveryFactory)
class _DeliverToEach(RecipientDelivery):
    """``deliver=``: it has no state, so one serves all messages."""

    streams = None  # type: ignore[assignment]  # a function has none

    def __init__(self, function: RecipientCallable) -> None:
        self.deliverTo = function  # type: ignore[method-assign, assignment]  # one call less for each recipient

    def getDelivery(self, session: SessionInfo) -> ILMTPDelivery:
        return self


@implementer(ILMTPDelivery, ILMTPDeliveryFactory)
class _DeliverToAll:
    """``deliverMessage=``: likewise."""

    def __init__(self, function: MessageCallable) -> None:
        self._function = function

    def getDelivery(self, session: SessionInfo) -> ILMTPDelivery:
        return self

    def validateFrom(self, sender: Sender) -> Any:
        pass

    def validateTo(self, recipient: Recipient) -> Any:
        pass

    def aborted(self, reason: str) -> Any:
        pass

    def deliver(self, message: IReceivedMessage) -> Any:
        answer = self._function(message)
        waiting = deferred_of(answer)
        if waiting is None:
            return _for_each(answer, message)
        return waiting.addCallback(_for_each, message)


def _for_each(answer: Any, message: IReceivedMessage) -> Any:
    return answer if isinstance(answer, (list, tuple)) else [answer] * len(message.recipients)


def deliveries_of(
    backend: Any, deliver: RecipientCallable | None, deliver_message: MessageCallable | None, reactor: Any = None
) -> ILMTPDeliveryFactory:
    """
    The delivery factory that an application means.

    :param backend: an :class:`~lmtp_twisted.interfaces.ILMTPDeliveryFactory`, or what
        :func:`lmtp_twisted.twisted_mail.adapt` takes.
    :param deliver: a function for each recipient.
    :param deliver_message: a function for each message.
    :param reactor: where the adapter takes its turns; the global reactor by default.
    :raises TypeError: where not just one of them is given, or it is something else.
    """
    if [backend, deliver, deliver_message].count(None) != 2:
        raise TypeError("give just one of backend, deliver and deliverMessage")
    for function in (deliver, deliver_message):
        if function is not None and not callable(function):
            raise TypeError(f"not a function: {function!r}")
    if deliver is not None:
        return _DeliverToEach(deliver)
    if deliver_message is not None:
        return _DeliverToAll(deliver_message)
    if ILMTPDeliveryFactory.providedBy(backend) or callable(getattr(backend, "getDelivery", None)):
        chosen: ILMTPDeliveryFactory = backend
        return chosen
    # twisted.mail is a heavy import for those who do not use it.
    from lmtp_twisted.twisted_mail import adapt

    return adapt(backend, reactor=reactor)
