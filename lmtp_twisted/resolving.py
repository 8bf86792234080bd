"""
A backend behind a resolver: what the client calls a recipient may be others, and several of its recipients the same.

The backend gets each recipient once, and each RCPT of the client has its own reply: the worst of the outcomes of those
whom it stands for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

from zope.interface import implementer

from lmtp_twisted.awaiting import abort, go_on
from lmtp_twisted.combining import ask_about, shared, verify_by, worst, worst_of
from lmtp_twisted.envelope import Recipient, Sender
from lmtp_twisted.errors import TemporaryFailure
from lmtp_twisted.interfaces import (
    IContainingDelivery,
    ILMTPDeliveryFactory,
    IReceivedMessage,
    IStreamingDelivery,
    IVerifyingDelivery,
)
from lmtp_twisted.recipients import Resolver
from lmtp_twisted.routing import deliver_part
from lmtp_twisted.session import SessionInfo
from lmtp_twisted.verdict import RECIPIENT, VERIFY, backend_for, verify, wants_to_stream
from lmtp_twisted.wire.replies import CANNOT_VERIFY, RECIPIENT_OK, Reply

#: Recipients that the backend may get for one message.
MOST_RECIPIENTS = 10_000


@implementer(ILMTPDeliveryFactory)
class Resolving:
    """
    :param resolver: says for whom mail is.
    :param backend: gets it: an :class:`~lmtp_twisted.interfaces.ILMTPDeliveryFactory`.
    """

    def __init__(self, resolver: Resolver, backend: Any) -> None:
        self.resolver = resolver
        self.backend = backend

    def getDelivery(self, session: SessionInfo) -> Any:
        """A delivery of the backend, behind one that asks the resolver."""
        return go_on(self.backend.getDelivery(session), partial(_ResolvedDelivery, self, session))


@implementer(IContainingDelivery, IVerifyingDelivery, IStreamingDelivery)
class _ResolvedDelivery:
    def __init__(self, factory: Resolving, session: SessionInfo, delivery: Any) -> None:
        self._factory = factory
        self._session = session
        self._delivery = delivery
        # By recipient of the client: those of the backend; and how many these are.
        self._found: dict[object, tuple[Recipient, ...]] = {}
        self._count = 0
        if getattr(delivery, "streams", None) is None:
            self.streams = None  # type: ignore[method-assign, assignment]  # most have none, and need not be asked

    def validateFrom(self, sender: Sender) -> Any:
        return self._delivery.validateFrom(sender)

    def validateTo(self, recipient: Recipient) -> Any:
        return go_on(self._factory.resolver.resolve(recipient), partial(self._ask, recipient))

    def _ask(self, recipient: Recipient, found: tuple[Recipient, ...]) -> Any:
        before = len(self._found.get(recipient.address.key, ()))
        if self._count - before + len(found) > MOST_RECIPIENTS:
            raise TemporaryFailure("Too many recipients", code=452, enhanced="4.5.3")
        answer = self._delivery.validateTo(found[0]) if len(found) == 1 else self._ask_about_all(found)
        return go_on(answer, partial(self._answered, recipient, found))

    def _answered(self, recipient: Recipient, found: tuple[Recipient, ...], answer: object) -> Reply:
        reply = RECIPIENT.verdict(answer)
        if reply.is_positive:
            # Where a recipient is given again and others are found, they are those that the backend has said yes to.
            key = recipient.address.key
            self._count += len(found) - len(self._found.get(key, ()))
            self._found[key] = found
        return reply

    async def _ask_about_all(self, found: tuple[Recipient, ...]) -> Reply:
        return worst([await ask_about(self._delivery, recipient) for recipient in found])

    def verifyAddress(self, recipient: Recipient) -> Any:
        return go_on(self._factory.resolver.resolve(recipient), self._verify)

    def _verify(self, found: tuple[Recipient, ...]) -> Any:
        if len(found) > 1:
            return self._verify_all(found)
        return go_on(verify(self._delivery, found[0]), partial(_as_known, found[0]))

    async def _verify_all(self, found: tuple[Recipient, ...]) -> Reply:
        backend, session = self._factory.backend, self._session
        return worst([_as_known(recipient, await verify_by(backend, session, recipient)) for recipient in found])

    def backendFor(self, recipient: Recipient) -> Any:
        # Of the first for whom it stands; where it was refused, of itself.
        found, *_ = self._found.get(recipient.address.key, (recipient,))
        return backend_for(self._delivery, found, self._factory.backend)

    def streams(self, recipients: Sequence[Recipient]) -> bool:
        return wants_to_stream(self._delivery, self._meant_by(recipients)[0])

    def _meant_by(self, recipients: Sequence[Recipient]) -> tuple[list[Recipient], list[list[int]]]:
        """The recipients of the backend, each once; and for each of the client's the places of its own among them."""
        places: dict[object, int] = {}
        meant: list[Recipient] = []
        places_of: list[list[int]] = []
        for recipient in recipients:
            places_of.append([])
            for found in self._found[recipient.address.key]:
                place = places.setdefault(found.address.key, len(meant))
                if place == len(meant):
                    meant.append(found)
                places_of[-1].append(place)
        return meant, places_of

    def deliver(self, message: IReceivedMessage) -> Any:
        recipients = message.recipients
        meant, places_of = self._meant_by(recipients)
        if len(meant) != len(recipients) or any(meant[index] is not found for index, found in enumerate(recipients)):
            message = message.forRecipients(meant)
        if all(places == [index] for index, places in enumerate(places_of)):
            return self._delivery.deliver(message)
        # Each outcome as often as it is wanted.
        counts = Counter(place for places in places_of for place in places)
        outcomes = [
            shared(outcome, counts[place]) for place, outcome in enumerate(deliver_part(self._delivery, message))
        ]
        return [worst_of([outcomes[place].pop() for place in places]) for places in places_of]

    def aborted(self, reason: str) -> None:
        abort(self._delivery, reason)


def _as_known(recipient: Recipient, answer: Any) -> Reply:
    """What a backend says to VRFY; where it cannot tell, the directory has."""
    reply = VERIFY.verdict(answer)
    return RECIPIENT_OK if reply == CANNOT_VERIFY and recipient.entry is not None else reply
