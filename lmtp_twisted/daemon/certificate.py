"""
The daemon's certificate and key, read anew when their files change, so that a certificate that is renewed needs no new
start. TLS 1.2 is the least that is spoken.
"""

from __future__ import annotations

import os
from typing import Any

import attrs
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509 import Certificate as X509
from cryptography.x509 import load_pem_x509_certificates
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.ssl import Certificate, CertificateOptions, TLSVersion
from twisted.logger import Logger
from zope.interface import implementer

_log = Logger(namespace="lmtp_twisted")


class ClientCAError(ValueError):
    """It is not the server's own certificate that will not do, but those of its clients' authorities."""


@attrs.frozen
class CertificateFiles:
    """
    Where they are, all in PEM.

    :ivar certificate: the server's, those that lead from it to the root's behind it.
    :ivar key: the private key, without a passphrase.
    :ivar client_ca: whose certificates clients may have; ``None`` asks for none.
    :ivar requires_client: whether a client without one is refused.
    """

    certificate: str
    key: str
    client_ca: str | None = None
    requires_client: bool = False

    def signature(self) -> tuple[object, ...]:
        """
        Changes when one of the files does.

        :raises OSError: where one is not there.
        """
        paths = [self.certificate, self.key, *([self.client_ca] if self.client_ca is not None else [])]
        found = [os.stat(path) for path in paths]
        return tuple((status.st_ino, status.st_size, status.st_mtime_ns) for status in found)


@implementer(IOpenSSLServerConnectionCreator)
class ReloadedCertificate:
    """
    Makes TLS connections with what the files held when they were last read.

    :param files: the files.
    :raises ValueError: where they cannot be read or do not fit together, in one line.
    """

    def __init__(self, files: CertificateFiles) -> None:
        self._files = files
        self._context, self._signature = _load(files)

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """See :class:`~twisted.internet.interfaces.IOpenSSLServerConnectionCreator`."""
        return SSL.Connection(self._context, None)

    def look(self) -> None:
        """
        Read the files if they have changed; where they are wrong the old ones stay in use, and the log says why, once
        for each change. Blocks: for threads.
        """
        try:
            signature: tuple[object, ...] = self._files.signature()
        except OSError as error:
            signature = (str(error),)
        if signature == self._signature:
            return
        try:
            self._context, self._signature = _load(self._files)
        except ValueError as error:
            self._signature = signature
            _log.error("the old certificate stays in use: {error}", error=str(error))
        else:
            _log.info("the certificate {path} was read anew", path=self._files.certificate)


def _load(files: CertificateFiles) -> tuple[SSL.Context, tuple[object, ...]]:
    try:
        # Before the files are read: a change while they are is seen at the next look.
        signature = files.signature()
        own, *chain = _certificates(files.certificate)
        key = _private_key(files.key)
    except OSError as error:
        raise ValueError(f"{error.filename}: {error.strerror}")
    try:
        trusted = None if files.client_ca is None else _wrapped(_certificates(files.client_ca))
    except OSError as error:
        raise ClientCAError(f"{error.filename}: {error.strerror}")
    except ValueError as error:
        raise ClientCAError(str(error))
    try:
        options = CertificateOptions(
            privateKey=key,
            certificate=own,  # type: ignore[arg-type]  # pyOpenSSL takes those of cryptography, and prefers them
            extraCertChain=chain,  # type: ignore[arg-type]
            raiseMinimumTo=TLSVersion.TLSv1_2,
            verify=trusted is not None,
            caCerts=trusted,
            requireCertificate=files.requires_client,
        )
        return options.getContext(), signature
    except SSL.Error:
        raise ValueError(f"{files.key} is not the key of {files.certificate}")


def _certificates(path: str) -> list[X509]:
    with open(path, "rb") as file:
        data = file.read()
    try:
        return load_pem_x509_certificates(data)
    except ValueError:
        raise ValueError(f"{path} holds no certificate in PEM")


def _wrapped(certificates: list[X509]) -> list[Any]:
    """As Twisted wants those that it trusts."""
    return [Certificate.loadPEM(one.public_bytes(Encoding.PEM)).original for one in certificates]


def _private_key(path: str) -> Any:
    with open(path, "rb") as file:
        data = file.read()
    try:
        return load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError(f"{path} holds no private key in PEM that needs no passphrase")
