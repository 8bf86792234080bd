"""
Clients that do what they like: sockets without buffers of their own, thousands in one process.

They run in a process of their own, so that what an attack costs its attacker is not taken for the server's slowness.
"""

import asyncio
import os
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable

from attrs import define, field

#: Connections in a row from one source address: each has some 28,000 ports, and those that were closed rest a while.
OF_ONE_ADDRESS = 1000
#: Connections that are opened at a time: fewer than the kernel holds for a server that has not accepted them yet.
OPENED_AT_A_TIME = 200
_TCP_REPAIR = 19  # linux/tcp.h
_IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h


class Refused(Exception):
    """The server ended the session, or did not want it."""


class Client:
    """
    One connection, spoken to in octets.

    :param sock: connected, and set not to block.
    :param counts: what all clients did.
    """

    def __init__(self, sock: socket.socket, counts: "Counter[str]") -> None:
        self._socket = sock
        self._counts = counts
        self._loop = asyncio.get_running_loop()
        self._unread = b""

    async def say(self, data: bytes) -> None:
        """
        Send octets, however long the server takes for them.

        :raises Refused: where the connection has ended.
        """
        try:
            await self._loop.sock_sendall(self._socket, data)
        except OSError as error:
            raise Refused(str(error))
        self._counts["octets sent"] += len(data)

    async def hear(self) -> bytes:
        """
        Whatever comes next.

        :raises Refused: where the connection has ended.
        """
        try:
            data = await self._loop.sock_recv(self._socket, 65536)
        except OSError as error:
            raise Refused(str(error))
        if not data:
            raise Refused("closed")
        return data

    async def replies(self, count: int = 1) -> bytes:
        """
        Read so many replies.

        :returns: the last one's last line.
        """
        while True:
            while (end := self._unread.find(b"\n")) >= 0:
                line, self._unread = self._unread[:end], self._unread[end + 1 :]
                if line[3:4] != b"-":
                    self._counts[f"replies {line[:1].decode('latin-1')}xx"] += 1
                    count -= 1
                    if not count:
                        return line
            self._unread += await self.hear()

    async def ask(self, commands: bytes) -> bytes:
        """Send command lines in one burst, and wait for the reply to the last of them."""
        await self.say(commands)
        return await self.replies(commands.count(b"\n"))

    async def start_tls(self) -> "TLSClient":
        """Shake hands."""
        client = TLSClient(self._socket, self._counts)
        await client.shake_hands()
        return client

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def vanish(self) -> None:
        """Be gone without a word: the kernel forgets the connection, and sends neither FIN nor RST (tcp_repair)."""
        self._socket.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
        self._socket.close()

    def half_close(self) -> None:
        """Send no more, but read on."""
        self._socket.shutdown(socket.SHUT_WR)


_CONTEXT = ssl.create_default_context()
_CONTEXT.check_hostname = False
_CONTEXT.verify_mode = ssl.CERT_NONE


class TLSClient(Client):
    """The same over TLS."""

    def __init__(self, sock: socket.socket, counts: "Counter[str]") -> None:
        super().__init__(sock, counts)
        self._from, self._to = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = _CONTEXT.wrap_bio(self._from, self._to)

    async def shake_hands(self) -> None:
        """
        :raises Refused: where the server will not.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await super().say(self._to.read())
                self._from.write(await super().hear())
            except ssl.SSLError as error:
                raise Refused(str(error))
            else:
                break
        await super().say(self._to.read())
        self._counts["handshakes"] += 1

    async def say(self, data: bytes) -> None:
        """See :meth:`Client.say`."""
        self._tls.write(data)
        await super().say(self._to.read())

    async def hear(self) -> bytes:
        """See :meth:`Client.hear`."""
        while True:
            try:
                return self._tls.read(65536)
            except ssl.SSLWantReadError:
                self._from.write(await super().hear())


@define
class Field:
    """
    Where an attack takes place.

    :ivar port: of the server, in the clear.
    :ivar tls_port: where TLS comes first.
    :ivar proxy_port: where a PROXY header comes first.
    :ivar sessions: how many the attack has.
    :ivar counts: what was done.
    :ivar arrived: sessions that are where the attack wants them.
    """

    port: int
    tls_port: int
    proxy_port: int
    sessions: int
    counts: "Counter[str]" = field(factory=Counter)
    arrived: set[int] = field(factory=set)
    _opened: int = 0
    _opening: asyncio.Semaphore = field(factory=lambda: asyncio.Semaphore(OPENED_AT_A_TIME))

    async def connect(self, port: int | None = None, receives: int | None = None) -> Client:
        """
        :param port: that in the clear by default.
        :param receives: octets that the kernel may keep for this client while it does not read.
        """
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        sock.setblocking(False)
        if receives is not None:
            # And little of what it sends: both are the kernel's memory, which the server shares here.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, receives)
        sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        address = self._opened // OF_ONE_ADDRESS
        sock.bind((f"127.{1 + os.getpid() % 200}.{address // 250 % 250}.{1 + address % 250}", 0))
        self._opened += 1
        try:
            async with self._opening:
                await loop.sock_connect(sock, ("127.0.0.1", port or self.port))
        except OSError as error:
            sock.close()
            raise Refused(str(error))
        self.counts["connections"] += 1
        return Client(sock, self.counts)

    async def greeted(self, receives: int | None = None) -> Client:
        """
        A client that the server has greeted.

        :raises Refused: where it is not welcome.
        """
        client = await self.connect(receives=receives)
        reply = await client.replies()
        if not reply.startswith(b"220"):
            raise Refused(reply.decode("latin-1"))
        return client

    async def introduced(self, receives: int | None = None) -> Client:
        """A client that has said LHLO."""
        client = await self.greeted(receives)
        await client.ask(b"LHLO attacker.example\r\n")
        return client

    async def in_transaction(self, number: int) -> Client:
        """A client with a sender and a recipient."""
        client = await self.introduced()
        await client.ask(b"MAIL FROM:<s%d@attacker.example>\r\nRCPT TO:<r%d@example.org>\r\n" % (number, number))
        return client

    async def in_content(self, number: int) -> Client:
        """A client whose content may come."""
        client = await self.in_transaction(number)
        reply = await client.ask(b"DATA\r\n")
        if not reply.startswith(b"354"):
            raise Refused(reply.decode("latin-1"))
        return client

    def arrive(self, number: int) -> None:
        """A session is where the attack wants it."""
        self.arrived.add(number)

    async def all(self, attack: Callable[["Field", int], Awaitable[None]]) -> None:
        """Let each session do it. One that is sent away begins anew, but not more than ten times a second."""

        async def again_and_again(number: int) -> None:
            while True:
                try:
                    await attack(self, number)
                except Refused:
                    self.counts["sent away"] += 1
                    await asyncio.sleep(0.1)

        await asyncio.gather(*(again_and_again(number) for number in range(self.sessions)))
