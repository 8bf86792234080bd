"""The model of the worst file system keeps what a sync has covered, and nothing else."""

from __future__ import annotations

import pytest
from power_loss import Replay
from recorded_calls import events_of
from sent_messages import Message

MESSAGE = Message.make("m1", ["a@example.org"], 100)
STORED = b"Return-Path: <sender@example.net>\nReceived: from x\n\tby y\n" + MESSAGE.content.replace(b"\r\n", b"\n")


def text(octets: bytes | str) -> str:
    """As strace writes it."""
    octets = octets.encode() if isinstance(octets, str) else octets
    return '"' + "".join(f"\\x{octet:02x}" for octet in octets) + '"'


def opened(name: str, flags: str, descriptor: int) -> str:
    return f"1 openat(AT_FDCWD, {text(f'/home/{name}')}, {flags}) = {descriptor}"


def made(*names: str) -> list[str]:
    return [f"1 mkdir({text(f'/home/{name}')}, 0700) = 0" for name in names]


DIRECTORIES = [*made("m", "m/example.org", "m/example.org/a", *(f"m/example.org/a/{name}" for name in ("tmp", "new")))]
PARENTS = [
    line
    for number, name in enumerate(("", "m", "m/example.org", "m/example.org/a"), 3)
    for line in (opened(name, "O_RDONLY|O_DIRECTORY", number), f"1 fsync({number}) = 0")
]
NEW = opened("m/example.org/a/new", "O_RDONLY|O_DIRECTORY", 8)
WRITE = [
    opened("m/example.org/a/tmp/f", "O_WRONLY|O_CREAT|O_EXCL", 9),
    f"1 write(9, {text(STORED)}, 1) = {len(STORED)}",
]
RENAME = f"1 rename({text('/home/m/example.org/a/tmp/f')}, {text('/home/m/example.org/a/new/f')}) = 0"
REPLY = f"1 sendto(20, {text(b'250 2.0.0 <a@example.org> s.1.1 Delivered' + bytes((13, 10)))}, 1, 0, NULL, 0) = 1"
RIGHT = [*DIRECTORIES, *PARENTS, NEW, *WRITE, "1 fsync(9) = 0", RENAME, "1 fsync(8) = 0", REPLY]


def lost(*lines: str) -> str | None:
    """What power takes away."""
    loss = Replay("/home", "m", {"s.1.1": (MESSAGE, "example.org/a")}).play(events_of(lines))
    return loss.what if loss else None


def instead(line: str, *others: str) -> list[str]:
    """The right order, but for one line."""
    at = RIGHT.index(line)
    return [*RIGHT[:at], *others, *RIGHT[at + 1 :]]


def test_the_right_order_loses_nothing() -> None:
    assert lost(*RIGHT) is None


@pytest.mark.parametrize("line", [line for line in RIGHT if "fsync" in line])
def test_each_of_its_syncs_is_missed(line: str) -> None:
    assert lost(*instead(line))


def test_a_sync_that_failed_is_none() -> None:
    assert lost(*instead("1 fsync(8) = 0", "1 fsync(8) = -1 EIO (Input/output error)"))


def test_a_sync_that_began_before_the_write_had_ended_is_none() -> None:
    overlapping = ["2 fsync(9 <unfinished ...>", WRITE[1], "2 <... fsync resumed>) = 0"]
    without = [line for line in RIGHT if line not in (WRITE[1], "1 fsync(9) = 0")]
    at = without.index(RENAME)
    assert "not whole" in str(lost(*without[:at], *overlapping, *without[at:]))


def test_a_reply_counts_as_read_when_its_sending_begins_and_a_sync_as_done_when_it_has_ended() -> None:
    at = RIGHT.index("1 fsync(8) = 0")
    late = [*RIGHT[:at], "2 fsync(8 <unfinished ...>", REPLY, "2 <... fsync resumed>) = 0"]
    assert "was answered with 250" in str(lost(*late))


def test_one_syncfs_is_as_good_as_all_of_these_but_only_if_it_comes_before_the_reply() -> None:
    without = [line for line in RIGHT if "fsync" not in line or line == "1 fsync(9) = 0"]
    assert lost(*without[:-1], "1 syncfs(8) = 0", without[-1]) is None
    assert lost(*without, "1 syncfs(8) = 0")


@pytest.mark.parametrize(
    "link",
    [
        f"1 linkat(9, {text('')}, AT_FDCWD, {text('/home/m/example.org/a/new/f')}, AT_EMPTY_PATH) = 0",
        f"1 linkat(AT_FDCWD, {text('/proc/self/fd/9')}, AT_FDCWD, {text('/home/m/example.org/a/new/f')}, "
        "AT_SYMLINK_FOLLOW) = 0",
    ],
)
def test_a_file_without_a_name_is_there_when_it_was_linked_and_the_directory_synced(link: str) -> None:
    unnamed = [opened("m/example.org/a/tmp", "O_WRONLY|O_TMPFILE", 9), WRITE[1]]
    lines = [*DIRECTORIES, *PARENTS, NEW, *unnamed, "1 fsync(9) = 0", link, "1 fsync(8) = 0", REPLY]
    assert lost(*lines) is None
    assert lost(*(line for line in lines if line != "1 fsync(9) = 0"))
    assert lost(*(line for line in lines if line != "1 fsync(8) = 0"))


def test_what_is_removed_again_is_lost() -> None:
    unlink = f"1 unlink({text('/home/m/example.org/a/new/f')}) = 0"
    assert "was answered with 250" in str(lost(*RIGHT, unlink))
