"""As whom programs run."""

from __future__ import annotations

import grp
import os
import pwd

import attrs


@attrs.frozen
class Account:
    """
    A user of the machine.

    :ivar uid: the user.
    :ivar gid: the group.
    :ivar groups: all groups.
    """

    uid: int
    gid: int
    groups: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> Account:
        """
        :param text: ``USER`` or ``USER:GROUP``, by name.
        :raises ValueError: where there is no such user or group, or we may not become it.
        """
        name, colon, group = text.partition(":")
        try:
            entry = pwd.getpwnam(name)
            gid = grp.getgrnam(group).gr_gid if colon else entry.pw_gid
        except KeyError as error:
            raise ValueError(f"user={text}: {error.args[0]}")
        if os.geteuid() != 0:
            raise ValueError(f"user={text}: only root can run programs as another user, so start it as root, not --uid")
        return cls(entry.pw_uid, gid, tuple(os.getgrouplist(name, gid)))


def home_of(uid: int) -> str:
    """The home directory of a user; that of nobody is the root."""
    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        return "/"
