"""Peers that may say who they speak for (XCLIENT and XFORWARD): networks, and the Unix sockets of this machine."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

import attrs
from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IAddress

#: The word for all clients of Unix sockets.
UNIX = "unix"

# Bits before an IPv4 address that IPv6 wraps.
_WRAPPED = 96


def ip_of(peer: IAddress) -> IPv4Address | IPv6Address | None:
    """
    :returns: the peer's IP address, an IPv4 address that IPv6 wraps as itself; ``None`` where it has none.
    """
    try:
        address = ip_address(str(getattr(peer, "host", "")).partition("%")[0])
    except ValueError:
        return None
    wrapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if wrapped is None else wrapped


def _unwrapped(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    """One of IPv4 that IPv6 wraps as itself."""
    if isinstance(network, IPv6Network) and network.prefixlen >= _WRAPPED:
        address = network.network_address.ipv4_mapped
        if address is not None:
            return IPv4Network((address, network.prefixlen - _WRAPPED))
    return network


@attrs.frozen
class Trust:
    """
    :ivar networks: whose peers are trusted.
    :ivar unix: whether those of Unix sockets are.
    """

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    unix: bool = False

    @classmethod
    def of(cls, names: Any) -> Trust:
        """
        :param names: each a network such as ``192.0.2.0/24``, an address or ``unix``; or one of these; or a ``Trust``.
        :raises ValueError: for what is none of these, in one line.
        """
        if isinstance(names, Trust):
            return names
        chosen = [names] if isinstance(names, str) else list(names)
        return cls(
            tuple(_unwrapped(ip_network(name)) for name in chosen if name != UNIX),
            UNIX in chosen,
        )

    def covers(self, peer: IAddress) -> bool:
        """Whether a peer is trusted."""
        if isinstance(peer, UNIXAddress):
            return self.unix
        address = ip_of(peer) if self.networks else None
        return address is not None and any(address in network for network in self.networks)
