"""Who is talking: what is known of one connection and its client."""

from __future__ import annotations

import enum
import secrets
import time
from typing import Any

import attrs
from twisted.internet.interfaces import IAddress

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


def new_session_id() -> str:
    """
    An id that no other session has, in this process or another: the time and a random part, 14 letters and digits.

    :returns: for example ``"f3k9z2q1a0x7c4"``; later ids sort later.
    """
    number, digits = time.time_ns() // 1000 * 36**4 + secrets.randbelow(36**4), ""
    for _ in range(14):
        number, remainder = divmod(number, 36)
        digits = _ALPHABET[remainder] + digits
    return digits


def began_at(id: str) -> float:
    """
    :param id: of a session.
    :returns: when it was made, in seconds since 1970; 0 where the id is none of ours.
    """
    try:
        return int(id, 36) // 36**4 / 1e6 if len(id) == 14 else 0.0
    except ValueError:
        return 0.0


@attrs.frozen
class TLSInfo:
    """
    The facts of a session's TLS.

    :ivar version: of the protocol, such as ``TLSv1.3``.
    :ivar cipher: the name of the cipher suite, such as ``TLS_AES_256_GCM_SHA384``.
    :ivar peer_certificate: the client's certificate in DER, verified; ``None`` where it gave none.
    :ivar server_name: the name that the client asked for (RFC 6066 §3), in lower case; ``None`` where it asked for
        none, or for what is no name of a host.
    """

    version: str
    cipher: str
    peer_certificate: bytes | None = attrs.field(default=None, repr=False)
    server_name: str | None = None


@attrs.frozen
class PeerCredentials:
    """
    Who connected to a Unix socket, as the kernel says.

    :ivar pid: of the process.
    :ivar uid: its effective user.
    :ivar gid: its effective group; of its other groups nothing is known.
    """

    pid: int
    uid: int
    gid: int


class Link(enum.Enum):
    """What kind of way leads to the peer."""

    #: One that others may listen to.
    NETWORK = "network"
    #: This machine's own.
    LOOPBACK = "loopback"
    #: A Unix socket.
    UNIX = "unix"


@attrs.define(eq=False)
class SessionInfo:
    """
    One connection, as policies, deliveries and observers see it. The server fills it in as it learns more;
    applications only read it, but for :attr:`data`, which is theirs.

    :ivar peer: the address of the client; after XCLIENT or PROXY, the address that the trusted peer gave.
    :ivar host: our own address of the connection; after PROXY, the address that the client connected to.
    :ivar id: unique; begins every reply id of the session and stands in the log.
    :ivar lhlo_name: what the client called itself in LHLO, printable ASCII, ``""`` before it.
    :ivar tls: the facts of TLS where it is on, else ``None``.
    :ivar user: the authenticated identity: the name that AUTH proved, or that XCLIENT gave; else ``None``.
    :ivar mechanism: that of AUTH which proved it, such as ``PLAIN``; ``None`` where XCLIENT gave it.
    :ivar link: the way to the peer as the connection was made, whatever XCLIENT says later.
    :ivar credentials: of the peer of a Unix socket as the connection was made, else ``None``.
    :ivar is_trusted: whether the peer may use XCLIENT and XFORWARD: after XCLIENT the one that it named.
    :ivar xclient: attributes that a trusted peer gave with XCLIENT, names in upper case.
    :ivar xforward: attributes that a trusted peer gave with XFORWARD for the transaction of now, names in upper case.
    :ivar data: for the application: whatever it wants to remember of the session.
    """

    peer: IAddress
    host: IAddress
    id: str = attrs.field(factory=new_session_id)
    lhlo_name: str = ""
    tls: TLSInfo | None = None
    user: str | None = None
    mechanism: str | None = None
    link: Link = Link.NETWORK
    credentials: PeerCredentials | None = None
    is_trusted: bool = False
    xclient: dict[str, str] = attrs.field(factory=dict)
    xforward: dict[str, str] = attrs.field(factory=dict)
    data: dict[Any, Any] = attrs.field(factory=dict)

    @property
    def peer_name(self) -> str:
        """The peer in a few words for logs and headers: an IP address, or ``unix`` for a Unix socket."""
        return str(getattr(self.peer, "host", None) or "unix")
