"""
A backend behind a resolver: what the client calls a recipient may be others, and several of its recipients the same.

The backend gets each recipient once, and each RCPT of the client has its own reply: the worst of the outcomes of those
whom it stands for.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from zope.interface import implementer

from lmtp_twisted.awaiting import abort, go_on
from lmtp_twisted.combining import ask_about, shared, verify_by, worst, worst_of
from lmtp_twisted.envelope import Recipient, Sender
from lmtp_twisted.errors import TemporaryFailure
from lmtp_twisted.interfaces import ILMTPDeliveryFactory, IReceivedMessage, IVerifyingDelivery
from lmtp_twisted.recipients import Resolver
from lmtp_twisted.routing import deliver_part
from lmtp_twisted.session import SessionInfo
from lmtp_twisted.verdict import verify
from lmtp_twisted.wire.replies import Reply

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


@implementer(IVerifyingDelivery)
class _ResolvedDelivery:
    def __init__(self, factory: Resolving, session: SessionInfo, delivery: Any) -> None:
        self._factory = factory
        self._session = session
        self._delivery = delivery
        # By recipient of the client: those of the backend; and how many these are.
        self._found: dict[object, tuple[Recipient, ...]] = {}
        self._count = 0

    def validateFrom(self, sender: Sender) -> Any:
        return self._delivery.validateFrom(sender)

    def validateTo(self, recipient: Recipient) -> Any:
        return go_on(self._factory.resolver.resolve(recipient), partial(self._ask, recipient))

    def _ask(self, recipient: Recipient, found: tuple[Recipient, ...]) -> Any:
        key = recipient.address.key
        if key not in self._found:
            if self._count + len(found) > MOST_RECIPIENTS:
                raise TemporaryFailure("Too many recipients", code=452, enhanced="4.5.3")
            self._count += len(found)
            self._found[key] = found
        return self._delivery.validateTo(found[0]) if len(found) == 1 else self._ask_about_all(found)

    async def _ask_about_all(self, found: tuple[Recipient, ...]) -> Reply:
        return worst([await ask_about(self._delivery, recipient) for recipient in found])

    def verifyAddress(self, recipient: Recipient) -> Any:
        return go_on(self._factory.resolver.resolve(recipient), self._verify)

    def _verify(self, found: tuple[Recipient, ...]) -> Any:
        return verify(self._delivery, found[0]) if len(found) == 1 else self._verify_all(found)

    async def _verify_all(self, found: tuple[Recipient, ...]) -> Reply:
        return worst([await verify_by(self._factory.backend, self._session, recipient) for recipient in found])

    def deliver(self, message: IReceivedMessage) -> Any:
        given = message.recipients
        found = [self._found[recipient.address.key] for recipient in given]
        if all(len(those) == 1 and those[0] is recipient for those, recipient in zip(found, given, strict=True)):
            return self._delivery.deliver(message)
        # Each once, and by how many it is meant.
        places: dict[object, int] = {}
        recipients: list[Recipient] = []
        meant: list[int] = []
        for those in found:
            for recipient in those:
                place = places.setdefault(recipient.address.key, len(recipients))
                if place == len(recipients):
                    recipients.append(recipient)
                    meant.append(0)
                meant[place] += 1
        part = message.forRecipients(recipients)
        if len(recipients) == len(given) and set(meant) == {1} and all(len(those) == 1 for those in found):
            return self._delivery.deliver(part)
        outcomes = [
            shared(outcome, count) for outcome, count in zip(deliver_part(self._delivery, part), meant, strict=True)
        ]
        return [worst_of([outcomes[places[recipient.address.key]].pop() for recipient in those]) for those in found]

    def aborted(self, reason: str) -> None:
        abort(self._delivery, reason)
