"""Waiting for the disk: together where that is faster, and never for less than each fsync would have waited for."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lmtp_twisted.backends.maildir import disk as maildir_disk
from lmtp_twisted.backends.maildir.commit import Filer
from lmtp_twisted.backends.maildir.directories import Mailboxes
from lmtp_twisted.backends.maildir.disk import FIRST_REST, LONGEST_REST, Disk, Fsync, can_sync_together, syncfs
from lmtp_twisted.backends.maildir.job import Job
from lmtp_twisted.backends.maildir.lines import Newlines
from lmtp_twisted.message import ReceivedMessage

Receive = Callable[..., ReceivedMessage]


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever file system the tests run on, syncfs is good there."""
    monkeypatch.setattr(maildir_disk, "can_sync_together", lambda device: True)


#: What a sync of two calls, together and each.
TOGETHER = ["syncfs", "fsync 1"]
EACH = ["fsync 1", "fsync 2"]


class Stopwatch:
    """A clock, and a disk that takes so long."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.together = self.each = 0.0
        self.calls: list[str] = []
        self.broken: set[int] = set()
        self.reports_it = True
        monkeypatch.setattr(maildir_disk, "syncfs", self._syncfs)
        monkeypatch.setattr(os, "fsync", self._fsync)
        monkeypatch.setattr(os, "posix_fadvise", lambda *arguments: None)

    def _syncfs(self, descriptor: int) -> None:
        self.now += self.together
        self.calls.append("syncfs")
        if self.broken and self.reports_it:
            raise OSError(errno.EIO, "broken")

    def _fsync(self, descriptor: int) -> None:
        self.now += self.each
        self.calls.append(f"fsync {descriptor}")
        if descriptor in self.broken:
            raise OSError(errno.EIO, "broken")

    def sync(self, disk: Disk, *descriptors: int) -> list[str]:
        """What a sync of these calls."""
        self.calls.clear()
        disk.sync(7, descriptors, are_files=True)
        return self.calls[:]

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Stopwatch:
    return Stopwatch(monkeypatch)


def job(message: ReceivedMessage) -> Job:
    return Job(message, [(recipient.address.local,) for recipient in message.recipients])


def filer(root: Path, fsync: Fsync = Fsync.YES) -> Filer:
    # A disk that is slow just now changes what is done next, so no time passes.
    return Filer(Mailboxes(str(root), create=True, fsync=True), "mx", Newlines.LF, Disk(fsync, lambda: 0.0))


# The order


@pytest.mark.usefixtures("together")
def test_a_batch_is_synced_before_it_is_in_new_and_once_more_before_the_answer(
    tmp_path: Path, receive: Receive, disk: Any
) -> None:
    """RFC 5321 §4.2.5: with its 250 a server takes the responsibility for the message."""
    one = filer(tmp_path)
    for name in "abc":
        one.mailboxes.open((name,))
    disk.calls.clear()
    jobs = [job(receive("a@x", "b@x")), job(receive("c@x"))]
    one.file(jobs)
    calls = [(name, re.sub(r"/\d.*", "/FILE", paths[-1])) for name, *paths in disk.made(*disk.NAMES, "syncfs")]
    assert calls == [
        ("open", "a/tmp/FILE"),
        ("write", "a/tmp/FILE"),
        ("open", "c/tmp/FILE"),
        ("write", "c/tmp/FILE"),
        ("syncfs", "a/tmp/FILE"),
        ("fsync", "a/tmp/FILE"),
        ("close", "a/tmp/FILE"),
        ("close", "c/tmp/FILE"),
        ("link", "b/new/FILE"),
        ("rename", "a/new/FILE"),
        ("rename", "c/new/FILE"),
        ("syncfs", "b/new"),
        ("fsync", "b/new"),
    ]
    assert [job.filed for job in jobs] == [{("a",), ("b",)}, {("c",)}]


@pytest.mark.usefixtures("together")
def test_when_it_fails_each_file_says_whether_it_is_the_one(tmp_path: Path, receive: Receive, disk: Any) -> None:
    """syncfs(2) tells of any file of the file system, which need not be ours."""
    one = filer(tmp_path)
    jobs = [job(receive("a@x")), job(receive("b@x"))]
    disk.fail("syncfs", "/tmp/", errno.EIO)
    disk.fail("fsync", "b/tmp/", errno.EIO)
    one.file(jobs)
    assert [job.filed for job in jobs] == [{("a",)}, set()]
    assert isinstance(jobs[1].errors[("b",)], OSError)
    assert not list(tmp_path.glob("b/new/*")) + list(tmp_path.glob("*/tmp/*"))


@pytest.mark.usefixtures("together")
def test_when_it_fails_for_directories_each_says_so_too(tmp_path: Path, receive: Receive, disk: Any) -> None:
    one = filer(tmp_path)
    jobs = [job(receive("a@x")), job(receive("b@x"))]
    disk.fail("syncfs", "/new", errno.EIO)
    disk.fail("fsync", "b/new", errno.EIO)
    one.file(jobs)
    assert [job.filed for job in jobs] == [{("a",)}, set()]
    assert not list(tmp_path.glob("b/new/*"))


@pytest.mark.usefixtures("together")
def test_a_file_system_is_synced_for_itself(watch: Stopwatch, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cannot be synced as a whole does not keep another from it."""
    monkeypatch.setattr(maildir_disk, "can_sync_together", lambda device: device == 7)
    disk = Disk(Fsync.YES, watch)
    disk.sync(7, [1, 2], are_files=True)
    disk.sync(8, [3, 4], are_files=True)
    assert watch.calls == [*TOGETHER, "fsync 3", "fsync 4"]


@pytest.mark.usefixtures("together")
def test_nothing_is_synced_for_nothing(watch: Stopwatch) -> None:
    assert watch.sync(Disk(Fsync.YES, watch)) == []


@pytest.mark.usefixtures("together")
def test_one_alone_is_synced_by_itself(watch: Stopwatch) -> None:
    """It may be a large message, whose time says nothing of the others."""
    disk = Disk(Fsync.YES, watch)
    watch.each = 5.0
    assert watch.sync(disk, 1) == ["fsync 1"]
    watch.each, watch.together = 0.0, 2.0
    assert watch.sync(disk, 1, 2) == TOGETHER
    assert watch.sync(disk, 1, 2) == EACH


@pytest.mark.usefixtures("together")
def test_a_file_system_that_has_given_up_is_found_out(watch: Stopwatch) -> None:
    """Before Linux 6.13 syncfs says nothing of a journal that was aborted; fsync does."""
    disk = Disk(Fsync.YES, watch)
    watch.broken, watch.reports_it = {1, 2}, False
    assert set(disk.sync(7, [1, 2], are_files=False)) == {1, 2}


@pytest.mark.parametrize(("fsync", "calls"), [(Fsync.EACH, EACH), (Fsync.NO, [])])
@pytest.mark.usefixtures("together")
def test_it_can_be_told_not_to(watch: Stopwatch, fsync: Fsync, calls: list[str]) -> None:
    assert watch.sync(Disk(fsync, watch), 1, 2) == calls


# Where others write much


@pytest.mark.usefixtures("together")
def test_one_that_took_too_long_is_left_alone_for_a_while(watch: Stopwatch) -> None:
    """It waits for all that anybody has written there."""
    disk = Disk(Fsync.YES, watch)
    watch.together = 2.0
    assert watch.sync(disk, 1, 2) == TOGETHER
    assert watch.sync(disk, 1, 2) == EACH
    watch.now += FIRST_REST - 0.5
    assert watch.sync(disk, 1, 2) == EACH
    watch.now += 1
    assert watch.sync(disk, 1, 2) == TOGETHER


@pytest.mark.usefixtures("together")
def test_the_rests_get_longer_up_to_a_bound_and_short_again(watch: Stopwatch) -> None:
    disk, rest = Disk(Fsync.YES, watch), FIRST_REST
    watch.together = 2.0
    for _ in range(9):
        assert watch.sync(disk, 1, 2) == TOGETHER
        watch.now += rest - 0.5
        assert watch.sync(disk, 1, 2) == EACH
        watch.now += 1
        rest = min(2 * rest, LONGEST_REST)
    watch.together = 0.01
    assert watch.sync(disk, 1, 2) == TOGETHER
    watch.together = 2.0
    assert watch.sync(disk, 1, 2) == TOGETHER
    watch.now += FIRST_REST
    assert watch.sync(disk, 1, 2) == TOGETHER


@pytest.mark.usefixtures("together")
def test_one_stall_that_several_threads_saw_is_one(watch: Stopwatch, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(Fsync.YES, watch)
    watch.together = 2.0
    first = maildir_disk.syncfs

    def meanwhile(descriptor: int) -> None:
        monkeypatch.setattr(maildir_disk, "syncfs", first)
        disk.sync(7, [3, 4], are_files=True)
        watch.now += 0.5

    monkeypatch.setattr(maildir_disk, "syncfs", meanwhile)
    watch.sync(disk, 1, 2)
    watch.now += FIRST_REST
    assert watch.sync(disk, 1, 2) == TOGETHER


@pytest.mark.usefixtures("together")
def test_on_a_slow_disk_it_may_take_as_long_as_the_fsyncs_would(watch: Stopwatch) -> None:
    disk = Disk(Fsync.YES, watch)
    watch.together, watch.each = 1.0, 0.5
    assert watch.sync(disk, 1, 2) == TOGETHER
    assert watch.sync(disk, 1, 2) == EACH
    watch.now += FIRST_REST
    assert watch.sync(disk, 1, 2) == TOGETHER
    assert watch.sync(disk, 1, 2) == TOGETHER


@pytest.mark.usefixtures("together")
def test_one_that_failed_is_tried_again_and_its_time_is_not_that_of_the_fsyncs(watch: Stopwatch) -> None:
    disk = Disk(Fsync.YES, watch)
    watch.broken, watch.together = {2}, 30.0
    assert set(disk.sync(7, [1, 2], are_files=False)) == {2}
    watch.broken, watch.together = set(), 2.0
    assert watch.sync(disk, 1, 2) == TOGETHER
    assert watch.sync(disk, 1, 2) == EACH


# Where it may be used at all


@pytest.mark.parametrize(
    ("release", "kind", "answer"),
    [
        ("6.1.0-18-amd64", "ext4", True),
        ("5.8.0", "ext4", True),
        ("5.7.19", "ext4", False),
        ("4.19.0", "ext4", False),
        ("6.1.0", "nfs4", False),
        ("6.1.0", "fuse.sshfs", False),
        ("6.1.0", "btrfs", False),
        ("strange", "ext4", False),
    ],
)
def test_the_kernel_has_to_report_errors_and_the_file_system_to_be_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str, kind: str, answer: bool
) -> None:
    """syncfs(2): errors of writing are reported since Linux 5.8."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 8:1 / / rw,relatime shared:1 - xfs /dev/sda1 rw\n"
        f"36 22 8:3 / /srv/m\\040ail rw,noatime master:1 shared:2 - {kind} /dev/sda3 rw\n"
    )
    monkeypatch.setattr(maildir_disk, "_MOUNTS", str(mounts))
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(release=release, sysname="Linux"))
    monkeypatch.setattr(maildir_disk, "_syncfs", print)
    assert can_sync_together(os.makedev(8, 3)) is answer
    assert not can_sync_together(os.makedev(8, 1))
    assert not can_sync_together(os.makedev(8, 4))


def test_without_a_list_of_mounts_it_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maildir_disk, "_MOUNTS", str(tmp_path / "none"))
    assert not can_sync_together(os.stat(tmp_path).st_dev)


def test_the_file_system_is_the_one_that_the_system_names(tmp_path: Path) -> None:
    named = subprocess.run(["findmnt", "-no", "FSTYPE", "-T", tmp_path], capture_output=True, text=True, check=True)
    types = set(maildir_disk._types_of(os.stat(tmp_path).st_dev))
    assert types <= {named.stdout.strip()}


def test_the_real_one_syncs_and_says_what_is_wrong(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    syncfs(descriptor)
    os.close(descriptor)
    with pytest.raises(OSError, match="Bad file descriptor") as refused:
        syncfs(descriptor)
    assert refused.value.errno == errno.EBADF
