"""File systems that are real, small, and mounted for one test: full, over quota, read-only or dead."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

# linux/fs.h: FS_IOC_SHUTDOWN, and to do so without writing the journal out, as a disk that is gone.
_SHUTDOWN = 0x8004587D
_NOLOGFLUSH = 2


class RealDisk:
    """
    A mounted file system.

    :ivar path: where.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self, leave: int = 0) -> None:
        """Take all room but for some octets; :meth:`make_room` gives it back."""
        with open(self.path / ".filling", "ab", buffering=0) as filling:
            for size in (65536, 4096, 512, 1):
                with contextlib.suppress(OSError):
                    while filling.write(bytes(size)):
                        pass
            if leave:
                os.ftruncate(filling.fileno(), os.fstat(filling.fileno()).st_size - leave)
            with contextlib.suppress(OSError):
                os.fsync(filling.fileno())

    def fill_inodes(self) -> None:
        """Make empty files until there can be no more."""
        (self.path / ".many").mkdir()
        with contextlib.suppress(OSError):
            for number in range(1_000_000):
                (self.path / ".many" / str(number)).touch()

    def make_room(self) -> None:
        """Give back what was taken."""
        (self.path / ".filling").unlink(missing_ok=True)

    def remount(self, how: str) -> None:
        """Mount it anew, ``ro`` or ``rw``."""
        subprocess.run(["mount", "-o", f"remount,{how}", str(self.path)], check=True)

    def die(self) -> None:
        """From now on all that asks it anything fails with EIO."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _NOLOGFLUSH))
        finally:
            os.close(descriptor)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{' '.join(command[:3])}: {done.stderr.strip()}")


@contextlib.contextmanager
def mounted(path: Path, *command: str) -> Iterator[RealDisk]:
    """
    :param command: of mount, without the directory.
    """
    path.mkdir(parents=True, exist_ok=True)
    _run("mount", *command, str(path))
    try:
        yield RealDisk(path)
    finally:
        # What a test has let go of may be open still.
        gc.collect()
        subprocess.run(["umount", "-l", str(path)], check=True)


@contextlib.contextmanager
def tmpfs(path: Path, options: str = "size=1m") -> Iterator[RealDisk]:
    """In memory."""
    with mounted(path, "-t", "tmpfs", "-o", options, "tmpfs") as disk:
        yield disk


@contextlib.contextmanager
def ext4(path: Path, size: str = "16M") -> Iterator[RealDisk]:
    """On a file, as a block device."""
    image = path.parent / f"{path.name}.image"
    _run("truncate", "-s", size, str(image))
    _run("mkfs.ext4", "-q", "-F", "-m", "0", str(image))
    with again(path) as disk:
        yield disk


@contextlib.contextmanager
def again(path: Path) -> Iterator[RealDisk]:
    """What :func:`ext4` had made there, as it was left."""
    with mounted(path, "-o", "loop", str(path.parent / f"{path.name}.image")) as disk:
        yield disk


@contextlib.contextmanager
def btrfs_quota(path: Path, name: str, limit: str = "1M") -> Iterator[RealDisk]:
    """
    One directory has a quota, that not even root can exceed.

    :param name: of the directory in it.
    """
    image = path.parent / f"{path.name}.image"
    _run("truncate", "-s", "128M", str(image))
    _run("mkfs.btrfs", "-q", "-f", "-M", str(image))
    with mounted(path, "-o", "loop", str(image)):
        for command in (
            ("quota", "enable", str(path)),
            ("subvolume", "create", str(path / name)),
            ("qgroup", "limit", limit, str(path / name)),
        ):
            _run("btrfs", *command)
        yield RealDisk(path / name)
