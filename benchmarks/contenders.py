"""The servers that are compared: how each is started, and what it needs to be there."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from benchmarks import bare, build, dovecot
from benchmarks.load import Load, Measurement

HERE = Path(__file__).resolve().parent


@frozen
class Contender:
    """
    A server.

    :param name: in tables and on the command line.
    :param ours: it is this project's.
    :param command: gives the command line for a port and a directory of its own; may write files there.
    :param absence: says in a few words why it can't be had here; empty where it can.
    :param workers: of ours, all of which have to be there.
    :param alone: it is no server, and this does its work by itself, in a directory.
    """

    name: str
    ours: bool
    command: Callable[[int, Path], list[str]]
    absence: Callable[[], str]
    alone: Callable[[Load, Path], Measurement] | None = None
    workers: int = 1


def _module(name: str) -> Callable[[], str]:
    def absence() -> str:
        try:
            return "" if importlib.util.find_spec(name) else f"no module {name}"
        except ImportError as error:
            return str(error)

    return absence


def _program(name: str) -> Callable[[], str]:
    return lambda: "" if shutil.which(name) else f"{name} is not installed"


def _go_smtp_absence() -> str:
    if (build.GOPATH / "src/github.com/emersion/go-smtp").is_dir():
        return _program("go")()
    return "golang-github-emersion-go-smtp-dev is not installed"


def _smtp_server_absence() -> str:
    if (HERE / "peers/node_modules/smtp-server").is_dir():
        return _program("node")()
    return "smtp-server is not installed (npm)"


def twistd(port: int, directory: Path, backend: str, *options: str) -> list[str]:
    """The daemon's command line; its log, as it is by default, goes to a file."""
    program = Path(sys.executable).with_name("twistd")
    daemon = [str(program), "-n", "--pidfile=", "--logfile", str(directory / "twistd.log")]
    return [*daemon, "lmtp", "--port", str(port), "--backend", backend, *options]


def _script(name: str) -> Callable[[int, Path], list[str]]:
    return lambda port, _: [sys.executable, str(HERE / name), str(port)]


def _smtp_sink(port: int, _: Path) -> list[str]:
    user = ["-u", "nobody"] if os.geteuid() == 0 else []  # it refuses to serve as root
    return ["smtp-sink", "-L", *user, "-m", "10000", f"127.0.0.1:{port}", "1024"]


CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("library-null", True, _script("servers/library_null.py"), _module("lmtp_twisted.protocol")),
        Contender(
            "twistd-null",
            True,
            lambda port, directory: twistd(port, directory, "null:"),
            _module("twisted.plugins.lmtp_twisted_dropin"),
        ),
        Contender(
            "twistd-null-json",
            True,
            lambda port, directory: twistd(port, directory, "null:", "--log-format", "json"),
            _module("twisted.plugins.lmtp_twisted_dropin"),
        ),
        Contender(
            "twistd-null-silent",
            True,
            lambda port, directory: twistd(port, directory, "null:", "--log-level", "error"),
            _module("twisted.plugins.lmtp_twisted_dropin"),
        ),
        Contender(
            "twistd-maildir",
            True,
            lambda port, directory: twistd(port, directory, f"maildir:{directory / 'mail'}"),
            _module("twisted.plugins.lmtp_twisted_dropin"),
        ),
        Contender(
            "twistd-null-workers2",
            True,
            lambda port, directory: twistd(port, directory, "null:", "--workers", "2"),
            _module("twisted.plugins.lmtp_twisted_dropin"),
            workers=2,
        ),
        Contender(
            "twistd-maildir-workers2",
            True,
            lambda port, directory: twistd(port, directory, f"maildir:{directory / 'mail'}", "--workers", "2"),
            _module("twisted.plugins.lmtp_twisted_dropin"),
            workers=2,
        ),
        Contender("smtp-sink", False, _smtp_sink, _program("smtp-sink")),
        Contender("go-smtp", False, lambda port, _: [str(build.gosmtp()), str(port)], _go_smtp_absence),
        Contender(
            "smtp-server",
            False,
            lambda port, _: ["node", str(HERE / "peers/smtp_server.js"), str(port)],
            _smtp_server_absence,
        ),
        Contender("aiosmtpd", False, _script("peers/aiosmtpd_server.py"), _module("aiosmtpd")),
        Contender(
            "dovecot",
            False,
            lambda port, directory: ["dovecot", "-F", "-c", str(dovecot.configure(directory, port))],
            dovecot.absence,
        ),
        Contender("bare-calls", False, lambda port, directory: [], _program("cc"), bare.calls),
    )
}
