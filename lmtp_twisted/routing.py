"""
Recipient → backend: the first pattern that matches decides.

A pattern is matched against the whole address in lower case, with ``*`` for any characters, ``?`` for one and ``[…]``
for a set; one without ``@`` is a domain. A recipient without a domain, such as ``Postmaster``, is ``postmaster@`` here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import translate
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from lmtp_twisted.awaiting import FAILURES, abort, deferred_of, go_on
from lmtp_twisted.envelope import Recipient, Sender
from lmtp_twisted.interfaces import ILMTPDelivery, ILMTPDeliveryFactory, IReceivedMessage, IStreamingDelivery
from lmtp_twisted.session import SessionInfo
from lmtp_twisted.verdict import SENDER, one_for_each, verify, wants_to_stream


@implementer(ILMTPDeliveryFactory)
class Router:
    """
    Several backends as one. A backend's delivery is made when the first recipient of a message goes there; it then
    sees the sender, its own recipients and, for these, the message. A sender that a backend refuses is a refusal of
    that recipient.

    :param routes: pairs of a pattern and a backend, in the order in which they are tried.
    :param default: the backend of all other recipients.
    """

    def __init__(self, routes: Sequence[tuple[str, ILMTPDeliveryFactory]], default: ILMTPDeliveryFactory) -> None:
        self._routes = [(_compile(pattern), backend) for pattern, backend in routes]
        self._default = default

    def backend_for(self, recipient: Recipient) -> ILMTPDeliveryFactory:
        """The backend where a recipient's mail goes."""
        address = recipient.address
        name = f"{address.local}@{address.domain}".lower()
        for matches, backend in self._routes:
            if matches(name):
                return backend
        return self._default

    def getDelivery(self, session: SessionInfo) -> ILMTPDelivery:
        """A delivery that asks the backends as recipients come."""
        return _RoutedDelivery(self, session)


def _compile(pattern: str) -> Callable[[str], object]:
    if not pattern or any(character.isspace() for character in pattern):
        raise ValueError(f"not a pattern of recipients: {pattern!r}")
    return re.compile(translate((pattern if "@" in pattern else f"*@{pattern}").lower())).match


@implementer(IStreamingDelivery)
class _RoutedDelivery:
    """One message on its way to several backends."""

    def __init__(self, router: Router, session: SessionInfo) -> None:
        self._router = router
        self._session = session
        self._sender: Sender | None = None
        # By backend: its delivery, once its sender is accepted.
        self._deliveries: dict[int, Any] = {}

    def validateFrom(self, sender: Sender) -> None:
        self._sender = sender

    def validateTo(self, recipient: Recipient) -> Any:
        backend: Any = self._router.backend_for(recipient)
        delivery = self._deliveries.get(id(backend))
        if delivery is not None:
            return delivery.validateTo(recipient)
        return go_on(backend.getDelivery(self._session), partial(self._introduce, recipient, backend))

    def verifyAddress(self, recipient: Recipient) -> Any:
        backend: Any = self._router.backend_for(recipient)
        return go_on(backend.getDelivery(self._session), partial(self._verify, recipient))

    def _verify(self, recipient: Recipient, delivery: Any) -> Any:
        # It is aborted with the others.
        self._deliveries[id(delivery)] = delivery
        return verify(delivery, recipient)

    def _introduce(self, recipient: Recipient, backend: Any, delivery: Any) -> Any:
        def refused(failure: Failure) -> Failure:
            abort(delivery, "sender refused")
            return failure

        def answered(answer: object) -> Any:
            verdict = SENDER.verdict(answer)
            if not verdict.is_positive:
                abort(delivery, "sender refused")
                return verdict
            self._deliveries[id(backend)] = delivery
            return delivery.validateTo(recipient)

        try:
            answer = delivery.validateFrom(self._sender)
            waiting = deferred_of(answer)
        except FAILURES:
            abort(delivery, "sender refused")
            raise
        return answered(answer) if waiting is None else go_on(waiting.addErrback(refused), answered)

    def streams(self, recipients: Sequence[Recipient]) -> bool:
        """Only where all do: one content is either streamed or stored."""
        if all(getattr(delivery, "streams", None) is None for delivery in self._deliveries.values()):
            return False
        return all(
            wants_to_stream(delivery, [recipients[index] for index in indices])
            for delivery, indices in self._parts(recipients).values()
        )

    def _parts(self, recipients: Sequence[Recipient]) -> dict[int, tuple[Any, list[int]]]:
        """The deliveries, each with the places of its recipients."""
        parts: dict[int, tuple[Any, list[int]]] = {}
        for index, recipient in enumerate(recipients):
            delivery = self._deliveries[id(self._router.backend_for(recipient))]
            parts.setdefault(id(delivery), (delivery, []))[1].append(index)
        return parts

    def deliver(self, message: IReceivedMessage) -> Any:
        recipients = message.recipients
        parts = self._parts(recipients)
        for delivery in self._deliveries.values():
            if id(delivery) not in parts:
                abort(delivery, "none of its recipients was accepted")
        if len(parts) == 1:
            ((delivery, _),) = parts.values()
            return delivery.deliver(message)
        outcomes: list[Any] = [None] * len(recipients)
        # All of them before the first is delivered: what is streamed cannot be divided later.
        divided = [
            (delivery, indices, message.forRecipients([recipients[index] for index in indices]))
            for delivery, indices in parts.values()
        ]
        for delivery, indices, part in divided:
            for index, outcome in zip(indices, _deliver_part(delivery, part), strict=True):
                outcomes[index] = outcome
        return outcomes

    def aborted(self, reason: str) -> None:
        for delivery in self._deliveries.values():
            abort(delivery, reason)


def _deliver_part(delivery: Any, part: IReceivedMessage) -> Sequence[Any]:
    """One outcome, or awaitable of one, for each recipient of a part: a backend that fails as a whole fails alone."""
    count = len(part.recipients)
    try:
        result = delivery.deliver(part)
        waiting = deferred_of(result)
    except FAILURES:
        return one_for_each(Failure(), count)
    if waiting is None:
        return one_for_each(result, count)
    return _split(waiting, count)


def _split(waiting: Deferred[Any], count: int) -> list[Deferred[Any]]:
    """
    :param waiting: a Deferred of a list.
    :returns: a Deferred for each of its elements. Cancelling one cancels all that is not there yet.
    """
    parts: list[Deferred[Any]] = [Deferred(lambda _: waiting.cancel()) for _ in range(count)]
    for part in parts:
        part.addCallback(_unwrap)

    def came(result: Any) -> None:
        for part, outcome in zip(parts, one_for_each(result, count), strict=True):
            if not part.called:
                part.callback((outcome,))

    waiting.addBoth(came)
    return parts


def _unwrap(box: tuple[Any]) -> Any:
    # In a box, since a Deferred cannot be the result of another, and an element may well be one.
    further = deferred_of(box[0])
    return box[0] if further is None else further
