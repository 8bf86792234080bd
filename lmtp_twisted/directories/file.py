"""
A file with a recipient on each line, in the manner of passwd(5): ``address:mailbox:backend:quota``. What is empty, or
left out at the end, is left to the backend. What begins with ``#`` is a comment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from lmtp_twisted.aliases import name_of
from lmtp_twisted.awaiting import go_on
from lmtp_twisted.envelope import DirectoryEntry
from lmtp_twisted.interfaces import IRecipientDirectory
from lmtp_twisted.watched import WatchedFile
from lmtp_twisted.wire.addresses import Address, parse_mailbox

Entries = Mapping[str, DirectoryEntry]


@implementer(IRecipientDirectory)
class FileDirectory:
    """
    Recipients in a file, which is read anew when it has changed.

    :param path: of the file.
    :param reactor: takes what a thread has read.
    :param pool: where the thread comes from.
    :raises ValueError: where it cannot be read or makes no sense, in one line.
    """

    def __init__(self, path: str, reactor: Any, pool: ThreadPool) -> None:
        self._file: WatchedFile[Entries] = WatchedFile(path, parse_entries, reactor, pool)

    def entryOf(self, address: Address) -> Any:
        """See :class:`~lmtp_twisted.interfaces.IRecipientDirectory`."""
        name = name_of(address)
        return go_on(self._file.current(), lambda entries: entries.get(name))


def parse_entries(text: str) -> Entries:
    """
    :param text: the lines.
    :returns: what is known of each, by :func:`~lmtp_twisted.aliases.name_of` its address.
    :raises ValueError: with the number of the line, where one makes no sense; or where there are none: a file without
        recipients would refuse all mail for good, and is more likely one that is just being written.
    """
    entries: dict[str, DirectoryEntry] = {}
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        # The last may hold a colon.
        first, *fields = line.split(":", 3)
        try:
            address = parse_mailbox(first.encode())
        except ValueError as error:
            raise ValueError(f"line {number}: {first!r} is no address: {error}")
        if not address.domain:
            raise ValueError(f"line {number}: {first!r} has no domain")
        name = name_of(address)
        if name in entries:
            raise ValueError(f"line {number}: {first} is there already")
        mailbox, backend, quota = [field.strip() or None for field in fields] + [None] * (3 - len(fields))
        entries[name] = DirectoryEntry(mailbox, quota, backend)
    if not entries:
        raise ValueError("there is no recipient in it")
    return entries
