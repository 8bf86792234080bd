"""
The command line of ``twistd lmtp``: which options there are, and what their values mean.

Whether a directory can be written or a port is free is not asked here, but when the server is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from grp import getgrnam
from importlib.metadata import PackageNotFoundError, version
from pwd import getpwnam
from typing import Any

from twisted.cred.strcred import AuthOptionMixin
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from lmtp_twisted.backends.description import find_plugins, help_text
from lmtp_twisted.daemon import quantities
from lmtp_twisted.daemon.lines import one_line
from lmtp_twisted.extensions.sasl import INTERFACES
from lmtp_twisted.settings import Settings
from lmtp_twisted.wire.addresses import check_separator
from lmtp_twisted.wire.content import BareNewlines

#: Where mail goes where nobody said where.
DEFAULT_BACKEND = "maildir:mail"
#: The port of 127.0.0.1 where nobody said which.
DEFAULT_PORT = 2524

_LEVELS = ("debug", "info", "warn", "error")


def installed_version() -> str:
    """The version of this package, for people."""
    try:
        return version("lmtp-twisted")
    except PackageNotFoundError:
        return "of a checkout that is not installed"


def fatal(message: object) -> SystemExit:
    """
    The end of a program that was told something wrong.

    :param message: what is wrong.
    :returns: an exception that becomes one line on standard error and exit status 1.
    """
    return SystemExit(f"twistd lmtp: {one_line(str(message))}")


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


def _level(text: str) -> str:
    if text not in _LEVELS:
        raise ValueError(f"{text!r} is not one of {', '.join(_LEVELS)}")
    return text


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


# The options that are fields of Settings, and how their text is read.
_SETTINGS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "hostname": ("hostname", _hostname),
    "banner": ("banner", str),
    "size-limit": ("size_limit", quantities.octets),
    "max-recipients": ("max_recipients", quantities.count),
    "max-sessions": ("max_sessions", quantities.count),
    "max-sessions-per-peer": ("max_sessions_per_peer", quantities.count),
    "max-commands": ("max_commands", quantities.count),
    "max-bad-commands": ("max_bad_commands", quantities.count),
    "max-unauthenticated-commands": ("max_unauthenticated_commands", quantities.count),
    "max-auth-failures": ("max_auth_failures", quantities.count),
    "session-timeout": ("session_timeout", quantities.seconds),
    "auth-required": ("auth_required", bool),
    "auth-insecure": ("auth_insecure", bool),
    "trust": ("trusted", list),
    "allow-uid": ("allowed_uids", _uids),
    "allow-gid": ("allowed_gids", _gids),
    "idle-timeout": ("idle_timeout", quantities.seconds),
    "delivery-timeout": ("delivery_timeout", quantities.seconds),
    "bare-newlines": ("bare_newlines", _bare_newlines),
    "greeting-delay": ("greeting_delay", quantities.seconds),
    "lenient": ("lenient_newlines", bool),
    "disable": ("disabled", frozenset),
    "enable": ("enabled", frozenset),
}
# Those that are not.
_VALUES: dict[str, Callable[[str], Any]] = {
    "port": port,
    "drain-timeout": quantities.seconds,
    "log-level": _level,
    "subaddress": _subaddress,
    "separator": _separator,
    "directory-max-age": quantities.seconds,
    "directory-timeout": quantities.seconds,
}


def _accepted_by_settings(field: str, value: Any) -> Any:
    try:
        Settings(**{"hostname": "localhost", field: value})
    except ValueError as error:
        # Settings says "field: what is wrong"; the operator knows the option by another name.
        raise ValueError(str(error).partition(": ")[2])
    return value


class Options(UsageOptions, AuthOptionMixin):
    """
    The parsed command line: a dictionary by the options' names, their values read.

    :ivar chosen_settings: what was said of :class:`~lmtp_twisted.settings.Settings`.
    """

    longdesc = (
        "Serves LMTP (RFC 2033) to a mail transfer agent and delivers to a backend. For example: "
        "twistd -n lmtp --listen unix:/run/lmtp.sock --backend maildir:/srv/mail"
    )

    optFlags = [  # noqa: RUF012  # as usage.Options has it
        ["auth-required", None, "Take mail from clients only that have authenticated."],
        ["auth-insecure", None, "Offer mechanisms that show the password on loopback without TLS."],
        ["lenient", None, "Take command lines that end in a bare LF."],
        ["tls-require-client", None, "Refuse TLS clients without a certificate of --tls-client-ca."],
    ]
    optParameters = [  # noqa: RUF012  # as usage.Options has it
        [
            "port",
            None,
            None,
            f"TCP port on 127.0.0.1, 0 for any free one. [default: {DEFAULT_PORT}, or none with --listen]",
        ],
        ["backend", None, None, f"Where mail goes, see --help-backends. [default: {DEFAULT_BACKEND}]"],
        ["aliases", None, None, "File of aliases, as alias: target, target; read anew when it changes."],
        ["subaddress", None, "keep", "The detail of user+detail, for the backend: keep or drop."],
        ["separator", None, "+", "Characters that begin a detail, for aliases and the directory; empty for none."],
        ["directory", None, None, "Who exists, such as file:/etc/lmtp/recipients; see the documentation."],
        ["directory-query", None, None, "The query of a directory in a database, with :local and :domain or :address."],
        ["directory-max-age", None, "60", "Seconds for which an answer of a database holds; 0 to ask each time."],
        ["directory-timeout", None, "10", "Seconds that a database may take for an answer."],
        ["hostname", None, None, "Our name in the greeting and in Received lines. [default: the system's]"],
        ["banner", None, "ready", "What follows our name in the greeting."],
        ["size-limit", None, "50M", "Largest message, in octets with k, M or G; 0 for no limit."],
        ["max-recipients", None, "1000", "Most recipients of a message."],
        ["max-sessions", None, "1000", "Most sessions at a time."],
        ["max-sessions-per-peer", None, "0", "Most sessions of one IP address at a time; 0 for no limit."],
        ["max-commands", None, "0", "Most commands of a session; 0 for no limit."],
        ["max-bad-commands", None, "10", "Bad commands in a row that end a session."],
        ["max-unauthenticated-commands", None, "100", "Commands without AUTH, where it is required, that end it."],
        ["max-auth-failures", None, "3", "Failed AUTH that end a session."],
        ["idle-timeout", None, "300", "Seconds of silence that end a session."],
        ["session-timeout", None, "0", "Most seconds of a session; 0 for no limit."],
        ["delivery-timeout", None, "540", "Seconds that a delivery may take."],
        ["bare-newlines", None, "keep", "Bare CR or LF in content: keep, normalise or reject."],
        ["greeting-delay", None, "0", "Seconds before the greeting; who talks earlier is sent away."],
        ["tls-certificate", None, None, "Certificate in PEM, its chain behind it; read anew when it changes."],
        ["tls-key", None, None, "Its key in PEM, without a passphrase. [default: in the certificate's file]"],
        ["tls-client-ca", None, None, "In PEM, whose certificates TLS clients may have."],
        ["spool", None, None, "Directory for messages too large for memory. [default: $TMPDIR or /var/tmp]"],
        ["log-level", None, "info", "Least that is logged: debug, info, warn or error."],
        ["drain-timeout", None, "30", "Seconds that sessions get to finish when the server stops."],
    ]

    supportedInterfaces = tuple(INTERFACES)

    def __init__(self) -> None:
        super().__init__()
        self.chosen_settings: dict[str, Any] = {}
        self["listen"] = []
        self["listen-tls"] = []
        self["route"] = []
        self["directory-for"] = []
        self["directory-backend"] = {}
        self["disable"] = []
        self["enable"] = []
        self["auth"] = []
        self["trust"] = []
        self["allow-uid"] = []
        self["allow-gid"] = []

    def opt_listen(self, endpoint: str) -> None:
        """Listen there, such as unix:/run/lmtp.sock or tcp:2524:interface=192.0.2.1; may be given again."""
        self["listen"].append(endpoint)

    def opt_listen_tls(self, endpoint: str) -> None:
        """Listen there, with TLS from the first octet; may be given again."""
        self["listen-tls"].append(endpoint)

    def opt_route(self, route: str) -> None:
        """PATTERN=BACKEND: where mail for these recipients goes, as *.example.org=null:; the first match decides."""
        # A regular expression may hold one; it ends with its second slash.
        pattern, equals, backend = route.partition("/=" if route.startswith("/") else "=")
        if not equals:
            raise UsageError(f"--route {route!r} is not PATTERN=BACKEND")
        self["route"].append((pattern + equals[:-1], backend))

    def opt_directory_for(self, pattern: str) -> None:
        """Recipients that the directory knows, as --route has them; others are not looked up; may be given again."""
        self["directory-for"].append(pattern)

    def opt_directory_backend(self, backend: str) -> None:
        """NAME=BACKEND: a backend that the directory names, as archive=maildir:/srv/archive; may be given again."""
        name, equals, description = backend.partition("=")
        if not (name and equals):
            raise UsageError(f"--directory-backend {backend!r} is not NAME=BACKEND")
        if name in self["directory-backend"]:
            raise UsageError(f"--directory-backend: two are called {name!r}")
        self["directory-backend"][name] = description

    def opt_disable(self, name: str) -> None:
        """Neither announce nor accept this capability or command, such as CHUNKING; may be given again."""
        self["disable"].append(name)

    def opt_enable(self, name: str) -> None:
        """Announce DSN, MT-PRIORITY or, under TLS, REQUIRETLS; the backend must then honour it; may be given again."""
        self["enable"].append(name)

    def opt_auth(self, description: str) -> None:
        """Who may authenticate, such as file:/etc/lmtp.passwords, see --help-auth; may be given again."""
        # Not made yet: paths in it are those of the directory where the server will run.
        self["auth"].append(description)

    def opt_trust(self, network: str) -> None:
        """Let peers of this network, such as 192.0.2.0/24, or unix, use XCLIENT and XFORWARD; may be given again."""
        self["trust"].append(network)

    def opt_allow_uid(self, user: str) -> None:
        """Let this user connect to Unix sockets, and nobody else that is not named; may be given again."""
        self["allow-uid"].append(user)

    def opt_allow_gid(self, group: str) -> None:
        """Let this group connect to Unix sockets, and nobody else that is not named; may be given again."""
        self["allow-gid"].append(group)

    def opt_help_backends(self) -> None:
        """Display what --backend and --route can name, and exit."""
        try:
            text = help_text(find_plugins())
        except ValueError as error:
            raise UsageError(str(error))
        print(text, end="")
        raise SystemExit(0)

    def opt_version(self) -> None:
        """Display the version and exit."""
        print(f"lmtp-twisted {installed_version()}")
        raise SystemExit(0)

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        Read the command line.

        :raises SystemExit: where it is wrong, with one line for standard error; or after ``--help`` and the like.
        """
        try:
            super().parseOptions(options)
        except UsageError as error:
            raise fatal(error)

    def parseArgs(self, *arguments: str) -> None:
        """There are none."""
        if arguments:
            raise UsageError(f"{arguments[0]!r} is no option")

    def postOptions(self) -> None:
        """Read the values, the defaults as well."""
        for key, read in _VALUES.items():
            self._read(key, read)
        for key, (field, read) in _SETTINGS.items():
            self._read(key, read)
            if self[key] is not None:
                self._read(key, partial(_accepted_by_settings, field))
                self.chosen_settings[field] = self[key]

    def _read(self, key: str, read: Callable[[Any], Any]) -> None:
        if self[key] is None:
            return
        try:
            self[key] = read(self[key])
        except ValueError as error:
            raise UsageError(f"--{key}: {error}")
