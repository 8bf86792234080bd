"""What an operator can set about the protocol: one frozen value, checked when it is made."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

import attrs

from lmtp_twisted.session import PeerCredentials
from lmtp_twisted.trust import Trust
from lmtp_twisted.wire.content import BareNewlines

#: Mechanisms of AUTH (RFC 4954), in the order in which they are announced.
MECHANISMS = ("EXTERNAL", "CRAM-MD5", "XOAUTH2", "PLAIN", "LOGIN")

#: Capabilities, commands and mechanisms of AUTH that can be switched off.
CAN_BE_DISABLED = frozenset(
    {
        "8BITMIME",
        "SMTPUTF8",
        "CHUNKING",
        "BINARYMIME",
        "SIZE",
        "LIMITS",
        "DSN",
        "MT-PRIORITY",
        "REQUIRETLS",
        "STARTTLS",
        "AUTH",
        "XCLIENT",
        "XFORWARD",
        "VRFY",
        "EXPN",
        "HELP",
        *MECHANISMS,
    }
)
#: Capabilities that are announced only where the operator says so.
CAN_BE_ENABLED = frozenset({"DSN", "MT-PRIORITY", "REQUIRETLS"})

_TAKES_WITH_IT = {"8BITMIME": {"SMTPUTF8"}, "CHUNKING": {"BINARYMIME"}}


def _trust(names: Any) -> Trust:
    try:
        return Trust.of(names)
    except ValueError as error:
        raise ValueError(f"trusted: {error}")


def _names(names: Any) -> frozenset[str]:
    return frozenset(name.upper() for name in ([names] if isinstance(names, str) else names))


def _disabled(names: Any) -> frozenset[str]:
    chosen = _names(names)
    return chosen.union(*(_TAKES_WITH_IT.get(name, set()) for name in chosen))


def _one_of(allowed: frozenset[str]) -> Any:
    def check(_settings: Any, attribute: Any, value: frozenset[str]) -> None:
        if wrong := sorted(value - allowed):
            raise ValueError(f"{attribute.name}: {', '.join(wrong)} is not among {', '.join(sorted(allowed))}")

    return check


def _user_ids(_settings: Any, attribute: Any, value: frozenset[int]) -> None:
    if any(number < 0 for number in value):
        raise ValueError(f"{attribute.name}: a number is negative")


def _one_line(_settings: Any, attribute: Any, value: str) -> None:
    if not (value.isascii() and value.isprintable()) or (attribute.name == "hostname" and " " in value):
        raise ValueError(f"{attribute.name}: {value!r} is not printable ASCII")
    if attribute.name == "hostname" and not value:
        raise ValueError("hostname: it is empty")
    if len(value) > 255:
        raise ValueError(f"{attribute.name}: longer than 255 characters")


def _not_negative(_settings: Any, attribute: Any, value: float) -> None:
    if not value >= 0:
        raise ValueError(f"{attribute.name}: {value!r} is negative")


def _positive(_settings: Any, attribute: Any, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{attribute.name}: {value!r} is not positive")


@attrs.frozen(kw_only=True)
class Settings:
    """
    :ivar hostname: our name in the greeting, the reply to LHLO and ``Received:``.
    :ivar banner: what follows it in the greeting.
    :ivar size_limit: octets of a message's content, dot-stuffing not counted (RFC 1870 §5); 0 is no limit.
    :ivar drain_factor: how many times the limit beyond the limit a message that is too large is read and thrown away
        before the session is closed.
    :ivar max_recipients: accepted recipients of a message (RFC 5321 §4.5.3.1.8).
    :ivar max_sessions: sessions at a time; more are answered 421.
    :ivar max_sessions_per_peer: sessions of one IP address at a time, those of all Unix sockets counted as one; 0 is no
        limit.
    :ivar max_commands: command lines of a session; 0 is no limit.
    :ivar max_bad_commands: unrecognised or malformed commands in a row that end the session.
    :ivar max_unauthenticated_commands: commands without AUTH, where it is required, that end the session: all but
        LHLO, STARTTLS, AUTH, XCLIENT and QUIT count.
    :ivar max_auth_failures: failed AUTH that end the session.
    :ivar auth_failure_delay: seconds before the first failed AUTH of a session is answered; the second waits twice as
        long, and so on. A peer that has failed more than twenty times in a few minutes waits so with every AUTH.
    :ivar auth_required: whether mail is taken from authenticated clients only (RFC 4954 §6).
    :ivar auth_insecure: whether mechanisms that show the password are offered on loopback without TLS.
    :ivar trusted: who may use XCLIENT and XFORWARD: networks such as ``192.0.2.0/24``, and ``unix``.
    :ivar allowed_uids: users who may connect to a Unix socket. Where neither this nor ``allowed_gids`` names anybody,
        whom the socket's mode lets in may.
    :ivar allowed_gids: groups likewise; it is the process's effective group that counts.
    :ivar max_received: ``Received:`` lines beyond which a message is in a loop (RFC 5321 §6.3).
    :ivar idle_timeout: seconds without a command or content after which the session ends (RFC 5321 §4.5.3.2.7).
    :ivar session_timeout: seconds that a session may take; what it has under way is finished first. 0 is no limit.
    :ivar delivery_timeout: seconds that a delivery, or any other answer of the application, may take.
    :ivar write_timeout: seconds that a client may leave our replies unread before its connection is aborted.
    :ivar greeting_delay: seconds before the greeting; a client that speaks earlier is sent away. 0 is off.
    :ivar bare_newlines: what becomes of a bare CR or LF in the content.
    :ivar lenient_newlines: whether a command line may end in a bare LF.
    :ivar disabled: names of capabilities and commands that are neither announced nor accepted.
    :ivar enabled: names of capabilities to announce that are not announced by default: ``DSN`` takes over the duty to
        report success (RFC 3461 §5.2), ``MT-PRIORITY`` promises to heed it (RFC 6710), ``REQUIRETLS`` likewise, under
        TLS only (RFC 8689).
    :raises ValueError: where a value makes no sense; the message names the setting.
    """

    hostname: str = attrs.field(factory=socket.gethostname, validator=_one_line)
    banner: str = attrs.field(default="ready", validator=_one_line)
    size_limit: int = attrs.field(default=50 * 1024 * 1024, validator=_not_negative)
    drain_factor: int = attrs.field(default=10, validator=_not_negative)
    max_recipients: int = attrs.field(default=1000, validator=_positive)
    max_sessions: int = attrs.field(default=1000, validator=_positive)
    max_sessions_per_peer: int = attrs.field(default=0, validator=_not_negative)
    max_commands: int = attrs.field(default=0, validator=_not_negative)
    max_bad_commands: int = attrs.field(default=10, validator=_positive)
    max_unauthenticated_commands: int = attrs.field(default=100, validator=_positive)
    max_auth_failures: int = attrs.field(default=3, validator=_positive)
    auth_failure_delay: float = attrs.field(default=1.0, validator=_not_negative)
    auth_required: bool = False
    auth_insecure: bool = False
    trusted: Trust = attrs.field(default=Trust(), converter=_trust)
    allowed_uids: frozenset[int] = attrs.field(default=frozenset(), converter=frozenset, validator=_user_ids)
    allowed_gids: frozenset[int] = attrs.field(default=frozenset(), converter=frozenset, validator=_user_ids)
    max_received: int = attrs.field(default=100, validator=_positive)
    idle_timeout: float = attrs.field(default=300.0, validator=_positive)
    session_timeout: float = attrs.field(default=0.0, validator=_not_negative)
    delivery_timeout: float = attrs.field(default=540.0, validator=_positive)
    write_timeout: float = attrs.field(default=300.0, validator=_positive)
    greeting_delay: float = attrs.field(default=0.0, validator=_not_negative)
    bare_newlines: BareNewlines = BareNewlines.KEEP
    lenient_newlines: bool = False
    disabled: frozenset[str] = attrs.field(default=frozenset(), converter=_disabled, validator=_one_of(CAN_BE_DISABLED))
    enabled: frozenset[str] = attrs.field(default=frozenset(), converter=_names, validator=_one_of(CAN_BE_ENABLED))

    def capabilities(self, *, is_secure: bool = False, extensions: Iterable[str] = ()) -> tuple[str, ...]:
        """
        The lines of the reply to LHLO (RFC 5321 §4.1.1.1).

        :param is_secure: TLS is on.
        :param extensions: the lines of extensions that some sessions are offered only.
        """
        lines = [
            "PIPELINING",
            "ENHANCEDSTATUSCODES",
            "8BITMIME",
            "SMTPUTF8",
            "CHUNKING",
            "BINARYMIME",
            f"SIZE {self.size_limit}",
            f"LIMITS RCPTMAX={self.max_recipients}",
            *sorted(self.enabled - ({"REQUIRETLS"} if not is_secure else set())),
            *extensions,
        ]
        return tuple(line for line in lines if line.split()[0] not in self.disabled)

    def lets_in(self, credentials: PeerCredentials) -> bool:
        """Whether who is at the other end of a Unix socket may connect."""
        if not (self.allowed_uids or self.allowed_gids):
            return True
        return credentials.uid in self.allowed_uids or credentials.gid in self.allowed_gids
