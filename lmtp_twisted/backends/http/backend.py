"""The backend itself: a message becomes requests, and their answers become outcomes."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, DeferredSemaphore
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.backends.description import choose
from lmtp_twisted.backends.http.answers import reply_to, understand, words_of
from lmtp_twisted.backends.http.body import MessageBody
from lmtp_twisted.backends.http.client import Client, trust_of
from lmtp_twisted.backends.http.request import Digests, digests_of, headers_for, in_requests
from lmtp_twisted.backends.http.target import Target
from lmtp_twisted.envelope import Recipient, Sender
from lmtp_twisted.errors import TemporaryFailure
from lmtp_twisted.interfaces import ILMTPDelivery, IMeasuredBackend, IReceivedMessage
from lmtp_twisted.session import SessionInfo
from lmtp_twisted.threads import default_pool
from lmtp_twisted.wire.replies import printable

_log = Logger(namespace="lmtp_twisted")

#: How many messages may be under way for each connection before MAIL is refused.
MESSAGES_PER_CONNECTION = 10
#: Octets of a secret at the least: those of 128 bits.
LEAST_SECRET = 16


class Per(enum.Enum):
    """What one request is for."""

    #: One recipient of a message.
    RECIPIENT = "recipient"
    #: All recipients of a message, or as many as fit into a header.
    MESSAGE = "message"


@implementer(IMeasuredBackend, ILMTPDelivery)
class HTTPBackend:
    """
    Its own delivery, since it keeps nothing of a message before ``deliver``.

    :param url: where messages are posted; a user and a password in it are sent, but never logged.
    :param per: what one request is for.
    :param timeout: seconds that one request may take.
    :param secret: signs requests; at least 16 octets.
    :param ca_file: certificates in PEM, to be trusted in the place of the system's.
    :param connections: how many requests may be under way.
    :param reactor: the global reactor by default.
    :param pool: reads large messages; by default the one that factories without a spool of their own use.
    :raises ValueError: where one of these makes no sense.
    :raises OSError: where the file cannot be read.
    """

    def __init__(
        self,
        url: str,
        *,
        per: Per = Per.RECIPIENT,
        timeout: float = 30.0,
        secret: bytes | None = None,
        ca_file: str | None = None,
        connections: int = 20,
        reactor: Any = None,
        pool: ThreadPool | None = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        if not (timeout > 0 and math.isfinite(timeout)):
            raise ValueError(f"a time-out of {timeout} seconds makes no sense")
        if connections < 1:
            raise ValueError(f"{connections} connections are too few")
        if secret is not None and len(secret) < LEAST_SECRET:
            raise ValueError(f"a secret has at least {LEAST_SECRET} octets")
        self._reactor: Any = reactor
        self._pool = pool or default_pool(reactor)
        self._per = per
        self._secret = secret
        self._target = Target.parse(url)
        self._client = Client(reactor, self._target, timeout=timeout, connections=connections, trust=trust_of(ca_file))
        self._connections = connections
        self._turns = DeferredSemaphore(connections)
        self._messages = 0

    def figures(self) -> dict[str, int]:
        """See :class:`~lmtp_twisted.interfaces.IMeasuredBackend`."""
        return {"waiting": len(self._turns.waiting), "working": self._connections - self._turns.tokens}

    def getDelivery(self, session: SessionInfo) -> HTTPBackend:
        """
        This object.

        :raises lmtp_twisted.errors.TemporaryFailure: ``451 4.3.2`` while too many messages wait for their turn.
        """
        if self._messages >= self._connections * MESSAGES_PER_CONNECTION:
            raise TemporaryFailure("Too busy, try again later", enhanced="4.3.2")
        return self

    def validateFrom(self, sender: Sender) -> None:
        """Accept: the application says what it thinks when it has the message."""

    def validateTo(self, recipient: Recipient) -> None:
        """Accept."""

    def aborted(self, reason: str) -> None:
        """Nothing was reserved."""

    async def deliver(self, message: IReceivedMessage) -> list[Deferred[Any]]:
        """Post it."""
        # From the start, or any number could wait for their digests.
        self._messages += 1
        try:
            trace = message.trace()
            if message.inMemory:
                digests = digests_of(message, trace)
            else:
                digests = await deferToThreadPool(self._reactor, self._pool, digests_of, message, trace)
            if self._per is Per.RECIPIENT:
                batches = [[recipient] for recipient in message.recipients]
            else:
                batches = list(in_requests(message.recipients))
        except BaseException:
            self._messages -= 1
            raise
        # A message for very many does not take all turns that come: it stands in the queue with a few requests.
        turns = DeferredSemaphore(self._connections)
        posted = [Deferred.fromCoroutine(self._post(message, trace, digests, batch, turns)) for batch in batches]
        outcomes: list[Deferred[Any]] = []
        for waiting, batch in zip(posted, batches, strict=True):
            outcomes += _for_each(waiting, len(batch))
        DeferredList(posted).addCallback(self._done)
        return outcomes

    def _done(self, _: Any) -> None:
        self._messages -= 1

    async def _post(
        self,
        message: IReceivedMessage,
        trace: bytes,
        digests: Digests,
        recipients: Sequence[Recipient],
        turns: DeferredSemaphore,
    ) -> Sequence[Any]:
        """The outcomes of some recipients."""
        async with turns, self._turns:
            headers = headers_for(
                message,
                recipients,
                digests,
                timestamp=int(self._reactor.seconds()),
                secret=self._secret,
                authorization=self._target.authorization,
            )
            try:
                answer = await self._client.post(headers, lambda: MessageBody(trace, message))
            except Exception:
                failure = Failure()
                reply = reply_to(failure)
                if reply is None:
                    raise
                self._complain(message, words_of(failure))
                return [reply] * len(recipients)
        understood = understand(answer, len(recipients), needs_results=self._per is Per.MESSAGE)
        if understood.complaint:
            self._complain(message, understood.complaint)
        return understood.replies

    def _complain(self, message: IReceivedMessage, why: str) -> None:
        _log.warn("{id}: {origin}: {why}", id=message.id, origin=self._target.origin, why=printable(why, 300))

    def shut_down(self) -> None:
        """Close the connections that are kept. The backend can still be used afterwards."""
        self._client.close()


def _for_each(waiting: Deferred[Sequence[Any]], count: int) -> list[Deferred[Any]]:
    """The outcome of each recipient of a request. All are cancelled, or none."""
    outcomes: list[Deferred[Any]] = [Deferred(lambda _: waiting.cancel()) for _ in range(count)]

    def come(result: Sequence[Any] | Failure) -> None:
        for place, outcome in enumerate(outcomes):
            if not outcome.called:
                outcome.callback(result if isinstance(result, Failure) else result[place])

    waiting.addBoth(come)
    return outcomes


_PERS = {per.value: per for per in Per}


def from_description(
    context: BackendContext,
    argument: str,
    *,
    per: str = "recipient",
    timeout: str = "30",
    secret_file: str | None = None,
    ca: str | None = None,
    connections: str = "20",
) -> HTTPBackend:
    """``http:URL``"""
    _, comma, last = argument.rpartition(",")
    key, equals, _ = last.partition("=")
    if comma and equals and key.isidentifier():
        raise ValueError(f"there is no option {key!r} (a comma that belongs to the URL is written %2C)")
    backend = HTTPBackend(
        argument,
        per=choose("per", per, _PERS),
        timeout=_number("timeout", timeout, float),
        secret=None if secret_file is None else Path(context.path(secret_file)).read_bytes().rstrip(b"\r\n"),
        ca_file=None if ca is None else context.path(ca),
        connections=_number("connections", connections, int),
        reactor=context.reactor,
        pool=context.pool,
    )
    context.add_shutdown(backend.shut_down)
    return backend


def _number(option: str, text: str, kind: Any) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{option} is a number, not {text!r}")
