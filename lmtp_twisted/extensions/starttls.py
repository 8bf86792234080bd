"""
TLS, as a session sees it (RFC 3207). The command is :class:`~lmtp_twisted.protocol.LMTPProtocol`'s, the change of the
transport :mod:`lmtp_twisted.flow`'s.
"""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from lmtp_twisted.session import TLSInfo


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
    )
