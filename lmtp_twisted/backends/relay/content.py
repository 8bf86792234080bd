"""A message as a relay sends it: our ``Received:`` line, and then what we received."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from lmtp_twisted.backends.relay.loops import LoopGuard
from lmtp_twisted.client import OutgoingMessage
from lmtp_twisted.client.outgoing import closable
from lmtp_twisted.errors import NotStored
from lmtp_twisted.interfaces import IReceivedMessage

#: Octets at the beginning of a content that are looked at: whose header block is longer than that has other troubles.
HEAD = 64 * 1024


class RelayedContent:
    """
    :param message: as it was received, or as it is being received.
    :param guard: looks at its header block.
    """

    def __init__(self, message: IReceivedMessage, guard: LoopGuard) -> None:
        self._message: Any = message
        self._guard = guard
        self._received: bytes = self._message.received
        self._begun: tuple[list[bytes], AsyncIterator[bytes]] | None = None

    def outgoing(self) -> OutgoingMessage:
        """What the client takes."""
        try:
            size = len(self._received) + self._message.size
        except NotStored:
            return OutgoingMessage(self._chunks, begin=self._begin)
        return OutgoingMessage(self._chunks, size, is_repeatable=True, begin=self._begin)

    async def _begin(self) -> None:
        """Read the header block, which is not sent before it was looked at."""
        chunks = aiter(self._message.chunks())
        pieces: list[bytes] = []
        head = b""
        while len(head) < HEAD and b"\r\n\r\n" not in head and b"\n\n" not in head:
            piece = await anext(chunks, b"")
            if not piece:
                break
            pieces.append(piece)
            head += piece[:HEAD]
        self._guard.check(head[:HEAD])
        self._begun = pieces, chunks

    async def _chunks(self) -> AsyncIterator[bytes]:
        # What was begun is gone on with; a message that is stored can be read again.
        begun, self._begun = self._begun, None
        pieces, chunks = begun if begun is not None else ([], self._message.chunks())
        yield self._received
        for piece in pieces:
            yield piece
        pieces.clear()
        async with aclosing(closable(chunks)) as rest:
            async for chunk in rest:
                yield chunk
