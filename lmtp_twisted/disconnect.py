"""
The end of a connection in the place of a reply: for tests of those who send mail.

It breaks on purpose what the server promises, one reply for each recipient (RFC 2033 §4.2), so there is one way to it
only: an answer of this very type.
"""

from __future__ import annotations

import attrs

from lmtp_twisted.wire.replies import Reply


@attrs.frozen
class Disconnect(Reply):
    """
    What ``validateFrom`` and ``validateTo`` may return, and what an outcome of ``deliver`` may be. Replies to what came
    before are sent, this one is not, or in part, and the connection ends. As an outcome it waits for its turn, as every
    final reply does; then deliveries whose outcome is missing are cancelled, as where a client is gone.

    :ivar code: with the next two, the reply that is not sent: what observers are told.
    :ivar octets: of the reply that are sent all the same; ``None`` for all of it.
    :ivar reset: the connection is reset (RST) and not closed (FIN). What was sent just before may be lost with it.
    """

    code: int = 451
    enhanced: str | None = "4.4.2"
    text: str = "Disconnected"
    octets: int | None = 0
    reset: bool = False
