"""What the user of the kit says of the server, and of the client that judges it."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import attrs

_TARGET = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]/\s]+)):(\d{1,5})")

#: Mechanisms of AUTH that the kit can speak.
MECHANISMS = ("PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2", "EXTERNAL")


@attrs.frozen
class Target:
    """
    :ivar host: a name or an address; ``None`` for a Unix socket.
    :ivar port: of TCP.
    :ivar path: of a Unix socket.
    """

    host: str | None = None
    port: int = 0
    path: str | None = None

    @classmethod
    def parse(cls, text: str) -> Target:
        """
        :param text: ``HOST:PORT``, ``[ADDRESS]:PORT`` or ``unix:PATH``.
        :raises ValueError: where it is none of these.
        """
        if text.startswith("unix:") and len(text) > len("unix:"):
            return cls(path=text.removeprefix("unix:"))
        match = _TARGET.fullmatch(text)
        if match is None or not 0 < int(match[3]) < 65536:
            raise ValueError(f"{text!r} is neither HOST:PORT nor unix:PATH")
        return cls(host=match[1] or match[2], port=int(match[3]))

    def connect(self, patience: float) -> socket.socket:
        """
        :param patience: seconds.
        :raises OSError: where nobody is there.
        """
        if self.path is None:
            connected = socket.create_connection((self.host, self.port), timeout=patience)
            # Each segment leaves when it is sent: splits would be none otherwise.
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connected
        connected = socket.socket(socket.AF_UNIX)
        try:
            connected.settimeout(patience)
            connected.connect(self.path)
        except BaseException:
            connected.close()
            raise
        return connected

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in (self.host or "") else f"{self.host}:{self.port}"


@attrs.frozen(kw_only=True)
class Settings:
    """
    :ivar target: where the server is.
    :ivar patience: seconds for each reply.
    :ivar sender: a reverse-path that the server takes.
    :ivar recipients: those that it takes mail for.
    :ivar unknown: one that it refuses at RCPT.
    :ivar client: our name in LHLO.
    :ivar tls: ``none``, ``implicit`` from the first octet, or ``starttls`` at the beginning of each session.
    :ivar ca_file: certificates of authorities, in PEM; without them that of the server is not checked.
    :ivar server_name: the name that it must be for; the host of the target where it is not said.
    :ivar certificate: our own, in PEM.
    :ivar key: its key, where it is not in the same file.
    :ivar user: for AUTH.
    :ivar password: likewise.
    :ivar token: for XOAUTH2.
    :ivar mechanisms: those to be judged.
    :ivar authenticates: every session authenticates itself.
    :ivar auth_required: the server takes no mail without AUTH.
    :ivar is_untrusted: the server takes no XCLIENT and XFORWARD from us, and says so.
    :ivar xclient: attributes for an XCLIENT at the beginning of each session.
    :ivar proxy: the versions of the PROXY header that the server understands; one of the first begins each connection.
    :ivar idle: the seconds of silence after which the server ends a session.
    :ivar greeting_delay: the server waits before its greeting, and sends away who does not.
    :ivar largest: octets of the largest message that is sent to find a limit.
    """

    target: Target
    patience: float = 10.0
    sender: str = "sender@example.net"
    recipients: tuple[str, ...] = ("alice@example.org", "bob@example.org", "carol@example.org")
    unknown: str | None = None
    client: str = "judge.example.net"
    tls: str = "none"
    ca_file: Path | None = None
    server_name: str | None = None
    certificate: Path | None = None
    key: Path | None = None
    user: str | None = None
    password: str | None = None
    token: str | None = None
    mechanisms: tuple[str, ...] = MECHANISMS
    authenticates: bool = False
    auth_required: bool = False
    is_untrusted: bool = False
    xclient: str | None = None
    proxy: tuple[int, ...] = ()
    idle: float | None = None
    greeting_delay: bool = False
    largest: int = 10 * 1024 * 1024

    def tls_context(self) -> ssl.SSLContext:
        """
        :raises OSError: where a file cannot be read, or is not what it should be; the text begins with its name.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.ca_file is None:
            # It is the protocol that is judged; who the server is, only where the user says how to know.
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            _load(self.ca_file, lambda: context.load_verify_locations(self.ca_file))
        if self.certificate is not None:
            certificate = self.certificate
            _load(certificate, lambda: context.load_cert_chain(certificate, self.key))
        return context

    @property
    def tls_name(self) -> str | None:
        """What the certificate must be for."""
        return self.server_name or self.target.host or "localhost"


def _load(file: Path, load: Callable[[], None]) -> None:
    try:
        load()
    except OSError as error:
        raise OSError(f"{file}: {error.strerror or error}")
