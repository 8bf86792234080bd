"""
``maildirsize`` is not waited for: whatever a loss of power leaves of it, mail comes, and the mailbox is counted anew.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from killed_server import start
from needed_syncs import replay_of
from sent_messages import Message, Session, port_of
from traced_server import MAIL, OPTIONS, record
from worst_disk import Directory, File, below

pytestmark = pytest.mark.peer("strace")

#: One that the server has appended to often.
_MAILBOX = f"{MAIL}/one.example/a"
#: Room for one message less than there is, where nobody counts.
_FULL = b"1073741824S\n1073741824 1\n"
#: A message that was there before, and its name.
_OLD, _OLD_NAME = b"x" * 1000, "1.M1P1Q1.mx,S=1000:2,S"


def states(file: File) -> Iterator[bytes]:
    """
    Of a file after a loss of power: what is certain, and of the rest all, nothing, all but one change, and one alone.
    """
    every = range(len(file.pending))
    for changes in ([], list(every), *([n for n in every if n != lost] for lost in every), *([n] for n in every)):
        copy = File(bytearray(file.certain))
        for number in changes:
            when, offset, data = file.pending[number]
            copy.change(when, offset, data)
        yield bytes(copy.now)


def mailbox(path: Path, maildirsize: bytes, changed: float) -> None:
    """Make one with a message in it, and that file."""
    for name in ("tmp", "new", "cur"):
        (path / name).mkdir(parents=True)
    (path / "cur" / _OLD_NAME).write_bytes(_OLD)
    (path / "maildirsize").write_bytes(maildirsize)
    os.utime(path / "maildirsize", (changed, changed))


def test_whatever_power_leaves_of_maildirsize_mail_comes_and_is_counted(tmp_path: Path) -> None:
    """It was last changed before the machine was started."""
    (tmp_path / "recorded").mkdir()
    run = record(tmp_path / "recorded", "fsync=each")
    replay = replay_of(run)
    assert replay.play(run.events) is None
    directories = (node for node in below(replay.top) if isinstance(node, Directory))
    (directory,) = (node for node in directories if node.path == _MAILBOX)
    files = [node for node in directory.after_loss()["maildirsize"] if isinstance(node, File)]
    left = {state for file in files for state in states(file)} | {_FULL}
    # Empty, holes, lines that are missing.
    assert {b"", _FULL} < left
    assert any(b"\0" in state for state in left)
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    for number, state in enumerate(sorted(left)):
        mailbox(tmp_path / MAIL / "x.example" / f"m{number}", state, booted - 1)

    process = start(tmp_path, f"{MAIL},{OPTIONS}")
    try:
        assert process.stdout is not None
        with contextlib.closing(Session(port_of(process.stdout))) as session:
            session.greet()
            for number in range(len(left)):
                session.deliver(Message.make(f"m{number}", [f"m{number}@x.example"], 500))
    finally:
        process.terminate()
        process.communicate()
    assert len(session.promised) == len(left)
    for message, where in session.promised.values():
        (new,) = (tmp_path / MAIL / where / "new").iterdir()
        octets = new.read_bytes()
        assert message.is_whole(octets)
        _, *lines = (tmp_path / MAIL / where / "maildirsize").read_text().splitlines()
        counted = [sum(column) for column in zip(*(map(int, line.split()) for line in lines), strict=True)]
        assert counted == [len(_OLD) + len(octets), 2]
