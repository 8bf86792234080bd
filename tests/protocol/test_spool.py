"""Where contents lie: in memory, then in an unnamed file; and how they are read there."""

from __future__ import annotations

import errno
import gc
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from dialogue import Client, codes, server, with_recipients
from spooled import a_content, message_of, send, spooling
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from lmtp_twisted.spool import BLOCK, Content
from lmtp_twisted.testing import FakePool, FakeReactor, ScriptedDeliveries, fake_spool


def result_of(awaitable: Any) -> Any:
    """What an awaitable that waits for nothing gives."""
    results: list[Any] = []
    Deferred.fromCoroutine(awaitable).addBoth(results.append)
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return results[0]


async def all_chunks(message: Any) -> list[bytes]:
    """The chunks, one after the other."""
    return [chunk async for chunk in message.chunks()]


def test_a_small_content_stays_in_memory() -> None:
    """No file is touched."""
    client = spooling(threshold=10_000, directory="/does/not/exist")
    assert codes(send(client, a_content(10_000))) == ["250 2.0.0"]
    assert message_of(client).inMemory


def test_a_content_over_the_threshold_goes_to_a_file() -> None:
    """And is the same there."""
    client = spooling(threshold=10_000)
    content = a_content(10_001)
    assert codes(send(client, content)) == ["250 2.0.0"]
    assert not message_of(client).inMemory
    assert message_of(client).read() == content


def test_by_default_a_megabyte_stays_in_memory() -> None:
    """Most mail never sees a disk before its delivery."""
    client = spooling()
    send(client, a_content(1024 * 1024))
    assert message_of(client).inMemory
    client.say("MAIL FROM:<a@x>", "RCPT TO:<b@x>")
    send(client, a_content(1024 * 1024 + 2))
    assert not message_of(client).inMemory


def test_the_file_has_no_name(tmp_path: Path) -> None:
    """It is gone with the process, whatever becomes of it."""
    client = spooling(
        threshold=1000, directory=str(tmp_path), backend=ScriptedDeliveries({"one@example.org": Deferred()})
    )
    send(client, a_content(100_000))
    assert message_of(client).read() == a_content(100_000)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT])
def test_where_the_file_system_has_no_unnamed_files_one_is_made_and_unlinked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """open(2): what O_TMPFILE ends in there."""
    real_open = os.open

    def refuse(path: Any, flags: int, *arguments: Any, **keywords: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(code, os.strerror(code))
        return real_open(path, flags, *arguments, **keywords)

    monkeypatch.setattr(os, "open", refuse)
    client = spooling(threshold=1000, directory=str(tmp_path))
    assert codes(send(client, a_content(5000))) == ["250 2.0.0"]
    assert message_of(client).read() == a_content(5000)
    assert list(tmp_path.iterdir()) == []


def test_where_the_platform_has_no_unnamed_files_one_is_made_and_unlinked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but Linux."""
    monkeypatch.delattr(os, "O_TMPFILE")
    client = spooling(threshold=1000, directory=str(tmp_path))
    assert codes(send(client, a_content(5000))) == ["250 2.0.0"]
    assert message_of(client).read() == a_content(5000)
    assert list(tmp_path.iterdir()) == []


def test_with_the_budget_used_up_contents_go_to_files_earlier() -> None:
    """All sessions of a process share it."""
    reactor = FakeReactor()
    spool = fake_spool(reactor, threshold=1_000_000, budget=100_000)
    waiting = ScriptedDeliveries(deliver=lambda message: Deferred())
    factory = server(waiting, reactor=reactor, spool=spool)
    clients = [Client(factory) for _ in range(4)]
    for client in clients:
        client.say("LHLO c", "MAIL FROM:<a@x>", "RCPT TO:<b@x>")
        assert send(client, a_content(40_000)) == []
    assert [message.inMemory for message in waiting.messages] == [True, True, False, False]
    # Two contents, and of the others the header blocks.
    assert spool.used == 80_000 + 2 * (a_content(40_000).index(b"\r\n\r\n") + 4)
    assert [message.read() for message in waiting.messages] == [a_content(40_000)] * 4


def test_with_the_budget_used_up_tiny_contents_stay_in_memory() -> None:
    """A file each would cost more than it saves."""
    reactor = FakeReactor()
    spool = fake_spool(reactor, budget=1)
    client = with_recipients(reactor=reactor, spool=spool)
    send(client, a_content(10_000))
    assert message_of(client).inMemory


SIZES = [2, 3, 2047, 2048, 65_536, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 17]


@pytest.mark.parametrize("threshold", [1, 10_000_000], ids=["file", "memory"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("segment", [1000, 65_536])
def test_all_readers_agree(size: int, threshold: int, segment: int) -> None:
    """In memory and in a file, whatever the size of the content and of the segments in which it came."""
    content = a_content(size) if size > 2 else b"\r\n"
    client = spooling(threshold=threshold)
    assert codes(send(client, content, segment)) == ["250 2.0.0"]
    message = message_of(client)
    assert message.inMemory is (threshold > 1)
    assert message.size == size
    assert message.read() == content
    blocks = list(message.blocks())
    assert b"".join(blocks) == content
    assert all(blocks)
    chunks = result_of(all_chunks(message))
    assert b"".join(chunks) == content
    assert all(chunks)
    with message.open() as file:
        assert file.read() == content
    assert list(message.blocks()) == blocks


@pytest.mark.parametrize("threshold", [1, 10_000_000], ids=["file", "memory"])
def test_an_open_content_is_a_seekable_binary_file(threshold: int) -> None:
    """As :func:`email.message_from_binary_file`, :func:`shutil.copyfileobj` and others want it."""
    content = a_content(50_000)
    client = spooling(threshold=threshold)
    send(client, content)
    with message_of(client).open() as file:
        assert file.readable()
        assert file.seekable()
        assert file.readline() == content[: content.index(b"\n") + 1]
        assert file.seek(-100, os.SEEK_END) == len(content) - 100
        assert file.read(1000) == content[-100:]
        assert file.read() == b""
        assert file.seek(0) == 0
        assert file.read(5) == content[:5]
        assert file.seek(10, os.SEEK_CUR) == 15
        assert file.tell() == 15
        assert file.read(5) == content[15:20]
        with pytest.raises(ValueError, match="negative"):
            file.seek(-1)
        assert sum(1 for _ in io.TextIOWrapper(file, encoding="latin-1", newline="\n")) > 1000
    with message_of(client).open() as file:
        buffer = bytearray(100)
        assert file.readinto(buffer) == 100
        assert bytes(buffer) == content[:100]


@pytest.mark.parametrize("threshold", [1, 10_000_000], ids=["file", "memory"])
def test_readers_are_independent(threshold: int) -> None:
    """Each recipient's delivery has its own."""
    content = a_content(700_000)
    client = spooling(threshold=threshold)
    send(client, content)
    message = message_of(client)
    one, two, three = message.open(), message.open(), message.blocks()
    first = one.read(1000)
    assert two.read(10) == content[:10]
    assert next(three)[:10] == content[:10]
    one.close()
    assert first + content[1000:] == content
    assert two.read() == content[10:]
    assert message.read() == content


@pytest.mark.parametrize("threshold", [1, 10_000_000], ids=["file", "memory"])
def test_a_content_can_be_read_when_its_transaction_is_over(threshold: int) -> None:
    """Whoever holds it keeps it."""
    client = spooling(threshold=threshold)
    send(client, a_content(50_000))
    message = message_of(client)
    client.lose()
    gc.collect()
    assert message.read() == a_content(50_000)


@pytest.mark.parametrize("threshold", [1, 10_000_000], ids=["file", "memory"])
def test_a_message_for_some_of_its_recipients_is_the_same_content(threshold: int) -> None:
    """For routers: nothing is copied."""
    client = spooling("a@x", "b@x", "c@x", threshold=threshold)
    send(client, a_content(50_000))
    message = message_of(client)
    part = message.forRecipients(message.recipients[1:])
    assert [str(recipient) for recipient in part.recipients] == ["b@x", "c@x"]
    assert (part.id, part.size, part.session) == (message.id, message.size, message.session)
    assert part.envelope.sender == message.envelope.sender
    assert part.inMemory is message.inMemory
    assert part.read() == message.read()
    assert len(message.recipients) == 3


@pytest_twisted.ensureDeferred
async def test_threads_may_read_at_the_same_time() -> None:
    """One file, one descriptor, and no place in it that they share."""
    content = a_content(2_000_000)
    client = spooling(threshold=1)
    send(client, content)
    message = message_of(client)

    def read_lines() -> bytes:
        with message.open() as file:
            return b"".join(file)

    readers: list[Callable[[], bytes]] = [message.read, read_lines, lambda: b"".join(message.blocks())] * 3
    assert await gatherResults([deferToThread(reader) for reader in readers]) == [content] * 9


@pytest_twisted.ensureDeferred
async def test_chunks_are_read_by_the_pool() -> None:
    """Never in the reactor thread."""
    pool = FakePool(immediate=False)
    reactor = FakeReactor()
    spool = fake_spool(reactor, pool)
    content = Content(spool)
    content.append(b"x" * (2 * BLOCK + 5))
    content.make_room()
    assert pool.run() == 1
    received: list[bytes] = []

    async def read() -> None:
        async for chunk in content.chunks():
            received.append(chunk)

    done = Deferred.fromCoroutine(read())
    for count in range(4):
        assert len(received) == count
        assert pool.run() == 1
    await done
    assert b"".join(received) == b"x" * (2 * BLOCK + 5)


@pytest.mark.parametrize("threshold", [1, 100, 10_000_000])
def test_the_header_block_is_there_wherever_the_content_lies(threshold: int) -> None:
    """Parsed when it is first asked for."""
    client = spooling(threshold=threshold)
    send(client, a_content(30_000), segment=50)
    headers = message_of(client).headers
    assert headers["Subject"] == "grüße"
    assert headers["to"] == "c@x"
    assert headers.get_all("Received") == ["from a\tby b"]
    assert message_of(client).headers is headers
    assert not headers.get_payload()


@pytest.mark.parametrize("threshold", [1, 10_000_000])
@pytest.mark.parametrize(
    ("content", "subject"),
    [
        (b"", None),
        (b"\r\n", None),
        (b"\r\nSubject: in the body\r\n", None),
        (b"Subject: x\r\n", "x"),
        (b"Subject: x\r\n\r\n", "x"),
        (b"Subject: x\n\nSubject: y\r\n", "x"),
        (b"Other: y\r\n\r\nSubject: in the body\r\n", None),
        (b"no header at all\r\n", None),
        (b"\xff\xfe: \x00\r\nSubject: x\r\n\r\n", "x"),
    ],
)
def test_the_header_block_of_an_unusual_content(content: bytes, subject: str | None, threshold: int) -> None:
    """RFC 5322 §2.1: an empty line ends it; nothing of this may fail."""
    client = spooling(threshold=threshold)
    assert codes(send(client, content, segment=1)) == ["250 2.0.0"]
    assert message_of(client).read() == content
    if not content.startswith(b"\xff"):
        assert message_of(client).headers["Subject"] == subject
    else:
        assert message_of(client).headers is not None


def test_a_loop_is_found_in_the_header_of_a_spooled_content() -> None:
    """RFC 5321 §6.3."""
    client = spooling("a@x", "b@x", threshold=100, max_received=3)
    content = b"Received: x\r\n" * 4 + b"X: " + b"y" * 5000 + b"\r\n\r\nbody\r\n"
    assert codes(send(client, content, segment=40)) == ["554 5.4.6"] * 2
    assert codes(client.say("NOOP")) == ["250 2.0.0"]


def test_an_open_content_cannot_be_written_to() -> None:
    client = spooling(threshold=10**6)
    send(client, a_content(1000))
    with message_of(client).open() as file:
        assert not file.writable()
