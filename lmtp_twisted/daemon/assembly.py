"""
The server, put together from its command line.

All that can be wrong is found here, before ``twistd`` becomes a daemon: later it would be a traceback in a log that
nobody reads yet.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import Any, NoReturn

import attrs
from twisted.python.threadpool import ThreadPool

from lmtp_twisted.daemon.chosen_form import form_of
from lmtp_twisted.daemon.inbox.answers import InboxAnswers
from lmtp_twisted.daemon.lines import one_line
from lmtp_twisted.daemon.listening import may, may_change
from lmtp_twisted.daemon.logs import Log, WrittenLog
from lmtp_twisted.daemon.making import Surroundings, make_generation, settings_of
from lmtp_twisted.daemon.members import Alone, Answers, Members
from lmtp_twisted.daemon.monitoring.catalogue import Figures
from lmtp_twisted.daemon.monitoring.monitor import Monitor
from lmtp_twisted.daemon.notify import Notifier
from lmtp_twisted.daemon.options import Options
from lmtp_twisted.daemon.ports import Ports
from lmtp_twisted.daemon.privileges import as_later, later_owner
from lmtp_twisted.daemon.renewal import renew
from lmtp_twisted.daemon.said import Faults, plain_line
from lmtp_twisted.daemon.servers import servers_of
from lmtp_twisted.daemon.service import LMTPService
from lmtp_twisted.daemon.web.site import make_site
from lmtp_twisted.daemon.workers.crew import Crew
from lmtp_twisted.daemon.workers.orders import orders_of
from lmtp_twisted.daemon.workers.ports import GivenPorts, HeldPorts
from lmtp_twisted.daemon.writer import LineWriter
from lmtp_twisted.headcount import Tally
from lmtp_twisted.threads import THREADS

_STDOUT = 1


@attrs.frozen
class Workplace:
    """
    What a server has that is one of several workers.

    :ivar ports: those of its parent.
    :ivar tally: counts the sessions of all.
    :ivar size: how many workers there are.
    """

    ports: GivenPorts
    tally: Tally
    size: int


def assemble(options: Options, workplace: Workplace | None = None) -> LMTPService:
    """
    :param options: the parsed command line.
    :param workplace: of a worker.
    :returns: the server, not started.
    :raises SystemExit: where it could not start as it was told, with a line for each fault that was found.
    """
    service, _ = _assembled(options, workplace, is_trial=False)
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
    _, notes = _assembled(options, None, is_trial=True)
    for line in notes:
        print(plain_line(line) if line.startswith("--") else one_line(line))
    print("twistd lmtp: the server can start")
    raise SystemExit(0)


def _assembled(options: Options, workplace: Workplace | None, *, is_trial: bool) -> tuple[LMTPService, list[str]]:
    # Not earlier: twistd's --reactor has been heeded by now.
    from twisted.internet import reactor

    faults = Faults()
    try:
        with faults.caught():
            return _assemble(options, reactor, workplace, faults, is_trial)
        faults.end()
    except Faults:
        raise SystemExit("\n".join(faults.lines))
    raise AssertionError("either made or refused")


def _assemble(
    options: Options, reactor: Any, workplace: Workplace | None, faults: Faults, is_trial: bool
) -> tuple[LMTPService, list[str]]:
    settings = settings_of(options.said)
    size = options.said["workers"] if workplace is None else 1
    if size > 1:
        with faults.caught():
            _see_whether_workers_can_start(options, reactor)
    ports: Any
    if workplace is None:
        ports = (Ports if size == 1 else HeldPorts)(reactor, later_owner(options.parent))
    else:
        ports = workplace.ports
    log = _open_log(options, is_trial)
    _enter_directory(options.parent)
    servers = servers_of(options.said, options.listeners, faults)
    wanted = [wanted for server in servers for wanted in server.wanted]
    notes = ports.try_to_listen(wanted, faults, is_trial=is_trial)
    # Its threads start with the service: none survives the fork of a daemon.
    pool = ThreadPool(minthreads=0, maxthreads=THREADS, name="lmtp")
    # The service waits for them as long as it says; what hangs then must not keep the process.
    pool.threadFactory = partial(Thread, daemon=True)  # type: ignore[assignment]  # makes threads all the same
    crew: Crew | None = None
    monitor = Monitor(lambda: service.sessions, restarts=lambda: 0 if crew is None else crew.restarts)
    inbox = InboxAnswers()
    taking = {"taking": lambda _: any(factory.is_taking for factory in service.factories)}
    answers: Answers = {**taking, **monitor.answers(), **inbox.answers()}
    surroundings = Surroundings(reactor, pool, log, monitor, inbox, is_trial=is_trial or size > 1)
    if size > 1 and not is_trial:
        crew = Crew(reactor, size, lambda number: orders_of(reactor, service.generation, ports, number, size))
    if workplace is None:
        members: Members = Alone(answers) if crew is None else crew
        own: Callable[[], Figures] = dict if crew is None else monitor.without_mail
        surroundings = attrs.evolve(surroundings, site=make_site(reactor, members, settings.hostname, size, own))
    else:
        surroundings = attrs.evolve(surroundings, tally=workplace.tally, share=workplace.size)
    service: LMTPService = LMTPService(
        reactor=reactor,
        generation=make_generation(options, servers, surroundings, faults),
        renew=partial(renew, surroundings),
        ports=ports,
        pool=pool,
        log=log,
        monitor=monitor,
        notifier=Notifier(reactor),
        answers=answers,
        crew=crew,
    )
    return service, notes


def _see_whether_workers_can_start(options: Options, reactor: Any) -> None:
    if not hasattr(sys.modules[type(reactor).__module__], "install"):
        raise options.said.fault("workers", f": they could not use this reactor ({type(reactor).__module__})")
    for path, mode in ((sys.executable, os.X_OK), (__file__, os.R_OK)):
        if not as_later(options.parent, partial(may, path, mode)):
            raise options.said.fault("workers", f": who the server becomes may not use {path}")


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
    if is_trial:
        # Without a name it is where the server will be started, and that need not be here.
        if path and not _may_log_to(path):
            raise ValueError(f"--logfile {path}: cannot write to it")
        return Log(level)
    path = path or "twistd.log"
    owner = None if os.path.lexists(path) else later_owner(parent)
    try:
        log = WrittenLog(level, LineWriter(path, form=form_of(options.said)))
        if owner is not None:
            # Else it could not be reopened.
            os.chown(path, *owner)
        return log
    except OSError as error:
        raise ValueError(f"--logfile {path}: {error.strerror}")


def _may_log_to(path: str) -> bool:
    there = path if os.path.lexists(path) else os.path.dirname(os.path.abspath(path))
    return not os.path.isdir(path) and may_change(there)


def _enter_directory(parent: Any) -> None:
    """
    twistd's ``--rundir`` now instead of later, so that relative paths are tried where they will be used.
    """
    if parent is None or "rundir" not in parent:
        return
    if parent.get("chroot"):
        # Directories and modules are opened before it, and others after it.
        raise ValueError("--chroot cannot be had: give the server a root with systemd's RootDirectory=, or a container")
    directory = os.path.abspath(parent["rundir"])
    try:
        os.chdir(directory)
    except OSError as error:
        raise ValueError(f"--rundir {directory}: {error.strerror}")
    parent["rundir"] = directory
