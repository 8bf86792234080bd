"""
Recipients whose names want to be something else, a path, an option, another user, a folder; and a tree to watch.
"""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import strategies as st

#: Local parts, unquoted.
LOCAL_PARTS = (
    "..",
    ".",
    "../..",
    "../outside",
    "../../outside/victim",
    "/",
    "/etc/passwd",
    "a/b",
    "a/../../outside",
    "..\\outside",
    "\0",
    "a\0b",
    "..\0",
    "~",
    "~root",
    "-x",
    "-rf",
    "--help",
    ".hidden",
    ".new",
    "tmp",
    "new",
    "cur",
    "new/victim",
    "victim/new/forged",
    "maildirsize",
    "a\nb",
    "a\r\nRCPT TO:<b@x>",
    "a\x7fb",
    "a b",
    " ",
    "$HOME",
    "`id`",
    "*",
    "{local}",
    "{domain}",
    "{detail}",
    "%s%n",
    "CON",
    "a:2,S",
    # Slashes and dots that are none, some of which become one in a normal form of Unicode.
    "\u2025",
    "\u2024\u2024",
    "\uff0e\uff0e",
    "\uff0e\uff0e\uff0foutside",
    "\u2044",
    "\u2215",
    "\u2044outside",
    "a\u2028b",
    "\u202egnp",
    "\ufeff..",
    "\u200b..",
    "vict\u0131m",
    "v\u0456ctim",
    "victi\u0301m",
    # Folders: of Maildir++, and in the modified UTF-7 of IMAP (RFC 3501 §5.1.3) a slash, two dots, a NUL.
    "victim+..",
    "victim+../../outside",
    "victim+/",
    "victim+.",
    "victim+a..b",
    "victim+&AC8-",
    "victim+&AC4ALg-",
    "victim+&AAA-",
    "victim+&",
    "victim+&-",
    "victim+&AC8",
    "victim+new",
    "victim+\u20ac",
    "+",
    "+outside",
    # Long.
    "a" * 255,
    "a" * 256,
    "\u00e9" * 127,
    "\u00e9" * 128,
    "a/" * 120,
    "../" * 80,
    "a" * 2000,
)
DOMAINS = (
    "x",
    "X.Example",
    "..",
    "../outside",
    ".",
    "a/b",
    "[192.0.2.1]",
    "[IPv6:2001:db8::1]",
    "xn--bcher-kva.example",
    "b\u00fccher.example",
    "-x",
    "",
)
#: The name of a folder's directory: levels of printable US-ASCII without slashes, none of them empty.
FOLDER = r"(\.[ -\-0-~]+)+"
_PIECES = (
    *("..", ".", "/", "\0", "~", "-", "+", "&", "&AC8-", "\uff0e", "\u2044"),
    *("\r\n", "\\", "victim", "outside", "new", "tmp"),
)


def recipient(local: str, domain: str) -> bytes:
    """What stands between ``<`` and ``>``: the local part quoted, so that as much as possible gets through."""
    quoted = '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return (f"{quoted}@{domain}" if domain else quoted).encode("utf-8", "surrogatepass")


_locals = (
    st.sampled_from(LOCAL_PARTS)
    | st.lists(st.sampled_from(_PIECES) | st.text(max_size=3), max_size=8).map("".join)
    | st.text(max_size=300)
)
_domains = st.just("x") | st.sampled_from(DOMAINS) | st.text(max_size=20)

#: Recipients as a client sends them.
recipients = (
    st.builds(recipient, _locals, _domains)
    | st.text(max_size=40).map(lambda text: text.encode())
    | st.binary(max_size=40)
)


class Tree:
    """
    A directory for mail among things that are none of a mail server's business.

    :ivar root: where mail is.
    """

    def __init__(self, directory: str) -> None:
        self.top = Path(directory).resolve()
        self.root = self.top / "srv/mail"
        self.root.mkdir(parents=True)
        for name in ("outside/victim/new", "outside/victim/tmp", "outside/victim/cur", "srv/outside/new", "srv/x"):
            (self.top / name).mkdir(parents=True)
        for name in ("outside/victim/new/forged", "passwd", "srv/passwd"):
            (self.top / name).write_text("precious")

    def outside(self) -> dict[str, tuple[int, ...]]:
        """All that is not below the root, and how it is."""
        return {
            str(path): (status.st_ino, status.st_mode, status.st_nlink, status.st_mtime_ns, status.st_ctime_ns)
            for path in [self.top, *self.top.rglob("*")]
            if path != self.root and self.root not in path.parents
            for status in [path.lstat()]
        }

    def inside(self) -> list[str]:
        """All files below the root."""
        return [path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if not path.is_dir()]

    def folders(self) -> list[str]:
        """The directories below the root that hold no others, where all that are there are to be seen."""
        return [
            path.relative_to(self.root).as_posix()
            for path in self.root.rglob("*")
            if path.is_dir() and not any(below.is_dir() for below in path.iterdir())
        ]

    def look(self, mailbox: str) -> None:
        """
        :param mailbox: a pattern of the path of a mailbox, from the root on.
        :raises AssertionError: where there is anything but mailboxes, folders right in them, and what belongs there.
        """
        files = re.compile(rf"{mailbox}/({FOLDER}/)?((new|tmp)/\d+\.M\d+P\d+Q\d+\.[\w.]+,S=\d+)")
        own = re.compile(rf"{mailbox}/({FOLDER}/maildirfolder|maildirsize)")
        for name in self.inside():
            assert files.fullmatch(name) or own.fullmatch(name), name
        parts = re.compile(rf"{mailbox}/({FOLDER}/)?(new|tmp|cur)")
        for name in self.folders():
            assert parts.fullmatch(name), name
