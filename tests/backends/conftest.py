"""Messages to deliver, a pool with real threads, and a disk that remembers what it was asked and fails when told."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from backend_messages import received
from twisted.python.threadpool import ThreadPool

from lmtp_twisted.backends.maildir import disk as maildir_disk
from lmtp_twisted.backends.maildir import lanes
from lmtp_twisted.message import ReceivedMessage
from lmtp_twisted.threads import make_pool


@pytest.fixture
def receive() -> Callable[..., ReceivedMessage]:
    """:func:`received`."""
    return received


@pytest.fixture
def pool() -> Iterator[ThreadPool]:
    """A pool of real threads."""
    pool = make_pool()
    yield pool
    pool.stop()


@pytest.fixture
def no_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that are none do not wait for more to do: nobody else could give it to them."""
    monkeypatch.setattr(lanes, "LINGER", 0)


class Disk:
    """
    The calls that change a disk, as they were made: those of :mod:`os`, and syncfs.

    :ivar calls: for each its name and the paths.
    """

    NAMES = ("open", "write", "fsync", "link", "rename", "mkdir", "unlink", "stat", "close", "posix_fadvise")

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = str(root)
        self.calls: list[tuple[str, ...]] = []
        self._faults: list[tuple[str, str, int | BaseException, int]] = []
        self._actions: list[tuple[str, str, Callable[[], object]]] = []
        self._readlink = os.readlink
        for name in self.NAMES:
            monkeypatch.setattr(os, name, self._wrap(name, getattr(os, name)))
        monkeypatch.setattr(maildir_disk, "syncfs", self._wrap("syncfs", maildir_disk.syncfs))

    def fail(self, name: str, where: str, error: int | BaseException, times: int = 10**6) -> None:
        """Let a call fail where its last path, from the root on, has this in it."""
        self._faults.append((name, where, error, times))

    def before(self, name: str, where: str, action: Callable[[], object]) -> None:
        """Do something before the next such call."""
        self._actions.append((name, where, action))

    def opened(self, descriptor: str) -> str:
        """What a descriptor of ours is of; empty where it is none any more."""
        try:
            return self._readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            return ""

    def _path(self, of: Any, directory: int | None) -> str:
        if isinstance(of, int):
            path = self._readlink(f"/proc/self/fd/{of}")
        elif directory is not None:
            path = f"{self._readlink(f'/proc/self/fd/{directory}')}/{of}"
        else:
            path = os.fsdecode(of)
        return path.removeprefix(self.root).lstrip("/") if path.startswith(self.root) else path

    def _wrap(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            if name in ("link", "rename"):
                paths: tuple[str, ...] = (
                    self._path(arguments[0], keywords.get("src_dir_fd")),
                    self._path(arguments[1], keywords.get("dst_dir_fd")),
                )
            else:
                try:
                    paths = (self._path(arguments[0], keywords.get("dir_fd")),)
                except OSError:
                    paths = ("?",)
            for index, (which, where, action) in enumerate(self._actions):
                if which == name and where in paths[-1]:
                    del self._actions[index]
                    action()
                    break
            for index, (which, where, error, times) in enumerate(self._faults):
                if which == name and where in paths[-1] and times:
                    self._faults[index] = (which, where, error, times - 1)
                    self.calls.append((f"{name} failed", *paths))
                    raise OSError(error, os.strerror(error)) if isinstance(error, int) else error
            self.calls.append((name, *paths))
            return real(*arguments, **keywords)

        return call

    def made(self, *names: str) -> list[tuple[str, ...]]:
        """The calls of these names."""
        return [call for call in self.calls if call[0] in names]


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    """A disk whose paths are told from ``tmp_path`` on."""
    return Disk(tmp_path, monkeypatch)


@pytest.fixture(scope="session")
def disk_class() -> type[Disk]:
    """For tests that make their own in each of many runs."""
    return Disk
