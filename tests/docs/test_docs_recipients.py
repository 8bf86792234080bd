"""Each row of the table of docs/recipients.rst is made to happen, and PostgreSQL is used as the page says."""

from __future__ import annotations

import smtplib
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from docs_console import Console
from docs_machine import commands_on
from docs_pages import ROOT, blocks_of
from docs_run import Places
from docs_tables import Failure, failures_of
from private_postgresql import PASSWORD, PrivatePostgreSQL
from twisted.internet import reactor
from twisted.internet.task import deferLater

from lmtp_twisted import LMTPFactory, TemporaryFailure
from lmtp_twisted.aliases import Aliases
from lmtp_twisted.backends.maildir import Fsync, MaildirBackend
from lmtp_twisted.directories.description import DirectorySettings, make_directory
from lmtp_twisted.recipients import Resolver
from lmtp_twisted.resolving import Resolving
from lmtp_twisted.routing import Router
from lmtp_twisted.testing import Conversation, ScriptedDeliveries
from lmtp_twisted.threads import make_pool
from lmtp_twisted.watched import FRESH, WatchedFile

PAGE = ROOT / "docs/recipients.rst"
ROWS = failures_of(PAGE)


class Place:
    """A server in memory with a database, and what it needs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.pool = make_pool(4)
        self.closing: list[Callable[[], Any]] = [self.pool.stop]
        self.database = directory / "users.db"
        self.sql("CREATE TABLE users (local TEXT, mailbox TEXT, backend TEXT, quota TEXT)")
        self.sql("INSERT INTO users (local) VALUES ('ann')")

    def sql(self, text: str) -> None:
        with sqlite3.connect(self.database) as connection:
            connection.execute(text)
        connection.close()

    def directory_in_it(
        self, query: str = "SELECT mailbox, backend, quota FROM users WHERE local = :local", **options: Any
    ) -> Any:
        values = {"max_age": 0.0, "timeout": 10.0, **options}
        settings = DirectorySettings(
            reactor=reactor,
            pool=self.pool,
            query=query,
            add_shutdown=lambda function: self.closing.insert(0, function),
            **values,
        )
        return make_directory(f"sqlite:{self.database}", settings)

    def say(self, backend: Any = None, aliases: str = "", directory: Any = None, **options: Any) -> Talk:
        resolver = Resolver(aliases=Aliases.parse(aliases), directory=directory, hostname="mx", **options)
        return Talk(Resolving(resolver, backend or ScriptedDeliveries()))


class Talk:
    """A session with a recipient in it."""

    def __init__(self, backend: Any) -> None:
        self.client = Conversation(LMTPFactory(backend=backend))
        self.client.say("LHLO client.example", "MAIL FROM:<you@example.net>")

    async def rcpt(self, recipient: str) -> str:
        replies = self.client.say(f"RCPT TO:<{recipient}>")
        while not replies:
            await deferLater(reactor, 0.01)  # type: ignore[arg-type]  # the real reactor
            replies = self.client.read()
        return replies[0]

    async def message(self) -> str:
        self.client.say("DATA")
        replies = self.client.say("Hello", ".")
        while not replies:
            await deferLater(reactor, 0.01)  # type: ignore[arg-type]  # the real reactor
            replies = self.client.read()
        return replies[0]

    def leave(self) -> None:
        self.client.lose()


async def is_there(place: Place) -> list[str]:
    return [await place.say(directory=place.directory_in_it()).rcpt("ann@x")]


async def is_not_there(place: Place) -> list[str]:
    return [await place.say(directory=place.directory_in_it()).rcpt("bob@x")]


async def target_is_not_there(place: Place) -> list[str]:
    return [await place.say(aliases="all@x: ann@x, bob@x", directory=place.directory_in_it()).rcpt("all@x")]


async def is_down(place: Place) -> list[str]:
    directory = place.directory_in_it()
    place.database.unlink()
    gone = await place.say(directory=directory).rcpt("ann@x")
    place.database.write_bytes(b"")
    return [gone, await place.say(directory=directory).rcpt("ann@x")]


async def is_slow(place: Place) -> list[str]:
    directory = place.directory_in_it(timeout=0.2)
    with sqlite3.connect(place.database) as locking:
        locking.execute("BEGIN EXCLUSIVE")
        reply = await place.say(directory=directory).rcpt("ann@x")
    locking.close()
    return [reply]


async def is_remembered(place: Place) -> list[str]:
    directory = place.directory_in_it(max_age=60.0)
    replies = [await place.say(directory=directory).rcpt("ann@x")]
    place.database.unlink()
    return [*replies, await place.say(directory=directory).rcpt("ann@x")]


async def query_is_wrong(place: Place) -> list[str]:
    place.sql("INSERT INTO users (local) VALUES ('ann')")
    several = place.directory_in_it()
    unknown = place.directory_in_it("SELECT local FROM users WHERE local = :local LIMIT 1")
    return [await place.say(directory=directory).rcpt("ann@x") for directory in (several, unknown)]


def maildir(place: Place) -> MaildirBackend:
    return MaildirBackend(str(place.directory / "mail"), pool=place.pool, fsync=Fsync.NO)


async def makes_no_sense(place: Place) -> list[str]:
    replies = []
    for column, value in (("mailbox", "../ann"), ("quota", "much")):
        place.sql(f"UPDATE users SET mailbox = NULL, quota = NULL, {column} = '{value}'")
        replies.append(await place.say(maildir(place), directory=place.directory_in_it()).rcpt("ann@x"))
    return replies


async def names_no_backend(place: Place) -> list[str]:
    place.sql("UPDATE users SET backend = 'archive'")
    router = Router([], ScriptedDeliveries(), {"archives": ScriptedDeliveries()})
    return [await place.say(router, directory=place.directory_in_it()).rcpt("ann@x")]


async def is_full(place: Place) -> list[str]:
    place.sql("UPDATE users SET quota = '0:1'")
    backend, directory = maildir(place), place.directory_in_it()
    talk = place.say(backend, directory=directory)
    await talk.rcpt("ann@x")
    assert (await talk.message()).startswith("250")
    reply = await place.say(backend, directory=directory).rcpt("ann@x")
    await backend.shut_down()
    return [reply]


async def content_is_wrong(place: Place) -> list[str]:
    replies = []
    for content in ("nonsense", None):
        path = place.directory / "aliases"
        path.write_text("info@x: ann@x\n")
        watched = WatchedFile(str(path), Aliases.parse, reactor, place.pool)
        path.unlink() if content is None else path.write_text(content)
        backend = ScriptedDeliveries()
        await deferLater(reactor, 0)  # type: ignore[arg-type]  # the real reactor
        watched._looked -= FRESH
        talk = Talk(Resolving(Resolver(aliases=watched, hostname="mx"), backend))
        replies.append(await talk.rcpt("info@x"))
        assert (await talk.message()).startswith("250")
        assert [str(recipient) for recipient in backend.messages[0].recipients] == ["ann@x"]
    return replies


async def one_target_later(place: Place) -> list[str]:
    backend = ScriptedDeliveries({"bob@x": TemporaryFailure("later")})
    talk = place.say(backend, "all@x: ann@x, bob@x")
    await talk.rcpt("all@x")
    return [await talk.message()]


async def too_many(place: Place) -> list[str]:
    text = "\n".join(f"l{n}@x: " + ", ".join(f"u{n}.{m}@x" for m in range(1000)) for n in range(11))
    talk = place.say(aliases=text)
    return [await talk.rcpt(f"l{number}@x") for number in range(11)][-1:]


HAPPENINGS: dict[str, Callable[[Place], Awaitable[list[str]]]] = {
    "The recipient is in the directory": is_there,
    "The recipient is not in the directory": is_not_there,
    "A target of the alias is not in the directory": target_is_not_there,
    "The database is down, refuses us or has no such table": is_down,
    "The database takes too long": is_slow,
    "The database is down, and has told about the recipient a moment ago": is_remembered,
    "The query gives several rows, or a column that means nothing": query_is_wrong,
    "The mailbox's path leads elsewhere, or the quota makes no sense": makes_no_sense,
    "The directory names a backend that there is not": names_no_backend,
    "The mailbox holds as much as the directory says it may": is_full,
    "The new content of a file of aliases or recipients makes no sense, or the file has gone": content_is_wrong,
    "One target of an alias takes the message, another cannot now": one_target_later,
    "A message would go to more than 10,000 recipients": too_many,
}


def test_every_row_is_made_to_happen() -> None:
    assert [row.what for row in ROWS] == list(HAPPENINGS)


@pytest.mark.parametrize("row", [pytest.param(row, id=row.what) for row in ROWS])
@pytest_twisted.ensureDeferred
async def test_the_client_sees_what_the_row_says(row: Failure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions: list[Talk] = []
    made = Talk.__init__
    monkeypatch.setattr(Talk, "__init__", lambda self, backend: (sessions.append(self), made(self, backend))[1])
    place = Place(tmp_path)
    try:
        replies = await HAPPENINGS[row.what](place)
        assert replies
        assert all(reply.startswith(row.reply) for reply in replies), replies
    finally:
        for talk in sessions:
            talk.leave()
        for close in place.closing:
            close()


@pytest.fixture
def server() -> Iterator[PrivatePostgreSQL]:
    made = PrivatePostgreSQL()
    try:
        made.start()
        yield made
    finally:
        made.remove()


@pytest.mark.peer("postgresql")
def test_postgresql_is_used_as_the_page_says(server: PrivatePostgreSQL) -> None:
    """Its SQL, its file for the password, its command; with another port and another password."""
    (sql,) = (block.text for block in blocks_of(PAGE) if block.language == "sql")
    server.type("CREATE DATABASE mail")
    server.type(sql.replace("a long secret", PASSWORD), "mail")
    commands = [
        command
        for start in ("echo '127.0.0.1:5432", "chmod 600 /etc/lmtp/pgpass", "twistd")
        for command in commands_on(PAGE, start)
        if "5432" in command.text or "chmod" in command.text
    ]
    assert len(commands) == 3
    with tempfile.TemporaryDirectory(prefix="docs-") as directory, ExitStack() as stack:
        places = Places(Path(directory))
        console = Console(Path(directory), places.environment)
        stack.callback(console.kill)
        for command in commands:
            text = command.text.replace("5432", str(server.port)).replace("a long secret", PASSWORD)
            console.run(command, places.here(text), [places.here(line) for line in command.output])
        port = int(places.here("2528"))
        with smtplib.LMTP("127.0.0.1", port) as client:
            client.sendmail("you@example.net", ["Ann+lists@example.org"], "Subject: Hello\r\n\r\nHello!\r\n")
            client.docmd("MAIL", "FROM:<you@example.net>")
            assert client.docmd("RCPT", "TO:<bob@example.org>") == (550, b"5.1.1 No such recipient")
            server.stop()
            assert client.docmd("RCPT", "TO:<carol@example.org>")[0] == 451
            server.start()
            assert client.docmd("RCPT", "TO:<carol@example.org>")[0] == 550
        mailbox = Path(directory, "mail4/a/ann")
        assert len(list((mailbox / "new").iterdir())) == 1
        assert (mailbox / "maildirsize").read_text().startswith("1073741824S\n")
