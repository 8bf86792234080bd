"""Headers of the PROXY protocol: HAProxy's proxy-protocol.txt, whose sections are cited here."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmtp_twisted.errors import ProxyHeaderError
from lmtp_twisted.wire.proxy import (
    LONGEST_V1,
    LONGEST_V2,
    SIGNATURE,
    InetEnd,
    ProxyHeader,
    UnixEnd,
    read_proxy_header,
)

IPV4 = b"\xc0\x00\x02\x01\xc6\x33\x64\x02" + struct.pack("!HH", 4711, 24)
IPV6 = socket.inet_pton(socket.AF_INET6, "2001:db8::1") + socket.inet_pton(socket.AF_INET6, "::1") + IPV4[8:]


def v2(body: bytes = b"", *, command: int = 0x21, family: int = 0x11, length: int | None = None) -> bytes:
    """A header of version 2."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(body) if length is None else length) + body


def unix(source: bytes, destination: bytes) -> bytes:
    """A header of version 2 with two Unix sockets."""
    return v2(struct.pack("!108s108s", source, destination), family=0x31)


INET_ENDS = InetEnd("192.0.2.1", 4711), InetEnd("198.51.100.2", 24)
INET6_ENDS = InetEnd("2001:db8::1", 4711), InetEnd("::1", 24)
GOOD = {
    "v1 TCP4": (b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 24\r\n", INET_ENDS),
    "v1 TCP6": (b"PROXY TCP6 2001:DB8:0:0:0:0:0:1 ::1 4711 24\r\n", INET6_ENDS),
    "v1 TCP6 of IPv4": (
        b"PROXY TCP6 ::ffff:192.0.2.1 ::FFFF:c633:6402 4711 24\r\n",
        (InetEnd("::ffff:192.0.2.1", 4711), InetEnd("::ffff:198.51.100.2", 24)),
    ),
    "v1 extremes": (
        b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n",
        (InetEnd("0.0.0.0", 0), InetEnd("255.255.255.255", 65535)),
    ),
    "v1 UNKNOWN": (b"PROXY UNKNOWN\r\n", (None, None)),
    "v1 UNKNOWN, longest": (b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n", (None, None)),
    "v2 IPv4": (v2(IPV4), INET_ENDS),
    "v2 IPv4 and TLVs": (v2(IPV4 + b"\x04\x00\x03abc\x05\x00\x00"), INET_ENDS),
    "v2 IPv6": (v2(IPV6, family=0x21), INET6_ENDS),
    "v2 Unix": (unix(b"/run/a", b"/run/b"), (UnixEnd(b"/run/a"), UnixEnd(b"/run/b"))),
    "v2 Unix, longest": (unix(b"a" * 108, b"b\0c"), (UnixEnd(b"a" * 108), UnixEnd(b"b"))),
    "v2 Unix, no name and an abstract one": (unix(b"", b"\0abstract"), (UnixEnd(None), UnixEnd(None))),
    "v2 LOCAL": (v2(command=0x20, family=0), (None, None)),
    "v2 LOCAL, whatever follows": (v2(b"anything", command=0x20, family=0xFF), (None, None)),
    "v2 LOCAL with addresses": (v2(IPV4, command=0x20), (None, None)),
    "v2 unspecified": (v2(family=0), (None, None)),
    "v2 unspecified family": (v2(b"x", family=0x01), (None, None)),
    "v2 unspecified protocol": (v2(IPV4, family=0x10), (None, None)),
    "v2 datagrams": (v2(IPV4, family=0x12), (None, None)),
    "v2 longest": (v2(IPV4 + bytes(LONGEST_V2 - 28)), INET_ENDS),
}
BAD = {
    "LMTP": b"LHLO c\r\n",
    "TLS": b"\x16\x03\x01\x02\x00",
    "HTTP": b"GET / HTTP/1.1\r\n",
    "nothing but CR LF": b"\r\nx",
    "lower case": b"proxy TCP4",
    "PROXY alone": b"PROXY\r\n",
    "two blanks": b"PROXY  TCP4 192.0.2.1 198.51.100.2 4711 24\r\n",
    "another protocol": b"PROXY UDP4 192.0.2.1 198.51.100.2 4711 24\r\n",
    "no protocol": b"PROXY \r\n",
    "UNKNOWN run on": b"PROXY UNKNOWNS\r\n",
    "v1 without addresses": b"PROXY TCP4\r\n",
    "v1 without ports": b"PROXY TCP4 192.0.2.1 198.51.100.2\r\n",
    "v1 with one port": b"PROXY TCP4 192.0.2.1 198.51.100.2 4711\r\n",
    "v1 with more": b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 24 1\r\n",
    "v1 with a blank at the end": b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 24 \r\n",
    "v1, two blanks inside": b"PROXY TCP4 192.0.2.1  198.51.100.2 4711 24\r\n",
    "v1, a tab": b"PROXY TCP4 192.0.2.1\t198.51.100.2 4711 24\r\n",
    "v1, 256": b"PROXY TCP4 192.0.2.256 198.51.100.2 4711 24\r\n",
    "v1, a leading zero": b"PROXY TCP4 192.0.02.1 198.51.100.2 4711 24\r\n",
    "v1, three numbers": b"PROXY TCP4 192.0.2 198.51.100.2 4711 24\r\n",
    "v1, a name": b"PROXY TCP4 localhost 198.51.100.2 4711 24\r\n",
    "v1, IPv6 in TCP4": b"PROXY TCP4 ::1 ::1 4711 24\r\n",
    "v1, IPv4 in TCP6": b"PROXY TCP6 192.0.2.1 198.51.100.2 4711 24\r\n",
    "v1, no IPv6": b"PROXY TCP6 1::2::3 ::1 4711 24\r\n",
    "v1, five digits": b"PROXY TCP6 ::12345 ::1 4711 24\r\n",
    "v1, a zone": b"PROXY TCP6 fe80::1%eth0 ::1 4711 24\r\n",
    "v1, port 65536": b"PROXY TCP4 192.0.2.1 198.51.100.2 65536 24\r\n",
    "v1, port 00": b"PROXY TCP4 192.0.2.1 198.51.100.2 00 24\r\n",
    "v1, port +1": b"PROXY TCP4 192.0.2.1 198.51.100.2 +1 24\r\n",
    "v1, port -1": b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 -1\r\n",
    "v1, a port in other digits": "PROXY TCP4 192.0.2.1 198.51.100.2 ٣ 24\r\n".encode(),
    "v1, LF alone": b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 24\n",
    "v1, CR alone": b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 24\rx",
    "v1, LF in UNKNOWN": b"PROXY UNKNOWN a\nb\r\n",
    "v1, no end": b"PROXY UNKNOWN " + b"x" * 93,
    "v1, 108 octets": b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    "v2, version 1": SIGNATURE + b"\x11",
    "v2, version 3": SIGNATURE + b"\x31",
    "v2, command 2": SIGNATURE + b"\x22",
    "v2, command 15": SIGNATURE + b"\x2f",
    "v2, family 4": v2(IPV4, family=0x41),
    "v2, protocol 3": v2(IPV4, family=0x13),
    "v2, protocol 3 without family": v2(IPV4, family=0x03),
    "v2, IPv4 too short": v2(IPV4[:-1]),
    "v2, IPv6 too short": v2(IPV6[:-1], family=0x21),
    "v2, Unix too short": v2(bytes(215), family=0x31),
    "v2, no addresses": v2(),
    "v2, too long": v2(length=LONGEST_V2 - 15),
    "v2 LOCAL, too long": v2(command=0x20, family=0, length=0xFFFF),
}


@pytest.mark.parametrize(("data", "ends"), GOOD.values(), ids=GOOD)
def test_a_header_says_whose_connection_it_is(
    data: bytes, ends: tuple[InetEnd | UnixEnd | None, InetEnd | UnixEnd | None]
) -> None:
    """§2.1, §2.2."""
    is_local = data.startswith(SIGNATURE + b"\x20")
    assert read_proxy_header(data) == ProxyHeader(len(data), *ends, is_of_proxy=is_local)


@pytest.mark.parametrize("data", [data for data, _ in GOOD.values()], ids=GOOD)
def test_no_part_of_a_header_is_a_header_and_what_follows_it_is_no_part_of_it(data: bytes) -> None:
    """§2: it may come in any number of segments."""
    for end in range(len(data)):
        assert read_proxy_header(data[:end]) is None, data[:end]
    whole = read_proxy_header(data)
    for rest in (b"L", b"\r\n", b"\n", data, bytes(5000)):
        assert read_proxy_header(data + rest) == whole


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_what_is_no_header_is_refused(data: bytes) -> None:
    """§2.1, §2.2: any sequence that does not match exactly."""
    with pytest.raises(ProxyHeaderError) as caught:
        read_proxy_header(data)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "data", [b"L", b"PROXY\t", b"\r\n\r\n\0\r\nQUIT\r", SIGNATURE + b"\x22", b"PROXY T\n", b"PROXY U\rx"]
)
def test_it_is_refused_as_soon_as_that_is_clear(data: bytes) -> None:
    """§2.1: as early as possible."""
    assert read_proxy_header(data[:-1]) is None
    with pytest.raises(ProxyHeaderError):
        read_proxy_header(data)


def test_the_longest_headers_are_as_long_as_the_limits() -> None:
    """§2.1: 107 octets for version 1."""
    assert len(GOOD["v1 UNKNOWN, longest"][0]) == LONGEST_V1 == 107
    assert len(GOOD["v2 longest"][0]) == LONGEST_V2


PIECES = st.sampled_from(
    [b"PROXY", b" ", b"TCP4", b"TCP6", b"UNKNOWN", b"192.0.2.1", b"::1", b"24", b"\r", b"\n", b"\r\n", b"\0", b"\x21"]
)
GARBAGE = st.one_of(
    st.binary(max_size=200),
    st.lists(PIECES, max_size=14).map(b"".join),
    st.binary(max_size=60).map(lambda data: SIGNATURE + data),
    st.tuples(st.sampled_from([0x20, 0x21]), st.integers(0, 255), st.binary(max_size=300)).map(
        lambda parts: v2(parts[2], command=parts[0], family=parts[1])
    ),
)


@given(GARBAGE)
def test_whatever_comes_is_a_header_or_the_beginning_of_one_or_refused(data: bytes) -> None:
    """Nothing else happens, and what is decided once stays so however much follows."""
    try:
        header = read_proxy_header(data)
    except ProxyHeaderError:
        with pytest.raises(ProxyHeaderError):
            read_proxy_header(data + b"x")
        return
    if header is None:
        assert len(data) < LONGEST_V2
    else:
        assert 0 < header.length <= len(data)
        assert read_proxy_header(data[: header.length] + b"x") == header
