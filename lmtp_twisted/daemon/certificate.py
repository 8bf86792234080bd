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

from lmtp_twisted.daemon.given import PemContents

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

    @property
    def paths(self) -> list[str]:
        """Those that there are."""
        return [self.certificate, self.key, *([self.client_ca] if self.client_ca is not None else [])]

    def signature(self) -> str:
        """
        Changes when one of the files does.

        :raises OSError: where one is not there.
        """
        found = [os.stat(path) for path in self.paths]
        return repr([(status.st_ino, status.st_size, status.st_mtime_ns) for status in found])


@implementer(IOpenSSLServerConnectionCreator)
class ReloadedCertificate:
    """
    Makes TLS connections with what the files held when they were last read.

    :param files: the files.
    :param contents: what they held when somebody else read them.
    :raises ValueError: where they cannot be read or do not fit together, in one line.
    :ivar files: the files.
    :ivar contents: what they held when they were last right.
    """

    def __init__(self, files: CertificateFiles, contents: PemContents | None = None) -> None:
        self.files = files
        self.contents = contents or _read(files)
        self._context = _context_of(files, self.contents)
        self._signature = self.contents.signature

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """See :class:`~twisted.internet.interfaces.IOpenSSLServerConnectionCreator`."""
        return SSL.Connection(self._context, None)

    def look(self) -> None:
        """
        Read the files if they have changed; where they are wrong the old ones stay in use, and the log says why, once
        for each change. Blocks: for threads.
        """
        try:
            signature = self.files.signature()
        except OSError as error:
            signature = str(error)
        if signature == self._signature:
            return
        try:
            contents = _read(self.files)
            self._context = _context_of(self.files, contents)
        except ValueError as error:
            self._signature = signature
            _log.error("the old certificate stays in use: {error}", error=str(error))
        else:
            self.contents, self._signature = contents, contents.signature
            _log.info("the certificate {path} was read anew", path=self.files.certificate)


def _read(files: CertificateFiles) -> PemContents:
    octets: dict[str, bytes] = {}
    try:
        # Before the files are read: a change while they are is seen at the next look.
        signature = files.signature()
        for path in files.paths:
            with open(path, "rb") as file:
                octets[path] = file.read()
    except OSError as error:
        refusal = ClientCAError if error.filename == files.client_ca and octets else ValueError
        raise refusal(f"{error.filename}: {error.strerror}")
    return PemContents(signature, octets)


def _context_of(files: CertificateFiles, contents: PemContents) -> SSL.Context:
    own, *chain = _certificates(files.certificate, contents)
    key = _private_key(files.key, contents)
    try:
        trusted = None if files.client_ca is None else _wrapped(_certificates(files.client_ca, contents))
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
        return options.getContext()
    except SSL.Error:
        raise ValueError(f"{files.key} is not the key of {files.certificate}")


def _certificates(path: str, contents: PemContents) -> list[X509]:
    try:
        return load_pem_x509_certificates(contents.octets[path])
    except ValueError:
        raise ValueError(f"{path} holds no certificate in PEM")


def _wrapped(certificates: list[X509]) -> list[Any]:
    """As Twisted wants those that it trusts."""
    return [Certificate.loadPEM(one.public_bytes(Encoding.PEM)).original for one in certificates]


def _private_key(path: str, contents: PemContents) -> Any:
    try:
        return load_pem_private_key(contents.octets[path], None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError(f"{path} holds no private key in PEM that needs no passphrase")
