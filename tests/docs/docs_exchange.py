"""
Dialogues and tables of a page, played against a server in memory.

A dialogue is a ``text`` block of lines that begin with ``C:`` and ``S:``. A table is a ``list-table`` after a comment
``.. played after: COMMAND | COMMAND``: each row is played in a session of its own after these commands. The literals of
its first column are sent; those of its second are how the last line of each reply begins. Rows without a literal in
both are for people. ``.. played KIND after:`` is a session of one of :data:`KINDS`.

The server knows every recipient but ``nobody@example.org``; the mailbox of ``bob@example.org`` is full.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
from docs_console import assert_shown
from docs_pages import Block
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import Portal
from twisted.internet.address import UNIXAddress

from lmtp_twisted import LMTPFactory, PermanentFailure, Recipient, Settings
from lmtp_twisted.daemon.checkers import BackendRealm
from lmtp_twisted.testing import Conversation, FakeReactor, ScriptedDeliveries, fake_spool

#: Kinds of sessions that tables can ask for: settings of the server, and what else it is to have.
KINDS: dict[str, dict[str, Any]] = {
    "": {},
    "with a password": {"portal": True},
    "where AUTH is required": {"portal": True, "auth_required": True},
    "by a trusted peer": {"trusted": ["unix"]},
    "with a delivery that verifies": {"verifies": True},
    "within narrow limits": {
        "portal": True,
        "auth_required": True,
        "max_commands": 6,
        "max_bad_commands": 3,
        "max_unauthenticated_commands": 3,
        "max_auth_failures": 1,
    },
    "within narrower limits": {"max_recipients": 1, "size_limit": 20},
}

#: The line before a table.
PLAYED = re.compile(r"\.\. played (?:([^:]*) )?after:(.*)")
_LITERAL = re.compile(r"``(.+?)``")


def _raise(error: Exception) -> None:
    raise error


class _Verifying(ScriptedDeliveries):
    def verifyAddress(self, recipient: Recipient) -> Any:
        return self.validateTo(recipient)


def connect(kind: str = "") -> Conversation:
    """
    A session with the server of the documentation.

    :param kind: of :data:`KINDS`; whoever asks for one comes by a Unix socket.
    """
    reactor, options = FakeReactor(), dict(KINDS[kind])
    deliveries = (_Verifying if options.pop("verifies", False) else ScriptedDeliveries)(
        {"bob@example.org": PermanentFailure("Mailbox full", code=552, enhanced="5.2.2")},
        recipients={"nobody@example.org": lambda: _raise(PermanentFailure("No such user"))},
    )
    portal = None
    if options.pop("portal", False):
        portal = Portal(BackendRealm(deliveries), [InMemoryUsernamePasswordDatabaseDontUse(alice=b"secret")])
    factory = LMTPFactory(
        deliveries,
        settings=Settings(hostname="mx.example.org", **options),
        portal=portal,
        reactor=reactor,
        spool=fake_spool(reactor),
    )
    return Conversation(factory, UNIXAddress(b"/run/lmtp.sock") if kind else None)


def play(block: Block) -> None:
    """
    Play a dialogue: what the client says is sent in one segment up to the server's next line.

    :raises AssertionError: where the server says something else, or the block is no dialogue.
    """
    client = connect()
    said: list[str] = []
    expected: list[str] = []
    # A dialogue may begin with the client: the greeting has been heard then.
    heard = [] if block.text.startswith("C:") else list(client.greeting)

    def compare() -> None:
        assert_shown(block.place, expected, "".join(f"{line}\n" for line in heard), whole=True)
        expected.clear()
        heard.clear()

    for line in block.text.split("\n"):
        side, text = line[:2], line[3:]
        assert side in ("C:", "S:"), f"{block.place}: {line!r} is no line of a dialogue"
        if side == "C:":
            if not said:
                compare()
            said.append(text)
        else:
            if said:
                heard += client.say(*said)
                said.clear()
            expected.append(text)
    assert not said, f"{block.place}: what does the server say to {said}?"
    compare()


@attrs.frozen
class Row:
    """
    :ivar place: where it stands, for people.
    :ivar kind: of :data:`KINDS`.
    :ivar before: the commands before it.
    :ivar sent: what the client sends.
    :ivar replies: how the last line of each reply begins.
    :ivar closes: whether the server closes the connection.
    """

    place: str
    kind: str
    before: tuple[str, ...]
    sent: tuple[str, ...]
    replies: tuple[str, ...]
    closes: bool


def rows_of(page: Path) -> list[Row]:
    """The rows of a page that can be played."""
    return list(_rows(page, page.read_text(encoding="utf-8").split("\n")))


def _rows(page: Path, lines: list[str]) -> Iterator[Row]:
    kind = ""
    before: tuple[str, ...] | None = None
    cells: list[list[str]] = []
    start = 0

    def row() -> Iterator[Row]:
        if before is not None and len(cells) >= 2:
            sent, replies = (tuple(_LITERAL.findall(" ".join(cell))) for cell in cells[:2])
            if sent and replies:
                yield Row(f"{page.name}:{start}", kind, before, sent, replies, "closes" in " ".join(cells[1]))

    for number, line in enumerate(lines, 1):
        text = line.strip()
        if played := PLAYED.match(line):
            yield from row()
            cells, kind = [], played[1] or ""
            before = tuple(part.strip() for part in played[2].split("|") if part.strip())
        elif text.startswith("* - "):
            yield from row()
            cells, start = [[text[4:]]], number
        elif text.startswith("- ") and cells and line.startswith(" "):
            cells.append([text[2:]])
        elif cells and line.startswith("   "):
            cells[-1].append(text)
        elif text and not line.startswith(" ") and not text.startswith(".. list-table"):
            # Any other text ends the table.
            yield from row()
            before, cells = None, []
    yield from row()


def play_row(row: Row) -> None:
    """
    :raises AssertionError: where the server says something else.
    """
    client = connect(row.kind)
    for command in row.before:
        (*_, answer) = client.say(command)
        assert answer[0] in "23", f"{row.place}: before it, {command!r} is answered {answer!r}"
    answers = client.say(*row.sent)
    # A wrong password is answered late.
    client.protocol.factory.reactor.advance(1)
    heard = [line for line in (*answers, *client.read()) if line[3:4] != "-"]
    matches = len(heard) == len(row.replies) and all(map(str.startswith, heard, row.replies))
    assert matches, f"{row.place}: {row.sent} is answered {heard} instead of {row.replies}"
    assert client.is_closed == row.closes, f"{row.place}: closed is {client.is_closed}"
