"""AUTH: the command, and the lines that follow it. Whatever they are, what they hold stays where it is."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from typing import Any

from fuzz_addresses import check_words
from twisted.cred.credentials import CramMD5Credentials, IUsernameHashedPassword, IUsernamePassword, UsernamePassword

from lmtp_twisted.errors import CommandError
from lmtp_twisted.extensions.auth import Credentials, Exchange, challenge
from lmtp_twisted.extensions.sasl import BearerToken, ClientCertificate, Surroundings, mechanisms_for
from lmtp_twisted.interfaces import IBearerToken, IClientCertificate

_SURROUNDINGS = Surroundings("mx.example", b"certificate")
_INTERFACES = (IUsernamePassword, IUsernameHashedPassword, IBearerToken, IClientCertificate)
_MECHANISMS = mechanisms_for(_INTERFACES, is_private=True, has_certificate=True)
_CHALLENGE = re.compile(rb"334 [A-Za-z0-9+/]*={0,2}\r\n")
#: All that is said of what a client did wrong. None of it is the client's own.
_REFUSALS = {
    (501, "5.0.0", "Authentication cancelled"),
    (501, "5.5.2", "Not base64"),
    (501, "5.5.2", "This is not what the mechanism wants"),
    (501, "5.5.4", "This command needs an argument"),
    (501, "5.7.0", "The server speaks first in this mechanism"),
    (504, "5.5.4", "Mechanism not available"),
    (535, "5.7.8", "Nobody acts as somebody else here"),
}
_OBJECT = re.compile(r"<twisted\.cred\.credentials\.[A-Za-z0-9]+ object at 0x[0-9a-f]+>")


def auth(data: bytes) -> None:
    """The argument of AUTH, and the client's lines."""
    argument, *lines = data.split(b"\r\n")
    end = _played(argument, lines)
    name, _, initial = argument.partition(b" ")
    if isinstance(end, Credentials):
        _check_credentials(end)
        assert end.mechanism.name.encode() == name.upper()
    if initial and (initial == b"=" or _is_base64(initial)) and name.upper() != b"CRAM-MD5":
        # What comes with the command might as well come after it.
        assert _facts(_played(name, [b"" if initial == b"=" else initial, *lines])) == _facts(end)


def _played(argument: bytes, lines: list[bytes]) -> Credentials | CommandError | None:
    """Credentials, a refusal, or nothing where the lines are used up."""
    try:
        exchange = Exchange(argument, _MECHANISMS, _SURROUNDINGS)
        answer = exchange.begin()
        for line in lines:
            if isinstance(answer, Credentials):
                break
            answer = exchange.respond(line)
        assert re.fullmatch(r"<\S+ object at 0x[0-9a-f]+>", repr(exchange))
    except CommandError as error:
        _check_refusal(error)
        return error
    if isinstance(answer, Credentials):
        return answer
    assert _CHALLENGE.fullmatch(challenge(answer))
    assert b64decode(challenge(answer)[4:-2], validate=True) == answer
    return None


def _check_refusal(error: CommandError) -> None:
    assert (error.code, error.enhanced, error.text) in _REFUSALS
    check_words(error.text)


def _is_base64(octets: bytes) -> bool:
    try:
        return b64encode(b64decode(octets, validate=True))[:-4] == octets[:-4] and len(octets) % 4 == 0
    except ValueError:
        return False


def _check_credentials(credentials: Credentials) -> None:
    """The user is known, and nothing shows what else is."""
    value = credentials.value
    assert credentials.mechanism.interface.providedBy(value)
    assert credentials.value.username or credentials.mechanism.name == "EXTERNAL"
    assert repr(credentials) == f"Credentials(mechanism={credentials.mechanism!r})"
    if isinstance(value, (BearerToken, ClientCertificate)):
        assert repr(value) == f"{type(value).__name__}(username={value.username!r})"
    else:
        assert _OBJECT.fullmatch(repr(value))


def _facts(end: Credentials | CommandError | None) -> Any:
    if isinstance(end, CommandError):
        return end.code, end.enhanced, end.text
    if end is None:
        return None
    value = end.value
    assert not isinstance(value, CramMD5Credentials)
    return (value.username, value.password) if isinstance(value, UsernamePassword) else value
