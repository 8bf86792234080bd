"""
One message on its way into its mailboxes: in threads only. The order of the steps is that of
:mod:`lmtp_twisted.backends.maildir.commit`, which takes each with all messages of a batch.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping

import attrs

from lmtp_twisted.backends.maildir.directories import Mailbox, Mailboxes
from lmtp_twisted.backends.maildir.disk import Disk
from lmtp_twisted.backends.maildir.job import Job, Names
from lmtp_twisted.backends.maildir.lines import Newlines, octets_of
from lmtp_twisted.backends.maildir.quota import Quota, Reservation

_NEW_FILE = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
# What link(2) says where a copy must do: another file system, too many links, a file system without links.
_NO_LINK = frozenset({errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})


@attrs.frozen(eq=False)
class Store:
    """
    Where messages go, and how.

    :ivar mailboxes: the mailboxes.
    :ivar newlines: of the files.
    :ivar disk: waits for the disk.
    :ivar quota: how much a mailbox may hold.
    """

    mailboxes: Mailboxes
    newlines: Newlines
    disk: Disk
    quota: Quota | None = None


@attrs.define(eq=False)
class _File:
    """
    A file in ``tmp``.

    :ivar names: of the mailbox where it lies.
    :ivar mailbox: the same, open.
    :ivar size: its octets.
    :ivar descriptor: open for writing, -1 once it is closed.
    """

    names: Names
    mailbox: Mailbox
    size: int
    descriptor: int

    def close(self) -> None:
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class Filing:
    """
    The steps of one message.

    :param store: where it goes.
    :param job: the message.
    :param name: of its file; no other has it.
    :ivar placed: the mailboxes that have it in ``new``, and its name there.
    """

    __slots__ = ("_by_device", "_files", "_full", "_job", "_name", "_reserved", "_store", "_waiting", "placed")

    def __init__(self, store: Store, job: Job, name: str) -> None:
        self._store = store
        self._job = job
        self._name = name
        # Mailboxes that may still get it.
        self._waiting: dict[Names, Mailbox] = {}
        # Files in tmp, and the one of each file system to link from.
        self._files: list[_File] = []
        self._by_device: dict[int, _File] = {}
        self._reserved: dict[Names, Reservation] = {}
        # File systems that had no room for it.
        self._full: tuple[int, ...] = ()
        self.placed: dict[Names, tuple[Mailbox, str]] = {}

    def write(self) -> None:
        """Write a file for each file system."""
        if self._job.is_cancelled:
            return
        for names in self._job.mailboxes:
            try:
                mailbox = self._write_for(names)
                if self._store.quota is not None and self._job.limits:
                    self._reserve(self._store.quota, names, self._by_device[mailbox.device])
                self._waiting[names] = mailbox
            except Exception as error:
                self._job.errors[names] = error

    def _reserve(self, quota: Quota, names: Names, file: _File) -> None:
        limits = self._job.limits.get(self._store.mailboxes.inbox_of(names))
        if limits is not None:
            self._reserved[names] = quota.reserve(names, self._final(file), file.size, limits)

    def _write_for(self, names: Names) -> Mailbox:
        mailbox = self._store.mailboxes.open(names)
        if mailbox.device in self._by_device:
            return mailbox
        if mailbox.device in self._full:
            self._check_room(mailbox)
        try:
            file = self._write_file(names, mailbox)
        except FileNotFoundError:
            mailbox = self._store.mailboxes.open(names, anew=True)
            file = self._write_file(names, mailbox)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                self._full += (mailbox.device,)
            raise
        self._add(file)
        return mailbox

    def _check_room(self, mailbox: Mailbox) -> None:
        # One mailbox may be out of room by itself (a project's quota), so the others are tried. But a disk that is full
        # is not filled up once for each of a thousand recipients.
        room = os.fstatvfs(mailbox.tmp)
        if room.f_bfree * room.f_frsize < self._job.message.size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _add(self, file: _File) -> None:
        self._files.append(file)
        self._by_device[file.mailbox.device] = file

    def _write_file(self, names: Names, mailbox: Mailbox) -> _File:
        descriptor = os.open(self._name, _NEW_FILE, 0o600, dir_fd=mailbox.tmp)
        file = _File(names, mailbox, 0, descriptor)
        try:
            for block in octets_of(self._job.message, self._store.newlines):
                file.size += len(block)
                written = os.write(descriptor, block)
                while written < len(block):
                    block = block[written:]
                    written = os.write(descriptor, block)
        except BaseException:
            self._remove(file)
            raise
        return file

    def descriptors(self) -> Iterator[tuple[int, int]]:
        """Its files that are to be synced: the file system and the descriptor of each."""
        return ((file.mailbox.device, file.descriptor) for file in self._files)

    def synced(self, errors: Mapping[int, OSError]) -> None:
        """
        Its files are on disk.

        :param errors: for those that are not, why; by descriptor.
        """
        for file in list(self._files):
            error = errors.get(file.descriptor)
            try:
                if error is not None:
                    raise error
                file.close()
            except OSError as error:
                self._files.remove(file)
                self._remove(file)
                self._fail_device(file.mailbox.device, error)

    def _fail_device(self, device: int, error: Exception) -> None:
        for names, mailbox in list(self._waiting.items()):
            if mailbox.device == device:
                del self._waiting[names]
                self._job.errors[names] = error

    def link(self) -> None:
        """Bring it into ``new`` of all mailboxes that are left."""
        if self._job.is_cancelled:
            return
        own = {file.names for file in self._files}
        for names, mailbox in self._waiting.items():
            if names not in own:
                try:
                    self._link_into(names, mailbox)
                except Exception as error:
                    self._job.errors[names] = error
        for file in list(self._files):
            # One may lie where there was no room for it, to be linked from.
            if file.names in self._waiting:
                try:
                    self._rename(file)
                except OSError as error:
                    self._job.errors[file.names] = error

    def _link_into(self, names: Names, mailbox: Mailbox) -> None:
        file = self._by_device[mailbox.device]
        final = self._final(file)
        try:
            os.link(self._name, final, src_dir_fd=file.mailbox.tmp, dst_dir_fd=mailbox.new)
        except FileNotFoundError:
            # This mailbox has gone, or that where the file lies, which is no failure of this one.
            self._copy_into(names, self._store.mailboxes.open(names, anew=True))
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            self._copy_into(names, mailbox)
        else:
            self.placed[names] = mailbox, final

    def _copy_into(self, names: Names, mailbox: Mailbox) -> None:
        # It is renamed with the others, and linked from until that fails too.
        copy = self._write_file(names, mailbox)
        try:
            errors = self._store.disk.sync(mailbox.device, [copy.descriptor], are_files=True)
            if errors:
                raise errors[copy.descriptor]
            copy.close()
        except BaseException:
            self._remove(copy)
            raise
        self._add(copy)

    def _rename(self, file: _File) -> None:
        mailbox, final = file.mailbox, self._final(file)
        os.rename(self._name, final, src_dir_fd=mailbox.tmp, dst_dir_fd=mailbox.new)
        self._files.remove(file)
        self.placed[file.names] = mailbox, final

    def _final(self, file: _File) -> str:
        return f"{self._name},S={file.size}"

    def take_back(self, names: Names, error: BaseException) -> None:
        """Remove it from the ``new`` of a mailbox that gets a no."""
        mailbox, final = self.placed.pop(names)
        self._job.errors[names] = error
        with contextlib.suppress(OSError):
            os.unlink(final, dir_fd=mailbox.new)

    def take_all_back(self, error: BaseException) -> None:
        """Remove it from every ``new``."""
        for names in self._job.mailboxes:
            if names in self.placed:
                self.take_back(names, error)
            self._job.errors.setdefault(names, error)

    def finish(self) -> None:
        """Say what was filed, and leave nothing in ``tmp``."""
        for error in self._job.errors.values():
            if isinstance(error, OSError):
                # It says all by itself, and its traceback would keep directories open until the next collection.
                error.__traceback__ = error.__context__ = None
        self._job.filed.update(self.placed)
        if self._store.quota is not None:
            for names, reservation in self._reserved.items():
                self._store.quota.settle(reservation, is_filed=names in self.placed)
        while self._files:
            self._remove(self._files.pop())

    def _remove(self, file: _File) -> None:
        for remove in (file.close, lambda: os.unlink(self._name, dir_fd=file.mailbox.tmp)):
            with contextlib.suppress(OSError):
                remove()
