"""The client: a reply for each recipient, whatever happens on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.python.failure import Failure

from lmtp_twisted.client.endpoints import Target
from lmtp_twisted.client.opening import ClientSession
from lmtp_twisted.client.outcomes import Outcomes
from lmtp_twisted.client.outgoing import OutgoingMessage, outgoing
from lmtp_twisted.client.pool import ConnectionPool
from lmtp_twisted.client.settings import ClientSettings
from lmtp_twisted.client.transaction import ClientTransaction
from lmtp_twisted.envelope import Envelope, Recipient
from lmtp_twisted.errors import DeliveryError, TemporaryFailure
from lmtp_twisted.wire.replies import Reply

Forwarded = Mapping[str, str | None]


class LMTPClient:
    """
    A client of one server, with connections that are kept and used again.

    :param endpoint: the server: ``HOST:PORT``, ``tcp:HOST:PORT``, ``tls:HOST:PORT``, ``unix:PATH``, another client
        endpoint of Twisted's as a description or as an object.
    :param settings: all that can be told.
    :param reactor: makes connections and is the clock; by default Twisted's.
    :raises ValueError: where the endpoint is none.
    :ivar pool: its connections.
    :ivar max_recipients: of one transaction, where the server has said so (RFC 9422 §4.2).
    """

    def __init__(self, endpoint: Any, settings: ClientSettings | None = None, reactor: Any = None) -> None:
        if reactor is None:
            from twisted.internet import reactor as the_reactor

            reactor = the_reactor
        self.settings = settings or ClientSettings()
        self.max_recipients: int | None = None
        self._reactor = reactor
        target = Target.of(endpoint, reactor, self.settings.timeouts.connect)
        self.pool = ConnectionPool(target, self.settings, reactor)

    @property
    def is_full(self) -> bool:
        """Whether a delivery would be refused at once, since too many wait."""
        return self.pool.is_full

    def deliver(self, envelope: Envelope, message: Any, forwarded: Forwarded | None = None) -> Deferred[list[Reply]]:
        """
        Deliver a message.

        :param envelope: the sender and the recipients, with their parameters: SIZE is filled in.
        :param message: the content: ``bytes``, a file opened for binary reading, an asynchronous iterable of ``bytes``,
            an :class:`~lmtp_twisted.client.OutgoingMessage`, or an
            :class:`~lmtp_twisted.interfaces.IReceivedMessage`.
        :param forwarded: attributes for XFORWARD by their names in upper case, sent where the server takes them;
            ``None`` is a value that nobody knows.
        :returns: fires with a reply for each of ``envelope.recipients``, in that order: the server's own, of class 2, 4
            or 5 and not 421; or one that says why there is none from the server. Fails only with what the message's own
            iterator or file raised. Where it is cancelled, the connection is closed before the end of the content.
        """
        one_each = self.deliver_each(envelope, message, forwarded)
        return gatherResults(one_each, consumeErrors=True).addErrback(_first_error)

    def deliver_each(
        self, envelope: Envelope, message: Any, forwarded: Forwarded | None = None
    ) -> list[Deferred[Reply]]:
        """
        As :meth:`deliver`, with each reply as soon as it is known.

        :returns: a Deferred for each of ``envelope.recipients``. The delivery is cancelled when all of them are that
            have not fired.
        :raises TypeError: where the message is of no such type.
        """
        content = outgoing(message, self._reactor)
        outcomes = Outcomes(len(envelope.recipients))
        run = Deferred.fromCoroutine(self._deliver(envelope, content, forwarded or {}, outcomes))
        outcomes.stop = run.cancel
        # Where it was cancelled nobody is left who waits.
        run.addBoth(outcomes.finish)
        return outcomes.deferreds

    async def _deliver(
        self, envelope: Envelope, message: OutgoingMessage, forwarded: Forwarded, outcomes: Outcomes
    ) -> None:
        waiting = list(range(len(envelope.recipients)))
        needs_fresh = False
        if message.begin is not None:
            try:
                await message.begin()
            except DeliveryError as error:
                return outcomes.fill_rest(error)
        while waiting:
            session = None
            try:
                session = await self.pool.acquire(needs_fresh)
                was_used = session.transactions > 0
                self.max_recipients = session.able.limit("RCPTMAX")
                batch = _first_batch(envelope.recipients, waiting, session)
                transaction = ClientTransaction(session, self.settings, envelope, message, forwarded, outcomes)
                await transaction.run(batch)
            except DeliveryError as error:
                if session is None:
                    return outcomes.fill_rest(error)
                if not session.is_clean:
                    session.connection.abort(_unfinished())
                    if was_used and not transaction.has_begun and not needs_fresh:
                        # It ended while nobody used it, and we had not heard yet. Nothing was sent but commands.
                        needs_fresh = True
                        continue
                return outcomes.fill_rest(error)
            except GeneratorExit:
                # See ConnectionPool.acquire: the turn is given to nobody.
                session = None
                raise
            except BaseException:
                if session is not None:
                    session.connection.abort(_unfinished())
                raise
            finally:
                if session is not None:
                    self.pool.release(session)
            needs_fresh = False
            waiting = [place for place in waiting if place not in batch or place in transaction.later]
            if waiting and not message.is_repeatable:
                for place in waiting:
                    outcomes.fill(place, transaction.later.get(place, _TOO_MANY))
                return None
        return None

    def close(self) -> Deferred[None]:
        """
        End all connections. Deliveries that are under way get ``451 4.3.2``.

        :returns: fires when they have ended.
        """
        return Deferred.fromCoroutine(self.pool.close())


_TOO_MANY = Reply(452, "4.5.3", "Too many recipients for one transaction of the server")


def _unfinished() -> TemporaryFailure:
    """A new one each time: what is raised holds on to the frames that it went through."""
    return TemporaryFailure("The delivery was not finished", enhanced="4.4.2")


def _first_batch(recipients: Sequence[Recipient], places: Sequence[int], session: ClientSession) -> list[int]:
    """Those of the places that the server takes in one transaction (RFC 9422 §4)."""
    most, most_domains = session.able.limit("RCPTMAX"), session.able.limit("RCPTDOMAINMAX")
    if most_domains is not None:
        domains = Counter(recipients[place].address.domain.lower() for place in places)
        chosen = set(list(domains)[:most_domains])
        places = [place for place in places if recipients[place].address.domain.lower() in chosen]
    return list(places[:most])


def _first_error(failure: Failure) -> Failure:
    """What failed, without Twisted's wrapping."""
    inner = getattr(failure.value, "subFailure", failure)
    return inner if isinstance(inner, Failure) else failure


def deliver(
    endpoint: Any,
    envelope: Envelope,
    message: Any,
    *,
    forwarded: Forwarded | None = None,
    settings: ClientSettings | None = None,
    reactor: Any = None,
) -> Deferred[list[Reply]]:
    """
    Deliver one message by a connection of its own. See :class:`LMTPClient` and its :meth:`~LMTPClient.deliver`.
    """
    client = LMTPClient(endpoint, settings, reactor)

    async def run() -> list[Reply]:
        try:
            return await client.deliver(envelope, message, forwarded)
        finally:
            await client.close()

    return Deferred.fromCoroutine(run())
