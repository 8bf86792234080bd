"""The backend: what is published, how much at a time, and what the client is told of each recipient."""

from __future__ import annotations

import re
from collections import deque
from functools import partial
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, DeferredSemaphore
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from lmtp_twisted.backends.amqp import refusals
from lmtp_twisted.backends.amqp.broker import Broker, read_url, short_name
from lmtp_twisted.backends.amqp.cluster import Cluster
from lmtp_twisted.backends.amqp.connection import Connection, Topology, connect
from lmtp_twisted.backends.amqp.properties import message_headers, properties_of
from lmtp_twisted.backends.amqp.publication import Publication
from lmtp_twisted.backends.amqp.routing_key import RoutingKey
from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.backends.sized import SizedDelivery
from lmtp_twisted.envelope import Recipient
from lmtp_twisted.errors import DeliveryError
from lmtp_twisted.interfaces import IMeasuredBackend, IReceivedMessage
from lmtp_twisted.session import SessionInfo
from lmtp_twisted.threads import default_pool

_log = Logger(namespace="lmtp_twisted")

#: Publications, and octets of them, that the broker has been given and has not answered for.
MOST_SENT = 1000
MOST_SENT_OCTETS = 32 * 1024 * 1024
#: Publications that wait for that; while there are as many, MAIL is refused.
MOST_WAITING = 1000
#: Large messages whose content is in memory at a time.
MOST_LARGE = 4


@implementer(IMeasuredBackend)
class AMQPBackend:
    """
    Connects by itself, see :meth:`start`.

    :param broker: where, and as whom.
    :param topology: the exchange, and what is declared.
    :param routing_key: makes the key of a recipient.
    :param size_limit: octets of a message that is published.
    :param timeout: seconds that a confirm may take.
    :param heartbeat: seconds of silence after which the broker is taken to be gone; 0 is never.
    :param name: what the broker's own lists call the connection.
    :param reactor: the global reactor by default.
    :param pool: reads large messages; by default the one that factories without a spool of their own use.
    """

    def __init__(
        self,
        broker: Broker,
        topology: Topology,
        routing_key: RoutingKey,
        *,
        size_limit: int,
        timeout: float,
        heartbeat: int,
        name: str = "lmtp-twisted",
        reactor: Any = None,
        pool: ThreadPool | None = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self._reactor: Any = reactor
        self._pool = pool or default_pool(reactor)
        self._routing_key = routing_key
        self._size_limit = size_limit
        open_connection = partial(
            connect, reactor, broker, topology=topology, name=name, heartbeat=heartbeat, timeout=timeout
        )
        self._cluster = Cluster(reactor, broker.nodes, open_connection, self._changed)
        self._waiting: deque[Publication] = deque()
        self._large = DeferredSemaphore(MOST_LARGE)
        # Those whose content is not in memory yet.
        self._unread = 0
        self._numbers = count(1)

    def start(self) -> None:
        """Connect as soon as the reactor runs, and stay connected. A broker that is down is tried again."""
        self._reactor.callWhenRunning(self._cluster.start)

    async def shut_down(self) -> None:
        """Close the connection. What waits is not published any more."""
        await self._cluster.stop()

    def figures(self) -> dict[str, int]:
        """See :class:`~lmtp_twisted.interfaces.IMeasuredBackend`."""
        connection = self._cluster.connection
        return {
            "waiting": len(self._waiting) + self._unread,
            "working": 0 if connection is None else connection.sent,
            "connections": int(connection is not None),
        }

    def getDelivery(self, session: SessionInfo) -> SizedDelivery:
        """
        :raises lmtp_twisted.errors.TemporaryFailure: where a message could not be published now.
        """
        if (refusal := self._refusal_of_all()) is not None:
            raise refusal
        if len(self._waiting) + self._unread >= MOST_WAITING:
            raise refusals.busy()
        return SizedDelivery(self)

    def _refusal_of_all(self) -> DeliveryError | None:
        connection = self._cluster.connection
        if self._cluster.is_down:
            return refusals.unreachable()
        return refusals.blocked() if connection is not None and connection.is_blocked else None

    def validate(self, recipient: Recipient, octets: int) -> None:
        """
        :param octets: that the client has announced.
        :raises lmtp_twisted.errors.PermanentFailure: ``552 5.3.4`` where that is too much; ``553 5.1.3`` where no
            routing key can have the name.
        """
        if octets > self._size_limit:
            raise refusals.too_large()
        self._routing_key.of(recipient.address)

    def deliver(self, message: IReceivedMessage) -> list[Deferred[None]]:
        """
        Publish it, once for each recipient.

        :raises lmtp_twisted.errors.PermanentFailure: ``552 5.3.4`` where it is too large.
        """
        if message.size > self._size_limit:
            raise refusals.too_large()
        headers = message_headers(message)
        publications = [self._publication(message, headers, recipient) for recipient in message.recipients]
        if message.inMemory:
            self._publish(publications, message.read())
        else:
            self._unread += len(publications)
            self._large.run(self._read_and_publish, message, publications)
        return [publication.done for publication in publications]

    def _publication(self, message: IReceivedMessage, headers: dict[str, Any], recipient: Recipient) -> Publication:
        # The number tells apart the recipients, and the parts of a message that was routed more than one way.
        id = f"{message.id}.{next(self._numbers)}"
        return Publication(id, self._routing_key.of(recipient.address), properties_of(id, headers, recipient))

    def _read_and_publish(self, message: IReceivedMessage, publications: list[Publication]) -> Deferred[None]:
        return Deferred.fromCoroutine(self._publish_file(message, publications))

    async def _publish_file(self, message: IReceivedMessage, publications: list[Publication]) -> None:
        try:
            if not any(publication.is_wanted for publication in publications):
                return
            body = await deferToThreadPool(self._reactor, self._pool, message.read)
        except Exception:
            _log.failure("{id}: cannot be read", id=message.id)
            for publication in publications:
                publication.fail(refusals.broken())
            return
        finally:
            self._unread -= len(publications)
        self._publish(publications, body)
        # Its octets stay in memory until then.
        await DeferredList([publication.done for publication in publications])

    def _publish(self, publications: list[Publication], body: bytes) -> None:
        for publication in publications:
            publication.body = body
        self._waiting.extend(publications)
        self._changed()

    def _changed(self) -> None:
        """Publish what waits, as far as there is room; or refuse it, where it would wait for too long."""
        connection = self._cluster.connection
        if self._refusal_of_all() is not None:
            waiting, self._waiting = self._waiting, deque()
            for publication in waiting:
                publication.fail(self._refusal_of_all() or refusals.unreachable())
        elif connection is not None:
            while self._waiting and connection.takes_more and _has_room(connection, self._waiting[0]):
                publication = self._waiting.popleft()
                if publication.is_wanted:
                    connection.publish(publication)


def _has_room(connection: Connection, publication: Publication) -> bool:
    octets = connection.octets + len(publication.body)
    return not connection.sent or (connection.sent < MOST_SENT and octets <= MOST_SENT_OCTETS)


def from_description(
    context: BackendContext,
    argument: str,
    *,
    exchange: str = "",
    queue: str = "",
    routing_key: str = "",
    size_limit: str = "16M",
    timeout: str = "30",
    heartbeat: str = "30",
    password_file: str = "",
    ca: str = "",
) -> AMQPBackend:
    """``amqp:URL``"""
    broker = read_url(argument, password_file=context.path(password_file), ca=context.path(ca))
    if not exchange and not queue:
        raise ValueError("it needs an exchange=NAME, or a queue=NAME")
    if not routing_key:
        # The default exchange takes a queue's name.
        routing_key = "{domain}.{local}" if exchange else queue
    backend = AMQPBackend(
        broker,
        Topology(short_name(exchange, "the exchange"), short_name(queue, "the queue")),
        RoutingKey(routing_key, context.hostname),
        size_limit=_size(size_limit),
        timeout=_seconds("timeout", timeout, least=1),
        heartbeat=_seconds("heartbeat", heartbeat, least=0),
        name=f"lmtp-twisted on {context.hostname}",
        reactor=context.reactor,
        pool=context.pool,
    )
    if not context.is_trial:
        backend.start()
    context.add_shutdown(backend.shut_down)
    return backend


def _size(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,10})([kKmM]?)", text)
    if match is None:
        raise ValueError(f"size_limit is a number of octets such as 500k or 16M, not {text!r}")
    return int(match[1]) * {"": 1, "k": 1024, "m": 1024**2}[match[2].lower()]


def _seconds(option: str, text: str, *, least: int) -> int:
    if not re.fullmatch(r"[0-9]{1,4}", text) or int(text) < least:
        raise ValueError(f"{option} is a whole number of seconds from {least} to 9999, not {text!r}")
    return int(text)
