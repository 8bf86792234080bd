"""A ``twistd lmtp`` whose system calls are recorded, and sessions that take every path through the Maildir backend."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import attrs
from recorded_calls import STRACE, Event, events_of
from sent_messages import Message, Session, port_of

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
    :param options: of the backend.
    :param inject: what strace is to do with some calls.
    """

    def __init__(self, directory: Path, log: Path, options: str, inject: str = _SLOW) -> None:
        self.directory, self._log = directory, log
        traced = [*STRACE, "-e", inject, "-o", str(log), sys.executable, "-B", "-c", _TWISTD]
        self.process = subprocess.Popen(
            [*traced, "-n", "--pidfile=", "lmtp", "--port=0", f"--backend=maildir:{MAIL},{options}"],
            cwd=directory,
            env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        self._port = port_of(self.process.stdout)

    def session(self) -> Session:
        """A session that has greeted."""
        session = Session(self._port)
        session.greet()
        return session

    def stop(self) -> list[Event]:
        """End it if it has not ended; returns what it did."""
        self.process.terminate()
        # strace holds the pipe too: at its end the record is complete.
        self.process.communicate(timeout=_PATIENCE)
        with self._log.open() as lines:
            return events_of(lines)


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

    sessions = [server.session() for _ in range(6)]
    first, *others = sessions
    # A new mailbox with new parents, and once more.
    first.deliver(message("a@one.example"))
    first.deliver(message("a@one.example"))
    # Several recipients: a mailbox that is there, new ones, one of another domain, one twice.
    first.deliver(message("a@one.example", "b@one.example", "c@two.example", "B@one.example"))
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
    # Large ones, alone and beside small ones.
    first.deliver(message("a@one.example", size=LARGE))
    _at_once(sessions, [message("a@one.example", "f@one.example", size=LARGE), *map(message, ["a@one.example"] * 5)])
    promises = {}
    for session in sessions:
        promises.update(session.promised)
        session.close()
    assert len(others) == 5
    return promises


def _at_once(sessions: Sequence[Session], messages: Sequence[Message]) -> None:
    for session, message in zip(sessions, messages, strict=True):
        session.begin(message)
    for session, message in zip(sessions, messages, strict=True):
        session.send_content(message)
    for session, message in zip(sessions, messages, strict=True):
        session.finish(message)


def record(directory: Path, options: str) -> Record:
    """
    :param directory: an empty one.
    :param options: of the backend.
    """
    home = directory / "home"
    home.mkdir()
    server = TracedServer(home, directory / "calls", options)
    try:
        promises = every_path(server)
    finally:
        events = server.stop()
    return Record(str(home), events, promises)
