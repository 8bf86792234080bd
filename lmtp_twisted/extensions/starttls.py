"""
TLS, as a session sees it (RFC 3207). The command is :class:`~lmtp_twisted.negotiation.Negotiator`'s, the change of the
transport :mod:`lmtp_twisted.flow`'s.
"""

from __future__ import annotations

import re
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from lmtp_twisted.session import TLSInfo

# Nothing else of what a client sends there is for logs and paths.
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_LONGEST_HOST = 253


def facts_of(transport: Any) -> TLSInfo:
    """
    :param transport: an :class:`~twisted.internet.interfaces.ISSLTransport` whose handshake is over.
    """
    connection = transport.getHandle()
    certificate = connection.get_peer_certificate(as_cryptography=True)
    return TLSInfo(
        version=str(connection.get_protocol_version_name()),
        cipher=str(connection.get_cipher_name()),
        peer_certificate=None if certificate is None else certificate.public_bytes(Encoding.DER),
        server_name=_host(connection.get_servername() or b""),
    )


def _host(octets: bytes) -> str | None:
    name = octets.decode("latin-1").lower()
    return name if len(name) <= _LONGEST_HOST and _HOST.fullmatch(name) else None
