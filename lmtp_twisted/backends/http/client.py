"""Posts a body to one URL and reads the answer, within a time and a size."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from OpenSSL import crypto
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.python.failure import Failure
from twisted.web.client import Agent, RequestGenerationFailed, RequestTransmissionFailed, ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IBodyProducer
from zope.interface import implementer

from lmtp_twisted.backends.http.connections import Connections, Lease
from lmtp_twisted.backends.http.target import Target

#: Octets of a response's body. What is longer is not read.
MOST_BODY = 128 * 1024

_CERTIFICATE = re.compile(b"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


@attrs.frozen
class Answer:
    """
    What came back.

    :ivar status: the status code (RFC 9110 §15).
    :ivar content_type: in lower case, without parameters.
    :ivar body: ``None`` where it was too long to be read.
    """

    status: int
    content_type: str
    body: bytes | None


class _BodyReader(Protocol):
    """Collects a body, up to a size."""

    def __init__(self) -> None:
        self.done: Deferred[bytes | None] = Deferred()
        self._blocks: list[bytes] = []
        self._room = MOST_BODY

    def dataReceived(self, data: bytes) -> None:
        self._room -= len(data)
        if self._room >= 0:
            self._blocks.append(data)
        elif not self.done.called:
            self.done.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.done.called:
            return
        # A server that says no length ends a body by closing the connection: that is an end, too.
        if reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(b"".join(self._blocks))
        else:
            self.done.errback(reason)


def trust_of(path: str | None) -> Any:
    """
    Whom to trust.

    :param path: a file of certificates in PEM; ``None`` for the authorities that the system trusts.
    :raises ValueError: where there are none in it.
    :raises OSError: where it cannot be read.
    """
    if path is None:
        return None
    found = _CERTIFICATE.findall(Path(path).read_bytes())
    if not found:
        raise ValueError(f"no certificate in {path}")
    try:
        return trustRootFromCertificates([Certificate.loadPEM(pem) for pem in found])
    except crypto.Error:
        raise ValueError(f"a certificate in {path} cannot be read")


@implementer(IAgentEndpointFactory)
class Client:
    """
    :param reactor: the reactor.
    :param target: where requests go.
    :param timeout: seconds that a request may take, from the connection to the last octet of the answer.
    :param connections: how many connections are kept between requests.
    :param trust: as :func:`trust_of` gives it.
    """

    def __init__(self, reactor: Any, target: Target, *, timeout: float, connections: int, trust: Any = None) -> None:
        self._reactor = reactor
        self._target = target
        self._timeout = timeout
        self._connections = Connections(reactor, connections)
        endpoint: Any = HostnameEndpoint(reactor, target.host, target.port, timeout=timeout)
        if target.is_secure:
            # Once, and not for each request: it reads the file of the system's authorities.
            endpoint = wrapClientTLS(optionsForClientTLS(target.host, trust), endpoint)
        self._endpoint: IStreamClientEndpoint = endpoint

    def endpointForURI(self, uri: Any) -> IStreamClientEndpoint:
        """All requests go to the one server."""
        return self._endpoint

    def post(self, headers: Headers, make_body: Callable[[], IBodyProducer]) -> Deferred[Answer]:
        """
        Post a body once. Redirects are not followed.

        :param make_body: makes the body; called a second time only where the first connection had been used before,
            and was lost before all of the body was sent: then the server cannot have had a whole request.
        :returns: fails with Twisted's errors; with :exc:`twisted.internet.defer.TimeoutError` where it takes too long.
        """
        return Deferred.fromCoroutine(self._post(headers, make_body)).addTimeout(self._timeout, self._reactor)

    async def _post(self, headers: Headers, make_body: Callable[[], IBodyProducer]) -> Answer:
        lease = Lease(self._connections)
        try:
            return await self._post_once(lease, headers, make_body())
        except RequestTransmissionFailed:
            if not lease.is_reused:
                raise
        self._connections.close()
        return await self._post_once(Lease(self._connections), headers, make_body())

    async def _post_once(self, lease: Lease, headers: Headers, body: IBodyProducer) -> Answer:
        agent = Agent.usingEndpointFactory(self._reactor, self, lease)
        try:
            response: Any = await agent.request(b"POST", self._target.url, headers, body)
            reader = _BodyReader()
            response.deliverBody(reader)
            content = await reader.done
        except (RequestGenerationFailed, RequestTransmissionFailed, ResponseFailed) as error:
            if any(reason.check(CancelledError) for reason in error.reasons):
                raise CancelledError
            raise
        finally:
            lease.end()
        (kind, *_) = response.headers.getRawHeaders(b"Content-Type", [b""])
        content_type = kind.partition(b";")[0].strip().lower().decode("latin-1")
        return Answer(response.code, content_type, content)

    def close(self) -> None:
        """Close the connections that are kept."""
        self._connections.close()
