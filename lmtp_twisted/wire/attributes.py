"""
The arguments of XCLIENT and XFORWARD, as Postfix's readmes have them: attributes with values in xtext.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import IPv6Address, ip_address

from lmtp_twisted.errors import CommandError
from lmtp_twisted.wire.parameters import decode_xtext

#: What XCLIENT takes, in the order in which it is announced.
XCLIENT = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT")
#: What XFORWARD takes.
XFORWARD = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE")

#: Characters of a value, decoded.
MAX_VALUE = 255

_ATTRIBUTE = re.compile(rb"([A-Za-z]+)=([^ =]+)")
_UNKNOWN = frozenset({"[UNAVAILABLE]", "[TEMPUNAVAIL]"})
_VALUES = {"PROTO": frozenset({"SMTP", "ESMTP", "LMTP"}), "SOURCE": frozenset({"LOCAL", "REMOTE"})}


def parse_attributes(argument: bytes, known: tuple[str, ...]) -> dict[str, str | None]:
    """
    :param argument: for example ``b"ADDR=192.0.2.1 NAME=[UNAVAILABLE]"``.
    :param known: the attributes that there are.
    :returns: by name, in upper case: the value, decoded and without control characters; ``None`` for one that
        the client does not know. Addresses are plain: without ``IPV6:``. Ports are numbers.
    :raises CommandError: ``501 5.5.4``.
    """
    values: dict[str, str | None] = {}
    for part in filter(None, argument.split(b" ")):
        match = _ATTRIBUTE.fullmatch(part)
        name = match[1].decode("ascii").upper() if match else ""
        if match is None or name not in known:
            raise CommandError(501, "5.5.4", "Attribute not recognised")
        if name in values:
            raise CommandError(501, "5.5.4", f"{name} given twice")
        values[name] = _value(name, match[2])
    if not values:
        raise CommandError(501, "5.5.4", "Attributes are needed")
    return values


def _value(name: str, octets: bytes) -> str | None:
    text = decode_xtext(octets)
    if text.upper() in _UNKNOWN:
        return None
    try:
        if name in _CHECKS:
            text = _CHECKS[name](text)
        elif name in _VALUES and text.upper() not in _VALUES[name]:
            raise ValueError
        if len(text) > MAX_VALUE:
            raise ValueError
    except ValueError:
        raise CommandError(501, "5.5.4", f"Bad value of {name}")
    return text


def _address(text: str) -> str:
    if "%" in text:
        raise ValueError
    if text.upper().startswith("IPV6:"):
        return str(IPv6Address(text[len("IPV6:") :]))
    return str(ip_address(text))


def _port(text: str) -> str:
    if not re.fullmatch("[0-9]{1,5}", text, re.ASCII) or int(text) > 65535:
        raise ValueError
    return str(int(text))


_CHECKS: Mapping[str, Callable[[str], str]] = {
    "ADDR": _address,
    "DESTADDR": _address,
    "PORT": _port,
    "DESTPORT": _port,
}
