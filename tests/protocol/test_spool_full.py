"""A disk that does not take a content (RFC 3463 §3.4)."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dialogue import LoggedErrors, codes, connected, greeted, server
from spooled import FailingPool, a_content, message_of, send, spooling
from twisted.internet import reactor as real_reactor

from lmtp_twisted import Spool
from lmtp_twisted.testing import FakeReactor, ScriptedDeliveries


@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "452 4.3.1"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "452 4.3.1"),
        (OSError(errno.EIO, "Input/output error /srv/internals"), "451 4.3.0"),
        (OSError(errno.EROFS, "Read-only file system"), "451 4.3.0"),
        (RuntimeError("internals"), "451 4.3.0"),
    ],
)
def test_a_content_that_cannot_be_stored_is_refused_for_each_recipient(
    error: Exception, answer: str, after: int, logged: LoggedErrors
) -> None:
    """RFC 3463 §3.4: it is read to its end, none of it runs, and the session goes on."""
    deliveries = ScriptedDeliveries()
    client = spooling("a@x", "b@x", "a@x", backend=deliveries, threshold=1000, pool=FailingPool(error, after))
    replies = send(client, b"QUIT\r\nRSET\r\n" * 60_000)
    assert codes(replies) == [answer] * 3
    assert [line.split()[2] for line in replies] == ["<a@x>", "<b@x>", "<a@x>"]
    assert "internals" not in " ".join(replies)
    assert deliveries.messages == []
    assert deliveries.calls[-1][0] == "aborted"
    assert len(logged.take()) == 1
    client.say("MAIL FROM:<a@x>", "RCPT TO:<b@x>")
    assert codes(send(client, b"short\r\n")) == ["250 2.0.0"]


def test_a_content_whose_last_block_cannot_be_stored_is_refused(logged: LoggedErrors) -> None:
    """Where the end has come already."""
    pool = FailingPool(OSError(errno.ENOSPC, "full"), after=1)
    client = spooling("a@x", "b@x", threshold=1000, pool=pool)
    client.say("DATA")
    assert client.send(b"x" * 2000) == []
    assert codes(client.send(b"y\r\n.\r\nNOOP\r\n")) == ["452 4.3.1"] * 2 + ["250 2.0.0"]
    assert len(logged.take()) == 1


def test_a_chunk_that_cannot_be_stored_is_refused_and_so_are_those_behind_it(logged: LoggedErrors) -> None:
    """RFC 3030 §2."""
    client = spooling("a@x", "b@x", threshold=1000, pool=FailingPool(OSError(errno.ENOSPC, "full")))
    assert codes(client.send(b"BDAT 5\r\nabcdeBDAT 2000\r\n" + b"x" * 2000)) == ["250 2.0.0", "452 4.3.1"]
    assert codes(client.send(b"BDAT 6\r\nQUIT\r\nBDAT 0 LAST\r\nNOOP\r\n")) == ["452 4.3.1"] * 3 + ["250 2.0.0"]
    assert len(logged.take()) == 1


def test_a_spool_directory_that_is_not_there_is_451(logged: LoggedErrors) -> None:
    """An operator's mistake: the client tries again."""
    client = spooling("a@x", "b@x", threshold=1000, directory="/does/not/exist")
    assert codes(send(client, a_content(5000))) == ["451 4.3.0"] * 2
    assert len(logged.take()) == 1
    assert codes(client.say("NOOP")) == ["250 2.0.0"]


@pytest.mark.parametrize(("code", "answer"), [(errno.ENOSPC, "452 4.3.1"), (errno.EACCES, "451 4.3.0")])
def test_a_file_that_cannot_be_made_is_refused(
    code: int, answer: str, monkeypatch: pytest.MonkeyPatch, logged: LoggedErrors
) -> None:
    """RFC 3463 §3.4: no other way of making it is tried."""

    def refuse(*arguments: Any, **keywords: Any) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "open", refuse)
    client = spooling("a@x", "b@x", threshold=1000)
    assert codes(send(client, a_content(5000))) == [answer] * 2
    assert len(logged.take()) == 1


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("may not mount a file system")
    yield tmp_path
    gc.collect()
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_a_full_disk_is_452_for_each_recipient_and_the_session_goes_on(tiny_disk: Path, logged: LoggedErrors) -> None:
    """RFC 3463 §3.4, RFC 2033 §4.2: and once there is room again, large messages go through again."""
    client = spooling("a@x", "b@x", threshold=1000, directory=str(tiny_disk))
    assert codes(send(client, a_content(3_000_000))) == ["452 4.3.1"] * 2
    assert len(logged.take()) == 1
    gc.collect()
    client.say("MAIL FROM:<a@x>", "RCPT TO:<b@x>")
    assert codes(send(client, a_content(500_000))) == ["250 2.0.0"]
    assert message_of(client).read() == a_content(500_000)
    client.factory.backend.messages.clear()
    client.factory.backend.calls.clear()


def test_a_spool_of_its_own_is_made_where_none_is_given() -> None:
    """In the system's temporary directory, for whoever embeds a server."""
    factory = server(reactor=FakeReactor(), spool=None)
    assert isinstance(factory.spool, Spool)
    assert factory.spool.directory is None
    assert factory.spool.threshold == 1024 * 1024
    assert factory.spool.budget == 128 * 1024 * 1024


def test_sessions_that_do_nothing_hold_nothing() -> None:
    """An idle session costs no budget."""
    client = connected()
    client.say("LHLO c", "MAIL FROM:<a@x>", "RCPT TO:<b@x>", "DATA")
    assert client.factory.spool.used == 0
    assert greeted().factory.spool.used == 0
    assert real_reactor is not client.reactor
