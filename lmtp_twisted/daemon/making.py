"""
A generation, made of options: its backends, who may authenticate, its certificates, and the factories that sessions
come from.

It is done at the start and for each reload. All that can be wrong is found here, and then nothing of it stays.
"""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import attrs
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.backends.description import without_passwords
from lmtp_twisted.backends.maildir.directories import MOST_OPEN
from lmtp_twisted.daemon import privileges
from lmtp_twisted.daemon.destinations import DEFAULT_BACKEND, Destinations
from lmtp_twisted.daemon.generation import Entrance, Generation, tally_name
from lmtp_twisted.daemon.inbox.answers import InboxAnswers
from lmtp_twisted.daemon.journal import Journal
from lmtp_twisted.daemon.listening import front_of
from lmtp_twisted.daemon.logs import Log
from lmtp_twisted.daemon.monitoring.monitor import Monitor
from lmtp_twisted.daemon.options import Options, installed_version
from lmtp_twisted.daemon.said import Fault, Faults, Said
from lmtp_twisted.daemon.servers import AsLater, Certificates, Server, portal_for
from lmtp_twisted.daemon.tracing.options import tracer_of
from lmtp_twisted.daemon.tracing.sessions import TracingFactory
from lmtp_twisted.daemon.web.metrics import check_installed
from lmtp_twisted.extensions.proxy import MOST_WAITING
from lmtp_twisted.factory import LMTPFactory
from lmtp_twisted.headcount import HeadCount, Tally
from lmtp_twisted.settings import Settings
from lmtp_twisted.spool import Spool

_log = Logger(namespace="lmtp_twisted")

# A session is a connection, and perhaps a file that holds its message.
_OPEN_A_SESSION = 2
# Files that are open besides: the reactor's, the log, and two directories of each mailbox that is kept open.
_OPEN_BESIDES = 100 + 2 * MOST_OPEN
# Octets of all messages in memory, of all processes together.
_BUDGET = 256 * 1024 * 1024
# Where large messages lie: /tmp is memory on many systems, and they are there to save memory.
_ON_DISK = "/var/tmp"  # noqa: S108  # only files without a name are made there


@attrs.frozen
class Surroundings:
    """
    What stays while generations come and go.

    :ivar reactor: the reactor.
    :ivar pool: the threads.
    :ivar log: the log.
    :ivar monitor: what is counted and remembered.
    :ivar inbox: what is known of messages that are kept to be looked at.
    :ivar site: what is shown by HTTP; ``None`` where that is for another process.
    :ivar is_trial: whether what is made is never used: it is to be seen whether it can be.
    :ivar tally: counts sessions, with those of other processes if it is shared.
    :ivar share: how many processes share the memory for messages.
    """

    reactor: Any
    pool: ThreadPool
    log: Log
    monitor: Monitor
    inbox: InboxAnswers
    site: Any = None
    is_trial: bool = False
    tally: Tally | None = None
    share: int = 1


def make_generation(
    options: Options,
    servers: Sequence[Server],
    surroundings: Surroundings,
    faults: Faults,
    before: Generation | None = None,
) -> Generation:
    """
    :param options: what was said.
    :param servers: where it says to listen.
    :param surroundings: what stays.
    :param faults: gets what is wrong, and may have something already.
    :param before: the generation before.
    :raises Faults: where anything is wrong.
    """
    said, reactor, log = options.said, surroundings.reactor, surroundings.log
    settings = settings_of(said)
    if options.given is None:
        # A worker has what its parent was allowed.
        _allow_open_files(settings, servers)
    as_later = partial(privileges.as_later, options.parent)
    directory = None
    with faults.caught():
        directory = as_later(lambda: _spool_directory(said))
    context = BackendContext(
        reactor=reactor,
        pool=surroundings.pool,
        hostname=settings.hostname,
        spool_directory=directory,
        is_trial=surroundings.is_trial,
    )
    # What its observers ask once is what will be logged when it is in use.
    log_level, log.level = log.level, said["log-level"]
    try:
        named = {} if options.configuration is None else options.configuration.backends
        destinations = as_later(lambda: Destinations(context, named, faults))
        certificates = Certificates(None if options.given is None else options.given.pems)
        # Its memory is for the messages of all.
        spool = before.spool if before is not None and before.spool.directory == directory else None
        spool = spool or Spool(reactor, surroundings.pool, directory, budget=_BUDGET // surroundings.share)
        journal = Journal(log, reactor, context.label_of)
        # Its sessions are over by then.
        context.add_shutdown(journal.close)
        shared: dict[str, Any] = {
            "observers": [journal] if log.has("info") else [],
            "reactor": reactor,
            "spool": spool,
        }
        number = 0 if options.given is None else options.given.generation

        def count_of(settings: Settings, listener: str | None = None) -> HeadCount:
            name = tally_name(number, listener)
            return HeadCount(settings.max_sessions, settings.max_sessions_per_peer, surroundings.tally, name)

        shared["shared_count"] = count_of(settings)
        if said["http"] is not None:
            counts = surroundings.monitor.watch(context, spool)
            shared["observers"] = [counts, *shared["observers"]]
            shared["command_counts"] = counts.commands
        make_factory: Callable[..., LMTPFactory] = partial(LMTPFactory, **shared)
        with faults.caught():
            tracer = tracer_of(said, reactor, surroundings.pool, as_later)
            if tracer is not None:
                context.add_shutdown(tracer.files.close)
                make_factory = partial(TracingFactory, tracer=tracer, **shared)
        entrances: list[Entrance] = []
        factories: dict[str, LMTPFactory] = {}
        for server in servers:
            if server.is_web:
                with faults.caught():
                    _check_web(said)
                if surroundings.site is not None:
                    entrances += [Entrance(wanted, surroundings.site, True) for wanted in server.wanted]
                continue
            with faults.caught(server.listener):
                _serve(
                    server,
                    destinations,
                    certificates,
                    as_later,
                    partial(make_factory, **shared),
                    count_of,
                    faults,
                    factories,
                    entrances,
                )
        faults.end()
        if said["http"] is not None and surroundings.inbox.watch(context):
            for factory in factories.values():
                factory.observers = (*factory.observers, surroundings.inbox)
    except BaseException:
        context.shut_down()
        raise
    finally:
        log.level = log_level
    return Generation(
        entrances=entrances,
        factories=factories,
        shared_count=shared["shared_count"],
        spool=shared["spool"],
        context=context,
        drain_timeout=said["drain-timeout"],
        log_level=said["log-level"],
        certificates=certificates.all,
        facts=_facts(options, settings),
        options=options,
    )


def _serve(
    server: Server,
    destinations: Destinations,
    certificates: Certificates,
    as_later: AsLater,
    make_factory: Callable[..., LMTPFactory],
    count_of: Callable[..., HeadCount],
    faults: Faults,
    factories: dict[str, LMTPFactory],
    entrances: list[Entrance],
) -> None:
    """Nothing is made where something is wrong already: what it would be made of may be missing."""
    said, settings = server.said, server.said.settings()
    tls, backend, portal = None, None, None
    with faults.caught(server.listener):
        tls = certificates.of(said)
    with faults.caught(server.listener):
        backend = as_later(lambda: destinations.of(said))
    with faults.caught(server.listener):
        portal = portal_for(said, settings, backend, as_later)
    if faults.lines:
        return
    own_count = count_of(settings, server.listener)
    factory = make_factory(backend=backend, settings=settings, tls=tls, portal=portal, own_count=own_count)
    factories[server.listener] = factory
    for wanted in server.wanted:
        _, description, is_tls = wanted
        front = front_of(description, tls if is_tls else None, factory, factory.reactor)
        entrances.append(Entrance(wanted, front))


def _check_web(said: Said) -> None:
    with said.blamed("http"):
        check_installed()


def settings_of(said: Said) -> Settings:
    """
    The settings, of which each was accepted by itself.

    :raises ValueError: with one line that says what is wrong.
    """
    try:
        return said.settings()
    except ValueError as error:
        # Each option was accepted by itself; what is left is the name of this machine.
        raise ValueError(f"the name of this machine will not do: give --hostname ({error})")


def _allow_open_files(settings: Settings, servers: Sequence[Server]) -> None:
    """
    As many as the system lets us have: each connection is one, and backends keep some open. Where that is too few, it
    is said now and not when the first connection is dropped.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    # Those that wait for their PROXY header are not sessions yet.
    most_waiting = MOST_WAITING * sum(what.is_proxied for server in servers for _, what, _ in server.wanted)
    wanted = _OPEN_A_SESSION * settings.max_sessions + most_waiting + _OPEN_BESIDES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        _log.warn(
            "only {limit} files may be open, too few for {sessions} sessions: raise the limit (ulimit -n) or lower "
            "--max-sessions",
            limit=soft,
            sessions=settings.max_sessions,
        )


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
        # What stands at the top and not in a table is no less there: nothing is said to be none.
        numbers = ", ".join(f"{name}: {len(table)}" for name, table in counts if table)
        facts.append(f"configuration {path}" + (f" ({numbers})" if numbers else ""))
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
