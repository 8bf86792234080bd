"""
One AUTH command and what follows it (RFC 4954 §4): lines in, challenges or credentials out. The login itself, and what
failures cost, are :mod:`lmtp_twisted.negotiation`'s.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from typing import Any

import attrs

from lmtp_twisted.errors import CommandError
from lmtp_twisted.extensions.sasl import Mechanism, Surroundings, Talk
from lmtp_twisted.wire import replies

_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


def _refusal(reply: replies.Reply) -> CommandError:
    return CommandError(reply.code, reply.enhanced, reply.text)


def decode(text: bytes) -> bytes:
    """
    Undo base64.

    :raises CommandError: ``501 5.5.2`` for what is not exactly that.
    """
    if not _BASE64.fullmatch(text):
        raise CommandError(501, "5.5.2", "Not base64")
    return b64decode(text)


def challenge(octets: bytes) -> bytes:
    """
    :returns: the reply that sends a challenge, its CRLF included; the blank is there even if the challenge is empty.
    """
    return b"334 " + b64encode(octets) + b"\r\n"


@attrs.frozen
class Credentials:
    """
    What a mechanism has made of the client's answers. Never shown: there may be a password in it.

    :ivar mechanism: the mechanism.
    :ivar value: for the portal.
    """

    mechanism: Mechanism
    value: Any = attrs.field(repr=False)


class Exchange:
    """
    :param argument: of the AUTH command.
    :param mechanisms: that are on offer.
    :param surroundings: what these may need.
    :raises CommandError: ``501 5.5.4`` without a mechanism, ``504 5.5.4`` for one that is not on offer, ``501 5.7.0``
        for an initial response where the server speaks first, ``501 5.5.2`` for one that is not base64.
    """

    def __init__(self, argument: bytes, mechanisms: tuple[Mechanism, ...], surroundings: Surroundings) -> None:
        name, _, initial = argument.partition(b" ")
        if not name:
            raise _refusal(replies.ARGUMENT_NEEDED)
        by_name = {mechanism.name.encode("ascii"): mechanism for mechanism in mechanisms}
        mechanism = by_name.get(name.upper())
        if mechanism is None:
            raise _refusal(replies.AUTH_UNKNOWN_MECHANISM)
        self._initial: bytes | None = None
        if initial:
            if not mechanism.takes_initial_response:
                raise CommandError(501, "5.7.0", "The server speaks first in this mechanism")
            # "=" is the initial response that is empty (§4).
            self._initial = b"" if initial == b"=" else decode(initial)
        self.mechanism = mechanism
        self._talk: Talk = mechanism.talk(surroundings)

    def begin(self) -> bytes | Credentials:
        """
        :returns: the first challenge; or the credentials, where the client has said all with its command.
        :raises CommandError: where what it said will not do.
        """
        first = next(self._talk)
        return first if self._initial is None else self._send(self._initial)

    def respond(self, line: bytes) -> bytes | Credentials:
        """
        :param line: the client's answer to the challenge, without its CRLF.
        :returns: as :meth:`begin`.
        :raises CommandError: ``501 5.0.0`` where the client gives up, ``501 5.5.2`` where the line is not base64, or
            what the mechanism says.
        """
        if line == b"*":
            raise _refusal(replies.AUTH_CANCELLED)
        return self._send(decode(line))

    def _send(self, response: bytes) -> bytes | Credentials:
        try:
            return self._talk.send(response)
        except StopIteration as end:
            return Credentials(self.mechanism, end.value)
