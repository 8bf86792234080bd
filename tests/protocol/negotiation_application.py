"""An application that checks logins and gives avatars, sooner or later."""

from __future__ import annotations

from typing import Any

from negotiation_model import LOGINS, PASSWORD
from session_model import Application
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernameHashedPassword, IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred
from zope.interface import implementer

from lmtp_twisted.interfaces import IBearerToken
from lmtp_twisted.testing import ScriptedDeliveries
from lmtp_twisted.wire.replies import CANNOT_VERIFY


@implementer(ICredentialsChecker, IRealm)
class NegotiatedApplication(Application):
    """
    One that also checks logins, gives each user deliveries of its own, and answers VRFY.

    :ivar portal: where logins end.
    :ivar given: avatars that were given and not given back.
    :ivar by_avatar: of each message: whether an avatar got it.
    """

    credentialInterfaces = (IUsernamePassword, IUsernameHashedPassword, IBearerToken)

    def __init__(self, verdicts: dict[str, tuple[str, str]], random: Any) -> None:
        super().__init__(verdicts, random)
        self.portal = Portal(self, [self])
        self.given = 0
        self.by_avatar: list[bool] = []
        self._avatar = ScriptedDeliveries(deliver=lambda message: self._deliver_for(message, True))
        self._avatar.messages = self.deliveries.messages
        self.deliveries._deliver = lambda message: self._deliver_for(message, False)
        for deliveries in (self._avatar, self.deliveries):
            # By default arguments, since the loop goes on.
            deliveries.getDelivery = lambda session, its=deliveries: self.give(its)  # type: ignore[method-assign]
            deliveries.validateFrom = self.deliveries.validateFrom  # type: ignore[method-assign]
            deliveries.validateTo = self.deliveries.validateTo  # type: ignore[method-assign]
            deliveries.streams = self.deliveries.streams  # type: ignore[method-assign]
            deliveries.verifyAddress = self._verify  # type: ignore[attr-defined]

    def _deliver_for(self, message: Any, is_avatar: bool) -> Any:
        # Of those that are streamed some are refused.
        message.completed.addCallbacks(lambda _: self.by_avatar.append(is_avatar), lambda _: None)
        return self._deliver(message)

    def _verify(self, recipient: Any) -> Any:
        name, _, domain = str(recipient).partition("@")
        return self._give(self._verdicts[name][0]) if domain else CANNOT_VERIFY

    def validateConnection(self, session: Any) -> Any:
        """Everybody is welcome, sooner or later."""
        return self.give(None)

    def requestAvatarId(self, credentials: Any) -> Any:
        """See the interface. Some answers come even where nobody waits for them any more."""
        if IBearerToken.providedBy(credentials):
            is_right = credentials.token == PASSWORD
        else:
            is_right = credentials.checkPassword(PASSWORD)
        value = LOGINS.get(credentials.username, (None, 0))[0] if is_right else None
        answer = self.give(UnauthorizedLogin() if value is None else value)
        if isinstance(answer, Deferred) and isinstance(value, bytes) and self._random.random() < 0.5:
            answer._canceller = lambda deferred: deferred.callback(value)
        return answer

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        """See the interface."""
        self.given += 1
        return interfaces[0], self._avatar, self._log_out

    def _log_out(self) -> None:
        self.given -= 1
