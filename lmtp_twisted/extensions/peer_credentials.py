"""Who is at the other end of a Unix socket: the kernel knows (SO_PEERCRED, socket(7))."""

from __future__ import annotations

import socket
import struct
from typing import Any

from twisted.protocols.policies import ProtocolWrapper

from lmtp_twisted.session import PeerCredentials

_UCRED = struct.Struct("3i")
# Not on every system.
_SO_PEERCRED: int | None = getattr(socket, "SO_PEERCRED", None)


def credentials_of(transport: Any) -> PeerCredentials | None:
    """
    :param transport: of a session, perhaps with TLS around it.
    :returns: as whom the peer connected; ``None`` where it is no Unix socket, or the system does not say.
    """
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    connection = getattr(transport, "socket", None)
    if _SO_PEERCRED is None or getattr(connection, "family", None) != socket.AF_UNIX:
        return None
    assert connection is not None
    return PeerCredentials(*_UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, _SO_PEERCRED, _UCRED.size)))
