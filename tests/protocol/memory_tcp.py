"""
A connection without sockets, but with Twisted's own buffers, flow control and STARTTLS on the server's side, and the
standard library's TLS on the client's. Nothing moves but when the client says so.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import trustme
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates
from twisted.internet._newtls import ConnectionMixin, ServerMixin
from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.internet.ssl import CertificateOptions
from twisted.python.failure import Failure

from lmtp_twisted import LMTPFactory

PEER = IPv4Address("TCP", "192.0.2.7", 40000)

_CA = trustme.CA()
_ISSUED = _CA.issue_cert("mx.example.org")


def certificate() -> CertificateOptions:
    """What the server needs for TLS."""
    (chain,) = load_pem_x509_certificates(_ISSUED.cert_chain_pems[0].bytes())
    return CertificateOptions(privateKey=load_pem_private_key(_ISSUED.private_key_pem.bytes(), None), certificate=chain)


def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    _CA.configure_trust(context)
    return context


_CONTEXT = _trusting()


class _Readiness:
    """As much of a reactor as a descriptor asks for: it remembers who wants to read and to write."""

    def __init__(self) -> None:
        self.readers: set[Any] = set()
        self.writers: set[Any] = set()
        self.addReader, self.removeReader = self.readers.add, self.readers.discard
        self.addWriter, self.removeWriter = self.writers.add, self.writers.discard


class MemoryTransport(ConnectionMixin, ServerMixin, FileDescriptor):  # type: ignore[misc]  # a mixin without types
    """
    What ``twisted.internet.tcp.Server`` is, with a buffer for a socket.

    :param protocol: the server's.
    :param clock: for what the reactor would do in its next turn.
    :param buffer_size: octets of output beyond which the protocol is paused.
    :param peer: the address of the client.
    :ivar out: what has left and was not read yet.
    :ivar is_reading: whether it takes octets.
    """

    def __init__(self, protocol: Any, clock: Any, buffer_size: int, peer: IAddress) -> None:
        self._peer = peer
        self.readiness = _Readiness()
        super().__init__(self.readiness)  # type: ignore[arg-type]  # as much of it as is needed
        self.protocol = protocol
        self.clock = clock
        self.bufferSize = buffer_size
        self.out = bytearray()
        self.has_ended = False
        self.connected = 1
        self.startReading()

    def writeSomeData(self, data: bytes) -> int:
        self.out += data
        return len(data)

    @property
    def is_reading(self) -> bool:
        return self in self.readiness.readers

    @property
    def kept(self) -> int:
        """Octets of output that have not left."""
        return len(self.dataBuffer) - self.offset + self._tempDataLen

    def flush(self) -> None:
        """The socket is writable, and the reactor says so until all has left."""
        while self in self.readiness.writers:
            reason = self.doWrite()
            if reason is not None:
                self.connectionLost(Failure(ConnectionDone()))

    def _closeWriteConnection(self) -> None:
        self.has_ended = True
        self.protocol.writeConnectionLost()

    def abortConnection(self) -> None:
        if self.connected and not self.disconnecting:
            self.disconnecting = 1
            self.stopReading()
            self.stopWriting()
            self.clock.callLater(0, self.connectionLost, Failure(ConnectionAborted()))

    def connectionLost(self, reason: Failure) -> None:
        """The connection is over."""
        if self.disconnected:
            return
        self.has_ended = True
        super().connectionLost(reason)
        self.protocol.connectionLost(reason)

    def getPeer(self) -> Any:
        return self._peer

    def getHost(self) -> Any:
        return IPv4Address("TCP", "192.0.2.1", 24)


class MemoryClient:
    """
    A client of such a connection.

    :param factory: the server.
    :param buffer_size: octets of output beyond which the server has to wait for the client to read.
    :param peer: where the client comes from.
    :ivar replies: all lines that were read so far.
    :ivar reads: whether the client reads what comes.
    """

    def __init__(self, factory: LMTPFactory, buffer_size: int, peer: IAddress = PEER) -> None:
        self._clock: Any = factory.reactor
        self.protocol = factory.buildProtocol(None)
        self.transport = MemoryTransport(self.protocol, self._clock, buffer_size, peer)
        self.replies: list[str] = []
        self.reads = True
        # Segments under way to the server.
        self._segments: list[bytes] = []
        self._text = b""
        self._tls: ssl.SSLObject | None = None
        self._is_done = False
        self._from_server, self._to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.protocol.makeConnection(self.transport)
        self.move()

    @property
    def is_over(self) -> bool:
        """Whether the client has seen the end of the connection."""
        return self.transport.has_ended and not self.transport.out

    @property
    def is_silent(self) -> bool:
        """Whether the server has been given all that was sent."""
        return not self._segments

    def send(self, data: bytes, cut: Callable[[bytes], list[bytes]] = lambda data: [data]) -> None:
        """
        Put octets on their way: the server gets them as soon as it reads.

        :param cut: makes segments of them, encrypted where TLS is on.
        """
        if self._tls is not None:
            for piece in cut(data):
                self._tls.write(piece)
            data = self._to_server.read()
        self._segments += cut(data)

    def start_tls(self) -> None:
        """Shake hands, as far as the server answers."""
        self._tls = _CONTEXT.wrap_bio(self._from_server, self._to_server, server_hostname="mx.example.org")
        self._hand_shake()
        self.move()
        assert self._tls.version() == "TLSv1.3"

    def _hand_shake(self) -> None:
        assert self._tls is not None
        with suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        if self._to_server.pending:
            self._segments.append(self._to_server.read())

    def step(self) -> bool:
        """The server gets the next segment, if it reads. Returns whether it did."""
        if self.transport.disconnected:
            self._segments.clear()
        if not self._segments or not self.transport.is_reading:
            return False
        self.transport.protocol.dataReceived(self._segments.pop(0))
        return True

    def move(self) -> None:
        """Everything goes where it can, until nothing does."""
        while True:
            has_moved = self.step()
            if not (self.read() or has_moved):
                return

    def read(self) -> bool:
        """The client reads what has come, if it reads. Returns whether something had."""
        # What is to happen in this turn of the reactor.
        self._clock.advance(0)
        if not self.reads:
            return False
        self.transport.flush()
        data, self.transport.out[:] = bytes(self.transport.out), b""
        has_come = bool(data)
        if self._tls is not None:
            data = self._decrypted(data)
        self._text += data
        *lines, self._text = self._text.split(b"\r\n")
        self.replies += [line.decode("ascii") for line in lines]
        return has_come

    def _decrypted(self, data: bytes) -> bytes:
        assert self._tls is not None
        self._from_server.write(data)
        if self._tls.version() is None:
            self._hand_shake()
        text = b""
        try:
            # An end of TLS is no octets or an exception, as it comes.
            while not self._is_done and (piece := self._tls.read()):
                text += piece
            self._say_goodbye()
        except ssl.SSLZeroReturnError:
            self._say_goodbye()
        except ssl.SSLWantReadError:
            pass
        return text

    def _say_goodbye(self) -> None:
        # The server's close_notify has come, and waits for ours (RFC 8446 §6.1).
        assert self._tls is not None
        if not self._is_done:
            self._is_done = True
            with suppress(ssl.SSLWantReadError):
                self._tls.unwrap()
            self._segments.append(self._to_server.read())

    def lose(self) -> None:
        """The connection is lost."""
        self.transport.connectionLost(Failure(ConnectionDone()))
