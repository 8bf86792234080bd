"""A directory in a real PostgreSQL, which is stopped, started again and slow while sessions last."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import pytest_twisted
from dialogues import content, rcpt, session
from private_postgresql import PASSWORD, PrivatePostgreSQL
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, globalLogPublisher

from lmtp_twisted.directories.description import DirectorySettings, make_directory
from lmtp_twisted.envelope import DirectoryEntry
from lmtp_twisted.recipients import Resolver
from lmtp_twisted.resolving import Resolving
from lmtp_twisted.testing import Conversation, ScriptedDeliveries
from lmtp_twisted.threads import make_pool
from lmtp_twisted.wire.addresses import Address

pytestmark = pytest.mark.peer("postgresql")

QUERY = "SELECT mailbox, backend, quota FROM users WHERE local = :local AND domain = :domain"
TABLE = f"""
CREATE TABLE users (local text, domain text, mailbox text, backend text, quota bigint, PRIMARY KEY (local, domain));
INSERT INTO users VALUES ('alice', 'example.org', 'a/alice', NULL, 1000000), ('josé', 'example.org', NULL, '', NULL);
CREATE ROLE lmtp LOGIN PASSWORD '{PASSWORD}';
GRANT SELECT ON users TO lmtp;
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PrivatePostgreSQL]:
    made = PrivatePostgreSQL()
    try:
        made.start()
        made.type(TABLE)
        yield made
    finally:
        made.remove()


@pytest.fixture
def passfile(tmp_path: Path, server: PrivatePostgreSQL) -> Path:
    path = tmp_path / "pgpass"
    path.write_text(f"127.0.0.1:{server.port}:*:lmtp:{PASSWORD}\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        if event["log_namespace"] == "lmtp_twisted":
            lines.append(event["log_format"].format(**event))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)
    assert PASSWORD not in "".join(lines)


class Directory:
    """A directory, and what is to be closed after it."""

    def __init__(self, server: PrivatePostgreSQL, passfile: Path, **options: Any) -> None:
        self.pool = make_pool(4)
        self._closing: list[Any] = []
        values = {"query": QUERY, "max_age": 0.0, "timeout": 10.0, **options}
        settings = DirectorySettings(reactor=reactor, pool=self.pool, add_shutdown=self._closing.append, **values)
        description = f"postgresql:host=127.0.0.1 port={server.port} dbname=postgres user=lmtp passfile={passfile}"
        self.directory = make_directory(description, settings)

    def session(self) -> Conversation:
        return session(Resolving(Resolver(directory=self.directory, hostname="mx"), ScriptedDeliveries()))

    def close(self) -> None:
        for shut_down in self._closing:
            shut_down()
        self.pool.stop()


@pytest.fixture
def directory(server: PrivatePostgreSQL, passfile: Path) -> Iterator[Directory]:
    made = Directory(server, passfile)
    yield made
    made.close()


async def answers(client: Conversation, *recipients: str) -> list[str]:
    """Those to their RCPT, when they have come."""
    replies: list[str] = []
    for recipient in recipients:
        found = rcpt(client, recipient)
        while not found:
            await deferLater(reactor, 0.01)  # type: ignore[arg-type]  # the real reactor
            found = [line[:9] for line in client.read()]
        replies += found
    return replies


@pytest_twisted.ensureDeferred
async def test_it_says_who_exists_and_what_is_known(directory: Directory) -> None:
    """The password comes from libpq's passfile."""
    assert await directory.directory.entryOf(Address("alice", "example.org")) == DirectoryEntry("a/alice", "1000000")
    assert await directory.directory.entryOf(Address("josé", "example.org")) == DirectoryEntry()
    assert await directory.directory.entryOf(Address("bob", "example.org")) is None


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "local", ["' OR '1'='1", "alice'--", "%(local)s", "\\", ":local", "x'; DROP TABLE users; --", "$1"]
)
async def test_no_recipient_can_change_the_query(directory: Directory, local: str) -> None:
    assert await directory.directory.entryOf(Address(local, "example.org")) is None
    assert await directory.directory.entryOf(Address("alice", "example.org")) is not None


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_stopped_and_started_during_a_session_refuses_nobody_for_good(
    server: PrivatePostgreSQL, directory: Directory, logged: list[str]
) -> None:
    client = directory.session()
    assert await answers(client, "alice@example.org", "bob@example.org") == ["250 2.1.5", "550 5.1.1"]
    server.stop()
    assert await answers(client, "alice@example.org", "bob@example.org") == ["451 4.3.0", "451 4.3.0"]
    assert any("the directory cannot tell" in line for line in logged)
    server.start()
    # Its connections of before are dead, and nobody need notice.
    assert await answers(client, "alice@example.org", "bob@example.org") == ["250 2.1.5", "550 5.1.1"]
    assert content(client) == ["250 2.0.0 <alice@example.org>", "250 2.0.0 <alice@example.org>"]


@pytest_twisted.ensureDeferred
async def test_a_restart_between_two_recipients_is_not_noticed(
    server: PrivatePostgreSQL, directory: Directory, logged: list[str]
) -> None:
    client = directory.session()
    assert await answers(client, "alice@example.org") == ["250 2.1.5"]
    server.stop()
    server.start()
    assert await answers(client, "alice@example.org", "bob@example.org") == ["250 2.1.5", "550 5.1.1"]
    assert logged == []


@pytest_twisted.ensureDeferred
async def test_what_is_remembered_outlives_the_server(server: PrivatePostgreSQL, passfile: Path) -> None:
    directory = Directory(server, passfile, max_age=60.0)
    client = directory.session()
    assert await answers(client, "alice@example.org") == ["250 2.1.5"]
    server.stop()
    assert await answers(client, "alice@example.org", "carol@example.org") == [
        "250 2.1.5",
        "451 4.3.0",
    ]
    server.start()
    directory.close()


@pytest_twisted.ensureDeferred
async def test_a_query_that_waits_is_not_waited_for_long(
    server: PrivatePostgreSQL, passfile: Path, logged: list[str]
) -> None:
    """Nor does it take the threads of others: one session after the other is told to come again."""
    directory = Directory(server, passfile, timeout=0.3)
    client = directory.session()
    place = f"host=127.0.0.1 port={server.port} dbname=postgres user=admin password={PASSWORD}"
    with psycopg.connect(place) as locking:
        locking.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        waiting = [f"u{number}@example.org" for number in range(6)]
        assert await answers(client, *waiting) == ["451 4.3.0"] * 6
        # Four of them hold a thread each, which is all that they get.
        free: Deferred[str] = Deferred()
        directory.pool.adjustPoolsize(0, 5)
        directory.pool.callInThread(lambda: reactor.callFromThread(free.callback, "free"))  # type: ignore[attr-defined]
        assert await free == "free"
    while await answers(client, "alice@example.org") != ["250 2.1.5"]:
        # Until the threads have what they were waiting for.
        pass
    directory.close()


@pytest_twisted.ensureDeferred
async def test_a_wrong_password_is_the_operators_to_mend(
    server: PrivatePostgreSQL, passfile: Path, logged: list[str]
) -> None:
    passfile.write_text("*:*:*:*:wrong-and-secret\n")
    directory = Directory(server, passfile)
    assert await answers(directory.session(), "alice@example.org") == ["451 4.3.0"]
    assert any("password authentication failed" in line for line in logged)
    assert "wrong-and-secret" not in "".join(logged)
    directory.close()
