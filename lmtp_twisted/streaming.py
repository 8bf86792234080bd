"""
A content that is read while it comes (:class:`~lmtp_twisted.interfaces.IStreamingDelivery`). Nothing of it is stored:
each of those who read it has what it has not read yet, and while one of them has more than :data:`UNREAD` octets, the
session takes no more.

It is used from the reactor's thread alone.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed

from lmtp_twisted.envelope import Recipient
from lmtp_twisted.errors import ContentLost, NotStored
from lmtp_twisted.spool import Content, cut_head
from lmtp_twisted.wire.replies import Reply

#: Octets that may wait to be read, and one segment more.
UNREAD = 256 * 1024
#: What a segment counts beside its octets, so that a content in tiny segments is not a million objects.
_SEGMENT = 64


class Stream:
    """
    Is to a session what :class:`~lmtp_twisted.spool.Content` is.

    :param reactor: its clock, and its ``callFromThread``.
    :param patience: seconds that those who read may hold back the session in all.

    :ivar size: octets so far.
    :ivar is_complete: whether the content is complete and was not refused.
    :ivar failure: the reply to every recipient, once the content is refused or lost.
    :ivar too_slow: called when those who read have held back the session for too long.
    :ivar lost: called when the content is refused or lost, and those who wait for it know.
    """

    too_slow: Callable[[], None]
    lost: Callable[[], None]

    def __init__(self, reactor: Any, patience: float) -> None:
        self.reactor = reactor
        self.size = 0
        self.is_complete = False
        self.failure: Reply | None = None
        self._parts: list[Part] = []
        self._waiting: list[Deferred[None]] = []
        self._head = bytearray()
        self._head_is_known = False
        self._patience = patience
        self._room: Deferred[None] | None = None
        self._timer: Any = None

    # For the session

    def append(self, data: bytes) -> bool:
        """
        :param data: the next octets.
        :returns: whether it is time to call :meth:`make_room`.
        """
        if not data:
            # A filter holds it back until it knows what follows. Nothing is what ends a content.
            return False
        self.size += len(data)
        if not self._head_is_known:
            self._look_for_head(data)
        for part in self._parts:
            part.put(data)
        for part in list(self._parts):
            part.wake()
        return self._is_full

    @property
    def _is_full(self) -> bool:
        return not self.is_complete and any(part.waiting > UNREAD for part in self._parts)

    def make_room(self) -> Deferred[None]:
        """
        Wait for those who read.

        :returns: fires when there is room, or the content will not be complete.
        """
        self._room = Deferred()
        began = self.reactor.seconds()
        self._timer = self.reactor.callLater(max(0.0, self._patience), self.too_slow)

        def there_is_room(_: None) -> None:
            self._patience -= self.reactor.seconds() - began
            if self._timer.active():
                self._timer.cancel()

        return self._room.addCallback(there_is_room)

    def look_for_room(self) -> None:
        """Somebody has read, or reads no more."""
        if self._room is not None and not self._is_full:
            room, self._room = self._room, None
            room.callback(None)

    def finish(self) -> None:
        """All has come. It may yet be refused."""
        self._head_is_known = True

    def complete(self) -> None:
        """All has come, and it is not refused."""
        self.is_complete = True
        self._tell()
        self.look_for_room()

    def discard(self, why: Reply) -> None:
        """The content is refused or lost: forget all octets, but not their number, and tell those who read them."""
        if self.failure is not None or self.is_complete:
            return
        self.failure = why
        self._tell()
        self.lost()
        self.release()

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            if deferred.called:
                # Another one has cancelled it.
                continue
            if self.failure is None:
                deferred.callback(None)
            else:
                deferred.errback(self.error())
        for part in list(self._parts):
            part.wake()

    def settle(self, recipient: Recipient) -> None:
        """The outcome of this recipient is known: for its sake nothing has to be read any more."""
        for part in list(self._parts):
            part.settle(recipient)

    def release(self) -> None:
        """All outcomes are known."""
        for part in list(self._parts):
            part.close()

    @property
    def head(self) -> bytes:
        """
        The header block, its last line end included; at most :attr:`Content.HEAD` octets.

        :raises lmtp_twisted.errors.NotStored: as long as it has not come.
        """
        if not self._head_is_known:
            raise NotStored("The header block has not come yet")
        return bytes(self._head)

    def beginning(self, octets: int) -> bytes:
        """See :meth:`Content.beginning <lmtp_twisted.spool.Content.beginning>`; nothing behind the header block."""
        return bytes(self._head[:octets])

    def head_is_shorter_than(self, octets: int) -> bool:
        """Whether the header block has fewer octets."""
        return len(self._head) < octets

    def _look_for_head(self, data: bytes) -> None:
        # The line ends of the empty line may be in two segments.
        before = max(0, len(self._head) - 3)
        self._head += data
        is_empty = self._head.startswith((b"\r\n", b"\n"))
        has_ended = is_empty or any(self._head.find(mark, before) >= 0 for mark in (b"\r\n\r\n", b"\n\n"))
        if has_ended or len(self._head) >= Content.HEAD:
            self._head = bytearray(cut_head(bytes(self._head), Content.HEAD))
            self._head_is_known = True

    # For deliveries

    def part(self, recipients: Sequence[Recipient], so_far: Sequence[bytes] = ()) -> Part:
        """
        Somebody who will read it.

        :param recipients: for whom: once their outcomes are known there is nothing to read.
        :param so_far: what has come already.
        """
        part = Part(self, recipients)
        for data in so_far:
            part.put(data)
        self._parts.append(part)
        return part

    def leave(self, part: Part) -> None:
        """This one reads no more."""
        if part in self._parts:
            self._parts.remove(part)
            self.look_for_room()

    @property
    def completed(self) -> Deferred[None]:
        """See :class:`~lmtp_twisted.interfaces.IReceivedMessage`."""
        if self.failure is not None:
            return fail(self.error())
        if self.is_complete:
            return succeed(None)
        waiting = self._waiting
        deferred: Deferred[None] = Deferred(waiting.remove)
        waiting.append(deferred)
        return deferred

    def error(self) -> ContentLost:
        """Why it will not be complete: for everybody an exception of their own."""
        assert self.failure is not None
        return ContentLost(self.failure.code, self.failure.enhanced, self.failure.text)


class Part:
    """
    The content as one delivery reads it: all of it, once.

    :param stream: the content.
    :param recipients: for whom.
    :ivar waiting: what waits to be read, in octets.
    :ivar is_closed: whether nobody reads it any more.
    """

    #: Nothing of it can be read by a thread, or again.
    in_memory = False

    def __init__(self, stream: Stream, recipients: Sequence[Recipient]) -> None:
        self._stream = stream
        self._open = {recipient.address.key for recipient in recipients}
        self._segments: list[bytes] = []
        self.waiting = 0
        self._reader: Deferred[None] | None = None
        self._is_given = False
        self.is_closed = False
        # How much had come when it was divided.
        self._split_at: int | None = None

    def put(self, data: bytes) -> None:
        """The next octets."""
        self._segments.append(data)
        self.waiting += len(data) + _SEGMENT

    def wake(self) -> None:
        """Something has come, or has become known."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.callback(None)

    def settle(self, recipient: Recipient) -> None:
        """The outcome of this recipient is known."""
        self._open.discard(recipient.address.key)
        if not self._open:
            self.close()

    def close(self) -> None:
        """It is not read any more."""
        self.is_closed = True
        self._segments.clear()
        self.waiting = 0
        self._stream.leave(self)
        self.wake()

    def take(self) -> bytes | None:
        """
        :returns: what waits; ``b""`` at the end of the content; ``None`` where there is something to :meth:`wait` for.
        :raises lmtp_twisted.errors.ContentLost: where there will be no more.
        """
        if self._stream.failure is not None:
            raise self._stream.error()
        if self.is_closed:
            raise ContentLost(451, "4.3.0", "What was left of the content was not needed any more")
        if self._segments:
            data = b"".join(self._segments)
            self._segments.clear()
            self.waiting = 0
            self._stream.look_for_room()
            return data
        return b"" if self._stream.is_complete else None

    def wait(self) -> Deferred[None]:
        """:returns: fires when it is time to :meth:`take` again."""

        def forget(_: object) -> None:
            self._reader = None

        self._reader = Deferred(forget)
        return self._reader

    # As a message reads it

    @property
    def size(self) -> int:
        """Octets, once all have come."""
        if not self._stream.is_complete:
            raise NotStored("The size of a message that is streamed is known when it is completed")
        return self._stream.size

    @property
    def head(self) -> bytes:
        """The header block, once it has come."""
        return self._stream.head

    @property
    def completed(self) -> Deferred[None]:
        """A Deferred that fires when all has come."""
        return self._stream.completed

    def part(self, recipients: Sequence[Recipient]) -> Part:
        """
        The same for some of the recipients, from its beginning. From now on it is the parts that are read.

        :raises lmtp_twisted.errors.ContentLost: where it will not be complete.
        :raises lmtp_twisted.errors.NotStored: where some of it was read, or has come since it was divided for the first
            time.
        """
        if self._stream.failure is not None:
            raise self._stream.error()
        if self._is_given or self.is_closed or self._split_at not in (None, self._stream.size):
            raise NotStored("A message that is streamed is divided at once, and before it is read")
        part = self._stream.part(recipients, self._segments)
        if self._split_at is None:
            self._split_at = self._stream.size
            self._stream.leave(self)
        return part

    def chunks(self) -> Chunks:
        """
        The octets as they come.

        :raises lmtp_twisted.errors.NotStored: at the second time.
        """
        if self._is_given or self._split_at is not None:
            raise NotStored("A message that is streamed is read once; forRecipients gives more of them")
        self._is_given = True
        return Chunks(self, self._stream.reactor)

    def blocks(self) -> Iterator[bytes]:
        """Not while it comes: the client may be slow, and the thread would have to wait."""
        raise NotStored("A message that is streamed is read by chunks()")

    def open(self) -> io.BufferedIOBase:
        """Not here."""
        raise NotStored("A message that is streamed is read by chunks()")

    def read(self) -> bytes:
        """Not here."""
        raise NotStored("A message that is streamed is read by chunks()")


class Chunks:
    """
    An asynchronous iterator of what comes.

    :param part: what is read.
    :param reactor: its ``callFromThread`` is used where this is left before its end.
    """

    def __init__(self, part: Part, reactor: Any) -> None:
        self._part: Part | None = part
        self._reactor = reactor

    def __aiter__(self) -> Chunks:
        return self

    async def __anext__(self) -> bytes:
        part = self._part
        while part is not None:
            data = part.take()
            if data:
                return data
            if data is None:
                await part.wait()
            else:
                self._part = part = None
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """What is left is not read."""
        part, self._part = self._part, None
        if part is not None:
            part.close()

    def __del__(self) -> None:
        # Who has left the loop would hold back the session otherwise. Python may call this in any thread, and in the
        # midst of anything.
        if self._part is not None and not self._part.is_closed:
            self._reactor.callFromThread(self._part.close)
