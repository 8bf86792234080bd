"""
Numbers by name that several processes add to: how many sessions there are, and of whom.

Each process has a row of a shared memory to itself and writes nowhere else, so nothing is locked. The sum of a name is
exact but for what another process changes at the same moment. Who looks after the processes clears the row of one that
is gone.
"""

from __future__ import annotations

import mmap
import os
import secrets
import struct
import tempfile
from hashlib import blake2b

# A row has buckets, a bucket has entries: the digest of a name, and its number. A name has its place in one bucket.
_BUCKETS = 4096
_WAYS = 8
_BUCKET = struct.Struct(f"{2 * _WAYS}Q")
_ROW = _BUCKETS * _BUCKET.size
#: Before the rows: what makes it hard to find names that share a bucket.
_SALT = 16
_HEAD = mmap.PAGESIZE


class SharedTally:
    """
    :param descriptor: of the memory, from :func:`make_memory`.
    :param rows: how many processes there are.
    :param row: the number of this one, from 0; ``None`` is who looks after them and adds nothing.
    """

    def __init__(self, descriptor: int, rows: int, row: int | None) -> None:
        self._memory = mmap.mmap(descriptor, _size(rows))
        self._salt = self._memory[:_SALT]
        self._rows = rows
        self._row = row
        # Where the names of this process are in its row.
        self._own: dict[int, int] = {}

    def add(self, name: str, change: int) -> None:
        """
        :param name: of a number that this process has its part of. Where too many share a bucket it has none: the sum
            is too low by that much then.
        :param change: 1 or -1.
        """
        assert self._row is not None, "no process that serves"
        digest, bucket = self._place(name)
        offset = self._own.get(digest)
        if offset is None:
            start = _HEAD + self._row * _ROW + bucket
            numbers = _BUCKET.unpack_from(self._memory, start)[1::2]
            if change < 0 or 0 not in numbers:
                return
            offset = self._own[digest] = start + 16 * numbers.index(0)
            # The number there is 0 until the digest is.
            struct.pack_into("Q", self._memory, offset, digest)
        (number,) = struct.unpack_from("Q", self._memory, offset + 8)
        struct.pack_into("Q", self._memory, offset + 8, number + change)
        if number + change == 0:
            del self._own[digest]

    def total(self, name: str) -> int:
        """The sum of all processes."""
        digest, bucket = self._place(name)
        total = 0
        for row in range(self._rows):
            entries = _BUCKET.unpack_from(self._memory, _HEAD + row * _ROW + bucket)
            if digest in entries[::2]:
                # More than one where the name has moved; the number of the other is 0, unless it is another's.
                total += sum(number for at, number in zip(entries[::2], entries[1::2], strict=True) if at == digest)
        return total

    def clear(self, row: int) -> None:
        """The process that this row belonged to is gone."""
        start = _HEAD + row * _ROW
        self._memory[start : start + _ROW] = bytes(_ROW)

    def _place(self, name: str) -> tuple[int, int]:
        digest = int.from_bytes(blake2b(name.encode(), digest_size=8, salt=self._salt).digest(), "big")
        return digest, digest % _BUCKETS * _BUCKET.size


def make_memory(rows: int) -> int:
    """
    :param rows: how many processes will share it.
    :returns: a descriptor of it, all its numbers 0.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("lmtp")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, _size(rows))
    os.pwrite(descriptor, secrets.token_bytes(_SALT), 0)
    return descriptor


def _size(rows: int) -> int:
    return _HEAD + rows * _ROW
