"""
File systems that are full, over quota, read-only, dead: real ones, mounted for the test. After each error nothing is in
``new`` that was refused, nothing in ``tmp``, and once the cause is gone the same session delivers.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from real_disks import again, btrfs_quota, ext4, tmpfs
from twisted.logger import LogEvent, LogLevel, globalLogPublisher

from lmtp_twisted import LMTPFactory
from lmtp_twisted.backends.maildir import MaildirBackend
from lmtp_twisted.testing import Conversation, FakePool, FakeReactor

pytestmark = pytest.mark.usefixtures("no_linger")

#: More than a block of any of these, and than what fits into an inode.
CONTENT = "Subject: hello\r\n\r\n" + ("x" * 70 + "\r\n") * 1000

NO_ROOM = "452 4.3.1"
OVER_QUOTA = "452 4.2.2"
NOT_AVAILABLE = "451 4.3.0"
TOO_BUSY = "451 4.3.2"
DELIVERED = "250 2.0.0"


@pytest.fixture
def logged() -> Iterator[list[LogEvent]]:
    """The events of warnings and errors."""
    events: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        if event["log_level"] >= LogLevel.warn:
            events.append(event)

    globalLogPublisher.addObserver(observe)
    yield events
    globalLogPublisher.removeObserver(observe)


class Session:
    """
    One session with a server whose mailboxes are ``ROOT/DOMAIN/LOCAL``.

    :param root: of the mailboxes.
    """

    def __init__(self, root: Path, **options: Any) -> None:
        self.root = root
        self._backend = MaildirBackend(
            str(root),
            hostname="mx",
            reactor=FakeReactor(),
            pool=FakePool(),
            **options,  # type: ignore[arg-type]  # fakes
        )
        self._client = Conversation(LMTPFactory(backend=self._backend, reactor=FakeReactor()))
        self._client.say("LHLO client.example")

    def deliver(self, *recipients: str, content: str = CONTENT) -> list[str]:
        """The codes of the final replies, one for each recipient, which must be named in order."""
        self._client.say("MAIL FROM:<a@example.net>", *(f"RCPT TO:<{name}>" for name in recipients), "DATA")
        replies = self._client.send(f"{content}.\r\n".encode())
        assert [re.split("[<>]", reply)[1] for reply in replies] == list(recipients)
        return [reply[:9] for reply in replies]

    def messages(self) -> dict[str, int]:
        """For each mailbox how many messages are in its ``new``, each of which must be whole."""
        found: dict[str, int] = {}
        for file in self.root.glob("*/*/new/*"):
            assert file.read_text().endswith(CONTENT.replace("\r\n", "\n"))
            local, domain = file.parts[-3], file.parts[-4]
            found[f"{local}@{domain}"] = found.get(f"{local}@{domain}", 0) + 1
        return found

    def litter(self) -> list[Path]:
        """What is left in any ``tmp``."""
        return list(self.root.glob("*/*/tmp/*"))

    def close(self) -> None:
        self._backend.shut_down()
        self._client.lose()


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Callable[..., Session]]:
    """Makes sessions and closes them."""
    with contextlib.ExitStack() as stack:

        def make(root: Path = tmp_path, **options: Any) -> Session:
            made = Session(root, **options)
            stack.callback(made.close)
            return made

        yield make


Make = Callable[..., Session]


# Full


@pytest.mark.parametrize("leave", [0, 20_000], ids=["nothing fits", "a part fits"])
@pytest.mark.parametrize("system", [tmpfs, ext4])
def test_a_full_disk_is_452_for_each_recipient_until_there_is_room(
    tmp_path: Path, session: Make, logged: list[LogEvent], system: Any, leave: int
) -> None:
    """RFC 3463 §3.4: X.3.1 mail system full."""
    with system(tmp_path / "disk") as disk, contextlib.closing(Session(disk.path)) as one:
        assert one.deliver("a@x", "b@x") == [DELIVERED] * 2
        disk.fill(leave)
        assert one.deliver("a@x", "b@x", "new@x") == [NO_ROOM] * 3
        assert one.messages() == {"a@x": 1, "b@x": 1}
        assert one.litter() == []
        assert {event["error"].errno for event in logged} == {errno.ENOSPC}
        disk.make_room()
        assert one.deliver("a@x", "b@x", "new@x") == [DELIVERED] * 3
        assert one.messages() == {"a@x": 2, "b@x": 2, "new@x": 1}


def test_a_disk_without_inodes_is_full_too(tmp_path: Path, logged: list[LogEvent]) -> None:
    with tmpfs(tmp_path / "disk", "size=1m,nr_inodes=40") as disk, contextlib.closing(Session(disk.path)) as one:
        assert one.deliver("a@x") == [DELIVERED]
        disk.fill_inodes()
        assert one.deliver("a@x", "new@x") == [NO_ROOM] * 2
        assert one.messages() == {"a@x": 1}
        assert one.litter() == []
        assert len(logged) == 2


def test_a_disk_that_is_full_for_some_recipients_serves_the_others(
    tmp_path: Path, session: Make, logged: list[LogEvent]
) -> None:
    """RFC 2033 §4.2: each recipient has its own answer."""
    one = session()
    with tmpfs(tmp_path / "full") as full, tmpfs(tmp_path / "roomy"):
        full.fill()
        assert one.deliver("a@full", "b@roomy", "c@full", "d@x", "e@roomy") == [
            NO_ROOM,
            DELIVERED,
            NO_ROOM,
            DELIVERED,
            DELIVERED,
        ]
        assert one.messages() == {"b@roomy": 1, "d@x": 1, "e@roomy": 1}
        assert one.litter() == []
        assert sorted(event["mailbox"] for event in logged) == ["full/a", "full/c"]
        one.close()


def test_a_full_disk_is_not_filled_once_for_each_recipient(tmp_path: Path, disk: Any) -> None:
    """A thousand of them would write a thousand times what there is room for."""
    with tmpfs(tmp_path / "disk") as real, contextlib.closing(Session(real.path)) as one:
        recipients = [f"u{number}@x" for number in range(20)]
        assert one.deliver(*recipients) == [DELIVERED] * 20
        real.fill(20_000)
        disk.calls.clear()
        assert one.deliver(*recipients) == [NO_ROOM] * 20
        assert len([call for call in disk.made("open") if "/tmp/" in call[1]]) == 1


def test_one_mailbox_without_room_of_its_own_does_not_speak_for_the_disk(
    tmp_path: Path, session: Make, disk: Any
) -> None:
    """As where a directory has a quota that is answered with ENOSPC (xfs_quota(8))."""
    disk.fail("write", "x/a/tmp/", errno.ENOSPC)
    one = session()
    assert one.deliver("a@x", "b@x", "c@x") == [NO_ROOM, DELIVERED, DELIVERED]
    assert one.messages() == {"b@x": 1, "c@x": 1}


# Quota


@pytest.mark.peer("btrfs")
def test_who_is_over_the_file_systems_quota_is_452_4_2_2_and_nobody_else(
    tmp_path: Path, logged: list[LogEvent]
) -> None:
    """RFC 3463 §3.3: X.2.2 mailbox full. The quota is that of a btrfs subvolume, which root cannot exceed either."""
    with btrfs_quota(tmp_path / "disk", "example.org") as over, contextlib.closing(Session(tmp_path / "disk")) as one:
        assert one.deliver("a@example.org", "b@x") == [DELIVERED] * 2
        over.fill()
        assert one.deliver("a@example.org", "b@x", "new@example.org") == [OVER_QUOTA, DELIVERED, OVER_QUOTA]
        assert one.messages() == {"a@example.org": 1, "b@x": 2}
        assert one.litter() == []
        assert {event["error"].errno for event in logged} == {errno.EDQUOT}
        over.make_room()
        # Room is counted when the removal is on disk.
        os.sync()
        assert one.deliver("a@example.org") == [DELIVERED]


# Read-only


@pytest.mark.parametrize("system", [tmpfs, ext4])
def test_a_disk_that_was_remounted_read_only_is_451_until_it_can_be_written(
    tmp_path: Path, logged: list[LogEvent], system: Any
) -> None:
    """As ext4 does by itself where it finds an error (errors=remount-ro)."""
    with system(tmp_path / "disk") as disk, contextlib.closing(Session(disk.path)) as one:
        assert one.deliver("a@x") == [DELIVERED]
        disk.remount("ro")
        assert one.deliver("a@x", "new@x") == [NOT_AVAILABLE] * 2
        assert {event["error"].errno for event in logged} == {errno.EROFS}
        disk.remount("rw")
        assert one.messages() == {"a@x": 1}
        assert one.litter() == []
        assert one.deliver("a@x", "new@x") == [DELIVERED] * 2


def test_one_that_becomes_read_only_in_the_midst_of_a_message_has_nothing_of_it(
    tmp_path: Path, disk: Any, logged: list[LogEvent]
) -> None:
    """The file stays in tmp, since nobody could remove it: it is swept when it is 36 hours old."""
    with tmpfs(tmp_path / "disk") as real, contextlib.closing(Session(real.path)) as one:
        assert one.deliver("a@x", "b@x") == [DELIVERED] * 2
        disk.before("link", "b/new", lambda: real.remount("ro"))
        assert one.deliver("a@x", "b@x") == [NOT_AVAILABLE] * 2
        real.remount("rw")
        assert one.messages() == {"a@x": 1, "b@x": 1}
        assert len(one.litter()) == 1
        assert len(logged) == 2


# Dead


@pytest.mark.parametrize(
    ("call", "where"),
    [("open", "a/tmp/"), ("write", "a/tmp/"), ("fsync", "a/tmp/"), ("link", "b/new"), ("rename", "a/new")],
)
def test_a_disk_that_dies_is_451_and_after_it_has_come_back_nothing_is_partial(
    tmp_path: Path, session: Make, disk: Any, logged: list[LogEvent], call: str, where: str
) -> None:
    """All that asks it anything fails with EIO, and it has lost what was not on it."""
    one = session()
    with ext4(tmp_path / "example.org") as real:
        assert one.deliver("a@example.org", "b@example.org", "c@x") == [DELIVERED] * 3
        disk.before(call, where, real.die)
        assert one.deliver("a@example.org", "b@example.org", "c@x") == [NOT_AVAILABLE, NOT_AVAILABLE, DELIVERED]
        assert {event["error"].errno for event in logged} == {errno.EIO}
        assert one.deliver("c@x") == [DELIVERED]
        one.close()
    assert one.messages() == {"c@x": 3}


@pytest.mark.parametrize(("syncing", "left"), [("syncfs", {"a@x": 1, "b@x": 1}), ("fsync", {"a@x": 2, "b@x": 2})])
def test_one_that_dies_when_its_directories_are_synced_is_451_and_has_nothing_partial(
    tmp_path: Path, disk: Any, logged: list[LogEvent], syncing: str, left: dict[str, int]
) -> None:
    """
    RFC 5321 §4.2.5: a 250 would be a promise that may be broken already. Where it had written all before it died, what
    could not be taken back comes once more, and whole.
    """
    with ext4(tmp_path / "disk") as real, contextlib.closing(Session(real.path)) as one:
        assert one.deliver("a@x", "b@x") == [DELIVERED] * 2
        disk.before("rename", "a/new", lambda: disk.before(syncing, "new", real.die))
        assert one.deliver("a@x", "b@x") == [NOT_AVAILABLE] * 2
        assert {event["error"].errno for event in logged} == {errno.EIO}
    with again(tmp_path / "disk"), contextlib.closing(Session(tmp_path / "disk")) as one:
        assert one.messages() == left
        assert one.deliver("a@x", "b@x") == [DELIVERED] * 2


# Out of descriptors


def test_a_process_without_descriptors_is_too_busy(tmp_path: Path, session: Make, logged: list[LogEvent]) -> None:
    """RFC 3463 §3.4: X.3.2 system not accepting network messages."""
    one = session()
    assert one.deliver("a@x") == [DELIVERED]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The lowest number that is free is the next one.
    free = os.open("/dev/null", os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        assert one.deliver("a@x", "new@x") == [TOO_BUSY] * 2
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert {event["error"].errno for event in logged} == {errno.EMFILE}
    assert one.messages() == {"a@x": 1}
    assert one.litter() == []
    assert one.deliver("a@x", "new@x") == [DELIVERED] * 2
