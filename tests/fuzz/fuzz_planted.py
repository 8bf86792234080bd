"""Defects that one could write in good faith, to see that they are found."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any
from unittest import mock

import fuzz_content
import fuzz_replies

from lmtp_twisted import receiving
from lmtp_twisted.extensions import auth
from lmtp_twisted.wire import addresses, attributes, commands, parameters, proxy
from lmtp_twisted.wire.content import ChunkDecoder, DataDecoder
from lmtp_twisted.wire.proxy import ProxyHeader


class HoldsNothingBack(DataDecoder):
    """An end mark in two segments is none."""

    __slots__ = ()

    def _hold_back(self, data: bytes) -> bytes:
        return data


class CountsSegments(ChunkDecoder):
    """What follows the chunk in its last segment is lost."""

    __slots__ = ()

    def feed(self, data: bytes) -> bytes:
        decoded = super().feed(data)
        if self.rest:
            self.rest = b""
        return decoded


#: By target: what is replaced in which module, and by what.
PLANTED: Mapping[str, tuple[ModuleType, str, Any]] = {
    # The line ends of Unicode are forgotten.
    "addresses": (addresses, "CONTROL_CHARACTERS", re.compile("[\x00-\x1f\x7f-\x9f]")),
    # Control characters come through where they are encoded.
    "parameters": (parameters, "_decode", lambda octets: octets.decode("utf-8")),
    # A bracket within quotes ends the path.
    "commands": (commands, "_PATH", re.compile(rb"<([^<>]*)>")),
    "content": (fuzz_content, "DataDecoder", HoldsNothingBack),
    "chunks": (fuzz_content, "ChunkDecoder", CountsSegments),
    # What Python can print is not what a reply can hold.
    "replies": (fuzz_replies, "printable", lambda text, limit=510: text[:limit]),
    # Whatever stands where an address belongs.
    "attributes": (attributes, "_CHECKS", {}),
    # The two ends are mistaken for each other.
    "proxy": (proxy, "ProxyHeader", lambda length, source=None, other=None: ProxyHeader(length, other, source)),
    # Python's decoder has its own words for what is no base64.
    "auth": (auth, "_BASE64", re.compile(rb"[A-Za-z0-9+/=]*")),
    "session": (receiving, "DataDecoder", HoldsNothingBack),
}


@contextmanager
def planted(target: str) -> Iterator[None]:
    """While it lasts, what the target is about is broken."""
    module, name, broken = PLANTED[target]
    with mock.patch.object(module, name, broken):
        yield
