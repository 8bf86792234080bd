"""Connections that come by way of a proxy, in memory."""

from __future__ import annotations

import struct
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from lmtp_twisted.extensions.proxy import ProxyEndpoint
from lmtp_twisted.testing import FakeReactor
from lmtp_twisted.wire.proxy import SIGNATURE

PROXY = IPv4Address("TCP", "192.0.2.99", 9999)
OURS = IPv4Address("TCP", "192.0.2.98", 2524)

V1 = b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 24\r\n"
V2 = SIGNATURE + b"\x21\x11" + struct.pack("!H4s4sHH", 19, b"\xc0\0\x02\x01", b"\xc6\x33\x64\x02", 4711, 24)
V2 += b"\x04\x00\x04TLVs"
SOURCE = IPv4Address("TCP", "192.0.2.1", 4711)
DESTINATION = IPv4Address("TCP", "198.51.100.2", 24)


@implementer(IStreamServerEndpoint)
class MemoryEndpoint:
    """One whose connections are made by hand."""

    factory: Any

    def listen(self, protocolFactory: Any) -> Deferred[Any]:
        self.factory = protocolFactory
        protocolFactory.doStart()
        return succeed(None)


class Listening:
    """
    A factory behind a proxy.

    :param factory: as :class:`ProxyEndpoint` takes it; so are ``options``.
    """

    def __init__(self, factory: Any, reactor: FakeReactor | None = None, **options: Any) -> None:
        self.reactor = reactor or factory.reactor
        self._endpoint = MemoryEndpoint()
        ProxyEndpoint(self._endpoint, self.reactor, **options).listen(factory)

    def connect(self) -> ProxiedTransport:
        """The proxy connects."""
        protocol = self._endpoint.factory.buildProtocol(PROXY)
        transport = ProxiedTransport(peerAddress=PROXY, hostAddress=OURS)
        transport.protocol = protocol
        protocol.makeConnection(transport)
        return transport

    def stop(self) -> None:
        """The port is closed."""
        self._endpoint.factory.doStop()


class ProxiedTransport(StringTransport):
    """One that gives what comes to whoever is its protocol by then, as those of sockets do."""

    protocol: Any
    aborting = False

    def send(self, *segments: bytes) -> bytes:
        """Send segments. Returns what came back since it was last looked at."""
        for segment in segments:
            if not (self.disconnecting or self.aborting):
                self.protocol.dataReceived(segment)
        said: bytes = self.value()
        self.clear()
        return said

    def abortConnection(self) -> None:
        """As those of sockets: nothing is sent."""
        self.aborting = True
        self.disconnected = True

    def lose(self) -> None:
        """The proxy has closed it."""
        self.protocol.connectionLost(Failure(ConnectionDone()))
