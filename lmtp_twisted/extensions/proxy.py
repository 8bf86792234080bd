"""
The PROXY protocol in front of sessions: a proxy such as HAProxy passes connections on, and begins each with a header
that says whose it is (:mod:`lmtp_twisted.wire.proxy`).

What reads the header is not in the way of what follows it: it puts the session in its place and is gone. So the session
has the transport itself, with the addresses of the header, and can do with it whatever it can do without a proxy:
STARTTLS, half-closing, aborting.
"""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from zope.interface import implementer

from lmtp_twisted.errors import ProxyHeaderError
from lmtp_twisted.wire.proxy import InetEnd, ProxyHeader, UnixEnd, read_proxy_header

_log = Logger(namespace="lmtp_twisted")

#: Seconds in which the header has to come.
TIMEOUT = 10.0
#: Connections of one port that may wait for their header.
MOST_WAITING = 1000


@implementer(IStreamServerEndpoint)
@attrs.frozen
class ProxyEndpoint:
    """
    Any kind of endpoint, where each connection begins with a header of the PROXY protocol, version 1 or 2. The session
    begins behind it: before it nothing is sent, and ``buildProtocol`` is not called. A header that is wrong, too long
    or late, or none, ends the connection.

    Whoever can connect there can claim to be anybody: let only the proxy do so.

    TLS is spoken behind the header, so TLS from the first octet is put around this, and not below it.

    :param endpoint: the :class:`~twisted.internet.interfaces.IStreamServerEndpoint` below it.
    :param reactor: the clock, an :class:`~twisted.internet.interfaces.IReactorTime`.
    :param timeout: seconds in which the header has to come.
    :param most_waiting: connections that may wait for their header. One more ends the one that has waited longest: a
        proxy sends it at once.
    """

    endpoint: Any
    reactor: Any
    timeout: float = attrs.field(default=TIMEOUT, kw_only=True)
    most_waiting: int = attrs.field(default=MOST_WAITING, kw_only=True)

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """See :meth:`twisted.internet.interfaces.IStreamServerEndpoint.listen`."""
        factory = HeaderFactory(protocolFactory, self.reactor, self.timeout, self.most_waiting)
        listening: Deferred[IListeningPort] = self.endpoint.listen(factory)
        return listening


class HeaderFactory(ServerFactory):
    """
    What the connections of a port share until their header has come.

    :param factory: makes what takes over then.
    :param clock: an :class:`~twisted.internet.interfaces.IReactorTime`.
    :param timeout: see :class:`ProxyEndpoint`.
    :param most_waiting: see :class:`ProxyEndpoint`.
    """

    noisy = False

    def __init__(self, factory: Any, clock: Any, timeout: float = TIMEOUT, most_waiting: int = MOST_WAITING) -> None:
        self.factory = factory
        self._clock = clock
        self._timeout = timeout
        self._most_waiting = most_waiting
        # The time-out of each, those that have waited longest first.
        self._waiting: dict[HeaderProtocol, Any] = {}
        self._emptied: list[Deferred[None]] = []

    def startFactory(self) -> None:
        """The factory that is waited for is one of this port, too."""
        self.factory.doStart()

    def stopFactory(self) -> None:
        """The port is closed. What would follow the header is not wanted any more."""
        for protocol in list(self._waiting):
            self.forget(protocol)
            protocol.transport.abortConnection()
        self.tell_if_empty()
        self.factory.doStop()

    def buildProtocol(self, addr: IAddress | None) -> HeaderProtocol:
        """The address is that of the proxy, so the factory behind this one is not asked yet."""
        return HeaderProtocol(self)

    def wait_for(self, protocol: HeaderProtocol) -> None:
        """A connection waits for its header."""
        if len(self._waiting) >= self._most_waiting:
            next(iter(self._waiting)).refuse("too many connections wait for their header")
        self._waiting[protocol] = self._clock.callLater(self._timeout, protocol.refuse, "no header in time")

    def when_empty(self) -> Deferred[None]:
        """
        :returns: fires when no connection waits for its header.
        """
        done: Deferred[None] = Deferred()
        self._emptied.append(done)
        self.tell_if_empty()
        return done

    def tell_if_empty(self) -> None:
        """A connection does not wait any more, and what follows its header, if it came, has begun."""
        if not self._waiting:
            emptied, self._emptied = self._emptied, []
            for deferred in emptied:
                deferred.callback(None)

    def is_waited_for(self, protocol: HeaderProtocol) -> bool:
        """Whether the header of a connection has yet to come."""
        return protocol in self._waiting

    def forget(self, protocol: HeaderProtocol) -> bool:
        """
        A connection does not wait any more.

        :returns: whether it did.
        """
        timer = self._waiting.pop(protocol, None)
        if timer is not None and timer.active():
            timer.cancel()
        return timer is not None


class HeaderProtocol(Protocol):
    """
    Reads a header, and nothing else.

    :param factory: the factory.
    """

    transport: Any

    def __init__(self, factory: HeaderFactory) -> None:
        self._factory = factory
        self._data = b""

    def connectionMade(self) -> None:
        """Say nothing: the session greets."""
        self._factory.wait_for(self)
        if isinstance(self.transport, ProtocolWrapper):
            # It would go on giving what comes to us. And no sender puts the header into TLS.
            self.refuse("the header comes in the clear: TLS and the like belong around ProxyEndpoint, not below it")

    def dataReceived(self, data: bytes) -> None:
        """A part of the header, and perhaps of what follows it."""
        if not self._factory.is_waited_for(self):
            return
        self._data += data
        try:
            header = read_proxy_header(self._data)
        except ProxyHeaderError as error:
            self.refuse(str(error))
            return
        if header is not None:
            self._factory.forget(self)
            self._hand_over(header)
            self._factory.tell_if_empty()

    def _hand_over(self, header: ProxyHeader) -> None:
        transport, rest = self.transport, self._data[header.length :]
        # For who has to know whether the peer is what it seems.
        transport.proxyHeader = header
        if header.source is not None and header.destination is not None:
            peer, host = _address(header.source), _address(header.destination)
            transport.getPeer = lambda: peer
            transport.getHost = lambda: host
        protocol = self._factory.factory.buildProtocol(transport.getPeer())
        if protocol is None:
            transport.abortConnection()
            return
        transport.protocol = protocol
        protocol.makeConnection(transport)
        # A connection that was closed gets nothing more without a proxy, either.
        if rest and not transport.disconnecting:
            protocol.dataReceived(rest)

    def refuse(self, why: str) -> None:
        """
        End the connection, with no word to the other side.

        :param why: for the log.
        """
        if self._factory.forget(self):
            _log.warn("PROXY from {peer}: {why}; the connection is closed", peer=_name(self.transport), why=why)
            self.transport.abortConnection()
            self._factory.tell_if_empty()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The other side has ended it; so do simple health checks."""
        if self._factory.forget(self):
            _log.debug("PROXY from {peer}: the connection ended before its header", peer=_name(self.transport))
            self._factory.tell_if_empty()


def _name(transport: Any) -> str:
    return str(getattr(transport.getPeer(), "host", None) or "unix")


def _address(end: InetEnd | UnixEnd) -> IAddress:
    if isinstance(end, UnixEnd):
        return UNIXAddress(end.name)
    return (IPv6Address if ":" in end.host else IPv4Address)("TCP", end.host, end.port)
