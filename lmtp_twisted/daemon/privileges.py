"""As whom the server will run: twistd's ``--uid`` and ``--gid``, which count once the ports are open."""

from __future__ import annotations

import os
from collections.abc import Callable
from pwd import getpwuid
from typing import Any, TypeVar

from twisted.python.util import runAsEffectiveUser

T = TypeVar("T")

#: The numbers of a user and a group.
Owner = tuple[int, int]


def later_owner(parent: Any) -> Owner | None:
    """
    :param parent: twistd's options, if there are any.
    :returns: whom twistd will make us; ``None`` where we stay who we are.
    """
    given: dict[str, Any] = {} if parent is None else parent
    uid: Any = given.get("uid")
    gid: Any = given.get("gid")
    if os.geteuid() != 0 or (uid is None and gid is None):
        return None
    if gid is None:
        # As twistd has it.
        gid = getpwuid(uid).pw_gid
    return uid or 0, gid


def as_later(parent: Any, look: Callable[[], T]) -> T:
    """
    Look at the disk as the one that we will be: what is made is then theirs, and what they may not do is found now.

    :param parent: as for :func:`later_owner`.
    :param look: what is done.
    """
    owner = later_owner(parent)
    if owner is None:
        return look()
    result: T = runAsEffectiveUser(*owner, look)
    return result
