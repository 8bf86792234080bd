"""What tests of AUTH need: a realm, checkers, a peer whom one may ask for passwords."""

from __future__ import annotations

from typing import Any

from twisted.cred.checkers import ICredentialsChecker, InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet.address import UNIXAddress
from zope.interface import implementer

from lmtp_twisted.interfaces import IBearerToken, ILMTPDeliveryFactory
from lmtp_twisted.testing import ScriptedDeliveries

LOCAL = UNIXAddress(b"/run/lmtp.sock")


@implementer(IRealm)
class Realm:
    """
    Gives one avatar, or what it is told to.

    :param error: raised instead.
    :param given: given instead.
    :param user: what the session's user becomes.
    """

    def __init__(self, error: Exception | None = None, *, given: Any = ..., user: str | None = None) -> None:
        self.avatar: Any = ScriptedDeliveries()
        self.minds: list[Any] = []
        self.logged_out = 0
        self._error = error
        self._given = given
        self._user = user

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        """See the interface."""
        assert interfaces == (ILMTPDeliveryFactory,)
        if self._error is not None:
            raise self._error
        self.minds.append(mind)
        if self._user is not None:
            mind.user = self._user
        return (ILMTPDeliveryFactory, self.avatar, self._log_out) if self._given is ... else self._given

    def _log_out(self) -> None:
        self.logged_out += 1


@implementer(ICredentialsChecker)
class CheckedTokens:
    """
    Takes the token ``t0ken``, or answers as it is told.

    :param answer: the answer; an exception is raised.
    """

    credentialInterfaces = (IBearerToken,)

    def __init__(self, answer: Any = None) -> None:
        self._answer = answer
        self.seen: list[Any] = []

    def requestAvatarId(self, credentials: Any) -> Any:
        """See the interface."""
        self.seen.append(credentials)
        if isinstance(self._answer, Exception):
            raise self._answer
        if self._answer is not None:
            return self._answer
        if credentials.token != b"t0ken":
            raise UnauthorizedLogin
        return credentials.username


def portal(realm: Any = None) -> Portal:
    """A portal where ``alice`` has the password ``secret`` and the token ``t0ken``."""
    return Portal(realm or Realm(), [InMemoryUsernamePasswordDatabaseDontUse(alice=b"secret"), CheckedTokens()])
