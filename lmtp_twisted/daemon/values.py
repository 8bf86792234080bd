"""
What the options of ``twistd lmtp`` mean: how the value of each is read, whether it comes from the command line or from
a configuration file.

Whether a directory can be written or a port is free is not asked here, but when the server is made.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable
from functools import partial
from grp import getgrnam
from pwd import getpwnam
from typing import Any

import attrs

from lmtp_twisted.daemon import quantities
from lmtp_twisted.settings import Settings
from lmtp_twisted.wire.addresses import check_separator
from lmtp_twisted.wire.content import BareNewlines

#: Processes that take mail, at the most.
MOST_WORKERS = 256
_LEVELS = ("debug", "info", "warn", "error")
_LOG_FORMATS = ("text", "json")
_PRIORITIES = ("auto", "yes", "no")


class Kind(enum.Enum):
    """
    What an option takes. Its value is text as on the command line, a list of texts, or a truth.

    :ivar wanted: how that is called in a configuration file.
    :ivar types: which types of TOML's it is there.
    """

    FLAG = "true or false", (bool,)
    COUNT = "a whole number", (int,)
    OCTETS = 'a number, or a string such as "50M"', (int, str)
    WORKERS = 'a number, or "auto"', (int, str)
    SECONDS = "a number", (int, float)
    TEXT = "a string", (str,)
    #: The name of a file or a directory.
    PATH = "a string with a path", (str,)
    LIST = "an array of strings", (str,)
    #: The elements have names or numbers.
    IDS = "an array of names or numbers", (str, int)
    #: Names with a description of a backend each.
    BACKENDS = "a table of strings", (str,)
    #: Elements are strings such as ``"*.example.org=null:"``, or tables.
    ROUTES = "an array of tables, or of strings", (str, dict)

    wanted: str
    types: tuple[type, ...]

    def __new__(cls, wanted: str, types: tuple[type, ...]) -> Kind:
        """The words are the value, the types go with them."""
        kind = object.__new__(cls)
        kind._value_ = kind.wanted = wanted
        kind.types = types
        return kind

    @property
    def is_list(self) -> bool:
        """Whether there may be several."""
        return self in (Kind.LIST, Kind.IDS, Kind.ROUTES)

    def nothing(self) -> Any:
        """The value of an option that was not given."""
        return {} if self is Kind.BACKENDS else [] if self.is_list else None


@attrs.frozen
class Option:
    """
    :ivar kind: what it takes.
    :ivar read: makes a value of that; raises :exc:`ValueError`.
    :ivar field: which field of :class:`~lmtp_twisted.settings.Settings` it is, if it is one.
    :ivar is_of_listener: whether a listener can have its own.
    """

    kind: Kind
    read: Callable[[Any], Any]
    field: str | None = None
    is_of_listener: bool = True


def port(text: str) -> int:
    """
    :param text: a number of a TCP port; 0 is any that is free.
    :raises ValueError: where it is not, or is 25 (RFC 2033 §5).
    """
    number = quantities.count(text)
    if number > 65535:
        raise ValueError(f"{text!r} is not a port from 0 to 65535")
    if number == 25:
        raise ValueError("port 25 is SMTP's, and LMTP must not be spoken there (RFC 2033 section 5)")
    return number


def split_route(text: str) -> tuple[str, str]:
    """
    :param text: ``PATTERN=BACKEND``.
    :raises ValueError: where it is not.
    """
    # A regular expression may hold an equals sign; it ends with its second slash.
    pattern, equals, backend = text.partition("/=" if text.startswith("/") else "=")
    if not equals:
        raise ValueError("not PATTERN=BACKEND")
    return pattern + equals[:-1], backend


def _workers(text: str) -> int:
    if text == "auto":
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} is neither a number nor auto")
    if not 1 <= int(text) <= MOST_WORKERS:
        raise ValueError(f"{text!r} is not from 1 to {MOST_WORKERS}")
    return int(text)


def _one_of(names: tuple[str, ...]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in names:
            raise ValueError(f"{text!r} is not one of {', '.join(names)}")
        return text

    return read


def _bare_newlines(text: str) -> BareNewlines:
    try:
        return BareNewlines(text)
    except ValueError:
        raise ValueError(f"{text!r} is not one of {', '.join(policy.value for policy in BareNewlines)}")


def _subaddress(text: str) -> str:
    if text not in ("keep", "drop"):
        raise ValueError(f"{text!r} is neither keep nor drop")
    return text


def _separator(text: str) -> str:
    check_separator(text)
    return text


def _hostname(text: str) -> str:
    if not text:
        raise ValueError("a name is needed")
    return text


def _uids(names: list[str]) -> frozenset[int]:
    return frozenset(_number_of(name, "user", lambda user: getpwnam(user).pw_uid) for name in names)


def _gids(names: list[str]) -> frozenset[int]:
    return frozenset(_number_of(name, "group", lambda group: getgrnam(group).gr_gid) for name in names)


def _number_of(name: str, kind: str, look: Callable[[str], int]) -> int:
    if name.isascii() and name.isdigit():
        return int(name)
    try:
        return look(name)
    except KeyError:
        raise ValueError(f"there is no {kind} {name!r}")


def _setting(kind: Kind, field: str, read: Callable[[Any], Any]) -> Option:
    return Option(kind, partial(_accepted_by_settings, field, read), field)


def _accepted_by_settings(field: str, read: Callable[[Any], Any], text: Any) -> Any:
    value = read(text)
    try:
        Settings(**{"hostname": "localhost", field: value})
    except ValueError as error:
        # Settings says "field: what is wrong"; the operator knows the option by another name.
        raise ValueError(str(error).partition(": ")[2])
    return value


#: All that can also stand in a configuration file.
OPTIONS: dict[str, Option] = {
    "port": Option(Kind.COUNT, port),
    "listen": Option(Kind.LIST, list),
    "listen-tls": Option(Kind.LIST, list),
    "backend": Option(Kind.TEXT, str),
    "route": Option(Kind.ROUTES, list),
    "aliases": Option(Kind.PATH, str),
    "subaddress": Option(Kind.TEXT, _subaddress),
    "separator": Option(Kind.TEXT, _separator),
    "directory": Option(Kind.TEXT, str),
    "directory-query": Option(Kind.TEXT, str),
    "directory-for": Option(Kind.LIST, list),
    "directory-backend": Option(Kind.BACKENDS, dict),
    "directory-max-age": Option(Kind.SECONDS, quantities.seconds),
    "directory-timeout": Option(Kind.SECONDS, quantities.seconds),
    "hostname": _setting(Kind.TEXT, "hostname", _hostname),
    "banner": _setting(Kind.TEXT, "banner", str),
    "size-limit": _setting(Kind.OCTETS, "size_limit", quantities.octets),
    "max-recipients": _setting(Kind.COUNT, "max_recipients", quantities.count),
    "max-sessions": _setting(Kind.COUNT, "max_sessions", quantities.count),
    "max-sessions-per-peer": _setting(Kind.COUNT, "max_sessions_per_peer", quantities.count),
    "max-commands": _setting(Kind.COUNT, "max_commands", quantities.count),
    "max-bad-commands": _setting(Kind.COUNT, "max_bad_commands", quantities.count),
    "max-unauthenticated-commands": _setting(Kind.COUNT, "max_unauthenticated_commands", quantities.count),
    "max-auth-failures": _setting(Kind.COUNT, "max_auth_failures", quantities.count),
    "idle-timeout": _setting(Kind.SECONDS, "idle_timeout", quantities.seconds),
    "session-timeout": _setting(Kind.SECONDS, "session_timeout", quantities.seconds),
    "delivery-timeout": _setting(Kind.SECONDS, "delivery_timeout", quantities.seconds),
    "greeting-delay": _setting(Kind.SECONDS, "greeting_delay", quantities.seconds),
    "bare-newlines": _setting(Kind.TEXT, "bare_newlines", _bare_newlines),
    "lenient": _setting(Kind.FLAG, "lenient_newlines", bool),
    "disable": _setting(Kind.LIST, "disabled", frozenset),
    "enable": _setting(Kind.LIST, "enabled", frozenset),
    "auth": Option(Kind.LIST, list),
    "auth-required": _setting(Kind.FLAG, "auth_required", bool),
    "auth-insecure": _setting(Kind.FLAG, "auth_insecure", bool),
    "trust": _setting(Kind.LIST, "trusted", list),
    "allow-uid": _setting(Kind.IDS, "allowed_uids", _uids),
    "allow-gid": _setting(Kind.IDS, "allowed_gids", _gids),
    "tls-certificate": Option(Kind.PATH, str),
    "tls-key": Option(Kind.PATH, str),
    "tls-client-ca": Option(Kind.PATH, str),
    "tls-require-client": Option(Kind.FLAG, bool),
    "spool": Option(Kind.PATH, str, is_of_listener=False),
    "http": Option(Kind.TEXT, str, is_of_listener=False),
    "workers": Option(Kind.WORKERS, _workers, is_of_listener=False),
    "log-level": Option(Kind.TEXT, _one_of(_LEVELS), is_of_listener=False),
    "log-format": Option(Kind.TEXT, _one_of(_LOG_FORMATS), is_of_listener=False),
    "trace": Option(Kind.PATH, str, is_of_listener=False),
    "trace-for": Option(Kind.LIST, list, is_of_listener=False),
    "trace-content": Option(Kind.OCTETS, quantities.octets, is_of_listener=False),
    "trace-size": Option(Kind.OCTETS, quantities.octets, is_of_listener=False),
    "log-priority": Option(Kind.TEXT, _one_of(_PRIORITIES), is_of_listener=False),
    "drain-timeout": Option(Kind.SECONDS, quantities.seconds, is_of_listener=False),
}
