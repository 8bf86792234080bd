"""The beginning of a session: greeting, LHLO, STARTTLS, AUTH. What goes wrong here is temporary for every recipient."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.address import UNIXAddress

from lmtp_twisted.client.capabilities import Capabilities
from lmtp_twisted.client.connection import ClientConnection
from lmtp_twisted.client.replies import ServerReply
from lmtp_twisted.client.sasl import Mechanism, choose
from lmtp_twisted.client.settings import ClientSettings, Security
from lmtp_twisted.errors import TemporaryFailure
from lmtp_twisted.trust import ip_of

#: Octets of an AUTH command with its initial response: a longer one waits to be asked.
_MAX_AUTH = 500


@attrs.define(eq=False)
class ClientSession:
    """
    A session that has begun.

    :ivar connection: its connection.
    :ivar able: what the server can do.
    :ivar is_secure: whether TLS is on.
    :ivar transactions: how many have begun.
    :ivar is_clean: whether no transaction is under way: a new one may begin without RSET.
    :ivar quiet_since: when the last one ended, by the clock.
    """

    connection: ClientConnection
    able: Capabilities
    is_secure: bool
    transactions: int = 0
    is_clean: bool = True
    quiet_since: float = 0.0


def is_near(peer: Any) -> bool:
    """Whether nobody else can listen on the way to a peer: a Unix socket, or this machine."""
    address = ip_of(peer)
    return isinstance(peer, UNIXAddress) or (address is not None and address.is_loopback)


async def begin(
    connection: ClientConnection, settings: ClientSettings, tls_creator: Callable[[], Any], security: Security
) -> ClientSession:
    """
    :param connection: that was just made.
    :param settings: of the client.
    :param tls_creator: gives what makes TLS of it.
    :param security: whether the way is encrypted.
    :raises TemporaryFailure: where there is no session to be had.
    """
    times = settings.timeouts
    near = is_near(connection.transport.getPeer())
    is_secure = security is Security.TLS
    if is_secure:
        await _start_tls(connection, tls_creator, times.connect)
    greeting = await connection.reply(times.greeting)
    if greeting.code != 220:
        raise _refused("The server does not take connections", greeting)
    able = await _lhlo(connection, settings)
    wanted = security is Security.STARTTLS or (security is Security.WHERE_OFFERED and not near)
    if wanted and "STARTTLS" in able:
        connection.send(b"STARTTLS\r\n", 1)
        answer = await connection.reply(times.command)
        if answer.code != 220:
            raise _refused("The server refused STARTTLS", answer, "4.7.4")
        await _start_tls(connection, tls_creator, times.connect)
        is_secure = True
        # What it said before may have been anybody's (RFC 3207 §4.2).
        able = await _lhlo(connection, settings)
    elif security is Security.STARTTLS:
        raise TemporaryFailure("The server offers no STARTTLS", enhanced="4.7.4")
    if settings.credentials is not None:
        may_show = is_secure or near or settings.allows_plaintext
        mechanism = choose(settings.credentials, able.mechanisms, may_show)
        if mechanism is None:
            why = "" if may_show else " that keeps a password from those who may listen"
            raise TemporaryFailure(f"The server offers no mechanism of AUTH for us{why}", enhanced="4.7.0")
        await _log_in(connection, settings, mechanism)
    return ClientSession(connection, able, is_secure)


def _refused(what: str, reply: ServerReply, enhanced: str = "4.3.2") -> TemporaryFailure:
    return TemporaryFailure(f"{what}: {reply}", enhanced=enhanced)


async def _start_tls(connection: ClientConnection, tls_creator: Callable[[], Any], timeout: float) -> None:
    try:
        creator = tls_creator()
    except ValueError as error:
        raise TemporaryFailure(f"TLS: {error}", enhanced="4.7.5")
    await connection.start_tls(creator, timeout)


async def _lhlo(connection: ClientConnection, settings: ClientSettings) -> Capabilities:
    connection.send(f"LHLO {settings.hostname}\r\n".encode(), 1)
    answer = await connection.reply(settings.timeouts.command)
    if answer.code != 250:
        raise _refused("The server refused LHLO", answer, "4.5.0")
    return Capabilities.of(answer.lines)


async def _log_in(connection: ClientConnection, settings: ClientSettings, mechanism: Mechanism) -> None:
    timeout = settings.timeouts.command
    talk = mechanism.talk(settings.credentials)
    response = base64.b64encode(next(talk))
    line = f"AUTH {mechanism.name}".encode()
    if mechanism.speaks_first and len(line) + len(response) < _MAX_AUTH:
        line += b" " + (response or b"=")
        has_spoken = True
    else:
        has_spoken = not mechanism.speaks_first
    connection.send(line + b"\r\n", 1)
    answer = await connection.reply(timeout)
    # Behind a "*" it is to be 501: another challenge is an error like any other reply.
    while answer.code == 334 and line != b"*":
        line = _response(talk, answer, response if not has_spoken else None)
        has_spoken = True
        connection.send(line + b"\r\n", 1)
        answer = await connection.reply(timeout)
    if answer.code != 235:
        # Never for ever: it is we who have the wrong password, and not the message.
        raise _refused("The server refused our AUTH", answer, "4.7.0")


def _response(talk: Any, challenge: ServerReply, held_back: bytes | None) -> bytes:
    """What to say to a challenge; ``*`` where there is nothing more to say (RFC 4954 §4)."""
    if held_back is not None:
        return held_back
    try:
        return base64.b64encode(talk.send(base64.b64decode(challenge.text, validate=True)))
    except (binascii.Error, StopIteration, ValueError):
        return b"*"
