"""Mailboxes as open directories."""

from __future__ import annotations

import errno
import os
import resource
import stat
from pathlib import Path
from typing import Any

import pytest

from lmtp_twisted.backends.maildir import directories
from lmtp_twisted.backends.maildir.directories import Mailboxes
from lmtp_twisted.errors import PermanentFailure

ALICE = ("example.org", "alice")


def mailboxes(root: Path, **options: Any) -> Mailboxes:
    return Mailboxes(str(root), **{"create": True, "fsync": True, **options})


def inode(path: Path) -> int:
    return path.stat().st_ino


# Making


def test_a_missing_mailbox_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    mailboxes(tmp_path).open(ALICE)
    made = [tmp_path.joinpath(*ALICE[:1]), *(tmp_path.joinpath(*ALICE, name) for name in ("", "tmp", "new", "cur"))]
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o700}


def test_every_directory_that_gets_a_new_one_is_synced(tmp_path: Path, disk: Any) -> None:
    """A mailbox that a loss of power takes away takes the message with it."""
    mailboxes(tmp_path).open(ALICE)
    assert disk.made("mkdir", "fsync") == [
        ("mkdir", "example.org"),
        ("fsync", ""),
        ("mkdir", "example.org/alice"),
        ("fsync", "example.org"),
        ("mkdir", "example.org/alice/tmp"),
        ("mkdir", "example.org/alice/new"),
        ("mkdir", "example.org/alice/cur"),
        ("fsync", "example.org/alice"),
    ]


def test_nothing_is_synced_where_that_is_off(tmp_path: Path, disk: Any) -> None:
    mailboxes(tmp_path, fsync=False).open(ALICE)
    assert disk.made("fsync", "syncfs") == []


def test_what_was_there_before_us_is_synced_once_and_before_a_mailbox_is_opened(tmp_path: Path, disk: Any) -> None:
    """A server that was killed behind its mkdir leaves a directory that nobody else would sync."""
    tmp_path.joinpath(*ALICE).mkdir(parents=True)
    disk.calls.clear()
    ours = mailboxes(tmp_path)
    ours.open(ALICE)
    ours.open(("example.org", "bob"))
    assert disk.made("syncfs", "mkdir")[:2] == [("syncfs", ""), ("mkdir", "example.org/alice/tmp")]
    assert len(disk.made("syncfs")) == 1


def test_where_that_fails_the_mailbox_is_not_opened_and_the_next_try_syncs_again(tmp_path: Path, disk: Any) -> None:
    ours = mailboxes(tmp_path)
    disk.fail("syncfs", "", errno.EIO, times=1)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        ours.open(ALICE)
    assert disk.made("mkdir") == []
    ours.open(ALICE)
    assert len(disk.made("syncfs")) == 1


def test_a_directory_that_another_process_makes_first_is_taken_and_synced(tmp_path: Path, disk: Any) -> None:
    disk.before("mkdir", "example.org", (tmp_path / "example.org").mkdir)
    mailboxes(tmp_path).open(ALICE)
    assert disk.made("fsync")[0] == ("fsync", "")


def test_what_a_mailbox_lacks_is_made_even_where_mailboxes_are_not(tmp_path: Path) -> None:
    tmp_path.joinpath(*ALICE, "cur").mkdir(parents=True)
    mailboxes(tmp_path, create=False).open(ALICE)
    assert sorted(os.listdir(tmp_path.joinpath(*ALICE))) == ["cur", "new", "tmp"]


# Missing mailboxes


@pytest.mark.parametrize("there", ["", "example.org"])
def test_a_mailbox_that_is_not_to_be_made_does_not_exist(tmp_path: Path, there: str) -> None:
    (tmp_path / there).mkdir(exist_ok=True)
    boxes = mailboxes(tmp_path, create=False)
    for ask in (boxes.check, boxes.open):
        with pytest.raises(PermanentFailure) as refused:
            ask(ALICE)
        assert (refused.value.code, refused.value.enhanced) == (550, "5.1.1")
    assert not tmp_path.joinpath(*ALICE).exists()


def test_a_mailbox_that_is_there_passes_the_check(tmp_path: Path) -> None:
    tmp_path.joinpath(*ALICE).mkdir(parents=True)
    mailboxes(tmp_path, create=False).check(ALICE)
    assert os.listdir(tmp_path.joinpath(*ALICE)) == []


def test_a_missing_root_says_nothing_about_mailboxes(tmp_path: Path) -> None:
    """A disk that is not mounted must not bounce everybody's mail."""
    with pytest.raises(FileNotFoundError):
        mailboxes(tmp_path / "gone", create=False).check(ALICE)


def test_a_mailbox_that_vanishes_while_it_is_opened_is_no_mailbox_that_does_not_exist(
    tmp_path: Path, disk: Any
) -> None:
    tmp_path.joinpath(*ALICE).mkdir(parents=True)
    disk.fail("open", "alice", errno.ENOENT)
    with pytest.raises(FileNotFoundError):
        mailboxes(tmp_path).open(ALICE)


# Links


@pytest.mark.parametrize("link", ["example.org", "example.org/alice", "example.org/alice/new", "example.org/alice/tmp"])
def test_no_symbolic_link_below_the_root_is_followed(tmp_path: Path, link: str) -> None:
    """Who may write in a mailbox cannot lead our files elsewhere."""
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (root / link).parent.mkdir(parents=True)
    (root / link).symlink_to(elsewhere)
    for create in (True, False):
        with pytest.raises(OSError, match=r"directory|symbolic"):
            mailboxes(root, create=create).open(ALICE)
    assert os.listdir(elsewhere) == []


def test_the_root_may_be_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "real")
    mailboxes(tmp_path / "root").open(ALICE)
    assert tmp_path.joinpath("real", *ALICE, "new").is_dir()


# Staying open


def test_a_mailbox_stays_open(tmp_path: Path) -> None:
    boxes = mailboxes(tmp_path)
    assert not boxes.knows(ALICE)
    assert boxes.open(ALICE) is boxes.open(ALICE)
    assert boxes.knows(ALICE)


def test_the_one_used_longest_ago_is_closed_first(tmp_path: Path) -> None:
    boxes = mailboxes(tmp_path, most=2)
    for name in ("a", "b", "a", "c"):
        boxes.open((name,))
    assert [name for name in "abc" if boxes.knows((name,))] == ["a", "c"]


def test_who_still_uses_a_mailbox_keeps_its_descriptors(tmp_path: Path) -> None:
    """A descriptor that was closed could be another file by now."""
    boxes = mailboxes(tmp_path, most=1)
    used = boxes.open(("a",))
    boxes.open(("b",))
    assert os.fstat(used.new).st_ino == inode(tmp_path / "a/new")
    descriptor = used.new
    del used
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_close_lets_go_of_all(tmp_path: Path) -> None:
    boxes = mailboxes(tmp_path)
    boxes.open(ALICE)
    boxes.close()
    assert not boxes.knows(ALICE)


def test_a_mailbox_that_was_moved_away_is_noticed_within_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = mailboxes(tmp_path)
    old = boxes.open(("a",))
    (tmp_path / "a").rename(tmp_path / "b")
    now = directories.time.monotonic()
    monkeypatch.setattr(directories.time, "monotonic", lambda: now + 1)
    new = boxes.open(("a",))
    assert os.fstat(old.new).st_ino == inode(tmp_path / "b/new")
    assert os.fstat(new.new).st_ino == inode(tmp_path / "a/new")


def test_a_mailbox_that_was_replaced_is_noticed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = mailboxes(tmp_path)
    kept = boxes.open(("a",))
    (tmp_path / "a").rename(tmp_path / "b")
    mailboxes(tmp_path).open(("a",))
    now = directories.time.monotonic()
    monkeypatch.setattr(directories.time, "monotonic", lambda: now + 1)
    assert boxes.open(("a",)) is not kept


def test_a_mailbox_that_is_still_there_is_not_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = mailboxes(tmp_path)
    kept = boxes.open(("a",))
    now = directories.time.monotonic()
    monkeypatch.setattr(directories.time, "monotonic", lambda: now + 1)
    assert boxes.open(("a",)) is kept


def test_a_mailbox_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    boxes = mailboxes(tmp_path, create=False)
    (tmp_path / "a").mkdir()
    boxes.open(("a",))
    (tmp_path / "a").rename(tmp_path / "b")
    with pytest.raises(PermanentFailure):
        boxes.open(("a",), anew=True)
    assert not boxes.knows(("a",))


@pytest.mark.parametrize("failing", ["tmp", "new"])
def test_a_mailbox_that_cannot_be_opened_leaves_no_descriptor(tmp_path: Path, disk: Any, failing: str) -> None:
    boxes = mailboxes(tmp_path)
    boxes.open(("a",))
    boxes.close()
    before = os.listdir("/proc/self/fd")
    disk.fail("open", f"a/{failing}", errno.EMFILE)
    with pytest.raises(OSError, match="Too many open files"):
        boxes.open(("a",))
    assert os.listdir("/proc/self/fd") == before


def test_other_threads_wait_until_a_new_mailbox_is_on_disk(tmp_path: Path, disk: Any) -> None:
    """Who finds a directory that another thread has just made would answer for a message that can be lost with it."""
    boxes = mailboxes(tmp_path)
    held: list[bool] = []
    for directory in ("", "example.org", "example.org/alice"):
        disk.before("fsync", directory, lambda: held.append(boxes._making.locked()))
    boxes.open(ALICE)
    assert held == [True, True, True]
    assert not boxes._making.locked()


@pytest.mark.parametrize(("limit", "most"), [(resource.RLIM_INFINITY, 512), (1_000_000, 512), (1024, 128), (16, 8)])
def test_no_more_are_open_than_the_limit_of_files_allows(
    monkeypatch: pytest.MonkeyPatch, limit: int, most: int
) -> None:
    """Most descriptors of the process are for its sessions."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert Mailboxes("/", create=False, fsync=False)._most == most


# The root


def test_the_root_is_made_with_its_parents(tmp_path: Path, disk: Any) -> None:
    mailboxes(tmp_path / "srv/mail").make_root()
    assert stat.S_IMODE((tmp_path / "srv/mail").stat().st_mode) == 0o700
    assert disk.made("mkdir", "fsync") == [("mkdir", "srv"), ("fsync", ""), ("mkdir", "srv/mail"), ("fsync", "srv")]


def test_the_root_is_not_made_where_nothing_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        mailboxes(tmp_path / "mail", create=False).make_root()


def test_a_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mail").write_text("")
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        mailboxes(tmp_path / "mail").make_root()


def test_a_root_that_cannot_be_written_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode, **how: False)
    with pytest.raises(PermissionError, match="cannot write to"):
        mailboxes(tmp_path).make_root()
