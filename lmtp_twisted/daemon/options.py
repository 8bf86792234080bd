"""The command line of ``twistd lmtp``: which options there are, and what a configuration file adds to them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from twisted.cred.strcred import AuthOptionMixin
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from lmtp_twisted.backends.description import find_plugins, help_text
from lmtp_twisted.daemon.configuration import PLACES, Configuration, read_configuration
from lmtp_twisted.daemon.destinations import DEFAULT_BACKEND
from lmtp_twisted.daemon.given import Given
from lmtp_twisted.daemon.said import Faults, Said, on_command_line, plain_line
from lmtp_twisted.daemon.servers import DEFAULT_PORT
from lmtp_twisted.daemon.values import OPTIONS, split_route
from lmtp_twisted.extensions.sasl import INTERFACES


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
    return SystemExit(plain_line(message))


class Options(UsageOptions, AuthOptionMixin):
    """
    The parsed command line: a dictionary by the options' names, their values read.

    :ivar said: the same with the places where they stand: the command line above the file above the defaults.
    :ivar configuration: the file, if there is one.
    :ivar listeners: those of the file, by their names, unless the command line says where to listen.
    :ivar arguments: the command line itself.
    :ivar file: the path of the file, absolute.
    :ivar given: what a worker has from its parent; ``None`` is no worker.
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
        ["check", None, "See whether the server could start, and exit."],
    ]
    optParameters = [  # noqa: RUF012  # as usage.Options has it
        [
            "port",
            None,
            None,
            f"TCP port on 127.0.0.1, 0 for any free one. [default: {DEFAULT_PORT}, or none with --listen]",
        ],
        ["config", None, None, "File of TOML with these options, and more; the command line wins."],
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
        ["http", None, None, "Health for balancers by HTTP there, on loopback if it is a port, as 8025 or tcp:8025."],
        ["workers", None, "1", "Processes that take mail: a number, or auto, as many as there are processors for us."],
        ["log-level", None, "info", "Least that is logged: debug, info, warn or error."],
        ["log-format", None, "text", "Form of the log: text, or json, which is an object a line."],
        ["trace", None, None, "Directory for the dialogues of chosen sessions."],
        ["trace-content", None, "500", "Octets of each message that these show."],
        ["trace-size", None, "100M", "Octets that these take at the most; the oldest make room for new ones."],
        ["log-priority", None, "auto", "Begin lines with <6> and the like: yes, no, or auto, for systemd's journal."],
        ["drain-timeout", None, "30", "Seconds that sessions get to finish when the server stops."],
    ]

    supportedInterfaces = tuple(INTERFACES)

    def __init__(self) -> None:
        super().__init__()
        self.said = Said({}, on_command_line)
        self.configuration: Configuration | None = None
        self.listeners: Mapping[str, Said] = {}
        self.arguments: Sequence[str] = ()
        self.file: str | None = None
        self.given: Given | None = None
        for key, option in OPTIONS.items():
            # What is still so in the end was not given.
            self[key] = option.kind.nothing()

    def opt_listen(self, endpoint: str) -> None:
        """Listen there, such as unix:/run/lmtp.sock or tcp:2524:interface=192.0.2.1; may be given again."""
        self["listen"].append(endpoint)

    def opt_listen_tls(self, endpoint: str) -> None:
        """Listen there, with TLS from the first octet; may be given again."""
        self["listen-tls"].append(endpoint)

    def opt_route(self, route: str) -> None:
        """PATTERN=BACKEND: where mail for these recipients goes, as *.example.org=null:; the first match decides."""
        try:
            self["route"].append(split_route(route))
        except ValueError as error:
            raise UsageError(f"--route {route!r} is {error}")

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

    def opt_trace_for(self, choice: str) -> None:
        """Sessions to trace: peer=NETWORK, recipient=PATTERN, failure (default) or all; may be given again."""
        self["trace-for"].append(choice)

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
        Read the command line, and the file that it names.

        :raises SystemExit: where something is wrong, with one line for standard error for each fault; or after
            ``--help`` and the like.
        """
        self.arguments = sys.argv[1:] if options is None else list(options)
        try:
            super().parseOptions(self.arguments)
        except UsageError as error:
            raise fatal(error)
        except Faults as faults:
            raise SystemExit("\n".join(faults.lines))
        if self["check"]:
            from lmtp_twisted.daemon.assembly import check

            check(self)

    def anew(self) -> Options:
        """
        :returns: the same command line, with the file that it names as it is now.
        :raises Faults: with a line for each fault.
        """
        other = type(self)()
        other.parent = self.parent
        other.given = self.given
        # A daemon has changed its directory.
        other.file = self.file
        other.arguments = self.arguments
        try:
            UsageOptions.parseOptions(other, list(self.arguments))
        except UsageError as error:
            raise Faults(plain_line(error))
        return other

    def parseArgs(self, *arguments: str) -> None:
        """There are none."""
        if arguments:
            raise UsageError(f"{arguments[0]!r} is no option")

    def postOptions(self) -> None:
        """Read the values, the defaults as well."""
        said = Said(self._given(), on_command_line)
        defaults = Said(self._defaults(), on_command_line)
        if self["config"] is None:
            self.said = said.over(defaults)
        else:
            if self.given is not None:
                self.file = self.given.file
            text = None if self.given is None else self.given.text
            self.configuration = read_configuration(self.file or self["config"], text)
            self.file = self.file or os.path.abspath(self["config"])
            in_file = self.configuration.said
            self.listeners = self.configuration.listeners
            if any(key in said.values for key in PLACES):
                self.listeners = {}
                in_file = in_file.where({key: value for key, value in in_file.values.items() if key not in PLACES})
            self.said = said.over(in_file.over(defaults))
        for key in OPTIONS:
            self[key] = self.said[key]

    def _given(self) -> dict[str, Any]:
        return {key: self._read(key, self[key]) for key in OPTIONS if self[key] not in (None, [], {})}

    def _defaults(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, option in OPTIONS.items():
            default = self.defaults.get(key, option.kind.nothing())
            values[key] = None if default is None else self._read(key, default)
        return values

    def _read(self, key: str, value: Any) -> Any:
        try:
            return OPTIONS[key].read(value)
        except ValueError as error:
            raise UsageError(f"--{key}: {error}")
