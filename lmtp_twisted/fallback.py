"""
Backends one after the other: where one cannot serve a recipient now, the next is asked.

Only what says that the backend itself is in trouble leads to the next: a temporary failure whose enhanced status code
is 4.0, 4.3 (the mail system) or 4.4 (the network). A permanent refusal is an answer. So are a full mailbox (4.2.2) and
a refusal for the sake of a policy (4.7): the next backend is no way round them. A recipient whose message was taken is
done with.

Where no backend takes it, the outcome is the worst of all answers. So it is temporary where the first backend had no
answer: what the second does not know may exist at the first.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from lmtp_twisted.awaiting import abort, cancel
from lmtp_twisted.combining import ask_about, introduce, reply_of, verify_by, worst
from lmtp_twisted.envelope import Recipient, Sender
from lmtp_twisted.interfaces import ILMTPDelivery, ILMTPDeliveryFactory, IReceivedMessage, IVerifyingDelivery
from lmtp_twisted.routing import deliver_part
from lmtp_twisted.session import SessionInfo
from lmtp_twisted.wire.replies import INTERNAL_ERROR, Reply

_log = Logger(namespace="lmtp_twisted")


def leads_on(reply: Reply) -> bool:
    """Whether an answer says that the backend is in trouble, and the next is to be asked."""
    return (reply.enhanced or "").startswith(("4.0.", "4.3.", "4.4."))


@implementer(ILMTPDeliveryFactory)
class FirstOf:
    """
    Several backends as one that has the first of them deliver, and each further one what those before it could not.

    :param backends: at least one.
    :raises ValueError: where there is none.
    """

    def __init__(self, backends: Sequence[ILMTPDeliveryFactory]) -> None:
        if not backends:
            raise ValueError("a chain needs backends")
        self._backends = tuple(backends)

    def getDelivery(self, session: SessionInfo) -> ILMTPDelivery:
        """A delivery that asks one after the other."""
        return _DeliveryByFirst(self._backends, session)


@implementer(IVerifyingDelivery)
class _DeliveryByFirst:
    def __init__(self, backends: Sequence[ILMTPDeliveryFactory], session: SessionInfo) -> None:
        self._backends = backends
        self._session = session
        self._sender = Sender(None)
        # As far as they were asked: the delivery and its answer about the sender, or ``None`` and a refusal.
        self._introduced: list[tuple[Any, Reply]] = []
        # By recipient: the place of the backend that accepted it.
        self._chosen: dict[object, int] = {}

    async def _at(self, place: int) -> tuple[Any, Reply]:
        if place == len(self._introduced):
            self._introduced.append(await introduce(self._backends[place], self._session, self._sender))
        return self._introduced[place]

    async def validateFrom(self, sender: Sender) -> Reply:
        self._sender = sender
        refusals: list[Reply] = []
        for place in range(len(self._backends)):
            delivery, reply = await self._at(place)
            if delivery is not None:
                return reply
            refusals.append(reply)
            if not leads_on(reply):
                break
        return worst(refusals)

    async def validateTo(self, recipient: Recipient) -> Reply:
        refusals: list[Reply] = []
        for place in range(self._chosen.get(recipient.address.key, 0), len(self._backends)):
            delivery, reply = await self._at(place)
            if delivery is not None:
                reply = await ask_about(delivery, recipient)
                if reply.is_positive:
                    self._chosen[recipient.address.key] = place
                    return reply
            refusals.append(reply)
            if not leads_on(reply):
                break
        return worst(refusals)

    async def verifyAddress(self, recipient: Recipient) -> Reply:
        replies: list[Reply] = []
        for backend in self._backends:
            reply = await verify_by(backend, self._session, recipient)
            if reply.is_positive:
                return reply
            replies.append(reply)
            if not leads_on(reply):
                break
        return worst(replies)

    def deliver(self, message: IReceivedMessage) -> list[Any]:
        fall = _Fall(self._backends, self._session, message)
        by_backend: list[list[int]] = [[] for _ in self._introduced]
        for index, recipient in enumerate(message.recipients):
            by_backend[self._chosen[recipient.address.key]].append(index)
        for place, (delivery, _) in enumerate(self._introduced):
            if by_backend[place]:
                fall.start(fall.deliver(place, delivery, by_backend[place]))
            elif delivery is not None:
                abort(delivery, "none of its recipients is left")
        return list(fall.outcomes)

    def aborted(self, reason: str) -> None:
        for delivery, _ in self._introduced:
            if delivery is not None:
                abort(delivery, reason)


class _Fall:
    """
    A message on its way from backend to backend. What one could not take goes to the next in one piece, as soon as it
    has said so of all.

    :ivar outcomes: for each recipient. Cancelling one cancels all that is under way, and nothing more begins.
    """

    def __init__(
        self, backends: Sequence[ILMTPDeliveryFactory], session: SessionInfo, message: IReceivedMessage
    ) -> None:
        self._backends = backends
        self._session = session
        self._message = message
        self._under_way: set[Deferred[Any]] = set()
        self._is_cancelled = False
        count = len(message.recipients)
        self._replies: list[list[Reply]] = [[] for _ in range(count)]
        self.outcomes: list[Deferred[Reply]] = [Deferred(self._cancel) for _ in range(count)]

    def _cancel(self, _outcome: Deferred[Reply]) -> None:
        self._is_cancelled = True
        for waiting in list(self._under_way):
            cancel(waiting)

    def start(self, step: Coroutine[Any, Any, None]) -> None:
        """Take a step, and see to it that it comes to an end."""
        self._watch(Deferred.fromCoroutine(step)).addErrback(self._failed)

    def _watch(self, waiting: Deferred[Any]) -> Deferred[Any]:
        def over(result: Any) -> Any:
            self._under_way.discard(waiting)
            return result

        self._under_way.add(waiting)
        return waiting.addBoth(over)

    def _failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            _log.failure("a chain of backends failed", failure)
        for outcome in self.outcomes:
            if not outcome.called:
                outcome.callback(INTERNAL_ERROR)

    async def deliver(self, place: int, delivery: Any, indices: list[int]) -> None:
        """
        Have a delivery take the message for some of its recipients.

        :param place: of its backend.
        :param delivery: has accepted them.
        :param indices: of these among all.
        """
        recipients = self._message.recipients
        part = self._message
        if len(indices) < len(recipients):
            part = part.forRecipients([recipients[index] for index in indices])
        waiting: list[Deferred[Any]] = []
        for index, outcome in zip(indices, deliver_part(delivery, part), strict=True):
            reply = reply_of(outcome)
            if isinstance(reply, Reply):
                self._answered(reply, index, place)
            else:
                waiting.append(self._watch(reply.addCallback(self._answered, index, place)))
        for answered in waiting:
            await answered
        self._go_on(place + 1, indices)

    def _answered(self, reply: Reply, index: int, place: int) -> None:
        self._replies[index].append(reply)
        is_last = place + 1 == len(self._backends)
        if (is_last or not leads_on(reply)) and not self.outcomes[index].called:
            self.outcomes[index].callback(reply if reply.is_positive else worst(self._replies[index]))

    def _go_on(self, place: int, indices: Sequence[int]) -> None:
        left = [index for index in indices if not self.outcomes[index].called]
        if left and not self._is_cancelled:
            self.start(self._offer(place, left))
            return
        for index in left:
            self.outcomes[index].callback(worst(self._replies[index]))

    async def _offer(self, place: int, indices: list[int]) -> None:
        """Ask a backend that was not asked about these, or has accepted others meanwhile."""
        delivery, reply = await introduce(self._backends[place], self._session, self._message.envelope.sender)
        accepted: list[int] = []
        try:
            for index in indices:
                if delivery is not None:
                    reply = await ask_about(delivery, self._message.recipients[index])
                    if reply.is_positive:
                        accepted.append(index)
                        continue
                self._answered(reply, index, place)
        except BaseException:
            # There is one, or nothing would have been waited for.
            abort(delivery, "its answer about a recipient is not waited for")
            raise
        refused = [index for index in indices if index not in accepted]
        if accepted:
            self.start(self.deliver(place, delivery, accepted))
        elif delivery is not None:
            abort(delivery, "none of its recipients was accepted")
        self._go_on(place + 1, refused)
