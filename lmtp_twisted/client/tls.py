"""TLS of a client: whom it trusts, and who it is. TLS 1.2 is the least that is spoken."""

from __future__ import annotations

from typing import Any

import attrs
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    PrivateCertificate,
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
        if self.certificate is not None:
            _own(self.certificate)

    def connection_creator(self, host: str | None) -> Any:
        """
        :param host: that was connected to, where it has a name.
        :raises ValueError: where there is no name that the certificate could be for.
        """
        name = self.server_name or host
        own = None if self.certificate is None else _own(self.certificate)
        if not self.verifies:
            return _Unverified(name, own)
        if name is None:
            raise ValueError("the server's certificate cannot be verified: which name is it for?")
        return optionsForClientTLS(
            name,
            None if self.authorities is None else _authorities(self.authorities),
            own,
            extraCertificateOptions={"raiseMinimumTo": TLSVersion.TLSv1_2},
        )


def _authorities(pem: bytes) -> Any:
    texts = [_BEGIN + text for text in pem.split(_BEGIN)[1:]]
    if not texts:
        raise ValueError("no certificate in PEM")
    try:
        return trustRootFromCertificates([Certificate.loadPEM(text) for text in texts])
    except (SSL.Error, crypto.Error):
        raise ValueError("no certificate in PEM")


def _own(pem: bytes) -> PrivateCertificate:
    try:
        own: PrivateCertificate = PrivateCertificate.loadPEM(pem)
    except (SSL.Error, crypto.Error):
        raise ValueError("no certificate with its private key, both in PEM and without a passphrase")
    return own


@implementer(IOpenSSLClientConnectionCreator)
class _Unverified:
    """To anybody."""

    def __init__(self, name: str | None, own: PrivateCertificate | None) -> None:
        self._name = name
        keys = {} if own is None else {"privateKey": own.privateKey.original, "certificate": own.original}
        self._context = CertificateOptions(verify=False, raiseMinimumTo=TLSVersion.TLSv1_2, **keys).getContext()

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """See :class:`~twisted.internet.interfaces.IOpenSSLClientConnectionCreator`."""
        connection = SSL.Connection(self._context, None)
        if self._name is not None:
            connection.set_tlsext_host_name(self._name.encode("idna"))
        return connection
