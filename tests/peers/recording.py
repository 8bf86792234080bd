"""What passes between a client and a server, octet for octet."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.protocols.portforward import Proxy, ProxyClient, ProxyClientFactory, ProxyFactory, ProxyServer
from zope.interface import implementer


@implementer(IHalfCloseableProtocol)
class _EndsByHalves(Proxy):
    """Exim ends its side behind a QUIT that it has sent with all else, and still wants to hear the answers."""

    _halves = 2

    def readConnectionLost(self) -> None:
        self.peer.transport.loseWriteConnection()
        self._half_is_lost()

    def writeConnectionLost(self) -> None:
        """What the other side still says is passed on."""
        self._half_is_lost()

    def _half_is_lost(self) -> None:
        self._halves -= 1
        if not self._halves:
            # Twisted looks at such a connection no more, and would leave its socket open.
            self.transport.loseConnection()


class _TowardsServer(_EndsByHalves, ProxyClient):
    def dataReceived(self, data: bytes) -> None:
        self.peer.factory.passed.append(("S", data))
        super().dataReceived(data)


class _TowardsServerFactory(ProxyClientFactory):
    protocol = _TowardsServer


class _TowardsClient(_EndsByHalves, ProxyServer):
    clientProtocolFactory = _TowardsServerFactory

    def dataReceived(self, data: bytes) -> None:
        self.factory.passed.append(("C", data))
        super().dataReceived(data)


class Recorder(ProxyFactory):
    """
    Stands between clients and a server on a port of 127.0.0.1.

    :param port: the server's.
    :ivar passed: all that was passed on, in order: whether it came from the client, ``C``, or from the server, ``S``,
        and the octets that came together.
    :ivar listening: its port.
    :ivar where: the number of it.
    """

    protocol = _TowardsClient
    noisy = False

    def __init__(self, port: int) -> None:
        super().__init__("127.0.0.1", port)
        self.passed: list[tuple[str, bytes]] = []
        listen: Any = reactor.listenTCP  # type: ignore[attr-defined]
        self.listening = listen(0, self, interface="127.0.0.1")
        self.where: int = self.listening.getHost().port

    @property
    def bursts(self) -> list[bytes]:
        """What clients said, divided where the server said something."""
        bursts: list[bytes] = []
        before = "S"
        for side, octets in self.passed:
            if side == "C" and before == "S":
                bursts.append(octets)
            elif side == "C":
                bursts[-1] += octets
            before = side
        return bursts
