"""
Connections to a web server, kept for the next request.

Twisted's HTTP client does the work. What is added is for messages, which nobody may lose or deliver twice: a connection
that the server has closed is not used again, an answer that comes before the message was sent is heard, what a server
can make us keep is bounded, and nothing waits for a server that does not close.
"""

from __future__ import annotations

import select
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.web._newclient import HTTP11ClientProtocol

#: Octets of a response, its head included.
MOST_OCTETS = 256 * 1024
#: Seconds for which a connection without a request is kept: fewer than usual servers keep it (2 to 75). One that is
#: closed just as a request is sent leaves us not knowing whether the server has seen it.
IDLE = 1.0


class Connection(HTTP11ClientProtocol):
    """
    One connection.

    :ivar requests: how many were sent.
    """

    def __init__(self, quiescentCallback: Any) -> None:
        super().__init__(quiescentCallback)
        self.requests = 0
        self._octets = 0
        self._is_given_up = False

    def request(self, request: Any) -> Deferred[Any]:
        """Send one."""
        self.requests += 1
        self._octets = 0
        return super().request(request)

    def dataReceived(self, data: bytes) -> None:
        """A part of the response."""
        self._octets += len(data)
        if self._octets > MOST_OCTETS:
            self.abort_now()
            return
        super().dataReceived(data)
        if self.state == "TRANSMITTING":
            # The parser has stopped reading until somebody wants the body. Nobody does before the request was sent or
            # the response is complete, and a server that refuses a large message does not read the rest of it.
            self.transport.resumeProducing()  # type: ignore[union-attr]  # it is connected

    def _giveUp(self, reason: Failure) -> None:
        # What is no HTTP while the request is being sent: without this the request would never come to its end.
        if self._state == "TRANSMITTING":
            self._state = "TRANSMITTING_AFTER_RECEIVING_RESPONSE"
            assert self._responseDeferred is not None
            assert self._finishedRequest is not None
            self._responseDeferred.chainDeferred(self._finishedRequest)
        super()._giveUp(reason)

    @property
    def is_stale(self) -> bool:
        """Whether we have given it up, the server has closed it, or has said something that nobody asked for."""
        transport: Any = self.transport
        if self._is_given_up or transport.disconnecting or transport.fileno() < 0:
            return True
        poll = select.poll()
        poll.register(transport.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Close it, and do not wait for the server to do so as well."""
        transport: Any = self.transport
        transport.loseConnection()
        if isinstance(transport, TLSMemoryBIOProtocol):
            transport.transport.loseConnection()  # type: ignore[union-attr]  # it is connected

    def abort_now(self) -> None:
        """Give up whatever is under way."""
        self._is_given_up = True
        self.transport.abortConnection()  # type: ignore[union-attr]  # it is connected


class Connections:
    """
    The connections to one server that have no request just now. What Twisted's agents take for a pool.

    :param reactor: the reactor.
    :param most: how many are kept.
    """

    #: For the agent: connections are used for more than one request.
    persistent = True

    def __init__(self, reactor: Any, most: int) -> None:
        self._reactor = reactor
        self._most = most
        self._factory = Factory.forProtocol(partial(Connection, self._keep))
        # No line in the log for each connection.
        self._factory.noisy = False
        # The latest last: with less to do, the oldest ones grow old.
        self._idle: dict[Connection, IDelayedCall] = {}

    def getConnection(self, key: Any, endpoint: IStreamClientEndpoint) -> Deferred[Any]:
        """One that can be used, or a new one."""
        while self._idle:
            connection, timer = self._idle.popitem()
            timer.cancel()
            if not connection.is_stale:
                return succeed(connection)
            connection.close()
        return endpoint.connect(self._factory)

    def _keep(self, connection: Connection) -> None:
        # One that was given up within its last octets comes here, too.
        if len(self._idle) < self._most and not connection.is_stale:
            self._idle[connection] = self._reactor.callLater(IDLE, self._drop, connection)
        else:
            connection.close()

    def _drop(self, connection: Connection) -> None:
        del self._idle[connection]
        connection.close()

    def close(self) -> None:
        """Close all that are kept."""
        while self._idle:
            connection, timer = self._idle.popitem()
            timer.cancel()
            connection.close()


class Lease:
    """
    The connection of one request. For its agent it stands in the place of the connections.

    :param connections: where it comes from.
    :ivar is_reused: whether it had a request before.
    """

    persistent = True

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._connection: Connection | None = None
        self.is_reused = False

    def getConnection(self, key: Any, endpoint: IStreamClientEndpoint) -> Deferred[Any]:
        """It is taken."""
        return self._connections.getConnection(key, endpoint).addCallback(self._take)

    def _take(self, connection: Connection) -> Connection:
        self._connection = connection
        self.is_reused = connection.requests > 0
        return connection

    def end(self) -> None:
        """The request is over, however it went: a connection that it did not leave in order is of no more use."""
        if self._connection is not None and self._connection.state not in ("QUIESCENT", "CONNECTION_LOST"):
            self._connection.abort_now()
