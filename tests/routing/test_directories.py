"""Directories: files, databases, and what is remembered of them."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from lmtp_twisted import DeliveryError
from lmtp_twisted.awaiting import deferred_of
from lmtp_twisted.directories import cache
from lmtp_twisted.directories.cache import CachedDirectory
from lmtp_twisted.directories.database import DatabaseDirectory, Query
from lmtp_twisted.directories.description import DirectorySettings, make_directory
from lmtp_twisted.directories.file import FileDirectory, parse_entries
from lmtp_twisted.envelope import DirectoryEntry
from lmtp_twisted.testing import FakePool, FakeReactor
from lmtp_twisted.threads import make_pool
from lmtp_twisted.wire.addresses import Address

ALICE = Address("alice", "example.org")
NAMED = {"local": "alice", "domain": "example.org"}
BOB = Address("bob", "example.org")
QUERY = "SELECT mailbox, backend, quota FROM users WHERE local = :local AND domain = :domain"


@pytest.fixture
def pool() -> Any:
    threads = make_pool(4)
    yield threads
    threads.stop()


@pytest.fixture
def logged() -> Any:
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    yield lambda: [event["log_format"].format(**event) for event in events if event["log_namespace"] == "lmtp_twisted"]
    globalLogPublisher.removeObserver(events.append)


def settings(pool: ThreadPool, query: str | None = QUERY, reactor: Any = reactor, **options: Any) -> DirectorySettings:
    closing = options.pop("closing", [])
    values = {"max_age": 60.0, "timeout": 10.0, **options}
    return DirectorySettings(reactor=reactor, pool=pool, query=query, add_shutdown=closing.append, **values)


async def entry_of(directory: Any, address: Address) -> Any:
    """The entry, or the code and the enhanced code of a refusal."""
    try:
        answer = directory.entryOf(address)
        waiting = deferred_of(answer)
        return answer if waiting is None else await waiting
    except DeliveryError as error:
        return error.code, error.enhanced


# Files


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        ("alice@example.org", DirectoryEntry()),
        ("alice@example.org:::", DirectoryEntry()),
        ("Alice@Example.ORG:a/alice", DirectoryEntry("a/alice")),
        ("alice@example.org::archive", DirectoryEntry(backend="archive")),
        ("alice@example.org:::1G:1000", DirectoryEntry(quota="1G:1000")),
        ("alice@example.org: a/alice : archive : 1G", DirectoryEntry("a/alice", "1G", "archive")),
    ],
)
def test_a_line_says_who_exists_and_what_is_known(line: str, entry: DirectoryEntry) -> None:
    assert parse_entries(f"# comment\n\n{line}\n") == {"alice@example.org": entry}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "there is no recipient in it"),
        ("# nobody\n", "there is no recipient in it"),
        ("\na b@x", "line 2: 'a b@x' is no address"),
        ("alice", "line 1: 'alice' has no domain"),
        ("a@x\nA@X", "line 2: A@X is there already"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_entries(text)


def test_a_file_that_is_emptied_does_not_make_everybody_unknown(tmp_path: Path) -> None:
    """As where somebody writes it anew, and not beside it."""
    path, clock = tmp_path / "users", FakeReactor()
    path.write_text("alice@example.org:a\n")
    directory = FileDirectory(str(path), clock, FakePool())  # type: ignore[arg-type]  # a pool without threads
    path.write_text("")
    clock.advance(2)
    assert directory.entryOf(ALICE).result == DirectoryEntry("a")
    path.write_text("bob@example.org\n")
    clock.advance(2)
    assert directory.entryOf(ALICE).result is None
    assert directory.entryOf(BOB) == DirectoryEntry()


# Queries


@pytest.mark.parametrize(
    ("style", "text", "parameters"),
    [
        ("named", "SELECT ':local' WHERE l = :local AND d=:domain AND x::text = '%'", NAMED),
        ("pyformat", "SELECT ':local' WHERE l = %(local)s AND d=%(domain)s AND x::text = '%%'", NAMED),
        ("qmark", "SELECT ':local' WHERE l = ? AND d=? AND x::text = '%'", ["alice", "example.org"]),
        ("format", "SELECT ':local' WHERE l = %s AND d=%s AND x::text = '%%'", ["alice", "example.org"]),
        ("numeric", "SELECT ':local' WHERE l = :1 AND d=:2 AND x::text = '%'", ["alice", "example.org"]),
    ],
)
def test_a_query_has_the_parameters_of_its_module(style: str, text: str, parameters: Any) -> None:
    """PEP 249, paramstyle."""
    query = Query("SELECT ':local' WHERE l = :local AND d=:domain AND x::text = '%'", style)
    assert (query.text, query.parameters(ALICE)) == (text, parameters)


@pytest.mark.parametrize("text", ["SELECT 1", "SELECT ':address'", "SELECT x::local", "SELECT :locals"])
def test_a_query_that_asks_for_nobody_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="asks for nobody"):
        Query(text, "named")


# SQLite


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "users ?#.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE users (local TEXT, domain TEXT, mailbox TEXT, backend TEXT, quota INTEGER)")
        connection.execute("INSERT INTO users VALUES ('alice', 'example.org', 'a/alice', NULL, 1000000)")
        connection.execute("INSERT INTO users VALUES ('carol', 'example.org', NULL, '', 0)")
    connection.close()
    return path


@pytest_twisted.ensureDeferred
async def test_sqlite_says_who_exists_and_what_is_known(pool: ThreadPool, database: Path) -> None:
    closing: list[Any] = []
    directory = make_directory(f"sqlite:{database}", settings(pool, closing=closing))
    assert await entry_of(directory, ALICE) == DirectoryEntry("a/alice", "1000000", None)
    assert await entry_of(directory, Address("carol", "example.org")) == DirectoryEntry(None, "0", None)
    assert await entry_of(directory, BOB) is None
    for shut_down in closing:
        shut_down()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("local", ["' OR '1'='1", "alice'--", "%", "alice\\", ":local", "x'; DROP TABLE users; --"])
async def test_no_recipient_can_change_the_query(pool: ThreadPool, database: Path, local: str) -> None:
    directory = make_directory(f"sqlite:{database}", settings(pool, max_age=0.0))
    assert await entry_of(directory, Address(local, "example.org")) is None
    assert await entry_of(directory, ALICE) is not None


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELECT quotas FROM users WHERE local = :local", "no such column: quotas"),
        ("SELECT quota AS quotas FROM users WHERE local = :local", "gives a column 'quotas'"),
        ("SELECT quota FROM users WHERE domain = :domain", "several rows"),
        ("SELEC :local", "syntax error"),
        ("DELETE FROM users WHERE local = :local", "readonly"),
    ],
)
async def test_a_query_that_is_wrong_refuses_nobody_for_good_and_is_said_once(
    pool: ThreadPool, database: Path, logged: Any, query: str, words: str
) -> None:
    directory = make_directory(f"sqlite:{database}", settings(pool, query))
    assert [await entry_of(directory, address) for address in (ALICE, ALICE)] == [(451, "4.3.0")] * 2
    (line,) = logged()
    assert words in line


@pytest_twisted.ensureDeferred
async def test_the_column_of_a_constant_is_enough(pool: ThreadPool, database: Path) -> None:
    directory = make_directory(
        f"sqlite:{database}", settings(pool, "SELECT 1 FROM users WHERE local||'@'||domain = :address")
    )
    assert await entry_of(directory, ALICE) == DirectoryEntry()


@pytest_twisted.ensureDeferred
async def test_a_database_that_has_gone_is_not_made_anew(pool: ThreadPool, database: Path) -> None:
    """An empty one would know nobody."""
    directory = make_directory(f"sqlite:{database}", settings(pool, max_age=0.0))
    moved = database.rename(database.with_suffix(".moved"))
    assert await entry_of(directory, ALICE) == (451, "4.3.0")
    assert not database.exists()
    moved.rename(database)
    assert await entry_of(directory, ALICE) is not None


@pytest_twisted.ensureDeferred
async def test_a_query_that_waits_is_not_disturbed_by_the_end_of_the_server(pool: ThreadPool, database: Path) -> None:
    """Closing its connection under it would be the end of the process, with SQLite at least."""
    closing: list[Any] = []
    directory = make_directory(f"sqlite:{database}", settings(pool, timeout=0.2, closing=closing))
    with sqlite3.connect(database) as locking:
        locking.execute("BEGIN EXCLUSIVE")
        assert await entry_of(directory, ALICE) == (451, "4.3.0")
        for shut_down in closing:
            shut_down()
    locking.close()


# Other databases


class _Connection:
    """Of a module that the test makes."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.description = [("mailbox",)]

    def cursor(self) -> _Connection:
        return self

    def execute(self, text: str, parameters: Any) -> None:
        self.module.asked.append((text, parameters))
        if self.module.fail:
            raise self.module.fail.pop()

    def fetchmany(self, count: int) -> list[Any]:
        return [(b"a/alice",)]

    def close(self) -> None:
        self.module.events.append("close")

    def commit(self) -> None:
        self.module.events.append("commit")


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    fake: Any = types.ModuleType("some_database")
    fake.Error = type("Error", (Exception,), {})
    fake.apilevel, fake.threadsafety, fake.paramstyle = "2.0", 1, "format"
    fake.asked, fake.events, fake.fail, fake.given = [], [], [], []

    def connect(**arguments: Any) -> _Connection:
        fake.given.append(arguments)
        if arguments.get("host") == "nowhere":
            raise fake.Error(f"no way to {arguments}")
        return _Connection(fake)

    fake.connect = connect
    monkeypatch.setitem(sys.modules, "some_database", fake)
    return fake


def dbapi(tmp_path: Path, **arguments: Any) -> str:
    (tmp_path / "connect.json").write_text(json.dumps(arguments))
    return f"dbapi:some_database:{tmp_path}/connect.json"


@pytest_twisted.ensureDeferred
async def test_any_module_of_the_db_api_serves(pool: ThreadPool, tmp_path: Path, module: Any) -> None:
    """PEP 249."""
    directory = make_directory(dbapi(tmp_path, host="db", password="secret"), settings(pool))
    assert await entry_of(directory, ALICE) == DirectoryEntry("a/alice")
    assert module.given == [{"host": "db", "password": "secret"}]
    assert module.asked[0][1] == ["alice", "example.org"]
    # The cursor, and then the transaction.
    assert module.events == ["close", "commit"]


@pytest_twisted.ensureDeferred
async def test_a_password_does_not_come_into_the_log(
    pool: ThreadPool, tmp_path: Path, module: Any, logged: Any
) -> None:
    directory = make_directory(dbapi(tmp_path, host="nowhere", password="hush-hush"), settings(pool))
    assert await entry_of(directory, ALICE) == (451, "4.3.0")
    (line,) = logged()
    assert "no way to" in line
    assert "hush" not in line


@pytest_twisted.ensureDeferred
async def test_a_connection_that_has_died_is_replaced_and_the_question_asked_again(tmp_path: Path, module: Any) -> None:
    pool = make_pool(1)
    directory = DatabaseDirectory("some_database", QUERY, reactor=reactor, pool=pool)
    assert await entry_of(directory, ALICE) is not None
    module.fail.append(module.Error("gone away"))
    assert await entry_of(directory, ALICE) is not None
    assert len(module.given) == 2
    # Where the new one fails too, that is the answer.
    module.fail += [module.Error("gone away"), module.Error("gone away")]
    assert await entry_of(directory, ALICE) == (451, "4.3.0")
    assert len(module.given) == 3
    pool.stop()


# What is remembered


class Asked:
    """A directory that waits to be told what to answer."""

    def __init__(self) -> None:
        self.asked: list[Deferred[Any]] = []

    def entryOf(self, address: Address) -> Deferred[Any]:
        self.asked.append(Deferred())
        return self.asked[-1]


def result(answer: Any) -> Any:
    if isinstance(answer, Deferred):
        got: list[Any] = []
        answer.addBoth(got.append)
        answer = got[0] if got else "not yet"
    return (answer.value.code, answer.value.enhanced) if isinstance(answer, Failure) else answer


def test_an_answer_holds_for_its_time_and_that_somebody_is_unknown_for_a_shorter_one() -> None:
    asked, clock = Asked(), FakeReactor()
    directory = CachedDirectory(asked, clock, 60)
    for address in (ALICE, BOB):
        directory.entryOf(address)
    asked.asked[0].callback(DirectoryEntry("a"))
    asked.asked[1].callback(None)
    clock.advance(cache.MOST_UNKNOWN - 1)
    assert (directory.entryOf(ALICE), directory.entryOf(BOB)) == (DirectoryEntry("a"), None)
    clock.advance(1)
    assert directory.entryOf(ALICE) == DirectoryEntry("a")
    assert result(directory.entryOf(BOB)) == "not yet"
    asked.asked[2].callback(DirectoryEntry("b"))
    assert directory.entryOf(BOB) == DirectoryEntry("b")
    clock.advance(50)
    assert result(directory.entryOf(ALICE)) == "not yet"
    asked.asked[3].callback(None)


def test_that_it_could_not_tell_is_not_remembered_and_an_old_answer_is_not_used() -> None:
    asked, clock = Asked(), FakeReactor()
    directory = CachedDirectory(asked, clock, 60)
    directory.entryOf(ALICE)
    asked.asked[0].callback(DirectoryEntry("a"))
    clock.advance(60)
    answer = directory.entryOf(ALICE)
    asked.asked[1].errback(DeliveryError(451, "4.3.0", "down"))
    assert result(answer) == (451, "4.3.0")
    answer = directory.entryOf(ALICE)
    asked.asked[2].callback(DirectoryEntry("b"))
    assert result(answer) == DirectoryEntry("b")


def test_those_who_ask_for_the_same_wait_for_one_answer() -> None:
    asked, clock = Asked(), FakeReactor()
    directory = CachedDirectory(asked, clock)
    one, two, three = (directory.entryOf(ALICE) for _ in range(3))
    three.addErrback(lambda _: None)
    three.cancel()
    assert len(asked.asked) == 1
    asked.asked[0].callback(DirectoryEntry("a"))
    assert result(one) == result(two) == DirectoryEntry("a")


@pytest.mark.parametrize("error", [asyncio.CancelledError(), SystemExit(1), ValueError()])
def test_whatever_a_directory_ends_in_it_is_asked_again_and_nobody_waits_for_ever(error: BaseException) -> None:
    class Broken:
        def entryOf(self, address: Address) -> Any:
            raise error

    directory = CachedDirectory(Broken(), FakeReactor())
    for _ in range(2):
        failures: list[Failure] = []
        directory.entryOf(ALICE).addErrback(failures.append)
        assert [failure.value for failure in failures] == [error]


def test_an_answer_that_takes_too_long_is_not_waited_for() -> None:
    asked, clock = Asked(), FakeReactor()
    directory = CachedDirectory(asked, clock, timeout=10)
    one = directory.entryOf(ALICE)
    clock.advance(9)
    two = directory.entryOf(ALICE)
    clock.advance(1)
    assert result(one) == result(two) == (451, "4.3.0")
    assert result(directory.entryOf(ALICE)) == "not yet"
    asked.asked[1].callback(None)


def test_no_more_is_remembered_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MOST_REMEMBERED", 2)
    asked = Asked()
    directory = CachedDirectory(asked, FakeReactor())
    for name in ("a", "b", "a", "c", "a", "b"):
        directory.entryOf(Address(name, "x"))
        if not asked.asked[-1].called:
            asked.asked[-1].callback(None)
    # b went when c came, since a had been asked for again.
    assert len(asked.asked) == 4


def test_where_nothing_is_to_be_remembered_each_is_asked_for_anew() -> None:
    asked = Asked()
    directory = CachedDirectory(asked, FakeReactor(), 0)
    for _ in range(2):
        directory.entryOf(ALICE)
        asked.asked[-1].callback(None)
    assert len(asked.asked) == 2


# Descriptions


@pytest.mark.parametrize(
    ("description", "query", "words"),
    [
        ("", None, "it is one of file:PATH, sqlite:PATH"),
        ("ldap:x", None, "it is one of"),
        ("file:", None, "something has to follow"),
        ("file:/nowhere", None, "/nowhere: No such file or directory"),
        ("file:/nowhere", QUERY, "a query is for databases"),
        ("sqlite:/nowhere", None, "needs --directory-query"),
        ("sqlite:/nowhere", QUERY, "there is no file '/nowhere'"),
        ("postgresql:dbname=x", "SELECT 1", "asks for nobody"),
        ("postgresql:host=x nonsense", QUERY, "not a connection string of libpq"),
        ("postgresql:host=x password=hush", QUERY, "use passfile=FILE, or PGPASSWORD"),
        ("postgresql://me:hush@x/y", QUERY, "use passfile=FILE, or PGPASSWORD"),
        ("dbapi:x", QUERY, "it is dbapi:MODULE:PATH"),
        ("dbapi:x:/nowhere", QUERY, "/nowhere: No such file"),
        ("dbapi:no_such_module:{}", QUERY, "its module cannot be imported: No module named 'no_such_module'"),
        ("dbapi:sqlite3:[]", QUERY, "not an object of JSON"),
        ("dbapi:sqlite3:x hush", QUERY, "not JSON"),
    ],
)
def test_what_is_wrong_with_a_description_is_said_without_passwords(
    tmp_path: Path, description: str, query: str | None, words: str
) -> None:
    kind, _, rest = description.partition(":")
    if kind == "dbapi" and rest.count(":") and not rest.endswith("/nowhere"):
        (tmp_path / "file").write_text(rest.partition(":")[2])
        description = f"dbapi:{rest.partition(':')[0]}:{tmp_path}/file"
    with pytest.raises(ValueError, match=words) as caught:
        make_directory(description, settings(FakePool(), query))  # type: ignore[arg-type]  # a pool without threads
    assert "hush" not in str(caught.value)


def test_without_psycopg_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ValueError, match=r"pip install 'lmtp-twisted\[postgresql\]'"):
        make_directory("postgresql:dbname=x", settings(FakePool()))  # type: ignore[arg-type]  # no threads


def test_a_relative_path_is_that_of_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon changes its directory."""
    (tmp_path / "users").write_text("alice@example.org\n")
    monkeypatch.chdir(tmp_path)
    clock = FakeReactor()
    directory = make_directory("file:users", settings(FakePool(), None, clock))  # type: ignore[arg-type]  # no threads
    os.chdir("/")
    clock.advance(5)
    assert result(directory.entryOf(ALICE)) == DirectoryEntry()
