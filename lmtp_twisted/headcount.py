"""How many sessions there are, of one factory or of several that share a limit."""

from __future__ import annotations

from collections import Counter
from typing import Any

from lmtp_twisted.limits import Limit
from lmtp_twisted.session import SessionInfo
from lmtp_twisted.trust import ip_of


class HeadCount:
    """
    :param most: sessions at a time.
    :param most_of_peer: sessions of one IP address at a time, those of all Unix sockets counted as one; 0 is no limit.
    """

    def __init__(self, most: int, most_of_peer: int = 0) -> None:
        self._most = most
        self._most_of_peer = most_of_peer
        # Whose each session is: what the peer is called may change later.
        self._peer_of: dict[Any, str] = {}
        self._peers: Counter[str] = Counter()

    def limit_for(self, session: SessionInfo) -> Limit | None:
        """The limit that one more session would exceed."""
        if len(self._peer_of) >= self._most:
            return Limit.SESSIONS
        if self._most_of_peer and self._peers[self._name_of(session)] >= self._most_of_peer:
            return Limit.SESSIONS_OF_PEER
        return None

    def add(self, key: Any, session: SessionInfo) -> None:
        """
        A session begins.

        :param key: what :meth:`remove` will be called with.
        """
        name = self._name_of(session)
        self._peer_of[key] = name
        if self._most_of_peer:
            self._peers[name] += 1

    def remove(self, key: Any) -> None:
        """A session has ended, perhaps one that was not counted."""
        name = self._peer_of.pop(key, None)
        if name is not None and self._most_of_peer:
            self._peers[name] -= 1
            if not self._peers[name]:
                del self._peers[name]

    def _name_of(self, session: SessionInfo) -> str:
        return str(ip_of(session.peer) or session.peer_name) if self._most_of_peer else ""
