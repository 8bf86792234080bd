"""The server that a text such as ``tcp:store1:24`` names."""

from __future__ import annotations

import re
from typing import Any

import attrs
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, clientFromString
from twisted.internet.interfaces import IStreamClientEndpoint

from lmtp_twisted.client.settings import ClientSettings, Security

_HOST = re.compile(r"(?:(tcp|tls):)?(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})")
_SOCKET = re.compile(r"(?:unix:)?(/[^\0]*)")


@attrs.frozen
class Target:
    """
    :ivar name: for logs and replies.
    :ivar endpoint: where it is.
    :ivar host: its name or address, where it has one.
    :ivar is_tls: whether its description says that TLS begins with the first octet.
    """

    name: str
    endpoint: Any
    host: str | None = None
    is_tls: bool = False

    def security(self, settings: ClientSettings) -> Security:
        """How the way to it is encrypted."""
        return Security.TLS if self.is_tls else settings.security

    @classmethod
    def of(cls, endpoint: Any, reactor: Any, timeout: float) -> Target:
        """
        :param endpoint: ``HOST:PORT``, ``tcp:HOST:PORT``, ``tls:HOST:PORT`` (an IPv6 address in brackets),
            ``unix:PATH`` or ``/PATH``; any other description that Twisted knows; or an
            :class:`~twisted.internet.interfaces.IStreamClientEndpoint`.
        :param reactor: makes connections.
        :param timeout: seconds for each attempt to connect.
        :raises ValueError: for what is none of these, in one line.
        """
        if IStreamClientEndpoint.providedBy(endpoint):
            return cls(type(endpoint).__name__, endpoint)
        if not isinstance(endpoint, str):
            raise ValueError(f"{endpoint!r} is no endpoint")
        if match := _HOST.fullmatch(endpoint):
            kind, address, name, port = match.groups()
            host = address or name
            if not 0 < int(port) < 65536:
                raise ValueError(f"{endpoint!r}: there is no such port")
            # It knows addresses of both kinds, and tries all that a name has.
            made = HostnameEndpoint(reactor, host.encode("ascii"), int(port), timeout)
            return cls(endpoint, made, host, kind == "tls")
        if match := _SOCKET.fullmatch(endpoint):
            return cls(endpoint, UNIXClientEndpoint(reactor, match[1], int(timeout) or 1))
        try:
            return cls(endpoint, clientFromString(reactor, endpoint))
        except Exception:
            raise ValueError(f"{endpoint!r} is no HOST:PORT, no unix:PATH and no endpoint that Twisted knows")
