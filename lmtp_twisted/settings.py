"""What an operator can set about the protocol: one frozen value, checked when it is made."""

from __future__ import annotations

import socket
from typing import Any

import attrs

from lmtp_twisted.wire.content import BareNewlines

#: Capabilities and commands that can be switched off.
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
        "STARTTLS",
        "VRFY",
        "EXPN",
        "HELP",
    }
)
#: Capabilities that are announced only where the operator says so.
CAN_BE_ENABLED = frozenset({"DSN", "MT-PRIORITY", "REQUIRETLS"})

_TAKES_WITH_IT = {"8BITMIME": {"SMTPUTF8"}, "CHUNKING": {"BINARYMIME"}}


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
    :ivar max_bad_commands: unrecognised or malformed commands in a row that end the session.
    :ivar max_received: ``Received:`` lines beyond which a message is in a loop (RFC 5321 §6.3).
    :ivar idle_timeout: seconds without a command or content after which the session ends (RFC 5321 §4.5.3.2.7).
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
    max_bad_commands: int = attrs.field(default=10, validator=_positive)
    max_received: int = attrs.field(default=100, validator=_positive)
    idle_timeout: float = attrs.field(default=300.0, validator=_positive)
    delivery_timeout: float = attrs.field(default=540.0, validator=_positive)
    write_timeout: float = attrs.field(default=300.0, validator=_positive)
    greeting_delay: float = attrs.field(default=0.0, validator=_not_negative)
    bare_newlines: BareNewlines = BareNewlines.KEEP
    lenient_newlines: bool = False
    disabled: frozenset[str] = attrs.field(default=frozenset(), converter=_disabled, validator=_one_of(CAN_BE_DISABLED))
    enabled: frozenset[str] = attrs.field(default=frozenset(), converter=_names, validator=_one_of(CAN_BE_ENABLED))

    def capabilities(self, *, is_secure: bool = False, offers_tls: bool = False) -> tuple[str, ...]:
        """
        The lines of the reply to LHLO (RFC 5321 §4.1.1.1).

        :param is_secure: TLS is on.
        :param offers_tls: it can be had where it is not.
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
            *(["STARTTLS"] if offers_tls and not is_secure else []),
        ]
        return tuple(line for line in lines if line.split()[0] not in self.disabled)
