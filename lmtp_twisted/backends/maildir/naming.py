"""
Recipient → mailbox: names are data. The only way from an address to the file system leads through :func:`component`,
which refuses what could mean anything but one name in one directory. Nothing here touches a disk.
"""

from __future__ import annotations

import enum
import os
import re
import unicodedata
from functools import lru_cache

import attrs

from lmtp_twisted.backends.maildir.refusals import no_such_name
from lmtp_twisted.backends.maildir.subaddress import MAX_NAME, NO_SUBADDRESSES, Subaddresses
from lmtp_twisted.errors import PermanentFailure
from lmtp_twisted.wire.addresses import CONTROL_CHARACTERS, Address

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_KNOWN = ("local", "domain")
_LIKE_OPTIONS = re.compile(r",\w+=[^/]*\Z")


class Case(enum.Enum):
    """What becomes of the letters of local parts. Domains are always in lower case (RFC 5321 §2.4)."""

    #: Lower case: one mailbox for all spellings, as nearly every system has it.
    FOLD = "fold"
    #: As given.
    KEEP = "keep"


@attrs.frozen
class Layout:
    """
    Where mailboxes lie.

    :ivar root: the directory that holds them all, absolute. Everything below it is ours.
    :ivar parts: the names of the directories from there to a mailbox, with the placeholders ``{local}`` and
        ``{domain}``.
    """

    root: str
    parts: tuple[str, ...]

    @classmethod
    def parse(cls, path: str) -> Layout:
        """
        :param path: a directory, with or without placeholders; without any, ``/{domain}/{local}`` is added. A relative
            one is below the current directory of now, and ``~`` is a home directory.
        :raises ValueError: where it is empty or has other placeholders.
        """
        if not path:
            raise ValueError("it needs a directory, as in maildir:/srv/mail")
        if "\0" in path:
            raise ValueError("a path cannot hold NUL")
        if match := _LIKE_OPTIONS.search(path):
            raise ValueError(f"{match[0]!r} are not its options (end the path with / if they are part of a name)")
        for name in _PLACEHOLDER.findall(path):
            if name not in _KNOWN:
                raise ValueError(f"{{{name}}} in {path!r} is unknown, a path may hold {{local}} and {{domain}}")
        if not _PLACEHOLDER.search(path):
            path = os.path.join(path, "{domain}", "{local}")
        names = os.path.abspath(os.path.expanduser(path)).split("/")
        first = next(index for index, name in enumerate(names) if _PLACEHOLDER.search(name))
        return cls("/".join(names[:first]) or "/", tuple(names[first:]))


class Naming:
    """
    The mailboxes of addresses.

    :param parts: as :attr:`Layout.parts`.
    :param case: of local parts.
    :param hostname: the domain of recipients that have none, such as ``<Postmaster>``.
    :param subaddresses: how local parts are taken apart.
    :param root: as :attr:`Layout.root`.
    """

    def __init__(
        self,
        parts: tuple[str, ...],
        case: Case,
        hostname: str,
        subaddresses: Subaddresses = NO_SUBADDRESSES,
        root: str = "/",
    ) -> None:
        self._root = root.rstrip("/") + "/"
        self._parts = parts
        self._subaddresses = subaddresses
        self._case = case
        self._hostname = hostname
        # The same recipients come again and again. Refusals are raised anew each time and fill nothing.
        self._cached = lru_cache(maxsize=4096)(self._mailbox_of)

    def mailbox_of(self, address: Address, path: str | None = None) -> tuple[str, ...]:
        """
        :param address: of a recipient.
        :param path: of its mailbox, where a directory of recipients says it: below the root.
        :returns: the names of the directories from the root to its mailbox, or to the folder that its detail names:
            the same for all spellings of it. That of a folder is one name longer than that of a mailbox.
        :raises lmtp_twisted.errors.PermanentFailure: ``553 5.1.3`` where no directory can have the name.
        :raises ValueError: where the path is none that a mailbox can have.
        """
        return self._cached(address.local, address.domain, path)

    def _mailbox_of(self, local: str, domain: str, path: str | None) -> tuple[str, ...]:
        # The name of a folder is the user's, who tells upper case from lower (RFC 3501 §5.1).
        local, folder = self._subaddresses.split(local)
        if path is not None:
            names = self._names_of(path)
            return names if folder is None else (*names, folder)
        # Postmaster is the one local part that RFC 5321 makes blind to case (§4.5.1).
        if self._case is Case.FOLD or local.lower() == "postmaster":
            local = local.lower()
        values = {"local": component(local), "domain": component((domain or self._hostname).lower())}
        filled = (_PLACEHOLDER.sub(lambda match: values[match[1]], part) for part in self._parts)
        mailbox = tuple(_not_too_long(name) for name in filled)
        return mailbox if folder is None else (*mailbox, folder)

    def _names_of(self, path: str) -> tuple[str, ...]:
        """Whoever keeps the directory may err, or have taken a name from somebody else."""
        if self._parts[-1].startswith("."):
            raise ValueError("names of mailboxes begin with a dot here, as those of folders, so none can have its own")
        try:
            return tuple(component(name) for name in path.removeprefix(self._root).rstrip("/").split("/"))
        except PermanentFailure:
            raise ValueError(f"no mailbox below {self._root} has the path {path!r}")


def component(part: str) -> str:
    """
    One part of an address as a name in a directory, in Unicode's normal form C (RFC 6530 §10.1): what looks the same
    is the same mailbox.

    :param part: a local part or a domain.
    :raises lmtp_twisted.errors.PermanentFailure: ``553 5.1.3`` for one that is empty, begins with a dot, holds a slash
        or a control character, or is too long.
    """
    name = unicodedata.normalize("NFC", part)
    if not name or name.startswith(".") or "/" in name or CONTROL_CHARACTERS.search(name):
        raise no_such_name()
    return _not_too_long(name)


def _not_too_long(name: str) -> str:
    try:
        length = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        length = MAX_NAME + 1
    if length > MAX_NAME:
        raise no_such_name()
    return name
