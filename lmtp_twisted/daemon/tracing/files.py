"""
The directory of traces: a file a session, written by a thread of the pool. It holds only so much; the oldest files make
room for new ones.

Nothing of this matters to a session. Where a disk is full, its trace is incomplete, and the log says so once.
"""

from __future__ import annotations

import os
import re
import tempfile
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

_log = Logger(namespace="lmtp_twisted")

SUFFIX = ".trace"
#: Files of a directory at the most.
MOST_FILES = 10_000
#: Octets of a file at the most.
MOST_A_FILE = 1024 * 1024
#: Octets that wait to be written at the most.
MOST_WAITING = 8 * 1024 * 1024

# No other file in the directory is ours to remove.
_NAME = re.compile(rf"[0-9a-z]{{14}}{re.escape(SUFFIX)}")
# Several processes may write there, so each looks at the directory anew when it has added a share of what may be there.
_SHARE = 16


class TraceFiles:
    """
    :param directory: where they are.
    :param most_octets: of all of them.
    :param reactor: its ``callFromThread`` brings results back.
    :param pool: whose threads write.
    """

    def __init__(self, directory: str, most_octets: int, reactor: Any, pool: Any) -> None:
        self._directory = directory
        self._most_octets = most_octets
        self._reactor = reactor
        self._pool = pool
        self._waiting: dict[str, list[str]] = {}
        self._waiting_octets = 0
        self._is_writing = False
        self._closed: Deferred[None] | None = None
        self._lost = 0
        # What was added since the directory was looked at: at the start nobody knows what is there.
        self._new_octets = most_octets
        self._new_files = 0

    def write(self, session: str, text: str) -> None:
        """
        Add to the file of a session.

        :param session: its id.
        :param text: whole lines.
        """
        if self._waiting_octets + len(text) > MOST_WAITING:
            self._lost += len(text)
            return
        self._waiting.setdefault(session, []).append(text)
        self._waiting_octets += len(text)
        self._go_on()

    def close(self) -> Deferred[None]:
        """
        :returns: fires when all is written.
        """
        if not self._is_writing:
            return succeed(None)
        self._closed = Deferred()
        return self._closed

    def _go_on(self) -> None:
        if self._is_writing or not self._waiting:
            return
        self._is_writing = True
        waiting, self._waiting, self._waiting_octets = self._waiting, {}, 0
        deferToThreadPool(self._reactor, self._pool, self._write_all, waiting).addBoth(self._written)

    def _written(self, result: tuple[int, str] | Failure) -> None:
        self._is_writing = False
        lost, why = (0, str(result.value)) if isinstance(result, Failure) else result
        if why and not self._lost:
            _log.error("traces are not written: {why}", why=why)
        elif self._lost and not why:
            _log.warn("traces are written again, {octets} octets of them are lost", octets=self._lost)
            self._lost = 0
        self._lost += lost
        self._go_on()
        if self._closed is not None and not self._is_writing:
            self._closed.callback(None)

    # In a thread, one at a time

    def _write_all(self, waiting: dict[str, list[str]]) -> tuple[int, str]:
        lost, why = 0, ""
        for session, texts in waiting.items():
            data = "".join(texts).encode("utf-8", "backslashreplace")
            try:
                self._write(session, data)
            except OSError as error:
                lost, why = lost + len(data), f"{self._directory}: {error.strerror}"
        if self._new_octets > self._most_octets // _SHARE or self._new_files > MOST_FILES // _SHARE:
            try:
                self._make_room()
            except OSError as error:
                why = why or f"{self._directory}: {error.strerror}"
        return lost, why

    def _write(self, session: str, data: bytes) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(os.path.join(self._directory, session + SUFFIX), flags, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size > MOST_A_FILE:
                return
            if not size:
                self._new_files += 1
            if size + len(data) > MOST_A_FILE:
                data = data[: MOST_A_FILE - size] + b"\n-- what follows is not written: the file is full\n"
            self._new_octets += len(data)
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
        finally:
            os.close(descriptor)

    def _make_room(self) -> None:
        """Remove the oldest: their names begin with the time."""
        with os.scandir(self._directory) as entries:
            files = sorted(
                (entry.name, entry.stat(follow_symlinks=False).st_size) for entry in entries if _is_ours(entry)
            )
        self._new_octets = self._new_files = 0
        octets, count = sum(size for _, size in files), len(files)
        for name, size in files:
            if octets <= self._most_octets * (_SHARE - 1) // _SHARE and count <= MOST_FILES * (_SHARE - 1) // _SHARE:
                return
            os.unlink(os.path.join(self._directory, name))
            octets, count = octets - size, count - 1


def _is_ours(entry: os.DirEntry[str]) -> bool:
    return _NAME.fullmatch(entry.name) is not None and entry.is_file(follow_symlinks=False)


def check_directory(directory: str) -> None:
    """
    :raises OSError: where no file can be made there.
    """
    with tempfile.TemporaryFile(dir=directory):
        pass
