"""
The beginning of a session, up to where a scenario begins, and what the server says of itself there.

``connection`` is a bare connection, before anything was sent or read. ``greeting`` is behind the greeting; a PROXY
header, TLS and XCLIENT have come before it where the user wants them in every session. ``lhlo`` is behind LHLO, and
``session`` behind AUTH, where that is wanted.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from lmtp_twisted.conformance.connection import Connection, Unexpected
from lmtp_twisted.conformance.replies import Reply
from lmtp_twisted.conformance.scenario import STARTS
from lmtp_twisted.conformance.settings import Settings
from lmtp_twisted.conformance.values import PROXY_HEADERS, value_of

#: How many times the time for one reply a session may last.
_PATIENCES = 20


@attrs.frozen
class Server:
    """
    What the server said of itself.

    :ivar greeting: in printable ASCII.
    :ivar capabilities: the words behind each keyword, by the keyword in upper case.
    """

    greeting: str
    capabilities: Mapping[str, tuple[str, ...]]

    @property
    def numbers(self) -> Mapping[str, int]:
        """``size`` and ``rcptmax``, where it has such a limit."""
        found: dict[str, int] = {}
        size = self.capabilities.get("SIZE", ())
        if size and size[0].isdigit() and len(size[0]) < 20 and int(size[0]):
            found["size"] = int(size[0])
        for word in self.capabilities.get("LIMITS", ()):
            name, _, value = word.partition("=")
            if name.upper() == "RCPTMAX" and value.isdigit() and len(value) < 10:
                found["rcptmax"] = int(value)
        return found


def capabilities_of(reply: Reply) -> dict[str, tuple[str, ...]]:
    """
    :param reply: that to LHLO (RFC 5321 §4.1.1.1). ``AUTH=PLAIN``, as some servers say for old clients, is left out.
    """
    found: dict[str, tuple[str, ...]] = {}
    for line in reply.lines[1:]:
        words = line.decode("latin-1").split()
        if words:
            found.setdefault(words[0].upper(), tuple(words[1:]))
    return found


def connect(settings: Settings) -> Connection:
    """
    :raises OSError: where nobody is there.
    """
    limit = _PATIENCES * settings.patience + (settings.idle or 0.0)
    return Connection(settings.target.connect(settings.patience), settings.patience, limit)


def begin(connection: Connection, settings: Settings, start: str) -> Server:
    """
    Go to where a scenario begins.

    :param start: one of :data:`~lmtp_twisted.conformance.scenario.STARTS`.
    :returns: what the server said on the way.
    :raises Unexpected: where it does not get there.
    """
    depth = STARTS.index(start)
    if depth == 0:
        return Server("", {})
    if settings.proxy:
        connection.send(PROXY_HEADERS[settings.proxy[0]])
    if settings.tls == "implicit":
        connection.start_tls(settings.tls_context(), settings.tls_name)
    greeting = str(_wanted(connection, None, 220, "the greeting"))
    if settings.tls == "starttls":
        _say_lhlo(connection, settings)
        _wanted(connection, b"STARTTLS\r\n", 220, "STARTTLS")
        connection.start_tls(settings.tls_context(), settings.tls_name)
    if settings.xclient is not None:
        _say_lhlo(connection, settings)
        _wanted(connection, b"XCLIENT %s\r\n" % settings.xclient.encode("utf-8"), 220, "XCLIENT")
    if depth == 1:
        return Server(greeting, {})
    reply = _say_lhlo(connection, settings)
    if depth == 3 and settings.authenticates:
        _authenticate(connection, settings)
    return Server(greeting, capabilities_of(reply))


def _authenticate(connection: Connection, settings: Settings) -> None:
    name = "XOAUTH2" if settings.token is not None else "PLAIN"
    response = value_of(f"auth-{name.lower()}", settings, None)
    _wanted(connection, b"AUTH %s %s\r\n" % (name.encode("ascii"), response), 235, f"AUTH {name}")


def _say_lhlo(connection: Connection, settings: Settings) -> Reply:
    return _wanted(connection, b"LHLO %s\r\n" % settings.client.encode("utf-8"), 250, "LHLO")


def _wanted(connection: Connection, line: bytes | None, code: int, what: str) -> Reply:
    if line is not None:
        connection.send(line)
    try:
        reply = connection.read_reply()
    except Unexpected as error:
        raise Unexpected(f"{what}: {error.brief}", error.detail)
    if reply.code != code:
        raise Unexpected(f"{what}: {reply.codes}", str(reply))
    return reply
