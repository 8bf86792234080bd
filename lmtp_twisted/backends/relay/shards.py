"""
Which of several servers a recipient belongs to: consistent hashing, so that each recipient stays where they are, and
where a server is added or taken away only its share of them moves. The order of the servers does not matter.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

from lmtp_twisted.wire.addresses import Address, split_detail


class Shards:
    """
    :param names: of the servers, each as it is written; a server whose name changes is another one.
    :param separator: characters of which the first in a local part begins a detail, which does not count.
    :param folds_case: whether the case of a local part does not count.
    :raises ValueError: where two are the same, or the ring of several cannot be had.
    """

    def __init__(self, names: Sequence[str], separator: str = "+", folds_case: bool = True) -> None:
        if len(set(names)) < len(names):
            raise ValueError("the same server is named twice")
        self._separator = separator
        self._folds_case = folds_case
        self._place_of = {name: place for place, name in enumerate(names)}
        self._ring = _ring(names) if len(names) > 1 else None

    def key(self, address: Address) -> str:
        """What is hashed: the same for all spellings of one mailbox."""
        user, _ = split_detail(address.local, self._separator)
        folded = user.lower()
        # A postmaster is one in any case (RFC 5321 §4.5.1).
        local = folded if self._folds_case or folded == "postmaster" else user
        return unicodedata.normalize("NFC", f"{local}@{address.domain.lower()}")

    def place_of(self, address: Address) -> int:
        """:returns: the place of the recipient's server among the names."""
        return 0 if self._ring is None else self._place_of[self._ring.get_node(self.key(address))]


def _ring(names: Sequence[str]) -> Any:
    try:
        from uhashring import HashRing  # type: ignore[import-untyped]  # it has no types
    except ImportError:
        raise ValueError("several servers need uhashring: pip install 'lmtp-twisted[relay]'")
    return HashRing(nodes=list(names))
