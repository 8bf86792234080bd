"""
What a factory makes of the application's portal: the session is whom a checker found, and who has guessed wrong has to
wait the next time as well.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from copy import copy
from ipaddress import IPv6Address, ip_network
from typing import Any

from twisted.cred.portal import IRealm
from twisted.internet.interfaces import IAddress
from twisted.logger import Logger
from zope.interface import implementer

from lmtp_twisted.awaiting import FAILURES, deferred_of
from lmtp_twisted.trust import ip_of

_log = Logger(namespace="lmtp_twisted")

#: Peers whose failures are remembered at a time.
MOST_PEERS = 10_000
#: Seconds for which they are, after the last of them.
MEMORY = 300.0
#: Failures that cost no more than their own late answer: people and mail servers make some, and so do tests.
FREE = 20
#: Failures beyond these after which the wait does not grow any more.
MOST_COUNTED = 10
# An IPv6 peer has this network for itself.
_PREFIX = 64


def naming(portal: Any) -> Any:
    """
    :param portal: a :class:`twisted.cred.portal.Portal`.
    :returns: the same with a realm that tells the session, which is the mind, whom the checker found. Checkers that are
        registered later are known to both.
    """
    named = copy(portal)
    named.realm = _NamingRealm(portal.realm)
    return named


@implementer(IRealm)
class _NamingRealm:
    """
    The session's user is whom the checker found, not whom the client says it is; the realm may know a better name.

    :param realm: the portal's.
    """

    def __init__(self, realm: Any) -> None:
        self._realm = realm

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        """See :class:`~twisted.cred.portal.IRealm`."""
        # Octets that are no UTF-8 keep apart: a user is not to be taken for another.
        mind.user = avatarId.decode("utf-8", "backslashreplace") if isinstance(avatarId, bytes) else str(avatarId)
        return self._realm.requestAvatar(avatarId, mind, *interfaces)


def avatar_and_logout(result: Any) -> tuple[Any, Callable[[], Any]]:
    """
    What a realm gave.

    :raises TypeError: where it is not what a realm gives.
    """
    _, avatar, log_out = result
    if not callable(log_out):
        raise TypeError(f"a realm gave {log_out!r} to log out")
    if not callable(getattr(avatar, "getDelivery", None)):
        give_back(log_out)
        raise TypeError(f"a realm gave {avatar!r} as an ILMTPDeliveryFactory")
    return avatar, log_out


def give_back(log_out: Callable[[], Any]) -> None:
    """Tell a realm that its avatar is not needed any more. What goes wrong there is logged."""
    try:
        waiting = deferred_of(log_out())
    except FAILURES:
        _log.failure("the logout of an avatar failed")
        return
    if waiting is not None:
        waiting.addErrback(lambda failure: _log.failure("the logout of an avatar failed", failure))


class Failures:
    """
    Failed logins by peer, those of all Unix sockets counted as one. Without it who guesses would hang up before the
    late answer and begin anew.

    :param clock: an :class:`~twisted.internet.interfaces.IReactorTime`.
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        # By peer, those first whose last failure is longest ago: their number, and when they are forgotten.
        self._known: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def too_many(self, peer: IAddress) -> int:
        """
        :returns: how many there were lately beyond :data:`FREE`, :data:`MOST_COUNTED` at the most.
        """
        return min(max(self._number(_key(peer)) - FREE, 0), MOST_COUNTED)

    def _number(self, key: str) -> int:
        number, until = self._known.get(key, (0, 0.0))
        return number if self._clock.seconds() < until else 0

    def add(self, peer: IAddress) -> None:
        """One more."""
        key = _key(peer)
        self._known[key] = self._number(key) + 1, self._clock.seconds() + MEMORY
        self._known.move_to_end(key)
        if len(self._known) > MOST_PEERS:
            self._known.popitem(last=False)


def _key(peer: IAddress) -> str:
    address = ip_of(peer)
    if isinstance(address, IPv6Address):
        return str(ip_network((address, _PREFIX), strict=False))
    return "" if address is None else str(address)
