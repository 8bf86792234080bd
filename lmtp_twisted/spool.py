"""
Where the content of a message lies while it is received and delivered: in memory first, then in an unnamed file.

Nothing here reads or writes a file in the reactor thread: blocks are written by a thread of the pool while the session
waits, and read by whoever delivers.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredSemaphore, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from lmtp_twisted.envelope import Recipient
from lmtp_twisted.wire.headers import LOOKED_AT
from lmtp_twisted.wire.replies import Reply

#: Octets that are read from or written to a file at once.
BLOCK = 256 * 1024
#: Octets that a message may keep in memory where the budget is used up, and as many of its header block.
_LEAST = 16 * 1024
#: Blocks that are written or read at a time, so that a slow disk does not take all threads of the pool.
_AT_A_TIME = 8
#: Segments below this size are gathered, so that a message in tiny segments is not a million objects.
_SMALL = 2048


@attrs.define(eq=False)
class Spool:
    """
    What all messages of a process share.

    :ivar reactor: its ``callFromThread`` brings results back.
    :ivar pool: writes and reads the files.
    :ivar directory: where the unnamed files are made; ``None`` is the system's temporary directory.
    :ivar threshold: octets that one message may keep in memory.
    :ivar budget: octets that all messages together may keep in memory; beyond it they go to files earlier.
    :ivar used: octets in memory now.
    :ivar most_recipients: that the messages which are under way have, beyond the first few of each.
    :ivar recipients: how many these are now.
    :ivar open_files: the descriptors of the files of now; changed by any thread.
    """

    reactor: Any
    pool: ThreadPool
    directory: str | None = None
    threshold: int = 1024 * 1024
    budget: int = 128 * 1024 * 1024
    used: int = 0
    most_recipients: int = 60_000
    recipients: int = 0
    open_files: set[int] = attrs.field(factory=set, init=False, repr=False)
    _turns: DeferredSemaphore = attrs.field(factory=lambda: DeferredSemaphore(_AT_A_TIME), init=False, repr=False)

    def defer(self, function: Any, *arguments: Any) -> Deferred[Any]:
        """Call a function in a thread of the pool."""
        waiting: Deferred[Any] = self._turns.run(deferToThreadPool, self.reactor, self.pool, function, *arguments)
        return waiting

    @property
    def is_full(self) -> bool:
        """Whether the budget is used up."""
        return self.used > self.budget

    def make_room_for_recipients(self, count: int) -> bool:
        """
        A message has more recipients.

        :returns: whether it may.
        """
        if self.recipients + count > self.most_recipients:
            return False
        self.recipients += count
        return True


class Content:
    """
    The octets of one message: appended while it is received, then read by any number of readers in any thread.

    :param spool: what it shares with the others.
    :ivar size: octets so far.
    """

    __slots__ = (
        "__weakref__",
        "_chunks",
        "_file",
        "_head",
        "_head_is_known",
        "_held",
        "_is_writing",
        "_of_head",
        "_spool",
        "_tail",
        "size",
    )

    #: The most octets of the header block that are kept when the content goes to a file.
    HEAD = 256 * 1024

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._chunks: list[bytes] = []
        self._tail: bytearray | None = None
        self._file: _UnnamedFile | None = None
        self._head = b""
        self._head_is_known = False
        self._held = 0
        # Octets of the head that stay in memory, and are counted, where the content goes to a file.
        self._of_head = 0
        self._is_writing = False
        self.size = 0

    def append(self, data: bytes) -> bool:
        """
        :param data: the next octets.
        :returns: whether it is time to call :meth:`make_room`.
        """
        length = len(data)
        if not length:
            return False
        self.size += length
        self._held += length
        self._spool.used += length
        if length < _SMALL:
            if self._tail is None:
                self._tail = bytearray()
            self._tail += data
            if len(self._tail) >= 64 * 1024:
                self._gather()
        else:
            if self._tail is not None:
                self._gather()
            self._chunks.append(data)
        most = self._spool.threshold if self._file is None else BLOCK - 1
        return self._held > most or (self._held > _LEAST and self._spool.is_full)

    def _gather(self) -> None:
        if self._tail is not None:
            self._chunks.append(bytes(self._tail))
            self._tail = None

    def make_room(self) -> Deferred[None]:
        """
        Write what is in memory to the file, by a thread of the pool. Nothing may be appended until it is done.

        :returns: fires when it is written; fails with :exc:`OSError` where the disk does not take it.
        """
        self._gather()
        chunks, self._chunks = self._chunks, []
        written, self._held = self._held, 0
        if not self._head_is_known:
            beginning = self._head + b"".join(chunks)
            self._head = cut_head(beginning, _LEAST if self._spool.is_full else self.HEAD)
            self._head_is_known = len(self._head) < len(beginning)
            # It stays in memory.
            written += self._of_head - len(self._head)
            self._of_head = len(self._head)
        if self._file is None:
            self._file = _UnnamedFile(self._spool.open_files)
        self._is_writing = True
        done = self._spool.defer(self._file.write, self._spool.directory, chunks)

        def account(result: Any) -> Any:
            self._is_writing = False
            self._spool.used -= written
            return result

        return done.addBoth(account)

    def finish(self) -> Deferred[None] | None:
        """
        The content is complete.

        :returns: ``None``, or a Deferred that fires when the rest is in the file.
        """
        if self._tail is not None:
            self._gather()
        return self.make_room() if self._file is not None and self._held else None

    def release(self) -> None:
        """
        Give back this content's part of the budget: its message is dealt with. It can still be read by whoever holds
        it; the file goes with the last of them.
        """
        self._spool.used -= self._held + self._of_head
        self._held = self._of_head = 0

    def discard(self, why: Reply | None = None) -> None:
        """
        Forget all octets, but not their number.

        :param why: for those who read a content while it comes, and here nobody does.
        """
        self.release()
        # Who sent it is asked for most where it was refused.
        self._gather()
        self._head = self.beginning(LOOKED_AT)[:LOOKED_AT]
        self._chunks.clear()
        file, self._file = self._file, None
        if file is not None and not self._is_writing:
            # Not left to its last reference, which a traceback in somebody's log may hold for long.
            file.close()

    @property
    def in_memory(self) -> bool:
        """Whether reading touches no file."""
        return self._file is None

    @property
    def head(self) -> bytes:
        """The header block, its last line end included; of a content in a file at most :attr:`HEAD` octets."""
        if not self._head:
            first = self._chunks[0] if self._chunks else b""
            if not _head_is_complete(first) and len(self._chunks) > 1:
                first = b"".join(self._chunks)
            self._head = cut_head(first, len(first))
        return self._head

    def beginning(self, octets: int) -> bytes:
        """The first octets of the content: so many or more, where it has them in memory. Nothing is parsed."""
        if self._head:
            return self._head
        chunks = self._chunks
        first = chunks[0] if chunks else b""
        if len(first) >= octets or len(chunks) < 2:
            return first
        return b"".join(chunks[: octets // _SMALL + 1])

    def head_is_shorter_than(self, octets: int) -> bool:
        """Whether a look at so many octets shows that the header block has fewer; if not it may, all the same."""
        if self.size < octets:
            return True
        first = self._head or (self._chunks[0] if self._chunks else b"")
        return first.find(b"\r\n\r\n", 0, octets) >= 0

    @property
    def completed(self) -> Deferred[None]:
        """Fired: what is read is complete."""
        return succeed(None)

    def part(self, recipients: Sequence[Recipient]) -> Content:
        """What is read for some of the recipients: all of them can read it, at any time."""
        return self

    def blocks(self) -> Iterator[bytes]:
        """The octets, read by the calling thread."""
        if self._file is None:
            return iter(self._chunks)
        return self._file.blocks()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The octets, read by the pool."""
        if self._file is None:
            for chunk in self._chunks:
                yield chunk
            return
        file, offset = self._file, 0
        while block := await self._spool.defer(file.read, BLOCK, offset):
            offset += len(block)
            yield block

    def open(self) -> io.BufferedIOBase:
        """The octets as a file of its own."""
        if self._file is None:
            return io.BufferedReader(io.BytesIO(b"".join(self._chunks)))
        return io.BufferedReader(_Reader(self._file, self.size), BLOCK)

    def read(self) -> bytes:
        """All octets."""
        if self._file is None:
            return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        return b"".join(self._file.blocks())


def _head_is_complete(head: bytes) -> bool:
    return b"\r\n\r\n" in head or b"\n\n" in head


def cut_head(data: bytes, limit: int) -> bytes:
    """The header block that the data begins with, its last line end included, and no more than so many octets."""
    if data.startswith((b"\r\n", b"\n")):
        return data[: data.index(b"\n") + 1]
    ends = [end + len(mark) for mark in (b"\r\n\r\n", b"\n\n") if (end := data.find(mark)) >= 0]
    return data[: min([*ends, limit])]


class _UnnamedFile:
    """A file that is gone with its last reader, or with the process. Its methods block: for threads only."""

    __slots__ = ("_descriptor", "_open_files")

    def __init__(self, open_files: set[int]) -> None:
        self._descriptor = -1
        self._open_files = open_files

    def write(self, directory: str | None, chunks: list[bytes]) -> None:
        if self._descriptor < 0:
            self._descriptor = _open_unnamed(directory or tempfile.gettempdir())
            self._open_files.add(self._descriptor)
        data = memoryview(b"".join(chunks))
        chunks.clear()
        while data:
            data = data[os.write(self._descriptor, data) :]

    def read(self, size: int, offset: int) -> bytes:
        return os.pread(self._descriptor, size, offset)

    def blocks(self) -> Iterator[bytes]:
        offset = 0
        while block := self.read(BLOCK, offset):
            offset += len(block)
            yield block

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            # Before another file can have its number.
            self._open_files.discard(descriptor)
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()


def _open_unnamed(directory: str) -> int:
    if hasattr(os, "O_TMPFILE"):
        try:
            return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            # What file systems and kernels without it say (open(2)).
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT):
                raise
    descriptor, name = tempfile.mkstemp(dir=directory)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name)
    return descriptor


class _Reader(io.RawIOBase):
    """One reader's place in an unnamed file."""

    def __init__(self, file: _UnnamedFile, size: int) -> None:
        self._file = file
        self._size = size
        self._offset = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._offset, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("negative seek position")
        self._offset = base + offset
        return self._offset

    def tell(self) -> int:
        return self._offset

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer), self._offset)
        buffer[: len(data)] = data
        self._offset += len(data)
        return len(data)
