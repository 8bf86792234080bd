"""
Folders of a mailbox as Maildir++ has them: directories in its own, each a Maildir with the mark ``maildirfolder``. In
threads only.

What is no directory is no folder, nor is one that holds other things than a Maildir's: where a mailbox is also the home
of its user, no mail comes into ``.ssh``.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Sequence

#: The empty file that tells a folder from a mailbox.
MARK = "maildirfolder"

_INSIDE = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_NEW_FILE = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
# What open(2) says of a name that is no directory, or a symbolic link.
_NO_DIRECTORY = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
# What there can be where we were interrupted when we made one.
_UNFINISHED = frozenset({"tmp", "new", "cur", MARK})

Make = Callable[[int, Sequence[str]], None]


class NoSuchFolder(FileNotFoundError):
    """There is no such folder, and it is not to be made."""


def enter_folder(mailbox: int, name: str, make: Make | None) -> int:
    """
    :param mailbox: descriptor of a mailbox's directory.
    :param name: of the folder's directory.
    :param make: makes directories in another; ``None`` where folders are not made.
    :returns: a descriptor of the folder's directory.
    :raises NoSuchFolder: where there is none.
    :raises OSError: where it cannot be opened or made.
    """
    try:
        return _opened(mailbox, name, make is not None)
    except NoSuchFolder as error:
        if make is None or error.errno != errno.ENOENT:
            raise
    make(mailbox, [name])
    return _opened(mailbox, name, True)


def _opened(mailbox: int, name: str, can_finish: bool) -> int:
    try:
        directory = os.open(name, _INSIDE, dir_fd=mailbox)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY:
            raise
        raise NoSuchFolder(error.errno, "no folder", name) from None
    try:
        found = os.listdir(directory)
        if "cur" not in found and not (can_finish and _UNFINISHED.issuperset(found)):
            raise NoSuchFolder(errno.ENOTDIR, "no folder", name)
    except BaseException:
        os.close(directory)
        raise
    return directory


def mark(directory: int) -> None:
    """
    Make the mark of a folder, where it is not there.

    :param directory: descriptor of the folder's.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(MARK, _NEW_FILE, 0o600, dir_fd=directory))
