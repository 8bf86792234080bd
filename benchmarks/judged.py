"""The servers that the conformance kit judges: how each is started, and what it is told of each."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import trustme
from attrs import frozen

from benchmarks import contenders, dovecot
from benchmarks.process import Server, free_port
from lmtp_twisted.conformance.reading import read_scenarios
from lmtp_twisted.conformance.result import Result, Verdict
from lmtp_twisted.conformance.run import Choice, run
from lmtp_twisted.conformance.scenario import Level
from lmtp_twisted.conformance.settings import Settings, Target
from lmtp_twisted.settings import CAN_BE_DISABLED, CAN_BE_ENABLED

HERE = Path(__file__).resolve().parent
#: Seconds for a reply. Who has not answered by then does not answer at all: all of it is on this machine.
PATIENCE = 3.0
#: Sessions at a time; most of the time they wait for a reply that does not come.
JOBS = 12


@frozen
class Visit:
    """
    One run of the kit against a server.

    :ivar command: gives the command line for a port and a directory of its own, where ``cert.pem`` and ``key.pem`` are.
    :ivar settings: what the kit is told; paths are those of that directory, which also has ``ca.pem`` and
        ``client.pem``.
    :ivar only: patterns of the scenarios that are played; all where there are none.
    :ivar skip: patterns of those that are not.
    :ivar jobs: sessions at a time.
    """

    command: Callable[[int, Path], list[str]]
    settings: dict[str, Any]
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    jobs: int = JOBS


@frozen
class Judged:
    """
    A server that is judged.

    :ivar name: in the tables.
    :ivar what: what it is, for people.
    :ivar version: asks for its version.
    :ivar absence: says why it can't be had here; empty where it can.
    :ivar visits: a server can be switched to TLS, or to PROXY headers, and be judged again.
    """

    name: str
    what: str
    version: Callable[[], str]
    absence: Callable[[], str]
    visits: tuple[Visit, ...]


_KNOWN: dict[str, Any] = {"unknown": "unknown@example.org"}
_USER: dict[str, Any] = {**_KNOWN, "user": "judge", "password": "secret", "token": "token"}
_UNDER_TLS = ("starttls/*", "requiretls/*", "auth/*", "final/*", "xclient/*")


_OWN_BACKEND = "python:benchmarks.peers.judged_backend:Deliveries"
_OPEN = ("--trust", "127.0.0.0/8", "--auth-insecure")


def _own(*arguments: str) -> Callable[[int, Path], list[str]]:
    """With all that can be switched on."""

    def command(port: int, directory: Path) -> list[str]:
        (directory / "passwords").write_text("judge:secret\n")
        (directory / "tokens").write_text("judge:token\n")
        options = ["--size-limit", "100000", "--max-recipients", "200", *arguments]
        for name in sorted(CAN_BE_ENABLED):
            options += ["--enable", name]
        for kind in (f"file:{directory}/passwords", f"tokens:{directory}/tokens", "certificate:"):
            options += ["--auth", kind]
        for option, name in (("certificate", "cert.pem"), ("key", "key.pem"), ("client-ca", "ca.pem")):
            options += [f"--tls-{option}", str(directory / name)]
        return contenders.twistd(port, directory, _OWN_BACKEND, *options)

    return command


def _own_without_all(port: int, directory: Path) -> list[str]:
    options = [word for name in sorted(CAN_BE_DISABLED) for word in ("--disable", name)]
    return contenders.twistd(port, directory, _OWN_BACKEND, *options)


def _own_behind_proxy(port: int, directory: Path) -> list[str]:
    listen = ["--listen", f"haproxy:tcp:{port}:interface=127.0.0.1"]
    return [*without_port(contenders.twistd(port, directory, _OWN_BACKEND)), *listen]


def without_port(command: list[str]) -> list[str]:
    """A command of ``twistd lmtp`` that listens elsewhere."""
    at = command.index("--port")
    return [*command[:at], *command[at + 2 :]]


def _dovecot(port: int, directory: Path, *, behind_proxy: bool = False) -> list[str]:
    more = (
        f"ssl = yes\nssl_cert = <{directory}/cert.pem\nssl_key = <{directory}/key.pem\n"
        "login_trusted_networks = 127.0.0.0/8\n"
    )
    if behind_proxy:
        more += "haproxy_trusted_networks = 127.0.0.0/8\n"
        more += "service lmtp {\n  inet_listener lmtp {\n    haproxy = yes\n  }\n}\n"
    return ["dovecot", "-F", "-c", str(dovecot.configure(directory, port, more))]


def _smtp_server(*arguments: str) -> Callable[[int, Path], list[str]]:
    return lambda port, _: ["node", str(HERE / "peers/judged_smtp_server.js"), str(port), *arguments]


def _aiosmtpd(*arguments: str) -> Callable[[int, Path], list[str]]:
    script = str(HERE / "peers/judged_aiosmtpd.py")
    return lambda port, directory: [
        *(sys.executable, script, str(port), str(directory / "cert.pem"), str(directory / "key.pem")),
        *arguments,
    ]


def _smtp_server_version() -> str:
    text = (HERE / "peers/node_modules/smtp-server/package.json").read_text("utf-8")
    return str(json.loads(text)["version"])


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.split()[0]


JUDGED = (
    Judged(
        "lmtp-twisted",
        "this package: ``twistd lmtp`` with all that can be enabled, and a backend that accepts everything",
        lambda: "of this checkout",
        contenders.CONTENDERS["twistd-null"].absence,
        (
            Visit(_own(*_OPEN), _USER),
            Visit(_own(*_OPEN), {**_USER, "tls": "starttls", "certificate": Path("client.pem")}, _UNDER_TLS),
            Visit(_own("--auth-required", "--auth-insecure"), {**_USER, "auth_required": True}, ("auth/*required*",)),
            Visit(_own(), {**_USER, "is_untrusted": True}, ("xclient/*", "xforward/*", "auth/*")),
            Visit(_own_behind_proxy, {"proxy": (1, 2)}, ("proxy/*",)),
            Visit(_own_without_all, _KNOWN, ("*where-it-is-not-announced*", "*-not-announced*")),
            Visit(_own("--idle-timeout", "0.5"), {"idle": 0.5}, ("session/silence-ends-it",)),
            Visit(_own("--greeting-delay", "0.5"), {"greeting_delay": True}, ("session/early-talk",)),
        ),
    ),
    Judged(
        "Dovecot",
        "its ``lmtp``, delivering into Maildirs",
        lambda: _output("dovecot", "--version"),
        dovecot.absence,
        (
            Visit(_dovecot, {}),
            Visit(_dovecot, {"tls": "starttls"}, _UNDER_TLS),
            Visit(
                lambda port, directory: _dovecot(port, directory, behind_proxy=True), {"proxy": (1, 2)}, ("proxy/*",)
            ),
        ),
    ),
    Judged(
        "smtp-server",
        "nodemailer's, in its LMTP mode, with a handler that accepts everything",
        _smtp_server_version,
        contenders.CONTENDERS["smtp-server"].absence,
        (
            Visit(_smtp_server(), _USER),
            Visit(_smtp_server(), {**_USER, "tls": "starttls"}, _UNDER_TLS),
            Visit(_smtp_server("proxy"), {"proxy": (1,)}, ("proxy/*",)),
        ),
    ),
    Judged(
        "aiosmtpd",
        "its LMTP class, with a handler that joins the replies of all recipients by hand",
        lambda: version("aiosmtpd"),
        contenders.CONTENDERS["aiosmtpd"].absence,
        (
            # The lengths that extensions add are one table for all of its sessions, and each new one empties it.
            Visit(_aiosmtpd(), _USER, skip=("lines/mail-is-longer-with-extensions",)),
            Visit(_aiosmtpd(), _USER, ("lines/mail-is-longer-with-extensions",), jobs=1),
            Visit(_aiosmtpd(), {**_USER, "tls": "starttls"}, _UNDER_TLS),
            Visit(_aiosmtpd("proxy"), {"proxy": (1, 2)}, ("proxy/*",)),
        ),
    ),
    Judged(
        "smtp-sink",
        "Postfix's, with ``-L``: a program to throw mail away, and no server for real mail",
        lambda: _output("postconf", "-d", "-h", "mail_version"),
        contenders.CONTENDERS["smtp-sink"].absence,
        (Visit(contenders.CONTENDERS["smtp-sink"].command, {}),),
    ),
)


def judge(judged: Judged) -> dict[str, Result]:
    """
    Start a server for each visit, judge it, stop it.

    :returns: by the names of the scenarios; what fails once has failed, what is absent each time is absent.
    """
    results: dict[str, Result] = {}
    for visit in judged.visits:
        for result in _visited(visit):
            name = result.scenario.name
            before = results.get(name)
            if before is None or _weight(result) > _weight(before):
                results[name] = result
    return results


def _weight(result: Result) -> tuple[int, int]:
    order = (Verdict.ABSENT, Verdict.PASSED, Verdict.FAILED)
    return order.index(result.verdict), -result.level


def _visited(visit: Visit) -> Iterable[Result]:
    with tempfile.TemporaryDirectory(prefix="judged-") as name:
        directory = Path(name)
        # Dovecot delivers as a user of its own.
        directory.chmod(0o755)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(directory / "ca.pem"))
        own = authority.issue_cert("judge@example.net", common_name="judge").private_key_and_cert_chain_pem
        own.write_to_path(str(directory / "client.pem"))
        issued = authority.issue_cert("localhost")
        (directory / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        (directory / "key.pem").write_bytes(issued.private_key_pem.bytes())
        port = free_port()
        told: dict[str, Any] = {
            name: directory / value if isinstance(value, Path) else value for name, value in visit.settings.items()
        }
        settings = Settings(target=Target(host="127.0.0.1", port=port), patience=PATIENCE, **told)
        # A listener that waits for a PROXY header does not greet: the kit's own patience has to do there.
        with Server(visit.command(port, directory), port, directory, greets=not settings.proxy):
            choice = Choice(level=Level.BEYOND, jobs=visit.jobs, only=visit.only, skip=visit.skip)
            done = run(read_scenarios(), settings, choice)
            if done.trouble:
                raise RuntimeError(done.trouble)
            return done.results


def worst(results: Iterable[Result]) -> list[Result]:
    """What has failed, the gravest first."""
    failed = [result for result in results if result.verdict is Verdict.FAILED]
    return sorted(failed, key=lambda result: (result.level, result.is_inexact))
