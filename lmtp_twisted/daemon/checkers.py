"""
Who may authenticate to ``twistd lmtp``: the checkers of ``--auth`` put together, those that are ours, and what an
authenticated client gets.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

from cryptography.x509 import Certificate as X509
from cryptography.x509 import (
    DNSName,
    ExtensionNotFound,
    NameOID,
    RFC822Name,
    SubjectAlternativeName,
    load_der_x509_certificate,
)
from twisted.cred.checkers import ICredentialsChecker, InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.credentials import IUsernameHashedPassword, IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.cred.strcred import InvalidAuthType, makeChecker
from zope.interface import implementer

from lmtp_twisted.daemon.said import Fault, Place
from lmtp_twisted.extensions.sasl import INTERFACES
from lmtp_twisted.interfaces import IBearerToken, IClientCertificate, ILMTPDeliveryFactory

# Checkers whose argument is the name of a file.
_OF_FILES = frozenset({"file", "tokens", "certificate"})


@implementer(IRealm)
class BackendRealm:
    """
    Whoever authenticates gets the server's backend.

    :param backend: an :class:`~lmtp_twisted.interfaces.ILMTPDeliveryFactory`.
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def requestAvatar(
        self, avatarId: bytes | tuple[()], mind: object, *interfaces: Any
    ) -> tuple[Any, Any, Callable[[], None]]:
        """See :class:`~twisted.cred.portal.IRealm`."""
        return ILMTPDeliveryFactory, self._backend, lambda: None


def portal_of(descriptions: Sequence[str], places: Sequence[Place], backend: Any) -> Portal:
    """
    :param descriptions: of checkers, as ``--auth`` takes them; a password may stand in one.
    :param places: where each was said.
    :param backend: what clients get.
    :raises ValueError: where one of them will not do, in one line that shows its type only.
    """
    portal = Portal(BackendRealm(backend))
    for description, place in zip(descriptions, places, strict=True):
        kind, _, argument = description.partition(":")
        place = place.saying(kind)
        try:
            checker: Any = _checker(kind, argument)
        except ValueError as error:
            raise Fault(place, f": {error}")
        usable = [interface for interface in checker.credentialInterfaces if interface in INTERFACES]
        if not usable:
            raise Fault(place, ": no mechanism of AUTH gives what it checks")
        if any(interface in portal.checkers for interface in usable):
            raise Fault(place, f": another {place.calls('auth')} checks the same already")
        portal.registerChecker(checker, *usable)
    return portal


def below_directory(description: str, directory: str) -> str:
    """
    :param description: of a checker.
    :param directory: where a relative path in it begins.
    :returns: the description with an absolute path, where its type is known to have one.
    """
    kind, _, argument = description.partition(":")
    return f"{kind}:{os.path.join(directory, argument)}" if kind in _OF_FILES and argument else description


def _checker(kind: str, argument: str) -> Any:
    if kind == "unix" and find_spec("crypt") is None:
        raise ValueError("it needs the module crypt, which Python has no more since 3.13")
    if kind == "file":
        return PasswordFile(argument)
    try:
        checker: Any = makeChecker(f"{kind}:{argument}")
    except InvalidAuthType:
        raise ValueError("there is no such type, see --help-auth")
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"it cannot be made ({type(error).__name__})")
    if isinstance(checker, InMemoryUsernamePasswordDatabaseDontUse):
        # Twisted makes text of what the command line says, and then compares it with octets.
        checker.users = {_octets(user): _octets(password) for user, password in checker.users.items()}
    return checker


def _octets(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


class _Lines:
    """
    The lines of a file, read anew when it has changed. Where it cannot be read, that is an error and no wrong password.

    :param path: of the file.
    :raises ValueError: where it cannot be read.
    """

    def __init__(self, path: str) -> None:
        if not path:
            raise ValueError("a file is needed")
        self._path = path
        self._signature: tuple[int, int, int] | None = None
        self._lines: list[bytes] = []
        try:
            self.read()
        except OSError as error:
            raise ValueError(f"{path}: {error.strerror}")

    def read(self) -> list[bytes]:
        """
        :raises OSError: where it cannot be read any more.
        """
        found = os.stat(self._path)
        signature = found.st_ino, found.st_size, found.st_mtime_ns
        if signature != self._signature:
            with open(self._path, "rb") as file:
                self._lines = [line.rstrip(b"\r\n") for line in file]
            self._signature = signature
        return self._lines


class _SecretsFile:
    """
    A file with a ``user:secret`` on each line.

    :param path: of the file.
    :raises ValueError: where it cannot be read.
    """

    def __init__(self, path: str) -> None:
        self._file = _Lines(path)
        for number, line in enumerate(self._file.read(), 1):
            if line and b":" not in line:
                # Not the line itself: there is a password in it.
                raise ValueError(f"{path}:{number}: not a user, a colon and a secret")

    def _secrets_of(self, user: bytes) -> list[bytes]:
        start = user + b":"
        return [line[len(start) :] for line in self._file.read() if line.startswith(start) and line != start]


@implementer(ICredentialsChecker)
class PasswordFile(_SecretsFile):
    """
    Passwords in a file. Twisted's own :class:`~twisted.cred.checkers.FilePasswordDB` cuts a password at its first
    colon, and takes a file that it cannot read for a wrong password.
    """

    credentialInterfaces = (IUsernamePassword, IUsernameHashedPassword)

    def requestAvatarId(self, credentials: Any) -> bytes:  # type: ignore[override]  # Portal takes plain values too
        """
        :returns: the user.
        :raises twisted.cred.error.UnauthorizedLogin: for another password, or a user who has none.
        """
        user: bytes = credentials.username
        if IUsernamePassword.providedBy(credentials):
            check: Callable[[bytes], bool] = partial(hmac.compare_digest, credentials.password)
        else:
            check = credentials.checkPassword
        if not any(check(password) for password in self._secrets_of(user)):
            raise UnauthorizedLogin
        return user


@implementer(ICredentialsChecker)
class TokenFile(_SecretsFile):
    """Bearer tokens in a file."""

    credentialInterfaces = (IBearerToken,)

    def requestAvatarId(self, credentials: Any) -> bytes:  # type: ignore[override]  # Portal takes plain values too
        """
        :returns: the user.
        :raises twisted.cred.error.UnauthorizedLogin: for another token, or a user who has none.
        """
        user: bytes = credentials.username
        given: bytes = credentials.token
        if not any(hmac.compare_digest(token, given) for token in self._secrets_of(user)):
            raise UnauthorizedLogin
        return user


@implementer(ICredentialsChecker)
class CertificateNames:
    """
    Clients of TLS by the names in their certificate, which TLS has verified: addresses of mail, hosts, and the common
    name.

    :param path: of a file with a name that may authenticate on each line; ``""`` for all names.
    :raises ValueError: where it cannot be read.
    """

    credentialInterfaces = (IClientCertificate,)

    def __init__(self, path: str = "") -> None:
        self._allowed = _Lines(path) if path else None

    def requestAvatarId(self, credentials: Any) -> bytes:  # type: ignore[override]  # Portal takes plain values too
        """
        :returns: the name that the client asked for, or else the first of its names.
        :raises twisted.cred.error.UnauthorizedLogin: where it has no such name, or may not authenticate.
        """
        allowed = None if self._allowed is None else {_folded(line.strip()) for line in self._allowed.read()}
        for name in _names(load_der_x509_certificate(credentials.certificate)):
            octets = name.encode("utf-8")
            if allowed is not None and _folded(octets) not in allowed:
                continue
            if not credentials.username or _folded(credentials.username) == _folded(octets):
                return octets
        raise UnauthorizedLogin


def _folded(name: bytes) -> bytes:
    """Hosts have no case, and neither has the host of an address."""
    local, at, host = name.rpartition(b"@")
    return local + at + host.lower()


def _names(certificate: X509) -> Iterator[str]:
    try:
        others = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    except ExtensionNotFound:
        pass
    else:
        yield from others.get_values_for_type(RFC822Name)
        yield from others.get_values_for_type(DNSName)
    for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        yield str(attribute.value)
