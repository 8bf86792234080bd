"""Headers of the PROXY protocol: held against a plain reading, and the same however much of them has come."""

from __future__ import annotations

import re
import socket
from ipaddress import IPv6Address
from struct import Struct

from fuzz_addresses import check_words

from lmtp_twisted.errors import ProxyHeaderError
from lmtp_twisted.wire.proxy import LONGEST_V1, LONGEST_V2, SIGNATURE, InetEnd, UnixEnd, read_proxy_header

_Ends = tuple[InetEnd | UnixEnd | None, InetEnd | UnixEnd | None]
_FAMILIES = {1: socket.AF_INET, 2: socket.AF_INET6}


def proxy(data: bytes) -> None:
    """Any octets at the beginning of a connection."""
    for end in range(len(data) + 1):
        try:
            header = read_proxy_header(data[:end])
        except ProxyHeaderError as error:
            check_words(str(error))
            # It is not taken back, and nothing that could be a header was refused.
            assert _refuses(data)
            assert _expected(data) is None
            return
        if header is not None:
            # As soon as the last octet of it is there; what follows it is not its business.
            assert header.length == end
            assert header == read_proxy_header(data)
            assert (header.source, header.destination) == _expected(data[:end])
            return
        assert end < LONGEST_V2
        assert end < LONGEST_V1 or data.startswith(SIGNATURE)
    assert _expected(data) is None


def _refuses(data: bytes) -> bool:
    try:
        read_proxy_header(data)
    except ProxyHeaderError:
        return True
    return False


def _expected(data: bytes) -> _Ends | None:
    """What a header that is complete says; ``None`` where it is none."""
    return _expected_v2(data) if data.startswith(SIGNATURE) else _expected_v1(data)


def _expected_v1(data: bytes) -> _Ends | None:
    line, newline, _ = data.partition(b"\r\n")
    if not newline or len(line) + 2 > LONGEST_V1 or b"\r" in line or b"\n" in line:
        return None
    word, *fields = line.decode("latin-1").split(" ")
    if word != "PROXY" or not fields:
        return None
    name, *fields = fields
    if name == "UNKNOWN":
        return None, None
    family = {"TCP4": socket.AF_INET, "TCP6": socket.AF_INET6}.get(name)
    if family is None or len(fields) != 4:
        return None
    hosts, ports = fields[:2], fields[2:]
    if not all(port in map(str, range(65536)) for port in ports):
        return None
    try:
        spelled = [_spelled(family, socket.inet_pton(family, host)) for host in hosts]
    except (OSError, ValueError):
        return None
    return InetEnd(spelled[0], int(ports[0])), InetEnd(spelled[1], int(ports[1]))


def _expected_v2(data: bytes) -> _Ends | None:
    if len(data) < 16 or data[12] not in (0x20, 0x21):
        return None
    body = data[16 : 16 + int.from_bytes(data[14:16], "big")]
    if len(body) < int.from_bytes(data[14:16], "big") or len(body) + 16 > LONGEST_V2:
        return None
    if data[12] == 0x20:
        return None, None
    family, protocol = divmod(data[13], 16)
    if family > 3 or protocol > 2:
        return None
    if family == 0 or protocol != 1:
        return None, None
    if family == 3:
        names = body[:108], body[108:216]
        if len(names[1]) < 108:
            return None
        source, destination = (UnixEnd(name[: (name + b"\0").index(b"\0")] or None) for name in names)
        return source, destination
    size = 4 if family == 1 else 16
    layout = Struct(f"!{size}s{size}sHH")
    if len(body) < layout.size:
        return None
    here, there, *ports = layout.unpack_from(body)
    return (
        InetEnd(_spelled(_FAMILIES[family], here), ports[0]),
        InetEnd(_spelled(_FAMILIES[family], there), ports[1]),
    )


def _spelled(family: int, octets: bytes) -> str:
    text = socket.inet_ntop(family, octets)
    # A deprecated form of IPv4 in IPv6 that is not worth a spelling of its own (RFC 4291 §2.5.5.1).
    return IPv6Address(octets).compressed if re.match(r"::\d+\.", text) else text
