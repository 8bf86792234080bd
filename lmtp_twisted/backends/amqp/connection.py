"""
One connection to one node, with one channel in confirm mode: publications go out, their fates come back.

pika's Twisted adapter speaks AMQP. Three things about it are handled here, by its public methods where they reach:

- It keeps one returned message and blames the next confirm for it. RabbitMQ confirms several publications with one
  ``basic.ack``, so the adapter fails one that is in the queue, and confirms the one that no queue has taken. So we know
  returned messages by their ids, and take its ``UnroutableError`` as what it comes from: an acknowledgement.
- Where the connection cannot be opened it drops the reason, such as a wrong password.
- Where the node is silent it closes the connection only after all that is buffered was sent, which is never where the
  node is gone. Our own time limit for confirms aborts it.

RabbitMQ has one of its own. A new channel learns which node leads a quorum queue; where that node was just killed, it
says no to all publications, also when there is a new leader (seen with 3.10). So a channel that says no is replaced,
see :data:`RENEW_AFTER`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
from pika import ConnectionParameters, PlainCredentials
from pika.adapters.twisted_connection import TwistedProtocolConnection
from pika.exceptions import AMQPError, NackError, UnroutableError
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from lmtp_twisted.backends.amqp import refusals
from lmtp_twisted.backends.amqp.broker import Broker, Node
from lmtp_twisted.backends.amqp.publication import Publication

_log = Logger(namespace="lmtp_twisted")

# It writes the beginning of each returned message into the log: that is somebody's mail.
logging.getLogger("pika.adapters.twisted_connection").setLevel(logging.CRITICAL)

#: Seconds that connecting, AMQP's handshake and the declarations may take together.
CONNECT_TIMEOUT = 10.0
#: Seconds that a channel has at the least before it is replaced: it may say no because the queue is full.
RENEW_AFTER = 1.0
#: Seconds in which what was published just before an alarm is still confirmed, if ever.
GRACE = 1.0


@attrs.frozen
class Topology:
    """
    Where messages are published.

    :ivar exchange: its name; ``""`` is the default exchange, whose routing keys are names of queues.
    :ivar queue: a queue that is made where it is missing, quorum, durable, and bound to the exchange for all keys; the
        exchange is made, too, of the type ``topic``. ``""`` where nothing is to be made.
    """

    exchange: str
    queue: str = ""

    async def declare(self, channel: Any) -> None:
        """
        :param channel: of pika's adapter. The broker closes it where something is not as it should be.
        """
        if not self.queue:
            if self.exchange:
                await channel.exchange_declare(self.exchange, passive=True)
            return
        await channel.queue_declare(self.queue, durable=True, arguments={"x-queue-type": "quorum"})
        if self.exchange:
            await channel.exchange_declare(self.exchange, "topic", durable=True)
            await channel.queue_bind(self.queue, self.exchange, "#")


class _Protocol(TwistedProtocolConnection):  # type: ignore[misc]  # pika is not typed
    """pika's own, which tells why it could not open."""

    ready: Any

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)

    def connectionLost(self, reason: Any = connectionDone) -> None:
        # What the broker said before it hung up.
        said = self._impl._error
        super().connectionLost(reason if said is None else Failure(said))

    def _on_connection_failed(self, connection: Any, error: Any = None) -> None:
        ready, self.ready = self.ready, None
        if ready is not None:
            ready.errback(error if isinstance(error, Exception) else ConnectionError(str(error)))


async def connect(
    reactor: Any, broker: Broker, node: Node, topology: Topology, *, name: str, heartbeat: int, timeout: float
) -> Connection:
    """
    :param reactor: connects.
    :param broker: whose node it is, and how one gets in.
    :param node: where to.
    :param topology: is declared.
    :param name: what the broker's own lists call the connection.
    :param heartbeat: seconds of silence after which the other side is taken to be gone.
    :param timeout: seconds that a confirm may take.
    :raises Exception: of Twisted's or pika's, where any step fails.
    """
    parameters = ConnectionParameters(
        host=node.host,
        port=node.port,
        virtual_host=broker.virtual_host,
        credentials=PlainCredentials(broker.user, broker.password),
        heartbeat=heartbeat,
        client_properties={"connection_name": name},
    )
    factory = Factory.forProtocol(partial(_Protocol, parameters, reactor))
    factory.noisy = False
    protocol = await broker.endpoint(reactor, node, CONNECT_TIMEOUT).connect(factory)
    try:
        await protocol.ready
        closed: Deferred[Any] = protocol.closed
        channel = await protocol.channel()
        await topology.declare(channel)
        await channel.confirm_delivery()
    except BaseException:
        protocol.transport.abortConnection()
        raise
    return Connection(reactor, protocol, closed, channel, topology.exchange, timeout)


class Connection:
    """
    An open connection.

    :ivar closed: fires with the reason when it is no longer open; all publications have failed by then.
    :ivar is_open: whether it takes publications now or later.
    :ivar is_blocked: the broker is short of memory or disk and reads no more of what we publish.
    :ivar changed: called when a publication is done with, and when ``is_blocked`` or ``takes_more`` has changed.
    :ivar sent: publications that are neither confirmed nor failed.
    :ivar octets: of all these.
    """

    def __init__(
        self, reactor: Any, protocol: Any, closed: Deferred[Any], channel: Any, exchange: str, timeout: float
    ) -> None:
        self._reactor = reactor
        self._protocol = protocol
        self._exchange = exchange
        self._timeout = timeout
        self._timer: Any = None
        self._grace: Any = None
        # In the order in which they were sent, so the first one waits longest.
        self._sent: dict[str, Publication] = {}
        self.octets = 0
        self.is_open = True
        self.is_blocked = False
        self.changed: Callable[[], object] = lambda: None
        self._why: object = None
        self._is_renewing = False
        self.closed: Deferred[object] = closed.addBoth(self._ended)
        self._use(channel)
        channel.connection.add_on_connection_blocked_callback(lambda *_: self._set_blocked(True))
        channel.connection.add_on_connection_unblocked_callback(lambda *_: self._set_blocked(False))

    @property
    def sent(self) -> int:
        """How many publications are neither confirmed nor failed."""
        return len(self._sent)

    @property
    def takes_more(self) -> bool:
        """Whether it takes publications now."""
        return self.is_open and not self._is_renewing

    def _use(self, channel: Any) -> None:
        self._channel = channel
        self._since = self._reactor.seconds()
        channel.on_closed.addBoth(self._channel_closed, channel)
        channel.add_on_return_callback(self._returned)

    def _channel_closed(self, why: object, channel: Any) -> None:
        if channel is self._channel:
            self.abandon(why)

    def publish(self, publication: Publication) -> None:
        """
        :param publication: finishes when the broker has answered, or after the time limit.
        """
        self._sent[publication.id] = publication
        self.octets += len(publication.body)
        publication.sent_at = self._reactor.seconds()
        if self._timer is None:
            self._timer = self._reactor.callLater(self._timeout, self._look)
        try:
            answer = self._channel.basic_publish(
                self._exchange, publication.routing_key, publication.body, publication.properties, mandatory=True
            )
        except AMQPError:
            self._failed(Failure(), publication)
        except Exception:
            # It is made ready before any of it is sent, so the connection is none the worse.
            _log.failure("{id}: cannot be published", id=publication.id)
            self._forget(publication)
            publication.fail(refusals.broken())
        else:
            answer.addCallback(self._confirmed, publication)
            answer.addErrback(self._failed, publication)

    def _returned(self, returned: Any) -> None:
        publication = self._sent.get(returned.properties.message_id)
        if publication is not None:
            publication.was_returned = True

    def _confirmed(self, _: object, publication: Publication) -> None:
        self._forget(publication)
        if publication.was_returned:
            publication.fail(refusals.unroutable())
        else:
            publication.succeed()
        self._answered()

    def _failed(self, failure: Failure, publication: Publication) -> None:
        if failure.check(UnroutableError):
            # Some publication before this confirm was returned, and not necessarily this one.
            self._confirmed(None, publication)
            return
        self._forget(publication)
        if failure.check(NackError):
            publication.fail(refusals.refused())
            self._is_renewing = self._is_renewing or self._reactor.seconds() - self._since >= RENEW_AFTER
        else:
            # The channel is closed, and this one the first to hear of it.
            self.abandon(failure.value)
            publication.fail(refusals.lost())
        self._answered()

    def _answered(self) -> None:
        if self._is_renewing and self.is_open and not self._sent:
            renewed = Deferred.fromCoroutine(self._renew()).addTimeout(CONNECT_TIMEOUT, self._reactor)
            renewed.addErrback(lambda failure: self.abandon(failure.value))
        self.changed()

    async def _renew(self) -> None:
        old, self._channel = self._channel, None
        old.close()
        channel = await self._protocol.channel()
        await channel.confirm_delivery()
        self._use(channel)
        self._is_renewing = False
        self.changed()

    def _forget(self, publication: Publication) -> None:
        del self._sent[publication.id]
        self.octets -= len(publication.body)

    def _set_blocked(self, is_blocked: bool) -> None:
        self.is_blocked = is_blocked
        self._cancel(self._grace)
        if is_blocked:
            _log.warn("the message queue is short of memory or disk, and takes no messages for now")
            self._grace = self._reactor.callLater(GRACE, self._refuse_sent)
        else:
            _log.info("the message queue takes messages again")
            for publication in self._sent.values():
                publication.sent_at = self._reactor.seconds()
        self.changed()

    def _refuse_sent(self) -> None:
        # The broker does not read them before it is well again; nobody is to wait for that.
        for publication in list(self._sent.values()):
            publication.fail(refusals.blocked())

    def _cancel(self, timer: Any) -> None:
        if timer is not None and timer.active():
            timer.cancel()

    def _look(self) -> None:
        """Whether the publication that waits longest has waited too long. The others fail with the connection."""
        self._timer = None
        oldest = next(iter(self._sent.values()), None)
        if oldest is None:
            return
        left = oldest.sent_at + self._timeout - self._reactor.seconds()
        if self.is_blocked:
            left = self._timeout
        if left > 0:
            self._timer = self._reactor.callLater(left, self._look)
        else:
            oldest.fail(refusals.late())
            self.abandon(f"no confirm within {self._timeout:g} s")

    def close(self) -> None:
        """Say goodbye. ``closed`` fires when it is done."""
        self.is_open = False
        self._protocol.close()

    def abandon(self, why: object) -> None:
        """
        End it at once: what waits in its buffers is not sent any more.

        :param why: for the log.
        """
        self.is_open = False
        if self._why is None:
            self._why = why
        self._protocol.transport.abortConnection()

    def _ended(self, why: object) -> object:
        self.is_open = False
        self._cancel(self._timer)
        self._cancel(self._grace)
        return self._why or why
