"""CHUNKING and BINARYMIME over real sockets, where the kernel decides how octets are cut into segments."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest_twisted
from programs import in_thread
from real_servers import RealServer, Serve

from lmtp_twisted import PermanentFailure
from lmtp_twisted.interfaces import IReceivedMessage
from lmtp_twisted.testing import ScriptedDeliveries
from lmtp_twisted.wire.parameters import Body

R = TypeVar("R")

#: What would end a message sent with DATA, and all octets there are.
BINARY = b"\r\n.\r\nQUIT\r\n\0\n.\n\r" + bytes(range(256)) + b"no line end"
MAIL = b"MAIL FROM:<sender@example.net> BODY=BINARYMIME\r\n"
RECIPIENTS = b"RCPT TO:<one@example.org>\r\nRCPT TO:<two@example.org>\r\n"


class RawClient:
    """A client that sends octets and reads replies, in a thread."""

    def __init__(self, server: RealServer) -> None:
        family = socket.AF_INET if isinstance(server.where, int) else socket.AF_UNIX
        self._socket = socket.socket(family)
        self._socket.settimeout(20)
        self._socket.connect(("127.0.0.1", server.where) if isinstance(server.where, int) else server.path)
        self._file = self._socket.makefile("rb")

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self._socket.sendall(data)

    def replies(self, number: int) -> list[str]:
        """The next replies, each its last line's code and enhanced status code."""
        return [self._reply() for _ in range(number)]

    def _reply(self) -> str:
        while True:
            line = self._file.readline()
            assert line.endswith(b"\r\n"), "the connection has ended"
            if line[3:4] == b" ":
                words = line.decode("ascii").split()
                return " ".join(words[:2]) if words[1].count(".") == 2 else words[0]

    def close(self) -> bytes:
        """Read to the end."""
        rest = self._file.read()
        self._file.close()
        self._socket.close()
        return rest


async def with_client(server: RealServer, use: Callable[[RawClient], R]) -> R:
    """Let a function use a client that has been greeted; after it the session is still in step."""

    def session() -> R:
        client = RawClient(server)
        client.send(b"LHLO client.example.net\r\n")
        assert client.replies(2)[1] == "250"
        result = use(client)
        client.send(b"QUIT\r\n")
        assert client.replies(1) == ["221 2.0.0"]
        assert client.close() == b""
        return result

    return await in_thread(session)


@pytest_twisted.ensureDeferred
async def test_binary_content_in_chunks_arrives_octet_for_octet(serve: Serve, where: int | Path) -> None:
    """RFC 3030 §2, §3: a reply for each chunk, after the last one a reply for each recipient."""
    deliveries = ScriptedDeliveries({"two@example.org": PermanentFailure("Not wanted", enhanced="5.7.1")})
    server = await serve(where, deliveries)

    def use(client: RawClient) -> None:
        client.send(MAIL + RECIPIENTS + b"BDAT %d\r\n" % len(BINARY) + BINARY)
        assert client.replies(4) == ["250 2.1.0", "250 2.1.5", "250 2.1.5", "250 2.0.0"]
        client.send(b"BDAT %d LAST\r\n" % len(BINARY) + BINARY)
        assert client.replies(2) == ["250 2.0.0", "554 5.7.1"]

    await with_client(server, use)
    (message,) = deliveries.messages
    assert message.read() == BINARY * 2
    assert message.envelope.sender.parameters.body is Body.BINARY_MIME


@pytest_twisted.ensureDeferred
async def test_a_message_in_one_burst_is_followed_by_the_next(serve: Serve, where: int | Path) -> None:
    """RFC 3030 §4.2, RFC 2920: BDAT may be pipelined with its chunk and with what follows."""
    deliveries = ScriptedDeliveries()
    server = await serve(where, deliveries)
    burst = MAIL + RECIPIENTS + b"BDAT %d\r\n" % len(BINARY) + BINARY + b"BDAT 0 LAST\r\n"

    def use(client: RawClient) -> None:
        client.send(burst * 20)
        assert client.replies(6 * 20) == [
            *["250 2.1.0", "250 2.1.5", "250 2.1.5", "250 2.0.0", "250 2.0.0", "250 2.0.0"] * 20
        ]

    await with_client(server, use)
    assert [message.read() for message in deliveries.messages] == [BINARY] * 20


@pytest_twisted.ensureDeferred
async def test_large_chunks_arrive_octet_for_octet(serve: Serve, where: int | Path) -> None:
    """Chunks of many megabytes go through a file; the client sends ahead while it is written."""
    received: list[bytes] = []

    async def deliver(message: IReceivedMessage) -> None:
        received.extend([chunk async for chunk in message.chunks()])

    server = await serve(where, deliverMessage=deliver)
    chunks = [random.Random(size).randbytes(size) for size in (5_000_000, 1, 3_000_000)]

    def use(client: RawClient) -> None:
        client.send(MAIL + RECIPIENTS)
        for chunk in chunks:
            client.send(b"BDAT %d\r\n" % len(chunk) + chunk)
        client.send(b"BDAT 0 LAST\r\n")
        assert client.replies(3 + 3 + 2) == ["250 2.1.0", "250 2.1.5", "250 2.1.5", *["250 2.0.0"] * 5]

    await with_client(server, use)
    assert b"".join(received) == b"".join(chunks)


@pytest_twisted.ensureDeferred
async def test_the_octets_of_a_refused_chunk_never_run_as_commands(serve: Serve, where: int | Path) -> None:
    """RFC 3030 §2: they are read away whatever the answer is; here they look like a message to someone else."""
    deliveries = ScriptedDeliveries()
    server = await serve(where, deliveries, size_limit=1_000_000)
    smuggled = b"MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n\r\n.\r\n" * 20_000

    def use(client: RawClient) -> None:
        client.send(b"BDAT %d LAST\r\n" % len(smuggled) + smuggled)
        assert client.replies(1) == ["503 5.5.1"]
        client.send(MAIL + RECIPIENTS + b"BDAT %d LAST\r\n" % len(smuggled) + smuggled)
        assert client.replies(5) == ["250 2.1.0", "250 2.1.5", "250 2.1.5", "552 5.3.4", "552 5.3.4"]

    await with_client(server, use)
    assert not deliveries.messages
