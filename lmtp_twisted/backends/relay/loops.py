"""
Mail that goes round in circles. The server refuses what has too many ``Received:`` lines, but a message that comes back
while we still wait for the answer to it holds a connection each time round, so it is to be seen at its first return.

- A message that names, in a ``Received:`` of ours, one that we are sending at this moment is that one, come back: a
  loop for certain, by whatever servers, as long as none of them keeps mail in a queue.
- One that has our name in more of our lines than a sane way has was here before, and somebody queued it.

The name in the greeting of a server says nothing: a store on this machine has our name, too.
"""

from __future__ import annotations

import re
from collections import Counter

from lmtp_twisted.errors import PermanentFailure
from lmtp_twisted.wire.replies import MAIL_LOOP

#: Times that a message may have been here: a filter may give it back.
MAX_PASSES = 5

_RECEIVED = re.compile(rb"^Received:[^\n]*(?:\n[ \t][^\n]*)*", re.IGNORECASE | re.MULTILINE)
#: As our own ``Received:`` has it.
_OURS = re.compile(rb"\sby\s+(\S+)\s+with\s+(?:UTF8)?LMTPS?A?\s+id\s+([0-9a-z]+\.[0-9]+)")


class LoopGuard:
    """
    What is under way.

    :param hostname: our name.
    """

    def __init__(self, hostname: str) -> None:
        self._hostname = hostname.lower().encode()
        self._under_way: Counter[bytes] = Counter()

    def begin(self, message_id: str) -> None:
        """A message is about to be sent."""
        self._under_way[message_id.encode()] += 1

    def end(self, message_id: str) -> None:
        """It was sent, or not. Each ``begin`` has one."""
        octets = message_id.encode()
        self._under_way[octets] -= 1
        if not self._under_way[octets]:
            del self._under_way[octets]

    def check(self, head: bytes) -> None:
        """
        :param head: a header block, or the beginning of one.
        :raises PermanentFailure: ``554 5.4.6``.
        """
        passes = 0
        for field in _RECEIVED.finditer(head):
            ours = _OURS.search(field[0])
            if ours is not None:
                passes += ours[1].lower() == self._hostname
                if ours[2] in self._under_way or passes > MAX_PASSES:
                    text = "Mail loop: the message was here before"
                    raise PermanentFailure(text, code=MAIL_LOOP.code, enhanced=MAIL_LOOP.enhanced)
