"""
The command line of ``twistd lmtp``: which options there are, and what their values mean.

Whether a directory can be written or a port is free is not asked here, but when the server is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from lmtp_twisted.backends.description import find_plugins, help_text
from lmtp_twisted.daemon import quantities
from lmtp_twisted.daemon.lines import one_line
from lmtp_twisted.settings import Settings
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


def _hostname(text: str) -> str:
    if not text:
        raise ValueError("a name is needed")
    return text


# The options that are fields of Settings, and how their text is read.
_SETTINGS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "hostname": ("hostname", _hostname),
    "banner": ("banner", str),
    "size-limit": ("size_limit", quantities.octets),
    "max-recipients": ("max_recipients", quantities.count),
    "max-sessions": ("max_sessions", quantities.count),
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
}


def _accepted_by_settings(field: str, value: Any) -> Any:
    try:
        Settings(**{"hostname": "localhost", field: value})
    except ValueError as error:
        # Settings says "field: what is wrong"; the operator knows the option by another name.
        raise ValueError(str(error).partition(": ")[2])
    return value


class Options(UsageOptions):
    """
    The parsed command line: a dictionary by the options' names, their values read.

    :ivar chosen_settings: what was said of :class:`~lmtp_twisted.settings.Settings`.
    """

    longdesc = (
        "Serves LMTP (RFC 2033) to a mail transfer agent and delivers to a backend. For example: "
        "twistd -n lmtp --listen unix:/run/lmtp.sock --backend maildir:/srv/mail"
    )

    optFlags = [  # noqa: RUF012  # as usage.Options has it
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
        ["hostname", None, None, "Our name in the greeting and in Received lines. [default: the system's]"],
        ["banner", None, "ready", "What follows our name in the greeting."],
        ["size-limit", None, "50M", "Largest message, in octets with k, M or G; 0 for no limit."],
        ["max-recipients", None, "1000", "Most recipients of a message."],
        ["max-sessions", None, "1000", "Most sessions at a time."],
        ["idle-timeout", None, "300", "Seconds of silence that end a session."],
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

    def __init__(self) -> None:
        super().__init__()
        self.chosen_settings: dict[str, Any] = {}
        self["listen"] = []
        self["listen-tls"] = []
        self["route"] = []
        self["disable"] = []
        self["enable"] = []

    def opt_listen(self, endpoint: str) -> None:
        """Listen there, such as unix:/run/lmtp.sock or tcp:2524:interface=192.0.2.1; may be given again."""
        self["listen"].append(endpoint)

    def opt_listen_tls(self, endpoint: str) -> None:
        """Listen there, with TLS from the first octet; may be given again."""
        self["listen-tls"].append(endpoint)

    def opt_route(self, route: str) -> None:
        """PATTERN=BACKEND: where mail for these recipients goes, as *.example.org=null:; the first match decides."""
        pattern, equals, backend = route.partition("=")
        if not equals:
            raise UsageError(f"--route {route!r} is not PATTERN=BACKEND")
        self["route"].append((pattern, backend))

    def opt_disable(self, name: str) -> None:
        """Neither announce nor accept this capability or command, such as CHUNKING; may be given again."""
        self["disable"].append(name)

    def opt_enable(self, name: str) -> None:
        """Announce DSN, MT-PRIORITY or, under TLS, REQUIRETLS; the backend must then honour it; may be given again."""
        self["enable"].append(name)

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
