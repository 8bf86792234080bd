"""
What the parent and a child say to each other: messages of JSON over a pair of Unix sockets, which pass descriptors as
well. When one of them is gone, the other sees the end of the connection.
"""

from __future__ import annotations

import array
import json
import os
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IFileDescriptorReceiver
from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.basic import Int32StringReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

#: Octets of a message.
MOST_OCTETS = 5 * 1024 * 1024
# Descriptors that come with one read: Twisted sends one with an octet each.
_MOST_DESCRIPTORS = 16

_LENGTH = struct.Struct("!I")


def encoded(message: dict[str, Any]) -> bytes:
    """
    :param message: what is to be said.
    :raises ValueError: where it is too long, or JSON has no word for it.
    """
    try:
        data = json.dumps(message).encode("ascii")
    except TypeError as error:
        raise ValueError(str(error))
    if len(data) > MOST_OCTETS:
        raise ValueError(f"a message of {len(data)} octets is too long")
    return data


@implementer(IFileDescriptorReceiver)
class Channel(Int32StringReceiver):
    """
    One end.

    :param received: called with each message and the descriptors that came with it, which are the callee's then.
    :param lost: called when the other end is gone.
    :param early: descriptors of the next message that have come already.
    """

    MAX_LENGTH = MOST_OCTETS
    transport: Any

    def __init__(
        self,
        received: Callable[[dict[str, Any], list[int]], None],
        lost: Callable[[], None],
        early: Sequence[int] = (),
    ) -> None:
        self._received = received
        self._lost = lost
        self._descriptors = list(early)

    def say(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        """
        :param message: for the other end.
        :param descriptors: go with it. They have to stay open until it has come.
        :raises ValueError: see :func:`encoded`.
        """
        data = encoded({**message, "descriptors": len(descriptors)})
        for descriptor in descriptors:
            self.transport.sendFileDescriptor(descriptor)
        self.sendString(data)

    def fileDescriptorReceived(self, descriptor: int) -> None:
        """Those of a message come before its end does, and perhaps before that of another."""
        self._descriptors.append(descriptor)

    def stringReceived(self, string: bytes) -> None:
        """A message."""
        message = json.loads(string)
        count = message.pop("descriptors")
        descriptors, self._descriptors = self._descriptors[:count], self._descriptors[count:]
        self._received(message, descriptors)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The other end is gone."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()
        self._lost()


def read_first(channel: socket.socket) -> tuple[dict[str, Any], list[int], list[int]]:
    """
    Wait for the first message, before there is a reactor.

    :returns: the message, the descriptors that came with it, and those of the next one that have come already.
    :raises EOFError: where the other end is gone.
    """
    descriptors: list[int] = []
    (length,) = _LENGTH.unpack(_read(channel, _LENGTH.size, descriptors))
    message = json.loads(_read(channel, length, descriptors))
    count = message.pop("descriptors")
    return message, descriptors[:count], descriptors[count:]


def _read(channel: socket.socket, length: int, descriptors: list[int]) -> bytes:
    data = b""
    while len(data) < length:
        more, ancillary, _, _ = channel.recvmsg(length - len(data), socket.CMSG_SPACE(4 * _MOST_DESCRIPTORS))
        if not more:
            raise EOFError("the parent is gone")
        data += more
        for level, kind, value in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptors += array.array("i", value[: len(value) - len(value) % 4])
    return data


def adopt(reactor: Any, end: socket.socket, channel: Channel) -> None:
    """Let a channel speak by one end of a pair of sockets."""
    end.setblocking(False)
    factory = Factory()
    factory.noisy = False
    factory.buildProtocol = lambda addr: channel  # type: ignore[method-assign]
    reactor.adoptStreamConnection(end.fileno(), socket.AF_UNIX, factory)
    end.close()
