"""A ``twistd lmtp`` whose system calls are recorded, and sessions that take every path through the Maildir backend."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
from recorded_calls import STRACE, Event, events_of
from sent_messages import Message, NotListening, Session, port_of

MAIL = "mail"
#: ``twistd`` as it is installed, but that every file system is one where syncfs is good and no time is too long for it:
#: the record must not depend on the machine.
_TWISTD = """\
from lmtp_twisted.backends.maildir import disk
disk._types_of = lambda device: iter(("ext4",))
disk.PATIENCE = 3600.0
from twisted.scripts.twistd import run
run()
"""
#: Each sync takes some milliseconds more: what comes meanwhile is filed together, and calls of threads overlap.
_SLOW = "inject=fsync,syncfs:delay_exit=15000"
_PATIENCE = 60.0
#: Of the backend, beside how it waits for the disk: folders are made, and each mailbox has its ``maildirsize``.
OPTIONS = "detail=folder,create=yes,quota=1G"


@attrs.frozen
class Record:
    """
    :ivar directory: where the server ran.
    :ivar events: its system calls.
    :ivar promises: the ids of its positive replies, and what they stand for.
    """

    directory: str
    events: list[Event]
    promises: dict[str, tuple[Message, str]]


class TracedServer:
    """
    A server that runs under strace.

    :param directory: where it runs; mail goes below.
    :param log: what strace writes.
    :param options: of the backend, beside :data:`OPTIONS`.
    :param inject: what strace is to do with some calls.
    """

    def __init__(self, directory: Path, log: Path, options: str, inject: str = _SLOW) -> None:
        self.directory, self._log = directory, log
        traced = [*STRACE, "-e", inject, "-o", str(log), sys.executable, "-B", "-c", _TWISTD]
        self.process = subprocess.Popen(
            [*traced, "-n", "--pidfile=", "lmtp", "--port=0", f"--backend=maildir:{MAIL},{options},{OPTIONS}"],
            cwd=directory,
            env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def sessions(self, number: int) -> list[Session]:
        """Sessions that have greeted."""
        assert self.process.stdout is not None
        port = port_of(self.process.stdout)
        sessions = [Session(port) for _ in range(number)]
        for session in sessions:
            session.greet()
        return sessions

    def stop(self) -> list[Event]:
        """End it if it has not ended; returns what it did."""
        self.process.terminate()
        # strace holds the pipe too: at its end the record is complete.
        self.process.communicate(timeout=_PATIENCE)
        with self._log.open() as lines:
            return events_of(lines)


#: What a server is given to do; returns the promises that it made.
Load = Callable[[TracedServer], dict[str, tuple[Message, str]]]
#: Of a mailbox that :func:`every_path` has made before.
FOLDER = "a+lists@one.example"
#: Beyond what a message may keep in memory: it is spooled.
LARGE = 1_200_000


def every_path(server: TracedServer) -> dict[str, tuple[Message, str]]:
    """
    Deliver by every way that there is. A new one belongs here.

    :returns: the promises that the server made.
    """
    count = iter(range(1000))

    def message(*recipients: str, size: int = 500) -> Message:
        return Message.make(f"m{next(count)}", recipients, size)

    sessions = server.sessions(6)
    first = sessions[0]
    # A new mailbox with new parents, and once more.
    first.deliver(message("a@one.example"))
    first.deliver(message("a@one.example"))
    # Several recipients: a mailbox that is there, new ones, one of another domain, one twice.
    first.deliver(message("a@one.example", "b@one.example", "c@two.example", "B@one.example"))
    # A new folder of a mailbox that is there, and once more; one with all its parents, then the mailbox itself; several
    # of them.
    first.deliver(message(FOLDER))
    first.deliver(message(FOLDER))
    first.deliver(message("g+lists.python@four.example"))
    first.deliver(message("g@four.example"))
    first.deliver(message("a@one.example", FOLDER, "b+lists@one.example", "g+lists@four.example"))
    # Several messages that wait together: for one mailbox each, for the same, for several, for a new one.
    together = [
        message("a@one.example"),
        message("b@one.example"),
        message("b@one.example"),
        message("a@one.example", "b@one.example", "c@two.example"),
        message("d@one.example"),
        message("a@one.example", "e@three.example"),
    ]
    _at_once(sessions, together)
    folders = [FOLDER, "b+work@one.example", "h+lists@four.example", "a+work@one.example", FOLDER, "h@four.example"]
    _at_once(sessions, [message(folder) for folder in folders])
    # Large ones, alone and beside small ones.
    first.deliver(message("a@one.example", size=LARGE))
    first.deliver(message("a+large@one.example", FOLDER, size=LARGE))
    _at_once(sessions, [message("a@one.example", "f@one.example", size=LARGE), *map(message, ["a@one.example"] * 5)])
    promises = {}
    for session in sessions:
        promises.update(session.promised)
        session.close()
    return promises


def _at_once(sessions: Sequence[Session], messages: Sequence[Message]) -> None:
    for session, message in zip(sessions, messages, strict=True):
        session.begin(message)
    for session, message in zip(sessions, messages, strict=True):
        session.send_content(message)
    for session, message in zip(sessions, messages, strict=True):
        session.finish(message)


def deliver(message: Message) -> Load:
    """:param message: one message, whatever comes of it."""

    def load(server: TracedServer) -> dict[str, tuple[Message, str]]:
        promised: dict[str, tuple[Message, str]] = {}
        # A server that is killed says nothing, or ends in the midst of what it says.
        with contextlib.suppress(OSError, NotListening):
            (session,) = server.sessions(1)
            with contextlib.closing(session):
                promised = session.promised
                session.deliver(message)
        return promised

    return load


def record(directory: Path, options: str, load: Load = every_path, inject: str = _SLOW) -> Record:
    """
    :param directory: where the server runs.
    :param options: of the backend, beside :data:`OPTIONS`.
    :param load: what it is given to do.
    :param inject: what strace is to do with some calls.
    """
    with tempfile.TemporaryDirectory() as elsewhere:
        server = TracedServer(directory, Path(elsewhere, "calls"), options, inject)
        try:
            promises = load(server)
        finally:
            events = server.stop()
    return Record(str(directory), events, promises)
