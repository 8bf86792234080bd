"""
The mechanisms of AUTH: what each asks the client, and what credentials it makes of the answers (RFC 4422). Whether
these are right is for a checker of :mod:`twisted.cred`.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Generator
from typing import Any

import attrs
from twisted.cred.credentials import (
    CramMD5Credentials,
    IUsernameHashedPassword,
    IUsernamePassword,
    UsernamePassword,
)
from zope.interface import implementer

from lmtp_twisted.errors import CommandError
from lmtp_twisted.interfaces import IBearerToken, IClientCertificate
from lmtp_twisted.settings import MECHANISMS


@attrs.frozen
class Surroundings:
    """
    What a mechanism may need to know.

    :ivar hostname: our name.
    :ivar certificate: the client's, in DER; ``b""`` without one.
    """

    hostname: str
    certificate: bytes = b""


#: Yields challenges, is sent responses, returns credentials.
Talk = Generator[bytes, bytes, Any]


@attrs.frozen
class Mechanism:
    """
    :ivar name: as it is announced.
    :ivar interface: of the credentials that it makes.
    :ivar shows_secret: whether who listens learns the password, so that it needs TLS.
    :ivar takes_initial_response: whether the client may speak first (RFC 4954 §4).
    :ivar talk: begins the exchange. Where the client speaks first, the first challenge is empty.
    :ivar failure: what the client is told, as one more challenge, before it is told that it failed.
    """

    name: str
    interface: Any
    talk: Callable[[Surroundings], Talk]
    shows_secret: bool = False
    takes_initial_response: bool = True
    failure: bytes | None = None


@implementer(IBearerToken)
@attrs.frozen
class BearerToken:
    """See :class:`~lmtp_twisted.interfaces.IBearerToken`."""

    username: bytes
    token: bytes = attrs.field(repr=False)


@implementer(IClientCertificate)
@attrs.frozen
class ClientCertificate:
    """See :class:`~lmtp_twisted.interfaces.IClientCertificate`."""

    certificate: bytes = attrs.field(repr=False)
    username: bytes = b""


def _malformed() -> CommandError:
    return CommandError(501, "5.5.2", "This is not what the mechanism wants")


def _plain(_: Surroundings) -> Talk:
    """RFC 4616."""
    parts = (yield b"").split(b"\0")
    # An empty password is none (RFC 4616 §2), and LDAP takes it for an anonymous bind that succeeds (RFC 4513 §5.1.2).
    if len(parts) != 3 or not (parts[1] and parts[2]):
        raise _malformed()
    authorization, user, password = parts
    if authorization not in (b"", user):
        raise CommandError(535, "5.7.8", "Nobody acts as somebody else here")
    return UsernamePassword(user, password)


def _login(_: Surroundings) -> Talk:
    """Never a standard, but spoken by many clients."""
    user = yield b"Username:"
    password = yield b"Password:"
    if not (user and password):
        raise _malformed()
    return UsernamePassword(user, password)


def _cram_md5(surroundings: Surroundings) -> Talk:
    """RFC 2195."""
    challenge = f"<{secrets.token_hex(16)}.{time.time_ns()}@{surroundings.hostname}>".encode("ascii")
    user, _, digest = (yield challenge).rpartition(b" ")
    if not user or not re.fullmatch(rb"[0-9A-Fa-f]{32}", digest):
        raise _malformed()
    credentials = CramMD5Credentials()
    credentials.challenge, credentials.username, credentials.response = challenge, user, digest.lower()
    return credentials


_XOAUTH2 = re.compile(rb"user=([^\x01]+)\x01auth=Bearer +([!-~]+)\x01\x01", re.IGNORECASE)


def _xoauth2(_: Surroundings) -> Talk:
    """As Google and Microsoft have it."""
    match = _XOAUTH2.fullmatch((yield b""))
    if match is None:
        raise _malformed()
    return BearerToken(match[1], match[2])


def _external(surroundings: Surroundings) -> Talk:
    """RFC 4422 appendix A."""
    return ClientCertificate(surroundings.certificate, (yield b""))


_ALL = {
    mechanism.name: mechanism
    for mechanism in (
        Mechanism("EXTERNAL", IClientCertificate, _external),
        Mechanism("CRAM-MD5", IUsernameHashedPassword, _cram_md5, takes_initial_response=False),
        Mechanism("XOAUTH2", IBearerToken, _xoauth2, shows_secret=True, failure=b'{"status":"401","schemes":"bearer"}'),
        Mechanism("PLAIN", IUsernamePassword, _plain, shows_secret=True),
        # Its server speaks first, and yet many clients send the user along.
        Mechanism("LOGIN", IUsernamePassword, _login, shows_secret=True),
    )
}

#: The credentials that mechanisms make.
INTERFACES = frozenset(mechanism.interface for mechanism in _ALL.values())


def mechanisms_for(interfaces: Any, *, is_private: bool, has_certificate: bool) -> tuple[Mechanism, ...]:
    """
    What a session can be offered.

    :param interfaces: of the credentials that the portal's checkers take.
    :param is_private: nobody else sees what the client says.
    :param has_certificate: TLS has verified one of the client's.
    """
    return tuple(
        mechanism
        for mechanism in (_ALL[name] for name in MECHANISMS)
        if mechanism.interface in interfaces
        and (is_private or not mechanism.shows_secret)
        and (has_certificate or mechanism.name != "EXTERNAL")
    )
