"""
How much a mailbox holds, counted message by message: in threads only. All its folders are counted, Trash among them, as
Dovecot and Exim do; Courier leaves Trash out.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator, Mapping

from lmtp_twisted.backends.maildir.maildirsize import Usage

_INSIDE = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
# What open(2) says of what is no folder, or not ours to look into.
_NO_FOLDER = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES})
# What a name says of the size, so that no file has to be looked at: ``,S=1234`` and then the end or another field.
_SIZE = re.compile(r",S=([0-9]{1,19})(?=[:,]|\Z)")

#: The directory of a folder in its mailbox, ``""`` for the mailbox itself, and the name of a file without its flags.
Place = tuple[str, str]


def count(mailbox: int, pending: Mapping[Place, int]) -> Usage:
    """
    :param mailbox: descriptor of the mailbox's directory.
    :param pending: messages that are on their way there, and their octets. They count once, whether they have come or
        not.
    :raises OSError: where something cannot be looked at.
    """
    usage, seen = _count(mailbox, pending)
    # Where something changed meanwhile a message may have been missed. Once more is enough: in a mailbox where mail
    # comes all the time there is no end of it.
    if seen != _times(mailbox):
        usage, _ = _count(mailbox, pending)
    return usage + Usage(sum(pending.values()), len(pending))


def _count(mailbox: int, pending: Mapping[Place, int]) -> tuple[Usage, dict[str, int]]:
    octets = messages = 0
    seen: dict[str, int] = {}
    for folder, directory in _folders(mailbox):
        bases: set[str] = set()
        # In this order, since that is the way of a message: what was moved meanwhile is seen twice, and not missed.
        for part in ("new", "cur"):
            with _entered(directory, part) as entered:
                if entered is None:
                    continue
                seen[f"{folder}/{part}"] = os.fstat(entered).st_mtime_ns
                for name in os.listdir(entered):
                    base = name.partition(":")[0]
                    if name.startswith(".") or base in bases or (folder, base) in pending:
                        continue
                    size = _size_of(name, entered)
                    if size is not None:
                        bases.add(base)
                        octets += size
                        messages += 1
    return Usage(octets, messages), seen


def _times(mailbox: int) -> dict[str, int]:
    """When each directory was last changed."""
    times: dict[str, int] = {}
    for folder, directory in _folders(mailbox):
        for part in ("new", "cur"):
            with contextlib.suppress(FileNotFoundError):
                times[f"{folder}/{part}"] = os.stat(part, dir_fd=directory, follow_symlinks=False).st_mtime_ns
    return times


def _folders(mailbox: int) -> Iterator[tuple[str, int]]:
    """The mailbox and its folders: the name and an open descriptor of each."""
    yield "", mailbox
    for name in os.listdir(mailbox):
        if name.startswith("."):
            with _entered(mailbox, name) as directory:
                if directory is not None:
                    yield name, directory


@contextlib.contextmanager
def _entered(parent: int, name: str) -> Iterator[int | None]:
    """A descriptor of a directory; ``None`` where there is none of that name."""
    try:
        directory = os.open(name, _INSIDE, dir_fd=parent)
    except OSError as error:
        if error.errno not in _NO_FOLDER:
            raise
        yield None
        return
    try:
        yield directory
    finally:
        os.close(directory)


def _size_of(name: str, directory: int) -> int | None:
    match = _SIZE.search(name)
    if match is not None:
        return int(match[1])
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False).st_size
    except FileNotFoundError:
        return None
