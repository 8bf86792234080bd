"""
Filing a batch of messages: in threads only.

The order is what makes a message survive a loss of power (maildir(5), rename(2), fsync(2)):

1. each message is written to a file in ``tmp`` of one of its mailboxes, one for each file system;
2. the files are synced;
3. it is linked into ``new`` of the further mailboxes and renamed into ``new`` of its own;
4. the ``new`` are synced, each once for all messages that went there.

How it waits for the disk is :mod:`~lmtp_twisted.backends.maildir.disk`'s.

Only what has come so far is answered with a yes. What fails on the way is taken back: a mailbox that gets a no has
nothing in ``new``, and nothing stays in ``tmp``. A mailbox that fails leaves the others alone.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterable, Sequence

from lmtp_twisted.backends.maildir.directories import Mailbox, Mailboxes
from lmtp_twisted.backends.maildir.disk import Disk
from lmtp_twisted.backends.maildir.filing import Filing, Store
from lmtp_twisted.backends.maildir.job import Job, Names
from lmtp_twisted.backends.maildir.lines import Newlines
from lmtp_twisted.backends.maildir.quota import Quota

_ESCAPES = str.maketrans({"/": r"\057", ":": r"\072", ",": r"\054"})


class Filer:
    """
    Files batches. Used by several threads at a time.

    :param mailboxes: where to.
    :param hostname: for the names of files.
    :param newlines: of the files.
    :param disk: waits for the disk.
    :param quota: how much a mailbox may hold.
    """

    def __init__(
        self, mailboxes: Mailboxes, hostname: str, newlines: Newlines, disk: Disk, quota: Quota | None = None
    ) -> None:
        self.mailboxes = mailboxes
        self._disk = disk
        self._store = Store(mailboxes, newlines, disk, quota)
        self._host = hostname.translate(_ESCAPES)[:128]
        self._counter = itertools.count(1)

    def unique_name(self) -> str:
        """A name that no file of any Maildir has (maildir(5)): the time, the process, a counter and the host."""
        seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        # The process may have become a daemon since this object was made.
        return f"{seconds}.M{nanoseconds // 1000}P{os.getpid()}Q{next(self._counter)}.{self._host}"

    def file(self, batch: Sequence[Job]) -> None:
        """
        File the messages of a batch; what is for a folder that does not exist comes into the mailbox itself. Each
        job knows then which of its mailboxes have it, and why others do not.

        :param batch: fresh jobs.
        """
        for job in batch:
            if not job.is_cancelled:
                job.place(self.mailboxes.existing)
        filings = [Filing(self._store, job, self.unique_name()) for job in batch]
        try:
            for filing in filings:
                filing.write()
            errors = self._sync((file for filing in filings for file in filing.descriptors()), are_files=True)
            for filing in filings:
                filing.synced(errors)
            for filing in filings:
                filing.link()
            self._sync_directories(filings)
        except BaseException as error:
            for filing in filings:
                filing.take_all_back(error)
        finally:
            for filing in filings:
                filing.finish()

    def _sync_directories(self, filings: Sequence[Filing]) -> None:
        filed: dict[Mailbox, list[tuple[Filing, Names]]] = {}
        for filing in filings:
            for names, (mailbox, _) in filing.placed.items():
                filed.setdefault(mailbox, []).append((filing, names))
        errors = self._sync(((mailbox.device, mailbox.new) for mailbox in filed), are_files=False)
        if errors:
            for mailbox, placed in filed.items():
                if mailbox.new in errors:
                    for filing, names in placed:
                        filing.take_back(names, errors[mailbox.new])

    def _sync(self, descriptors: Iterable[tuple[int, int]], *, are_files: bool) -> dict[int, OSError]:
        """
        :param descriptors: the file system and the descriptor of each file or directory.
        :returns: for those that are not on disk, why; by descriptor.
        """
        by_device: dict[int, list[int]] = {}
        for device, descriptor in descriptors:
            by_device.setdefault(device, []).append(descriptor)
        errors: dict[int, OSError] = {}
        for device, together in by_device.items():
            errors.update(self._disk.sync(device, together, are_files=are_files))
        return errors
