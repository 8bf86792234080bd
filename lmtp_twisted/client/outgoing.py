"""Where the content of an outgoing message comes from: octets, a file, or whatever yields octets."""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

import attrs
from twisted.internet.threads import deferToThreadPool

from lmtp_twisted.threads import default_pool

#: Octets that are read from a file, or taken of what is in memory, at once.
BLOCK = 64 * 1024


@attrs.frozen
class OutgoingMessage:
    """
    A content to send.

    :ivar chunks: gives an asynchronous iterator of ``bytes``, from the beginning. It is asked for the next ones when
        the server has taken those before, and closed where it is not read to its end. A
        :class:`~lmtp_twisted.errors.DeliveryError` that it raises becomes the reply of the recipients that have none;
        the server has not got the whole message then.
    :ivar size: octets; ``None`` where nobody knows.
    :ivar is_repeatable: whether ``chunks`` can be called again: a message for more recipients than a server takes at
        once is sent several times.
    :ivar is_ascii: whether it is known to be ASCII.
    :ivar begin: awaited before a connection is asked for; a :class:`~lmtp_twisted.errors.DeliveryError` that it raises
        is the reply of all recipients, and nothing is sent.
    """

    chunks: Callable[[], AsyncIterator[bytes]]
    size: int | None = None
    is_repeatable: bool = False
    is_ascii: bool = False
    begin: Callable[[], Awaitable[None]] | None = None


def outgoing(message: Any, reactor: Any) -> OutgoingMessage:
    """
    :param message: an :class:`OutgoingMessage`; ``bytes``; a file that was opened for binary reading, which is read by
        threads from where it stands; an :class:`~lmtp_twisted.interfaces.IReceivedMessage`, or an asynchronous iterable
        of ``bytes``.
    :param reactor: whose pool reads files.
    :raises TypeError: for anything else.
    """
    if isinstance(message, OutgoingMessage):
        return message
    if isinstance(message, io.BytesIO):
        message = message.getvalue()[message.tell() :]
    if isinstance(message, (bytes, bytearray, memoryview)):
        return _of_bytes(bytes(message))
    if isinstance(message, (io.RawIOBase, io.BufferedIOBase)) or hasattr(message, "readinto"):
        return _of_file(message, reactor)
    if callable(getattr(message, "chunks", None)) and hasattr(message, "size"):
        return OutgoingMessage(message.chunks, message.size, is_repeatable=True)
    if hasattr(message, "__aiter__"):
        return OutgoingMessage(message.__aiter__)
    raise TypeError(f"a message is bytes, a binary file or an asynchronous iterable of bytes, not {message!r}")


def _of_bytes(octets: bytes) -> OutgoingMessage:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(octets), BLOCK):
            yield octets[start : start + BLOCK]

    return OutgoingMessage(chunks, len(octets), is_repeatable=True, is_ascii=octets.isascii())


def _of_file(file: Any, reactor: Any) -> OutgoingMessage:
    start = size = None
    if file.seekable():
        start = file.tell()
        size = file.seek(0, io.SEEK_END) - start
        file.seek(start)

    async def chunks() -> AsyncIterator[bytes]:
        pool = default_pool(reactor)
        if start is not None:
            file.seek(start)
        while block := await deferToThreadPool(reactor, pool, file.read, BLOCK):
            yield block

    return OutgoingMessage(chunks, size, is_repeatable=start is not None)


async def closable(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Any asynchronous iterator as one that can be closed, and closes it where it can."""
    try:
        async for chunk in chunks:
            yield chunk
    finally:
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()
