"""What the transport itself knows of the peer, whatever a proxy has said of it."""

from __future__ import annotations

import socket
import struct
import sys
from typing import Any

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.protocols.policies import ProtocolWrapper

from lmtp_twisted.session import Link, PeerCredentials
from lmtp_twisted.trust import ip_of
from lmtp_twisted.wire.proxy import InetEnd, ProxyHeader

_UCRED = struct.Struct("=iII")
# Not on every system, and OpenBSD has the three in another order.
_SO_PEERCRED: int | None = getattr(socket, "SO_PEERCRED", None) if sys.platform == "linux" else None

#: Whether the system says who is at the other end of a Unix socket.
CAN_TELL = _SO_PEERCRED is not None


def _below(transport: Any) -> Any:
    """The transport below TLS and the like."""
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    return transport


def _socket_of(transport: Any) -> Any:
    """Its socket; ``None`` where there is none."""
    return getattr(_below(transport), "socket", None)


def _proxied(transport: Any) -> ProxyHeader | None:
    """The header with which a proxy passed it on; ``None`` where it is a connection of the peer's own."""
    header: ProxyHeader | None = getattr(_below(transport), "proxyHeader", None)
    return None if header is None or header.is_of_proxy else header


def may_be_trusted(transport: Any) -> bool:
    """
    Whether the peer's address tells who it is. That of a proxy does not where it passes on somebody it does not name,
    and a Unix socket of the proxy's has a mode of its own.
    """
    header = _proxied(transport)
    return header is None or isinstance(header.source, InetEnd)


def credentials_of(transport: Any) -> PeerCredentials | None:
    """
    Who is at the other end of a Unix socket: the kernel knows (SO_PEERCRED, socket(7)).

    :param transport: of a session.
    :returns: as whom the peer connected; ``None`` where it is no Unix socket, or the system does not say.
    """
    connection = _socket_of(transport)
    if _SO_PEERCRED is None or getattr(connection, "family", None) != socket.AF_UNIX:
        return None
    return PeerCredentials(*_UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, _SO_PEERCRED, _UCRED.size)))


def link_of(transport: Any) -> Link:
    """
    :param transport: of a session.
    :returns: the kind of way to the peer: where a proxy is on it, the worse of the two parts.
    """
    header = _proxied(transport)
    if header is not None and header.source is None:
        return Link.NETWORK
    links = {_link_to(transport.getPeer())}
    connection = _socket_of(transport)
    if connection is not None and connection.family != socket.AF_UNIX:
        try:
            host = connection.getpeername()[0]
        except OSError:
            # It is gone already.
            host = ""
        links.add(_link_to(IPv4Address("TCP", host, 0)))
    return next(link for link in (Link.NETWORK, Link.LOOPBACK, Link.UNIX) if link in links)


def _link_to(peer: IAddress) -> Link:
    if isinstance(peer, UNIXAddress):
        return Link.UNIX
    address = ip_of(peer)
    return Link.LOOPBACK if address is not None and address.is_loopback else Link.NETWORK
