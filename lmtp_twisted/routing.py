"""Recipient → backend: the one that the directory names, or else the first pattern that matches decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from lmtp_twisted.awaiting import FAILURES, abort, deferred_of, go_on
from lmtp_twisted.envelope import Recipient, Sender
from lmtp_twisted.errors import TemporaryFailure
from lmtp_twisted.interfaces import (
    IContainingDelivery,
    ILMTPDelivery,
    ILMTPDeliveryFactory,
    IReceivedMessage,
    IStreamingDelivery,
)
from lmtp_twisted.patterns import compile_pattern, text_of
from lmtp_twisted.session import SessionInfo
from lmtp_twisted.verdict import SENDER, backend_for, one_for_each, verify, wants_to_stream

_log = Logger(namespace="lmtp_twisted")


@implementer(ILMTPDeliveryFactory)
class Router:
    """
    Several backends as one. A backend's delivery is made when the first recipient of a message goes there; it then
    sees the sender, its own recipients and, for these, the message. A sender that a backend refuses is a refusal of
    that recipient.

    :param routes: pairs of a pattern and a backend, in the order in which they are tried, see
        :mod:`~lmtp_twisted.patterns`.
    :param default: the backend of all other recipients.
    :param named: backends by the names that the directory has for them. They come before all routes.
    """

    def __init__(
        self,
        routes: Sequence[tuple[str, ILMTPDeliveryFactory]],
        default: ILMTPDeliveryFactory,
        named: Mapping[str, ILMTPDeliveryFactory] | None = None,
    ) -> None:
        self._routes = [(compile_pattern(pattern), backend) for pattern, backend in routes]
        self._default = default
        self._named = named or {}

    def backend_for(self, recipient: Recipient) -> ILMTPDeliveryFactory:
        """
        The backend where a recipient's mail goes.

        :raises lmtp_twisted.errors.TemporaryFailure: ``451 4.3.5`` where the directory names one that there is not.
        """
        backend = self.find(recipient)
        if backend is None:
            name = None if recipient.entry is None else recipient.entry.backend
            _log.error("{recipient}: no backend is called {name!r}", recipient=recipient.printable, name=name)
            raise TemporaryFailure("Recipient cannot be served, try again later", enhanced="4.3.5")
        return backend

    def find(self, recipient: Recipient) -> ILMTPDeliveryFactory | None:
        """As ``backend_for``; ``None`` where there is no such backend."""
        if recipient.entry is not None and recipient.entry.backend is not None:
            return self._named.get(recipient.entry.backend)
        name = text_of(recipient.address)
        for matches, backend in self._routes:
            if matches(name):
                return backend
        return self._default

    def getDelivery(self, session: SessionInfo) -> ILMTPDelivery:
        """A delivery that asks the backends as recipients come."""
        return _RoutedDelivery(self, session)


@implementer(IContainingDelivery, IStreamingDelivery)
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

    def backendFor(self, recipient: Recipient) -> Any:
        backend: Any = self._router.find(recipient)
        delivery = self._deliveries.get(id(backend))
        return backend if delivery is None else backend_for(delivery, recipient, backend)

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
            for index, outcome in zip(indices, deliver_part(delivery, part), strict=True):
                outcomes[index] = outcome
        return outcomes

    def aborted(self, reason: str) -> None:
        for delivery in self._deliveries.values():
            abort(delivery, reason)


def deliver_part(delivery: Any, part: IReceivedMessage) -> Sequence[Any]:
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
