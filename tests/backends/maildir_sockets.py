"""A server on a real socket in the reactor of the tests, and a client in the same reactor that waits for each reply."""

from __future__ import annotations

import time
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.protocols.basic import LineReceiver

from lmtp_twisted import LMTPFactory


class Client(LineReceiver):
    """
    :ivar seconds: how long each reply took.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._replies: DeferredQueue[str] = DeferredQueue()
        self.lost: Deferred[None] = Deferred()

    def lineReceived(self, line: bytes) -> None:
        if line[3:4] == b" ":
            self._replies.put(line.decode())

    def connectionLost(self, reason: object = None) -> None:
        self.lost.callback(None)

    async def reply(self) -> str:
        """The last line of the next reply."""
        return await self._replies.get()

    async def say(self, line: str) -> str:
        """Send a line; returns the last line of the reply."""
        began = time.perf_counter()
        self.transport.write(f"{line}\r\n".encode())
        reply = await self.reply()
        self.seconds.append(time.perf_counter() - began)
        return reply

    async def begin(self, *recipients: str) -> None:
        """All but the content."""
        for line in ("MAIL FROM:<a@example.net>", *(f"RCPT TO:<{name}>" for name in recipients)):
            reply = await self.say(line)
            assert reply.startswith("250 "), reply
        assert (await self.say("DATA")).startswith("354 ")

    async def deliver(self, *recipients: str, content: str = "Subject: hello\r\n\r\nhello") -> list[str]:
        """The codes of the final replies."""
        await self.begin(*recipients)
        replies = [await self.say(f"{content}\r\n.")]
        while len(replies) < len(recipients):
            replies.append(await self.reply())
        return [reply[:9] for reply in replies]

    async def quit(self) -> None:
        self.transport.loseConnection()
        await self.lost


class Server:
    """
    :param backend: where its mail goes.
    """

    def __init__(self, backend: Any) -> None:
        self.factory = LMTPFactory(backend=backend)
        self._port: Any = None

    async def start(self) -> None:
        self._port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(self.factory)

    async def client(self) -> Client:
        """A session that has said LHLO."""
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self._port.getHost().port)
        client: Client = await connectProtocol(endpoint, Client())
        assert (await client.reply()).startswith("220 ")
        assert (await client.say("LHLO client.example")).startswith("250 ")
        client.seconds.clear()
        return client

    async def stop(self) -> None:
        """Take no more sessions, and wait for the end of those that are there."""
        if self._port is not None:
            port, self._port = self._port, None
            await port.stopListening()
        await self.factory.drain()
