"""
The header of the PROXY protocol, version 1 and 2: with it a proxy such as HAProxy says whose connection it passes on
(HAProxy's ``proxy-protocol.txt``; the sections cited here are its).

Only what the specification allows is taken: a receiver must not guess, since what it guesses wrongly is an address that
anybody could have chosen. TLVs are skipped.
"""

from __future__ import annotations

import re
import struct
from ipaddress import AddressValueError, IPv4Address, IPv6Address

import attrs

from lmtp_twisted.errors import ProxyHeaderError

#: Octets of a header of version 1, with its CR LF (§2.1).
LONGEST_V1 = 107
#: Octets of a header of version 2 with its TLVs. The specification allows 65,551, and senders make a few hundred.
LONGEST_V2 = 4096
#: What a header of version 2 begins with (§2.2).
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"

_V1 = b"PROXY "
_FIXED = 16
_VERSION = 0x20
_LOCAL, _PROXY = 0, 1
# Of both, 0 is "unspecified".
_FAMILIES = range(4)
_PROTOCOLS = range(3)
_INET_STREAM, _INET6_STREAM, _UNIX_STREAM = 0x11, 0x21, 0x31
# The two addresses, and the ports where there are any.
_LAYOUTS = {
    _INET_STREAM: struct.Struct("!4s4sHH"),
    _INET6_STREAM: struct.Struct("!16s16sHH"),
    _UNIX_STREAM: struct.Struct("!108s108s"),
}

_OCTET = rb"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_HOSTS = {b"TCP4": rb"%b(?:\.%b){3}" % (_OCTET, _OCTET), b"TCP6": rb"[0-9A-Fa-f:.]+"}
_PORT = rb"(0|[1-9]\d{0,4})"
_ADDRESSES = {name: re.compile(rb" (%b) (%b) %b %b" % (host, host, _PORT, _PORT)) for name, host in _HOSTS.items()}


@attrs.frozen
class InetEnd:
    """
    An end of a TCP connection.

    :ivar host: an IPv4 or IPv6 address in its usual form.
    :ivar port: from 0 to 65535.
    """

    host: str
    port: int


@attrs.frozen
class UnixEnd:
    """
    An end of a connection over a Unix socket.

    :ivar name: the path; ``None`` where the end has none, or one that is not in the file system.
    """

    name: bytes | None


@attrs.frozen
class ProxyHeader:
    """
    :ivar length: octets; what follows them is the connection's.
    :ivar source: the client; ``None`` where the ends of the real connection are meant.
    :ivar destination: where it connected to; ``None`` as well.
    :ivar is_of_proxy: whether it is the proxy's own connection (LOCAL). Without it, and without a source, it is that of
        somebody whom the proxy does not name.
    """

    length: int
    source: InetEnd | UnixEnd | None = None
    destination: InetEnd | UnixEnd | None = None
    is_of_proxy: bool = False


def read_proxy_header(data: bytes) -> ProxyHeader | None:
    """
    :param data: all that has come on a connection so far.
    :returns: the header, or ``None`` where more has to come.
    :raises ProxyHeaderError: as soon as it is clear that this is none, or none that is valid.
    """
    if data[: len(SIGNATURE)] == SIGNATURE[: len(data)]:
        return _read_v2(data)
    if data[: len(_V1)] == _V1[: len(data)]:
        return _read_v1(data)
    raise ProxyHeaderError(f"no header, but {data[:8]!r}")


def _read_v1(data: bytes) -> ProxyHeader | None:
    """§2.1."""
    end = data.find(b"\r\n", 0, LONGEST_V1)
    # Neither of the two alone ends the line, nor is it anything else.
    line = data[:end] if end >= 0 else data[:LONGEST_V1].removesuffix(b"\r")
    if b"\n" in line or b"\r" in line:
        raise ProxyHeaderError("CR or LF alone in the header")
    if end < 0:
        if len(data) >= LONGEST_V1:
            raise ProxyHeaderError("the header does not end")
        return None
    length = end + 2
    name = line[len(_V1) :].partition(b" ")[0]
    if name == b"UNKNOWN":
        # Whatever follows is to be ignored.
        return ProxyHeader(length)
    pattern = _ADDRESSES.get(name)
    if pattern is None:
        raise ProxyHeaderError("neither TCP4 nor TCP6 nor UNKNOWN")
    match = pattern.fullmatch(line, len(_V1) + len(name))
    if match is None:
        raise ProxyHeaderError("not two addresses and two ports")
    source, destination, source_port, destination_port = (field.decode("ascii") for field in match.groups())
    spelled = _ipv6_of_text if name == b"TCP6" else str
    return ProxyHeader(
        length,
        InetEnd(spelled(source), _port_of_text(source_port)),
        InetEnd(spelled(destination), _port_of_text(destination_port)),
    )


def _ipv6_of_text(text: str) -> str:
    try:
        return _ipv6(IPv6Address(text))
    except AddressValueError:
        raise ProxyHeaderError("not an IPv6 address")


def _ipv6(address: IPv6Address) -> str:
    # As inet_ntop(3) writes it: Python did not before 3.13.
    mapped = address.ipv4_mapped
    return address.compressed if mapped is None else f"::ffff:{mapped}"


def _port_of_text(text: str) -> int:
    port = int(text)
    if port > 65535:
        raise ProxyHeaderError("a port beyond 65535")
    return port


def _read_v2(data: bytes) -> ProxyHeader | None:
    """§2.2."""
    if len(data) > 12 and data[12] not in (_VERSION | _LOCAL, _VERSION | _PROXY):
        raise ProxyHeaderError(f"version and command {data[12]:#04x} are unknown")
    if len(data) < _FIXED:
        return None
    command, family = data[12] & 0x0F, data[13]
    if command == _PROXY and (family >> 4 not in _FAMILIES or family & 0x0F not in _PROTOCOLS):
        raise ProxyHeaderError(f"family and protocol {family:#04x} are unknown")
    length = _FIXED + int.from_bytes(data[14:16], "big")
    if length > LONGEST_V2:
        raise ProxyHeaderError(f"a header of {length} octets")
    layout = _LAYOUTS.get(family) if command == _PROXY else None
    if layout is not None and length < _FIXED + layout.size:
        raise ProxyHeaderError("no room for the addresses")
    if len(data) < length:
        return None
    # LOCAL is the proxy itself, and its family is to be ignored. What is no stream cannot be this connection.
    if layout is None:
        return ProxyHeader(length, is_of_proxy=command == _LOCAL)
    source, destination, *ports = layout.unpack_from(data, _FIXED)
    if not ports:
        return ProxyHeader(length, _unix_end(source), _unix_end(destination))
    text = _ipv6_of_octets if family == _INET6_STREAM else _ipv4_of_octets
    return ProxyHeader(length, InetEnd(text(source), ports[0]), InetEnd(text(destination), ports[1]))


def _ipv4_of_octets(octets: bytes) -> str:
    return str(IPv4Address(octets))


def _ipv6_of_octets(octets: bytes) -> str:
    return _ipv6(IPv6Address(octets))


def _unix_end(octets: bytes) -> UnixEnd:
    """A name that begins with NUL is one of Linux's abstract ones (unix(7)): no path."""
    return UnixEnd(octets.partition(b"\0")[0] or None)
