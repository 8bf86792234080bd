"""
The server, put together from its command line.

All that can be wrong is found here, before ``twistd`` becomes a daemon: later it would be a traceback in a log that
nobody reads yet.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import Thread
from typing import Any, NoReturn, TypeVar

from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool
from twisted.python.util import runAsEffectiveUser

from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.backends.description import without_passwords
from lmtp_twisted.backends.maildir.directories import MOST_OPEN
from lmtp_twisted.daemon.chosen_form import form_of
from lmtp_twisted.daemon.destinations import DEFAULT_BACKEND, Destinations
from lmtp_twisted.daemon.journal import Journal
from lmtp_twisted.daemon.lines import one_line
from lmtp_twisted.daemon.listening import may_change
from lmtp_twisted.daemon.logs import Log, WrittenLog
from lmtp_twisted.daemon.members import Alone
from lmtp_twisted.daemon.options import Options, installed_version
from lmtp_twisted.daemon.said import Fault, Faults, Said, plain_line
from lmtp_twisted.daemon.servers import (
    AsLater,
    Certificates,
    Server,
    endpoints_of,
    portal_for,
    servers_of,
    try_places,
    web_server_of,
)
from lmtp_twisted.daemon.service import LMTPService
from lmtp_twisted.daemon.tracing.options import tracer_of
from lmtp_twisted.daemon.tracing.sessions import TracingFactory
from lmtp_twisted.daemon.web.site import make_site
from lmtp_twisted.daemon.writer import LineWriter
from lmtp_twisted.extensions.proxy import MOST_WAITING
from lmtp_twisted.factory import LMTPFactory
from lmtp_twisted.headcount import HeadCount
from lmtp_twisted.settings import Settings
from lmtp_twisted.spool import Spool
from lmtp_twisted.threads import THREADS

T = TypeVar("T")

_log = Logger(namespace="lmtp_twisted")

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
    :raises SystemExit: where it could not start as it was told, with a line for each fault that was found.
    """
    service, _ = _assembled(options, is_trial=False)
    return service


def check(options: Options) -> NoReturn:
    """
    See whether :func:`assemble` would do, and leave everything as it is. What is in use may be so by the server that
    is to start anew, so it is said, but is no fault.

    :param options: the parsed command line.
    :raises SystemExit: always: with status 0, or with a line for each fault.
    """
    # Modules of the operator's are imported.
    sys.dont_write_bytecode = True
    _, in_use = _assembled(options, is_trial=True)
    for line in in_use:
        print(plain_line(line) if line.startswith("--") else one_line(line))
    print("twistd lmtp: the server can start")
    raise SystemExit(0)


def _assembled(options: Options, *, is_trial: bool) -> tuple[LMTPService, list[str]]:
    # Not earlier: twistd's --reactor has been heeded by now.
    from twisted.internet import reactor

    faults = Faults()
    try:
        with faults.caught():
            return _assemble(options, reactor, faults, is_trial)
        faults.end()
    except Faults:
        raise SystemExit("\n".join(faults.lines))
    raise AssertionError("either made or refused")


def _assemble(options: Options, reactor: Any, faults: Faults, is_trial: bool) -> tuple[LMTPService, list[str]]:
    said = options.said
    settings = _settings(said)
    _allow_open_files(settings, _most_waiting(options))
    log = _open_log(options, is_trial)
    _enter_directory(options.parent)
    servers = servers_of(said, options.listeners, faults)
    web = web_server_of(said, faults)
    in_use = try_places(servers + web, faults, is_trial=is_trial)
    # Its threads start with the service: none survives the fork of a daemon.
    pool = ThreadPool(minthreads=0, maxthreads=THREADS, name="lmtp")
    # The service waits for them as long as it says; what hangs then must not keep the process.
    pool.threadFactory = partial(Thread, daemon=True)  # type: ignore[assignment]  # makes threads all the same
    as_later = partial(_as_later, options.parent)
    directory = None
    with faults.caught():
        directory = as_later(lambda: _spool_directory(said))
    context = BackendContext(
        reactor=reactor, pool=pool, hostname=settings.hostname, spool_directory=directory, is_trial=is_trial
    )
    named = {} if options.configuration is None else options.configuration.backends
    destinations = as_later(lambda: Destinations(context, named, faults))
    certificates = Certificates()
    journal = Journal(log, reactor)
    # Backends may still have something to say of mail when they end, but no session does.
    context.add_shutdown(journal.close)
    shared: dict[str, Any] = {
        "observers": [journal] if log.has("info") else [],
        "reactor": reactor,
        "spool": Spool(reactor, pool, directory),
        "shared_count": HeadCount(settings.max_sessions, settings.max_sessions_per_peer),
    }
    make_factory: Callable[..., LMTPFactory] = partial(LMTPFactory, **shared)
    with faults.caught():
        tracer = tracer_of(said, reactor, pool, as_later)
        if tracer is not None:
            context.add_shutdown(tracer.files.close)
            make_factory = partial(TracingFactory, tracer=tracer, **shared)
    made = []
    for server in servers:
        with faults.caught(server.listener):
            made += _serve(server, reactor, destinations, certificates, as_later, make_factory, faults)
    web_endpoints = [endpoint for server in web for endpoint in endpoints_of(server, reactor, None, faults)]
    faults.end()
    factories = [factory for factory, _ in made]
    members = Alone({"taking": lambda _: any(factory.is_taking for factory in factories)})
    service = LMTPService(
        reactor=reactor,
        servers=made,
        pool=pool,
        context=context,
        log=log,
        certificates=certificates.all,
        web=[(make_site(reactor, members), web_endpoints)] if web_endpoints else [],
        drain_timeout=said["drain-timeout"],
        facts=_facts(options, settings),
    )
    return service, in_use


def _serve(
    server: Server,
    reactor: Any,
    destinations: Destinations,
    certificates: Certificates,
    as_later: AsLater,
    make_factory: Callable[..., LMTPFactory],
    faults: Faults,
) -> list[tuple[LMTPFactory, list[Any]]]:
    """None where something is wrong already: what it would be made of may be missing."""
    said, settings = server.said, server.said.settings()
    tls, backend, portal = None, None, None
    with faults.caught(server.listener):
        tls = certificates.of(said)
    endpoints = endpoints_of(server, reactor, tls, faults)
    with faults.caught(server.listener):
        backend = as_later(lambda: destinations.of(said))
    with faults.caught(server.listener):
        portal = portal_for(said, settings, backend, as_later)
    if faults.lines:
        return []
    return [(make_factory(backend=backend, settings=settings, tls=tls, portal=portal), endpoints)]


def _settings(said: Said) -> Settings:
    try:
        return said.settings()
    except ValueError as error:
        # Each option was accepted by itself; what is left is the name of this machine.
        raise ValueError(f"the name of this machine will not do: give --hostname ({error})")


def _most_waiting(options: Options) -> int:
    """How many connections may wait for their PROXY header: they are not sessions yet."""
    places: list[str] = [text for option in ("listen", "listen-tls") for text in options[option]]
    places += [text for said in options.listeners.values() for text in (said["listen"], said["listen-tls"]) if text]
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


def _open_log(options: Options, is_trial: bool) -> Log:
    """Ours, unless twistd was told to use another kind; where it goes is for twistd's options to say."""
    level, parent = options["log-level"], options.parent
    if parent is None or "logfile" not in parent or parent.get("logger") or parent.get("syslog"):
        if options["log-format"] != "text":
            raise options.said.fault("log-format", " is not for --logger and --syslog, which have a form of their own")
        return Log(level)
    path, is_daemon = parent["logfile"], not parent.get("nodaemon")
    if path == "-" and is_daemon:
        raise ValueError("a daemon cannot log to standard output: give --logfile FILE, or -n")
    if path == "-" or not (path or is_daemon):
        return WrittenLog(level, LineWriter(descriptor=_STDOUT, form=form_of(options.said, _STDOUT)))
    path = path or "twistd.log"
    if is_trial:
        there = path if os.path.lexists(path) else os.path.dirname(os.path.abspath(path))
        if os.path.isdir(path) or not may_change(there):
            raise ValueError(f"--logfile {path}: cannot write to it")
        return Log(level)
    try:
        return WrittenLog(level, LineWriter(path, form=form_of(options.said)))
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


def _spool_directory(said: Said) -> str:
    given: str | None = said["spool"]
    if given is None:
        given = os.environ.get("TMPDIR") or (_ON_DISK if os.path.isdir(_ON_DISK) else tempfile.gettempdir())
    if not given:
        raise said.fault("spool", ": a directory is needed")
    directory = os.path.abspath(given)
    try:
        with tempfile.TemporaryFile(dir=directory):
            return directory
    except OSError as error:
        raise Fault(said.place("spool").saying(directory), f": {error.strerror}")


def _facts(options: Options, settings: Settings) -> list[str]:
    """What the log says of how the server was started; of what a file says it has the numbers only."""
    said, configuration = options.said, options.configuration
    facts = [f"lmtp-twisted {installed_version()} as {settings.hostname}"]
    if configuration is not None:
        path = os.path.abspath(configuration.path)
        counts = (("listeners", options.listeners), ("backends", configuration.backends), ("routes", said["route"]))
        facts.append(f"configuration {path} ({', '.join(f'{name}: {len(table)}' for name, table in counts)})")
    if said["backend"] is None:
        facts.append(f"backend {DEFAULT_BACKEND} (the default) in {os.getcwd()}")
    elif not said.place("backend").line:
        facts.append(f"backend {without_passwords(said['backend'])}")
    if not said.place("route").line:
        facts += [f"route {pattern}={without_passwords(text)}" for pattern, text in said["route"]]
    if said["aliases"] is not None and not said.place("aliases").line:
        facts.append(f"aliases {said['aliases']}")
    if said["directory"] is not None and not said.place("directory").line:
        # What follows the type may be more than a log should have.
        facts.append(f"directory {said['directory'].partition(':')[0]}")
    return facts
