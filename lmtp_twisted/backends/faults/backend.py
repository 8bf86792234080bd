"""A backend that stands before another, and answers in its place where something shall go wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from zope.interface import implementer

from lmtp_twisted.awaiting import abort, cancel, deferred_of, go_on
from lmtp_twisted.backends.faults.kinds import Delay, Drop, Hang, Kind, Refuse, Stagger
from lmtp_twisted.backends.faults.selection import Place, Selection, Unit
from lmtp_twisted.combining import reply_of
from lmtp_twisted.disconnect import Disconnect
from lmtp_twisted.envelope import Recipient, Sender
from lmtp_twisted.interfaces import ILMTPDelivery, ILMTPDeliveryFactory, IReceivedMessage, IVerifyingDelivery
from lmtp_twisted.routing import deliver_part
from lmtp_twisted.session import SessionInfo
from lmtp_twisted.verdict import verify
from lmtp_twisted.wire.replies import DELIVERED, RECIPIENT_OK, SENDER_OK, Reply

_ACCEPTED = {Place.MAIL: SENDER_OK, Place.RCPT: RECIPIENT_OK, Place.DOT: DELIVERED}


@implementer(ILMTPDeliveryFactory)
class Faults:
    """
    A backend with a fault. For several, put one before the other.

    :param backend: gets what is not at fault: an :class:`~lmtp_twisted.interfaces.ILMTPDeliveryFactory`.
    :param kind: what goes wrong.
    :param at: which answer.
    :param to: a pattern of recipients that may be at fault; ``None`` for all.
    :param every: of these, every n-th.
    :param times: so often at the most; 0 for no bound.
    :param unit: what is counted after the dot.
    :param reactor: the clock; the global reactor by default.
    :raises ValueError: where these do not go together.
    """

    def __init__(
        self,
        backend: Any,
        kind: Kind,
        *,
        at: Place = Place.DOT,
        to: str | None = None,
        every: int = 1,
        times: int = 0,
        unit: Unit = Unit.RECIPIENTS,
        reactor: Any = None,
    ) -> None:
        if at is not Place.DOT and (isinstance(kind, Stagger) or getattr(kind, "delivered", False)):
            raise ValueError("what has to do with the message can go wrong at the dot only")
        if at is Place.MAIL and to is not None:
            raise ValueError("at MAIL no recipient is known yet")
        if isinstance(kind, Drop) and kind.replies is not None:
            if at is not Place.DOT:
                raise ValueError("there are final replies after the dot only")
            unit = Unit.MESSAGES
        if reactor is None:
            from twisted.internet import reactor
        self._reactor = reactor
        self._backend = backend
        self._kind = kind
        self._at = at
        self._selection = Selection(to, every, times, unit)

    def getDelivery(self, session: SessionInfo) -> Any:
        """A delivery of the backend's, with the fault before it."""
        return go_on(self._backend.getDelivery(session), lambda delivery: _Delivery(self, delivery))

    def ask(self, place: Place, ask: Callable[[], Any], recipient: Recipient | None = None) -> Any:
        """
        :param place: MAIL or RCPT.
        :param ask: has the backend answer.
        :returns: its answer, or the wrong one.
        """
        selection = self._selection
        if self._at is not place or (recipient is not None and not selection.matches(recipient)):
            return ask()
        if not selection.next():
            return ask()
        if isinstance(self._kind, Delay):
            return self._ask_late(self._kind.next(), ask)
        return self._wrong()

    async def _ask_late(self, seconds: float, ask: Callable[[], Any]) -> Any:
        await deferLater(self._reactor, seconds)
        answer = ask()
        waiting = deferred_of(answer)
        return answer if waiting is None else await waiting

    def _wrong(self) -> Any:
        """The answer that is none, or a bad one."""
        kind = self._kind
        if isinstance(kind, Refuse):
            return kind.reply
        if isinstance(kind, Drop):
            # What is sent of a reply shall look like good news.
            reply = _ACCEPTED[self._at] if kind.octets else Disconnect()
            return _cut(reply, kind.octets, kind.reset)
        return Deferred()

    def deliver(self, delivery: Any, message: IReceivedMessage) -> Any:
        """
        :param delivery: of the backend.
        :returns: its outcomes, with those that go wrong.
        """
        kind = self._kind
        chosen = self._selection.of(message.recipients) if self._at is Place.DOT else []
        if not chosen:
            return delivery.deliver(message)
        if isinstance(kind, Drop):
            return self._drop(kind, chosen[0], delivery, message)
        if isinstance(kind, (Refuse, Hang)):
            outcomes = _deliver(delivery, message, () if kind.delivered else chosen)
            for place in chosen:
                outcomes[place] = _after([outcomes[place]], self._wrong()) if kind.delivered else self._wrong()
            return outcomes
        waits = kind.waits(len(chosen)) if isinstance(kind, Stagger) else [kind.next() for _ in chosen]
        outcomes = _deliver(delivery, message)
        for place, seconds in zip(chosen, waits, strict=True):
            outcomes[place] = self._late(outcomes[place], seconds)
        return outcomes

    def _drop(self, kind: Drop, first: int, delivery: Any, message: IReceivedMessage) -> Any:
        count = len(message.recipients)
        place = first if kind.replies is None else kind.replies
        if place > count:
            return delivery.deliver(message)
        outcomes = _deliver(delivery, message, () if kind.delivered else range(place, count))
        if place == count:
            outcomes[-1] = _then_cut(outcomes[-1], kind.reset)
            return outcomes
        unsent = outcomes[place:] if kind.delivered else []
        return [*outcomes[:place], _after(unsent, self._wrong()), *[Disconnect()] * (count - place - 1)]

    async def _late(self, outcome: Any, seconds: float) -> Reply:
        reply = reply_of(outcome)
        try:
            await deferLater(self._reactor, seconds)
            held_back: Reply = await reply if isinstance(reply, Deferred) else reply
            return held_back
        except BaseException:
            _forget([reply])
            raise


@implementer(IVerifyingDelivery)
class _Delivery:
    def __init__(self, faults: Faults, delivery: ILMTPDelivery) -> None:
        self._faults = faults
        self._delivery: Any = delivery

    def validateFrom(self, sender: Sender) -> Any:
        return self._faults.ask(Place.MAIL, lambda: self._delivery.validateFrom(sender))

    def validateTo(self, recipient: Recipient) -> Any:
        return self._faults.ask(Place.RCPT, lambda: self._delivery.validateTo(recipient), recipient)

    def verifyAddress(self, recipient: Recipient) -> Any:
        return verify(self._delivery, recipient)

    def deliver(self, message: IReceivedMessage) -> Any:
        return self._faults.deliver(self._delivery, message)

    def aborted(self, reason: str) -> None:
        abort(self._delivery, reason)


def _deliver(delivery: Any, message: IReceivedMessage, without: Iterable[int] = ()) -> list[Any]:
    """The outcomes, with ``None`` in the places of those that the delivery shall not hear of."""
    recipients = message.recipients
    left = [place for place in range(len(recipients)) if place not in set(without)]
    outcomes: list[Any] = [None] * len(recipients)
    if not left:
        abort(delivery, "all its recipients are at fault")
        return outcomes
    part = message if len(left) == len(recipients) else message.forRecipients([recipients[place] for place in left])
    for place, outcome in zip(left, deliver_part(delivery, part), strict=True):
        outcomes[place] = outcome
    return outcomes


async def _after(outcomes: Sequence[Any], answer: Any) -> Any:
    """An answer that is given when these outcomes are there, whatever they are."""
    replies = [reply_of(outcome) for outcome in outcomes]
    try:
        for reply in replies:
            if isinstance(reply, Deferred):
                await reply
        return await answer if isinstance(answer, Deferred) else answer
    except BaseException:
        _forget(replies)
        raise


async def _then_cut(outcome: Any, reset: bool) -> Reply:
    reply = reply_of(outcome)
    return _cut(await reply if isinstance(reply, Deferred) else reply, None, reset)


def _cut(reply: Reply, octets: int | None, reset: bool) -> Disconnect:
    return Disconnect(reply.code, reply.enhanced, reply.text, octets, reset)


def _forget(replies: Sequence[Any]) -> None:
    for reply in replies:
        if isinstance(reply, Deferred):
            cancel(reply)
