"""How many sessions there are, of one factory or of several that share a limit."""

from __future__ import annotations

from collections import Counter
from typing import Any, Protocol

from lmtp_twisted.limits import Limit
from lmtp_twisted.session import SessionInfo
from lmtp_twisted.trust import ip_of


class Tally(Protocol):
    """Numbers by name, of one process or of several."""

    def add(self, name: str, change: int) -> None:
        """Change a number by 1 or -1."""

    def total(self, name: str) -> int:
        """A number, 0 at first."""


class OwnTally:
    """A :class:`Tally` of one process."""

    def __init__(self) -> None:
        self._numbers: Counter[str] = Counter()

    def add(self, name: str, change: int) -> None:
        """Change a number."""
        self._numbers[name] += change
        if not self._numbers[name]:
            del self._numbers[name]

    def total(self, name: str) -> int:
        """A number."""
        return self._numbers[name]


class HeadCount:
    """
    :param most: sessions at a time.
    :param most_of_peer: sessions of one IP address at a time, those of all Unix sockets counted as one; 0 is no limit.
    :param tally: where they are counted, with those of other processes if it is shared.
    :param name: of what is counted there.
    """

    def __init__(self, most: int, most_of_peer: int = 0, tally: Tally | None = None, name: str = "") -> None:
        self._most = most
        self._most_of_peer = most_of_peer
        self._tally = tally or OwnTally()
        self._name = name
        # Whose each session is: what the peer is called may change later.
        self._peer_of: dict[Any, str] = {}

    def limit_for(self, session: SessionInfo) -> Limit | None:
        """The limit that one more session would exceed."""
        if self._tally.total(self._name) >= self._most:
            return Limit.SESSIONS
        if self._most_of_peer and self._tally.total(self._name_of(session)) >= self._most_of_peer:
            return Limit.SESSIONS_OF_PEER
        return None

    def add(self, key: Any, session: SessionInfo) -> None:
        """
        A session begins.

        :param key: what :meth:`remove` will be called with.
        """
        name = self._name_of(session)
        self._peer_of[key] = name
        self._tally.add(self._name, 1)
        if self._most_of_peer:
            self._tally.add(name, 1)

    def remove(self, key: Any) -> None:
        """A session has ended, perhaps one that was not counted."""
        name = self._peer_of.pop(key, None)
        if name is None:
            return
        self._tally.add(self._name, -1)
        if self._most_of_peer:
            self._tally.add(name, -1)

    def _name_of(self, session: SessionInfo) -> str:
        return f"{self._name} of {ip_of(session.peer) or session.peer_name}" if self._most_of_peer else ""
