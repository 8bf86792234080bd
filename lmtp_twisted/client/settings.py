"""What a client can be told."""

from __future__ import annotations

import enum
import socket
from collections.abc import Callable
from random import SystemRandom

import attrs

from lmtp_twisted.client.sasl import Credentials
from lmtp_twisted.client.tls import ClientTLS
from lmtp_twisted.wire.content import BareNewlines


class Security(enum.Enum):
    """Whether the way to the server is encrypted."""

    #: With STARTTLS where the server offers it, but not to this machine itself. Where that fails nothing is sent.
    WHERE_OFFERED = "auto"
    #: Never.
    NONE = "no"
    #: With STARTTLS (RFC 3207), or not at all.
    STARTTLS = "starttls"
    #: From the first octet.
    TLS = "tls"


@attrs.frozen(kw_only=True)
class Timeouts:
    """
    How long to wait, in seconds. The defaults are those of RFC 5321 §4.5.3.2.

    :ivar connect: for the connection, and for TLS.
    :ivar greeting: for the greeting.
    :ivar command: for the reply to any command that has none of its own here.
    :ivar data: for the reply to DATA.
    :ivar block: until the server takes more of the content, and for the reply to a chunk that is not the last.
    :ivar final: for each of the final replies.
    :ivar goodbye: for the reply to QUIT.
    :ivar turn: for a connection, where all are in use.
    """

    connect: float = 30.0
    greeting: float = 300.0
    command: float = 300.0
    data: float = 120.0
    block: float = 180.0
    final: float = 600.0
    goodbye: float = 5.0
    turn: float = 60.0

    def __attrs_post_init__(self) -> None:
        for name, value in attrs.asdict(self).items():
            if not 0 < value < 1e6:
                raise ValueError(f"the time-out {name} is a number of seconds, not {value!r}")


@attrs.frozen(kw_only=True)
class ClientSettings:
    """
    :ivar hostname: our name, for LHLO.
    :ivar security: whether the way to the server is encrypted.
    :ivar tls: whom to trust there, and who we are.
    :ivar credentials: to log in with; nobody logs in without them.
    :ivar allows_plaintext: whether a password may be said where others may listen.
    :ivar bare_newlines: what becomes of a CR without LF, or an LF without CR, in the content, which never go out by
        DATA: made CR LF, refused, or kept by BDAT and refused where the server has no BDAT. A BINARYMIME content is
        kept as it is.
    :ivar uses_chunking: whether BDAT is used where the server offers it (RFC 3030): nothing is stuffed then, and a last
        line without its line end stays so.
    :ivar timeouts: how long to wait.
    :ivar max_connections: to one server.
    :ivar max_waiting: deliveries that wait for a connection; one more is ``451 4.3.2``.
    :ivar keep: seconds for which a connection is kept that nobody uses.
    :ivar check_after: seconds after which a connection that nobody used is asked (RSET) before it is used again.
    :ivar retry_first: seconds for which a server that could not be reached is left alone; twice as many each time.
    :ivar retry_most: the most of them.
    :ivar random: gives a number from 0 to 1, for the jitter of these: from a half of them to all.
    """

    hostname: str = attrs.field(factory=socket.gethostname)
    security: Security = Security.WHERE_OFFERED
    tls: ClientTLS = attrs.field(factory=ClientTLS)
    credentials: Credentials | None = None
    allows_plaintext: bool = False
    bare_newlines: BareNewlines = BareNewlines.NORMALISE
    uses_chunking: bool = True
    timeouts: Timeouts = attrs.field(factory=Timeouts)
    max_connections: int = 10
    max_waiting: int = 1000
    keep: float = 60.0
    check_after: float = 5.0
    retry_first: float = 1.0
    retry_most: float = 60.0
    random: Callable[[], float] = attrs.field(default=SystemRandom().random, repr=False)

    def __attrs_post_init__(self) -> None:
        if not self.hostname.isascii() or not self.hostname.isprintable() or set(self.hostname) & set(" <>"):
            raise ValueError(f"the hostname is one word of ASCII, not {self.hostname!r}")
        if not self.hostname or len(self.hostname) > 255:
            raise ValueError("the hostname is a word of 1 to 255 characters")
        for name in ("max_connections", "keep", "retry_first", "retry_most"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is a number above zero")
