"""XCLIENT and XFORWARD: what was parsed is held against a plain reading, and written and parsed again."""

from __future__ import annotations

import re
import socket

from fuzz_addresses import check_text
from fuzz_parameters import parsed_or_refused, xtext

from lmtp_twisted.wire.attributes import MAX_VALUE, XCLIENT, XFORWARD, parse_attributes
from lmtp_twisted.wire.parameters import decode_xtext


def attributes(data: bytes) -> None:
    """Any octets behind either verb."""
    for known in (XCLIENT, XFORWARD):
        parsed = parsed_or_refused(lambda argument, known=known: parse_attributes(argument, known), data)
        assert (parsed is None) == (not _is_allowed(data, known))
        if parsed is None:
            continue
        assert len(parsed) == len(data.split())
        for name, value in parsed.items():
            assert name in known
            if value is not None:
                _check_value(name, value)
        # Neither the order nor the letter case of names says anything, and an address may say which kind it is.
        written = [
            name.lower().encode() + b"=" + (b"[unavailable]" if value is None else _written(name, value))
            for name, value in reversed(parsed.items())
        ]
        assert parse_attributes(b"  ".join(written), known) == parsed


def _check_value(name: str, value: str) -> None:
    check_text(value)
    assert 0 < len(value) <= MAX_VALUE
    if name.endswith("ADDR"):
        assert _is_address(value)
        assert "%" not in value
    elif name.endswith("PORT"):
        assert str(int(value)) == value
        assert 0 <= int(value) <= 65535


def _written(name: str, value: str) -> bytes:
    return xtext(f"IPv6:{value}" if name.endswith("ADDR") and ":" in value else value)


def _is_allowed(data: bytes, known: tuple[str, ...]) -> bool:
    if re.search(rb"[^ -~]", data):
        return False
    names = []
    for part in filter(None, data.split(b" ")):
        name, equals, value = part.partition(b"=")
        text = parsed_or_refused(decode_xtext, value)
        names.append(name.decode().upper())
        if names[-1] not in known or not equals or not text or not _is_value(names[-1], text):
            return False
    return 0 < len(names) == len(set(names))


def _is_value(name: str, text: str) -> bool:
    if text.upper() in ("[UNAVAILABLE]", "[TEMPUNAVAIL]"):
        return True
    if name.endswith("ADDR"):
        is_marked = text[:5].upper() == "IPV6:"
        return _is_address(text[5:], socket.AF_INET6) if is_marked else _is_address(text)
    if name.endswith("PORT"):
        return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535
    words = {"PROTO": "SMTP ESMTP LMTP", "SOURCE": "LOCAL REMOTE"}.get(name)
    return len(text) <= MAX_VALUE if words is None else text.upper() in words.split()


def _is_address(text: str, *families: int) -> bool:
    for family in families or (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, text)
        except (OSError, ValueError):
            continue
        return True
    return False
