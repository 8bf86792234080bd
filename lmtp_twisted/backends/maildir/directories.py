"""
Mailboxes as open directories. Their methods block: they are for threads, but for :meth:`Mailboxes.knows`.

Below the root no symbolic link is ever followed: who may write in a mailbox cannot lead our files elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

from lmtp_twisted.backends.maildir.disk import sync_all
from lmtp_twisted.backends.maildir.folders import MARK, NoSuchFolder, enter_folder, mark
from lmtp_twisted.backends.maildir.refusals import no_such_mailbox, no_such_name
from lmtp_twisted.errors import DeliveryError

#: Mailboxes that are held open at the most, where the process may have so many files.
MOST_OPEN = 512
#: Seconds after which a mailbox is opened anew, however often it is used.
DAY = 24 * 3600.0

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_INSIDE = _DIRECTORY | os.O_NOFOLLOW
_FOLDERS = ("tmp", "new", "cur")


class Mailbox:
    """
    A Maildir whose directories are open. They are closed with the last reference to it, so nobody's descriptor is
    closed, and its number given to another file, while it is in use.

    :ivar path: of ``new``, for logs and to see whether it is still this one.
    :ivar tmp: descriptor of ``tmp``.
    :ivar new: descriptor of ``new``.
    :ivar device: of ``new``: files are linked only within one.
    """

    __slots__ = ("_inode", "_opened", "_seen", "device", "new", "path", "tmp")

    def __init__(self, path: str, directory: int) -> None:
        self.tmp = self.new = -1
        self.path = f"{path}/new"
        self.tmp = os.open("tmp", _INSIDE, dir_fd=directory)
        self.new = os.open("new", _INSIDE, dir_fd=directory)
        status = os.fstat(self.new)
        self.device = status.st_dev
        self._inode = status.st_ino
        self._seen = self._opened = time.monotonic()

    def is_current(self, now: float) -> bool:
        """
        Whether it is still in its place: not renamed, not hidden by a mount. Looked up once a second. After a day it
        is no longer taken to be, so that whoever looks after mailboxes that are opened sees those in use, too.

        :param now: seconds of :func:`time.monotonic`.
        """
        if now - self._seen < 1.0:
            return True
        if now - self._opened > DAY:
            return False
        try:
            status = os.stat(self.path)
        except OSError:
            return False
        self._seen = now
        return status.st_ino == self._inode and status.st_dev == self.device

    def __del__(self) -> None:
        for descriptor in (self.tmp, self.new):
            if descriptor >= 0:
                os.close(descriptor)


class Mailboxes:
    """
    The mailboxes below a directory. A mailbox is named by the names that lead to it from there, which
    :class:`~lmtp_twisted.backends.maildir.naming.Naming` gives.

    :param root: the directory.
    :param create: whether a missing mailbox is made.
    :param fsync: whether what is made must survive a loss of power.
    :param most: how many are held open; by default as the limit of open files allows.
    :param depth: how many names lead to a mailbox whose path nobody gave; ``None`` where there are no folders.
    :param is_hidden: whether the last of these names begins with a dot, as that of a folder does.
    :param create_folders: whether a missing folder is made.

    :ivar opened: called with the names of each mailbox that was opened, in the thread that did.
    """

    def __init__(
        self,
        root: str,
        *,
        create: bool,
        fsync: bool,
        most: int | None = None,
        depth: int | None = None,
        is_hidden: bool = False,
        create_folders: bool = False,
    ) -> None:
        self._root = root
        self._create = create
        self._fsync = fsync
        self._depth = depth
        self._is_hidden = is_hidden
        self._create_folders = create_folders
        self._most = most_open() if most is None else most
        self._open: OrderedDict[tuple[str, ...], Mailbox] = OrderedDict()
        self._lock = threading.Lock()
        # Held while directories are made: a thread that finds one there knows that it is also on disk.
        self._making = threading.Lock()
        # File systems where this also holds for what others had made before us.
        self._settled: set[int] = set()
        self.opened: Callable[[tuple[str, ...]], None] = _nobody_listens

    def make_root(self) -> None:
        """
        Make the root where it is missing and may be made, and see whether we can write there.

        :raises OSError: where it is not a directory, cannot be made or cannot be written to.
        """
        try:
            if self._create:
                self._make_path(self._root)
            os.close(os.open(self._root, _DIRECTORY))
        except OSError as error:
            # The name in it is that of one part of the path.
            raise OSError(error.errno, error.strerror, self._root)
        # As the user that acts, which is another than the real one while a daemon is put together for --uid.
        if not os.access(self._root, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
            raise PermissionError(errno.EACCES, "cannot write to it", self._root)

    def _make_path(self, path: str) -> None:
        if os.path.isdir(path):
            return
        parent = os.path.dirname(path)
        self._make_path(parent)
        descriptor = os.open(parent, _DIRECTORY)
        try:
            self._make(descriptor, [os.path.basename(path)])
        finally:
            os.close(descriptor)

    def knows(self, names: tuple[str, ...]) -> bool:
        """Whether it was there when it was last used. Does not block."""
        return names in self._open

    def inbox_of(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The mailbox itself where a folder is named."""
        if self._depth is None or not names[-1].startswith("."):
            return names
        return names if self._is_hidden and len(names) == self._depth else names[:-1]

    def enter(self, names: tuple[str, ...]) -> int:
        """
        :param names: of a mailbox, not of a folder.
        :returns: a descriptor of its directory.
        :raises lmtp_twisted.errors.PermanentFailure: where it does not exist.
        :raises OSError: where it cannot be opened.
        """
        return self._enter(names, create=False)

    def check(self, names: tuple[str, ...]) -> None:
        """
        :raises lmtp_twisted.errors.PermanentFailure: where it does not exist and is not to be made.
        :raises OSError: where that cannot be found out.
        """
        os.close(self.enter(names))

    def open(self, names: tuple[str, ...], *, anew: bool = False) -> Mailbox:
        """
        :param anew: look for it on disk even if it is open: what was open turned out to be gone.
        :returns: the mailbox, made where it has to be.
        :raises lmtp_twisted.errors.PermanentFailure: where it does not exist and is not to be made.
        :raises OSError: where it cannot be opened or made.
        """
        with self._lock:
            mailbox = self._open.get(names)
            if mailbox is not None:
                self._open.move_to_end(names)
        if mailbox is not None and not anew and mailbox.is_current(time.monotonic()):
            return mailbox
        try:
            with self._making:
                mailbox = self._open_anew(names)
        except BaseException:
            with self._lock:
                self._open.pop(names, None)
            raise
        with self._lock:
            self._open[names] = mailbox
            self._open.move_to_end(names)
            if len(self._open) > self._most:
                self._open.popitem(last=False)
        self.opened(names)
        return mailbox

    def existing(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """
        Where mail for a folder goes. A folder that is to be made is made.

        :param names: of a mailbox or a folder.
        :returns: the same, or the folder's mailbox where there is no such folder.
        """
        inbox = self.inbox_of(names)
        if names == inbox:
            return names
        try:
            self.open(names)
        except NoSuchFolder:
            return inbox
        except (DeliveryError, OSError):
            # It will say the same to who files there.
            pass
        return names

    def open_tmp(self, names: tuple[str, ...]) -> int:
        """
        :returns: a descriptor of the mailbox's ``tmp``; whoever asks closes it. Nothing is made.
        :raises lmtp_twisted.errors.PermanentFailure: where the mailbox does not exist.
        :raises OSError: where it cannot be opened.
        """
        directory = self._enter(names, create=False)
        try:
            return os.open("tmp", _INSIDE, dir_fd=directory)
        finally:
            os.close(directory)

    def close(self) -> None:
        """Hold none open any more."""
        with self._lock:
            self._open.clear()

    def _open_anew(self, names: tuple[str, ...]) -> Mailbox:
        if self._fsync and not self._settled:
            root = os.open(self._root, _DIRECTORY)
            try:
                self._settle(root)
            finally:
                os.close(root)
        inbox = self.inbox_of(names)
        directory = self._enter(inbox, create=self._create)
        try:
            self._settle(directory)
            self._complete(directory)
            for name in names[len(inbox) :]:
                mailbox = directory
                directory = enter_folder(mailbox, name, self._make if self._create_folders else None)
                os.close(mailbox)
                self._complete(directory, is_folder=True)
            return Mailbox("/".join((self._root, *names)), directory)
        finally:
            os.close(directory)

    def _complete(self, directory: int, *, is_folder: bool = False) -> None:
        """A mailbox is its directory: what it lacks is made even where mailboxes are not."""
        missing = [name for name in _FOLDERS if not _is_there(directory, name)]
        is_marked = not is_folder or _has_mark(directory)
        if not is_marked:
            mark(directory)
        if missing or not is_marked:
            self._make(directory, missing)

    def _enter(self, names: tuple[str, ...], *, create: bool) -> int:
        """A descriptor of the mailbox's directory."""
        # Where the root itself is missing, the disk is not there: that is no answer about a mailbox.
        directory = os.open(self._root, _DIRECTORY)
        for name in names:
            parent = directory
            try:
                if create and not _is_there(parent, name):
                    self._make(parent, [name])
                directory = os.open(name, _INSIDE, dir_fd=parent)
            except FileNotFoundError:
                if create:
                    raise
                raise no_such_mailbox() from None
            except OSError as error:
                if error.errno == errno.ENAMETOOLONG:
                    # A file system with shorter names than we know of, such as eCryptfs.
                    raise no_such_name() from None
                raise
            finally:
                os.close(parent)
        return directory

    def _settle(self, directory: int) -> None:
        """
        Bring to disk what was there before us, once for each file system. A server that was killed behind a mkdir(2),
        and has not come to its fsync, leaves a directory that nobody else would sync.
        """
        device = os.fstat(directory).st_dev
        if self._fsync and device not in self._settled:
            sync_all(directory)
            self._settled.add(device)

    def _make(self, parent: int, names: Sequence[str]) -> None:
        for name in names:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=parent)
        if self._fsync:
            os.fsync(parent)


@contextlib.contextmanager
def closing_directory(descriptor: int) -> Iterator[int]:
    """
    Close it in the end.

    :param descriptor: of a directory.
    """
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _nobody_listens(names: tuple[str, ...]) -> None:
    pass


def _has_mark(directory: int) -> bool:
    try:
        os.stat(MARK, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _is_there(directory: int, name: str) -> bool:
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    # Also of cur, which only readers open: theirs would be led elsewhere.
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
    return True


def most_open() -> int:
    """How many mailboxes may be held open, as the limit of open files is now."""
    # Two descriptors each, and most of the process's are for its sessions.
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_OPEN if limit == resource.RLIM_INFINITY else max(8, min(MOST_OPEN, limit // 8))
