"""
The server, put together from its command line.

All that can be wrong is found here, before ``twistd`` becomes a daemon: later it would be a traceback in a log that
nobody reads yet.
"""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from threading import Thread
from typing import Any, TypeVar

from twisted.cred.portal import Portal
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool
from twisted.python.util import runAsEffectiveUser

from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.backends.description import without_passwords
from lmtp_twisted.backends.maildir.directories import MOST_OPEN
from lmtp_twisted.daemon.addressing import destination
from lmtp_twisted.daemon.certificate import CertificateFiles, ClientCAError, ReloadedCertificate
from lmtp_twisted.daemon.checkers import portal_of
from lmtp_twisted.daemon.journal import Journal
from lmtp_twisted.daemon.listening import (
    ListenDescription,
    TLSEndpoint,
    make_endpoint,
    read_description,
    try_to_listen,
)
from lmtp_twisted.daemon.logs import Log, WrittenLog
from lmtp_twisted.daemon.options import DEFAULT_BACKEND, DEFAULT_PORT, Options, fatal, installed_version
from lmtp_twisted.daemon.service import LMTPService
from lmtp_twisted.daemon.writer import LineWriter
from lmtp_twisted.extensions.proxy import MOST_WAITING
from lmtp_twisted.factory import LMTPFactory
from lmtp_twisted.settings import Settings
from lmtp_twisted.spool import Spool
from lmtp_twisted.threads import THREADS

T = TypeVar("T")

_log = Logger(namespace="lmtp_twisted")

# Endpoints that are no Unix sockets; what another package's are nobody knows.
_OF_TCP = frozenset({"tcp", "tcp6", "ssl", "tls"})
_STDOUT = 1
# A session is a connection, and perhaps a file that holds its message.
_OPEN_A_SESSION = 2
# Files that are open besides: the reactor's, the log, and two directories of each mailbox that is kept open.
_OPEN_BESIDES = 100 + 2 * MOST_OPEN
# Where large messages lie: /tmp is memory on many systems, and they are there to save memory.
_ON_DISK = "/var/tmp"  # noqa: S108  # only files without a name are made there


def assemble(options: Options) -> LMTPService:
    """
    :param options: the parsed command line.
    :returns: the server, not started.
    :raises SystemExit: where it could not start as it was told; see :func:`~lmtp_twisted.daemon.options.fatal`.
    """
    # Not earlier: twistd's --reactor has been heeded by now.
    from twisted.internet import reactor

    try:
        return _assemble(options, reactor)
    except ValueError as error:
        raise fatal(error)


def _assemble(options: Options, reactor: Any) -> LMTPService:
    settings = _settings(options)
    _allow_open_files(settings, _most_waiting(options))
    log = _open_log(options)
    _enter_directory(options.parent)
    certificate = _certificate(options)
    endpoints = _endpoints(options, reactor, certificate)
    # Its threads start with the service: none survives the fork of a daemon.
    pool = ThreadPool(minthreads=0, maxthreads=THREADS, name="lmtp")
    # The service waits for them as long as it says; what hangs then must not keep the process.
    pool.threadFactory = partial(Thread, daemon=True)  # type: ignore[assignment]  # makes threads all the same
    directory = _as_later(options.parent, lambda: _spool_directory(options["spool"]))
    context = BackendContext(reactor=reactor, pool=pool, hostname=settings.hostname, spool_directory=directory)
    backend = _as_later(options.parent, lambda: destination(options, context, DEFAULT_BACKEND))
    factory = LMTPFactory(
        backend=backend,
        settings=settings,
        tls=certificate,
        portal=_portal(options, backend),
        observers=[Journal(log)] if log.has("info") else [],
        reactor=reactor,
        spool=Spool(reactor, pool, directory),
    )
    return LMTPService(
        reactor=reactor,
        factory=factory,
        endpoints=endpoints,
        pool=pool,
        context=context,
        log=log,
        certificate=certificate,
        drain_timeout=options["drain-timeout"],
        facts=_facts(options, settings),
    )


def _settings(options: Options) -> Settings:
    try:
        return Settings(**options.chosen_settings)
    except ValueError as error:
        # Each option was accepted by itself; what is left is the name of this machine.
        raise ValueError(f"the name of this machine will not do: give --hostname ({error})")


def _most_waiting(options: Options) -> int:
    """How many connections may wait for their PROXY header: they are not sessions yet."""
    places: list[str] = [text for option in ("listen", "listen-tls") for text in options[option]]
    return MOST_WAITING * sum(text.lower().startswith("haproxy:") for text in places)


def _allow_open_files(settings: Settings, most_waiting: int) -> None:
    """
    As many as the system lets us have: each connection is one, and backends keep some open. Where that is too few, it
    is said now and not when the first connection is dropped.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    wanted = _OPEN_A_SESSION * settings.max_sessions + most_waiting + _OPEN_BESIDES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        _log.warn(
            "only {limit} files may be open, too few for {sessions} sessions: raise the limit (ulimit -n) or lower "
            "--max-sessions",
            limit=soft,
            sessions=settings.max_sessions,
        )


def _open_log(options: Options) -> Log:
    """Ours, unless twistd was told to use another kind; where it goes is for twistd's options to say."""
    level, parent = options["log-level"], options.parent
    if parent is None or "logfile" not in parent or parent.get("logger") or parent.get("syslog"):
        return Log(level)
    path, is_daemon = parent["logfile"], not parent.get("nodaemon")
    if path == "-" and is_daemon:
        raise ValueError("a daemon cannot log to standard output: give --logfile FILE, or -n")
    if path == "-" or not (path or is_daemon):
        return WrittenLog(level, LineWriter(descriptor=_STDOUT))
    path = path or "twistd.log"
    try:
        return WrittenLog(level, LineWriter(path))
    except OSError as error:
        raise ValueError(f"--logfile {path}: {error.strerror}")


def _enter_directory(parent: Any) -> None:
    """
    twistd's ``--rundir`` now instead of later, so that relative paths are tried where they will be used. Under
    ``--chroot`` that place cannot be known.
    """
    if parent is None or "rundir" not in parent or parent.get("chroot"):
        return
    directory = os.path.abspath(parent["rundir"])
    try:
        os.chdir(directory)
    except OSError as error:
        raise ValueError(f"--rundir {directory}: {error.strerror}")
    parent["rundir"] = directory


def _as_later(parent: Any, look: Callable[[], T]) -> T:
    """
    Look at the disk as the user that twistd's ``--uid`` and ``--gid`` will make us: what it makes is then theirs, and
    what they may not do is found now.
    """
    uid, gid = (None, None) if parent is None else (parent.get("uid"), parent.get("gid"))
    if os.geteuid() != 0 or (uid is None and gid is None):
        return look()
    result: T = runAsEffectiveUser(0 if uid is None else uid, os.getegid() if gid is None else gid, look)
    return result


def _certificate(options: Options) -> ReloadedCertificate | None:
    path = options["tls-certificate"]
    if path is None:
        for option in ("tls-key", "tls-client-ca", "tls-require-client", "listen-tls"):
            if options[option]:
                raise ValueError(f"--{option} needs --tls-certificate")
        return None
    if options["tls-require-client"] and options["tls-client-ca"] is None:
        raise ValueError("--tls-require-client needs --tls-client-ca")
    files = [
        None if options[option] is None else os.path.abspath(options[option])
        for option in ("tls-certificate", "tls-key", "tls-client-ca")
    ]
    certificate, key, client_ca = files
    assert certificate is not None
    try:
        return ReloadedCertificate(
            CertificateFiles(certificate, key or certificate, client_ca, bool(options["tls-require-client"]))
        )
    except ClientCAError as error:
        raise ValueError(f"--tls-client-ca: {error}")
    except ValueError as error:
        raise ValueError(f"--tls-certificate: {error}")


def _portal(options: Options, backend: Any) -> Portal | None:
    if options["auth"]:
        kinds = {description.partition(":")[0] for description in options["auth"]}
        if "certificate" in kinds and options["tls-client-ca"] is None:
            raise ValueError("--auth certificate needs --tls-client-ca")
        if "AUTH" in options.chosen_settings["disabled"]:
            raise ValueError("--auth and --disable AUTH: one of them only")
        return _as_later(options.parent, lambda: portal_of(options["auth"], backend))
    for option in ("auth-required", "auth-insecure"):
        if options[option]:
            raise ValueError(f"--{option} needs --auth")
    return None


def _endpoints(options: Options, reactor: Any, tls: Any) -> list[Any]:
    wanted: list[tuple[str, ListenDescription, bool]] = []
    number = options["port"]
    if number is None and not options["listen"] and not options["listen-tls"]:
        number = DEFAULT_PORT
    if number is not None:
        wanted.append((f"--port {number}", read_description(f"tcp:{number}:interface=127.0.0.1"), False))
    endpoints = []
    named = [option for option in ("allow-uid", "allow-gid") if options[option]]
    with ExitStack() as tried:
        for option in ("listen", "listen-tls"):
            for text in options[option]:
                try:
                    wanted.append((f"--{option} {text}", read_description(text), option == "listen-tls"))
                except ValueError as error:
                    raise ValueError(f"--{option} {text}: {error}")
        if named and all(description.kind in _OF_TCP for _, description, _ in wanted):
            raise ValueError(f"--{named[0]} is for Unix sockets, and there is none to listen on")
        for option, description, is_tls in wanted:
            try:
                endpoint = make_endpoint(reactor, description)
                endpoints.append(TLSEndpoint(endpoint, tls) if is_tls else endpoint)
                try_to_listen(description, tried)
            except OSError as error:
                raise ValueError(f"{option}: {error.strerror or error}")
            except ValueError as error:
                raise ValueError(f"{option}: {error}")
    return endpoints


def _spool_directory(given: str | None) -> str:
    if given is None:
        given = os.environ.get("TMPDIR") or (_ON_DISK if os.path.isdir(_ON_DISK) else tempfile.gettempdir())
    if not given:
        raise ValueError("--spool: a directory is needed")
    directory = os.path.abspath(given)
    try:
        with tempfile.TemporaryFile(dir=directory):
            return directory
    except OSError as error:
        raise ValueError(f"--spool {directory}: {error.strerror}")


def _facts(options: Options, settings: Settings) -> list[str]:
    """What the log says of how the server was started."""
    backend = options["backend"]
    if backend is None:
        where = f"backend {DEFAULT_BACKEND} (the default) in {os.getcwd()}"
    else:
        where = f"backend {without_passwords(backend)}"
    facts = [f"lmtp-twisted {installed_version()} as {settings.hostname}", where]
    facts += [f"route {pattern}={without_passwords(text)}" for pattern, text in options["route"]]
    if options["aliases"] is not None:
        facts.append(f"aliases {options['aliases']}")
    if options["directory"] is not None:
        # What follows the type may be more than a log should have.
        facts.append(f"directory {options['directory'].partition(':')[0]}")
    return facts
