"""TLS of a client: whom it trusts, and who it is. TLS 1.2 is the least that is spoken."""

from __future__ import annotations

from typing import Any

import attrs
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates
from OpenSSL import SSL, crypto
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    TLSVersion,
    optionsForClientTLS,
    trustRootFromCertificates,
)
from zope.interface import implementer

_BEGIN = b"-----BEGIN CERTIFICATE-----"


@attrs.frozen(kw_only=True)
class ClientTLS:
    """
    :ivar verifies: whether the server's certificate has to be one of an authority that is trusted, and for its name.
        Without that the way is encrypted, but who is at its end is not known.
    :ivar authorities: certificates in PEM that are trusted in place of the system's.
    :ivar server_name: the name that the certificate is for; ``None`` is the host that is connected to.
    :ivar certificate: our own certificate and its private key, in PEM.
    """

    verifies: bool = True
    authorities: bytes | None = None
    server_name: str | None = None
    certificate: bytes | None = attrs.field(default=None, repr=False)

    def __attrs_post_init__(self) -> None:
        # What is wrong with them is to be seen at once, and not at the first message.
        if self.authorities is not None:
            _authorities(self.authorities)
        _own(self.certificate)

    def connection_creator(self, host: str | None) -> Any:
        """
        :param host: that was connected to, where it has a name.
        :raises ValueError: where there is no name that the certificate could be for.
        """
        name = self.server_name or host
        options = {"raiseMinimumTo": TLSVersion.TLSv1_2, **_own(self.certificate)}
        if not self.verifies:
            return _Unverified(name, CertificateOptions(verify=False, **options).getContext())
        if name is None:
            raise ValueError("the server's certificate cannot be verified: which name is it for?")
        trusted = None if self.authorities is None else _authorities(self.authorities)
        return optionsForClientTLS(name, trusted, extraCertificateOptions=options)


def _authorities(pem: bytes) -> Any:
    texts = [_BEGIN + text for text in pem.split(_BEGIN)[1:]]
    if not texts:
        raise ValueError("no certificate in PEM")
    try:
        return trustRootFromCertificates([Certificate.loadPEM(text) for text in texts])
    except (SSL.Error, crypto.Error):
        raise ValueError("no certificate in PEM")


def _own(pem: bytes | None) -> dict[str, Any]:
    """Our key and certificate, and those that lead from it to the root's, as Twisted takes them."""
    if pem is None:
        return {}
    try:
        own, *chain = load_pem_x509_certificates(pem)
        key = load_pem_private_key(pem, None)
        found: dict[str, Any] = {"privateKey": key, "certificate": own, "extraCertChain": chain}
        # What does not fit together is seen when a context is made.
        CertificateOptions(verify=False, **found).getContext()
    except (ValueError, TypeError, UnsupportedAlgorithm, SSL.Error):
        raise ValueError("no certificate with its private key, both in PEM and without a passphrase")
    return found


@implementer(IOpenSSLClientConnectionCreator)
@attrs.frozen
class _Unverified:
    """To anybody."""

    name: str | None
    context: SSL.Context

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """See :class:`~twisted.internet.interfaces.IOpenSSLClientConnectionCreator`."""
        connection = SSL.Connection(self.context, None)
        if self.name is not None and not (isIPAddress(self.name) or isIPv6Address(self.name)):
            connection.set_tlsext_host_name(self.name.encode("idna"))
        return connection
