"""The relay: one transaction for each server that recipients belong to, all at once; and each recipient's own reply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.python.failure import Failure
from zope.interface import implementer

from lmtp_twisted.backends.relay.content import RelayedContent
from lmtp_twisted.backends.relay.loops import LoopGuard
from lmtp_twisted.backends.relay.shards import Shards
from lmtp_twisted.client import ClientSettings, LMTPClient
from lmtp_twisted.envelope import Recipient, Sender
from lmtp_twisted.errors import TemporaryFailure
from lmtp_twisted.interfaces import ILMTPDelivery, IMeasuredBackend, IReceivedMessage, IStreamingDelivery
from lmtp_twisted.session import Link, SessionInfo
from lmtp_twisted.wire.replies import Reply

#: Recipients that every server takes in one transaction (RFC 5321 §4.5.3.1.8), where it has not said how many it does.
_MAX_RECIPIENTS = 100


@implementer(IMeasuredBackend)
class RelayBackend:
    """
    Hands mail to other LMTP servers::

        LMTPFactory(RelayBackend(["tcp:store1.example:24", "tcp:store2.example:24"], hostname="mx.example.org"))

    At RCPT no server is asked: that would hold a connection for a client that may never send a message, and what the
    server says after the dot is what counts.

    :param endpoints: of the servers, as :class:`~lmtp_twisted.client.LMTPClient` takes them. With more than one, each
        recipient belongs to one of them.
    :param hostname: our name, as ``Received:`` has it.
    :param settings: of the clients.
    :param separator: characters of which the first begins a detail of a local part, which plays no part in that.
    :param folds_case: whether the case of local parts plays none.
    :param streams: whether a message for one server is sent while it comes.
    :param forwards: whether the servers are told by XFORWARD who the client is, where they take that.
    :param reactor: by default Twisted's.
    :raises ValueError: where an endpoint is none, or given twice, or ``uhashring`` is missing.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        hostname: str,
        settings: ClientSettings | None = None,
        separator: str = "+",
        folds_case: bool = True,
        streams: bool = True,
        forwards: bool = True,
        reactor: Any = None,
    ) -> None:
        if not endpoints:
            raise ValueError("a relay needs a server")
        self.shards = Shards(endpoints, separator, folds_case)
        chosen = settings or ClientSettings(hostname=hostname)
        self.clients = [LMTPClient(endpoint, chosen, reactor) for endpoint in endpoints]
        self.guard = LoopGuard(hostname)
        self.is_streaming = streams
        self.forwards = forwards

    def figures(self) -> dict[str, int]:
        """See :class:`~lmtp_twisted.interfaces.IMeasuredBackend`."""
        pools = [client.pool for client in self.clients]
        return {
            "waiting": sum(pool.waiting for pool in pools),
            "working": sum(pool.busy for pool in pools),
            "connections": sum(pool.connections for pool in pools),
        }

    def getDelivery(self, session: SessionInfo) -> ILMTPDelivery:
        """A delivery; it refuses MAIL where no server would take the message."""
        if all(client.is_full for client in self.clients):
            raise TemporaryFailure("Too many messages wait for the servers", enhanced="4.3.2")
        return _RelayDelivery(self, session)

    def close(self) -> Deferred[Any]:
        """:returns: fires when all connections have ended."""
        return gatherResults([client.close() for client in self.clients])


@implementer(IStreamingDelivery)
class _RelayDelivery:
    """One message."""

    def __init__(self, backend: RelayBackend, session: SessionInfo) -> None:
        self._backend = backend
        self._session = session

    def validateFrom(self, sender: Sender) -> None:
        pass

    def validateTo(self, recipient: Recipient) -> None:
        pass

    def aborted(self, reason: str) -> None:
        pass

    def streams(self, recipients: Sequence[Recipient]) -> bool:
        """
        Where one transaction will do. Several that read one content wait for each other, and two messages that wait for
        connections to two servers in turn could wait for ever; besides, a server that hangs would hold back the others.
        """
        places = self._places(recipients)
        if not self._backend.is_streaming or len(places) != 1:
            return False
        (place,) = places
        return len(recipients) <= (self._backend.clients[place].max_recipients or _MAX_RECIPIENTS)

    def _places(self, recipients: Sequence[Recipient]) -> dict[int, list[int]]:
        """By server: the recipients that belong to it."""
        places: dict[int, list[int]] = {}
        for index, recipient in enumerate(recipients):
            places.setdefault(self._backend.shards.place_of(recipient.address), []).append(index)
        return places

    def deliver(self, message: IReceivedMessage) -> list[Deferred[Reply]]:
        backend: Any = self._backend
        recipients: Sequence[Recipient] = message.recipients
        forwarded = attributes_of(self._session, message.id) if backend.forwards else {}
        outcomes: list[Any] = [None] * len(recipients)
        places = self._places(recipients)
        for place, indices in places.items():
            part: Any = message
            if len(places) > 1:
                part = message.forRecipients([recipients[index] for index in indices])
            content = RelayedContent(part, backend.guard).outgoing()
            backend.guard.begin(message.id)
            replies = backend.clients[place].deliver_each(part.envelope, content, forwarded)
            self._end_with(replies, message.id)
            for index, reply in zip(indices, replies, strict=True):
                outcomes[index] = reply
        return outcomes

    def _end_with(self, replies: list[Deferred[Reply]], message_id: str) -> None:
        missing = len(replies)

        def come(result: Reply | Failure) -> Reply | Failure:
            nonlocal missing
            missing -= 1
            if not missing:
                self._backend.guard.end(message_id)
            return result

        for reply in replies:
            reply.addBoth(come)


def attributes_of(session: SessionInfo, message_id: str) -> Mapping[str, str | None]:
    """
    What XFORWARD says of a client: what it said of its own client in its turn, or what we know of it.

    :param session: of the client.
    :param message_id: the id by which our log knows the message.
    """
    if session.xforward:
        return {"IDENT": message_id, **session.xforward}
    host = getattr(session.peer, "host", None)
    port = getattr(session.peer, "port", None)
    address = None if host is None else f"IPV6:{host}" if ":" in host else str(host)
    return {
        "NAME": session.xclient.get("NAME"),
        "ADDR": address,
        "PORT": None if port is None else str(port),
        "PROTO": "LMTP",
        "HELO": session.lhlo_name or None,
        "IDENT": message_id,
        "SOURCE": "LOCAL" if session.link is Link.UNIX else "REMOTE",
    }
