"""
``user+detail`` → a user and a folder: names are data here as in :mod:`~lmtp_twisted.backends.maildir.naming`. Nothing
here touches a disk.

The detail comes from whoever writes the mail, and is a wish: where no folder can have such a name, the mail is for the
user all the same, and goes where mail without a detail goes.
"""

from __future__ import annotations

import base64
import enum
import re
import unicodedata

import attrs

from lmtp_twisted.wire.addresses import CONTROL_CHARACTERS, check_separator, split_detail

#: Octets of the name of a folder's directory (NAME_MAX of every common file system), and levels of folders in it.
MAX_NAME, MAX_LEVELS = 255, 20

# Printable US-ASCII stands for itself, but for the ampersand (RFC 3501 §5.1.3).
_TO_ENCODE = re.compile(r"&|[^\x20-\x7e]+")


class Detail(enum.Enum):
    """What becomes of the detail of a subaddress (RFC 5233)."""

    #: The mail goes where the user's mail goes.
    IGNORE = "ignore"
    #: It goes into the folder of that name.
    FOLDER = "folder"


@attrs.frozen
class Subaddresses:
    """
    How local parts are taken apart.

    :ivar detail: what becomes of the detail.
    :ivar separator: characters of which the first in a local part begins its detail; with none there are no details.
    """

    detail: Detail = Detail.IGNORE
    separator: str = "+"

    def __attrs_post_init__(self) -> None:
        check_separator(self.separator)

    def split(self, local: str) -> tuple[str, str | None]:
        """
        :param local: a local part.
        :returns: the user, and the name of the folder's directory where there is one to go to.
        """
        user, detail = split_detail(local, self.separator)
        return user, folder_of(detail[1:]) if self.detail is Detail.FOLDER and detail else None


#: Local parts are whole.
NO_SUBADDRESSES = Subaddresses(separator="")


def folder_of(detail: str) -> str | None:
    """
    :param detail: levels with a dot between them.
    :returns: the name of the folder's directory as Maildir++ has it; ``None`` where no folder can have that name.
    """
    levels = unicodedata.normalize("NFC", detail).split(".")
    # INBOX is another name of the mailbox itself, in any case (RFC 3501 §5.1).
    if levels[0].upper() == "INBOX" or not all(levels) or len(levels) > MAX_LEVELS:
        return None
    if "/" in detail or CONTROL_CHARACTERS.search(detail):
        return None
    try:
        name = "".join(f".{utf7(level)}" for level in levels)
    except UnicodeEncodeError:
        return None
    return name if len(name) <= MAX_NAME else None


def utf7(text: str) -> str:
    """
    The modified UTF-7 of IMAP (RFC 3501 §5.1.3).

    :param text: any text.
    :raises UnicodeEncodeError: for half a surrogate pair.
    """
    return _TO_ENCODE.sub(_encode, text)


def _encode(match: re.Match[str]) -> str:
    if match[0] == "&":
        return "&-"
    encoded = base64.b64encode(match[0].encode("utf-16-be"), b"+,").rstrip(b"=").decode("ascii")
    return f"&{encoded}-"
