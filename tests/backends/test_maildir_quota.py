"""How much a mailbox may hold, on real file systems."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from backend_messages import received
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.python.threadpool import ThreadPool

from lmtp_twisted import LMTPFactory
from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.backends.maildir import Detail, Fsync, Limits, MaildirBackend, OverQuota, quota
from lmtp_twisted.backends.maildir import sizefile as sizefile_module
from lmtp_twisted.backends.maildir.directories import Mailboxes
from lmtp_twisted.backends.maildir.maildirsize import LONGEST, Record, Usage
from lmtp_twisted.backends.maildir.quota import STALE, Quota
from lmtp_twisted.envelope import Recipient, Sender
from lmtp_twisted.errors import DeliveryError
from lmtp_twisted.message import ReceivedMessage
from lmtp_twisted.testing import Conversation, FakePool, FakeReactor
from lmtp_twisted.wire.addresses import parse_mailbox
from lmtp_twisted.wire.parameters import MailParameters

Receive = Callable[..., ReceivedMessage]
BOB = ("x", "bob")
FULL = (452, "4.2.2")

pytestmark = pytest.mark.usefixtures("no_linger")


def size_of(message: ReceivedMessage) -> int:
    """What a message takes in a mailbox."""
    return len((message.trace() + message.read()).replace(b"\r\n", b"\n"))


SIZE = size_of(received("bob@x"))


def backend(root: Path, limits: Limits | None, **options: Any) -> MaildirBackend:
    """A backend without threads."""
    options = {"reactor": FakeReactor(), "pool": FakePool(), "detail": Detail.FOLDER, **options}
    return MaildirBackend(str(root), hostname="mx", limits=limits, **options)


def result(deferred: Any) -> Any:
    results: list[Any] = []
    deferred.addBoth(results.append)
    (value,) = results
    return value


def said(outcome: object) -> tuple[int | None, str | None] | None:
    if outcome is None:
        return None
    assert isinstance(outcome, DeliveryError), outcome
    return outcome.code, outcome.enhanced


def deliver(one: MaildirBackend, message: ReceivedMessage) -> list[Any]:
    return [said(outcome) for outcome in result(one.deliver(message))]


def asked(one: MaildirBackend, octets: int | None = None, address: str = "bob@x") -> Any:
    """What RCPT is told after a MAIL that says how large the message is."""
    delivery: Any = one.getDelivery(received("bob@x").session)
    delivery.validateFrom(Sender(None, MailParameters(size=octets)))
    answer = delivery.validateTo(Recipient(parse_mailbox(address.encode())))
    if not isinstance(answer, Deferred):
        return answer
    value = result(answer)
    return value if value is None else said(value.value)


def sizefile(root: Path) -> Path:
    return root / "x/bob/maildirsize"


def record(root: Path) -> Record:
    found = Record.parse(sizefile(root).read_bytes())
    assert found is not None
    return found


def files(root: Path) -> list[Path]:
    """What is in the mailbox and its folders."""
    assert not [file for tmp in root.rglob("tmp") for file in tmp.iterdir()]
    return sorted((root / "x/bob").glob("**/new/*"))


def set_age(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Has one more each time that a mailbox is counted."""
    times: list[int] = []
    real = quota.count

    def count(mailbox: int, pending: Any) -> Usage:
        times.append(1)
        return real(mailbox, pending)

    monkeypatch.setattr(quota, "count", count)
    return times


# Delivery


def test_a_message_that_fits_is_filed_and_written_down(tmp_path: Path, receive: Receive) -> None:
    assert deliver(backend(tmp_path, Limits(10_000, 5)), receive("bob@x")) == [None]
    assert sizefile(tmp_path).read_text() == f"10000S,5C\n0 0\n{SIZE} 1\n"
    assert sizefile(tmp_path).stat().st_mode & 0o777 == 0o600
    assert [file.stat().st_size for file in files(tmp_path)] == [SIZE]


def test_the_last_octet_can_be_used_and_no_more(tmp_path: Path, receive: Receive) -> None:
    """RFC 3463 §3.3: X.2.2 mailbox full."""
    one = backend(tmp_path, Limits(2 * SIZE))
    assert [deliver(one, receive("bob@x")) for _ in range(3)] == [[None], [None], [FULL]]
    assert len(files(tmp_path)) == 2
    assert record(tmp_path).usage == Usage(2 * SIZE, 2)


def test_messages_can_be_counted(tmp_path: Path, receive: Receive) -> None:
    one = backend(tmp_path, Limits(0, 2))
    assert [deliver(one, receive("bob@x")) for _ in range(3)] == [[None], [None], [FULL]]
    assert len(files(tmp_path)) == 2


def test_a_full_mailbox_can_return_mail_to_its_sender(tmp_path: Path, receive: Receive) -> None:
    one = backend(tmp_path, Limits(0, 1), overquota=OverQuota.BOUNCE)
    assert [deliver(one, receive("bob@x")) for _ in range(2)] == [[None], [(552, "5.2.2")]]
    assert asked(one) == (552, "5.2.2")


def test_a_message_that_never_fits_leaves_nothing(tmp_path: Path, receive: Receive) -> None:
    assert deliver(backend(tmp_path, Limits(SIZE - 1)), receive("bob@x")) == [FULL]
    assert files(tmp_path) == []
    assert not sizefile(tmp_path).exists()


def test_who_has_room_gets_what_another_has_no_room_for(tmp_path: Path, receive: Receive) -> None:
    """Whichever of them is named first, and so holds the file that the others are linked to."""
    one = backend(tmp_path, Limits(0, 1))
    deliver(one, receive("bob@x"))
    assert deliver(one, receive("bob@x", "eve@x")) == [FULL, None]
    assert deliver(one, receive("ann@x", "bob@x")) == [None, FULL]
    assert len(files(tmp_path)) == 1
    assert [len(os.listdir(tmp_path / "x" / name / "new")) for name in ("ann", "eve")] == [1, 1]


def test_folders_share_the_mailboxs_quota(tmp_path: Path, receive: Receive) -> None:
    one = backend(tmp_path, Limits(0, 2), create_folders=True)
    assert deliver(one, receive("bob@x", "bob+a@x", "bob+b@x")) == [None, None, FULL]
    assert record(tmp_path).usage.messages == 2
    assert not (tmp_path / "x/bob/.a/maildirsize").exists()


def test_without_a_quota_nothing_is_written_down_or_asked(tmp_path: Path, receive: Receive, disk: Any) -> None:
    one = backend(tmp_path, None)
    assert one.getDelivery(receive("bob@x").session) is one
    disk.calls.clear()
    assert deliver(one, receive("bob@x")) == [None]
    assert not [call for call in disk.calls if "maildirsize" in call[-1]]
    assert not sizefile(tmp_path).exists()


@pytest.mark.parametrize("failing", ["fsync", "link", "rename"])
def test_what_does_not_arrive_gives_its_room_back(tmp_path: Path, receive: Receive, disk: Any, failing: str) -> None:
    one = backend(tmp_path, Limits(10_000), fsync=Fsync.EACH)
    deliver(one, receive("bob@x"))
    disk.fail(failing, "bob/new" if failing != "fsync" else "bob/tmp", errno.EIO)
    first = {"link": "ann@x"}.get(failing, "bob@x")
    assert (451, "4.3.0") in deliver(one, receive(first, "bob@x"))
    assert record(tmp_path).usage == Usage(SIZE, 1)
    assert not one._quota._latest[BOB].pending


def test_so_does_what_nobody_waits_for(tmp_path: Path, receive: Receive, disk: Any) -> None:
    pool = FakePool(immediate=False)
    one = backend(tmp_path, Limits(10_000), pool=pool)
    done = one.deliver(receive("bob@x"))
    done.addErrback(lambda failure: None)
    disk.before("write", "maildirsize", done.cancel)
    pool.run()
    assert files(tmp_path) == []
    assert record(tmp_path).usage == Usage()


def test_a_disk_that_is_full_is_no_mailbox_that_is_full(tmp_path: Path, receive: Receive, disk: Any) -> None:
    """RFC 3463 §3.4: X.3.1 mail system full. The line is as much part of it as the message."""
    disk.fail("write", "maildirsize", errno.ENOSPC)
    assert deliver(backend(tmp_path, Limits(10_000)), receive("bob@x")) == [(452, "4.3.1")]
    assert files(tmp_path) == []


def test_half_a_line_is_a_full_disk_and_makes_the_file_void(
    tmp_path: Path, receive: Receive, monkeypatch: pytest.MonkeyPatch, counted: list[int]
) -> None:
    one = backend(tmp_path, Limits(10_000))
    deliver(one, receive("bob@x"))
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, data: real(file, data[:3] if len(data) < 20 else data))
    assert deliver(one, receive("bob@x")) == [(452, "4.3.1")]
    monkeypatch.setattr(os, "write", real)
    counted.clear()
    assert deliver(one, receive("bob@x")) == [None]
    assert counted == [1]
    assert record(tmp_path).usage == Usage(2 * SIZE, 2)


# RCPT


def test_rcpt_hears_that_there_is_no_room_for_that_much(tmp_path: Path) -> None:
    """RFC 1870 §6.1."""
    one = backend(tmp_path, Limits(10_000))
    (tmp_path / "x/bob/tmp").mkdir(parents=True)
    assert asked(one, 10_000) is None
    assert asked(one, 10_001) == FULL
    assert asked(one) is None


def test_rcpt_hears_that_it_is_full_whatever_the_size(tmp_path: Path, receive: Receive) -> None:
    one = backend(tmp_path, Limits(0, 1))
    deliver(one, receive("bob@x"))
    assert asked(one) == FULL
    assert asked(one, address="bob+folder@x") == FULL
    assert asked(one, address="eve@x") is None


def test_the_whole_session(tmp_path: Path, receive: Receive) -> None:
    one = backend(tmp_path, Limits(2 * SIZE))
    client = Conversation(LMTPFactory(backend=one, reactor=FakeReactor()))
    client.say("LHLO client.example", f"MAIL FROM:<a@example.net> SIZE={3 * SIZE}")
    assert client.say("RCPT TO:<bob@x>")[0].startswith("452 4.2.2 ")
    client.say("RSET", "MAIL FROM:<a@example.net>")
    assert client.say("RCPT TO:<bob@x>")[0].startswith("250 2.1.5")
    assert client.say("DATA", "x" * 3 * SIZE, ".")[-1].startswith("452 4.2.2 <bob@x> ")


def test_a_mailbox_that_is_not_there_has_room(tmp_path: Path) -> None:
    assert asked(backend(tmp_path, Limits(1000)), 1000) is None
    assert os.listdir(tmp_path) == []


def test_one_that_is_not_to_be_made_is_not_there_however_large_the_message(tmp_path: Path) -> None:
    assert asked(backend(tmp_path, Limits(1000), create=False), 2000) == (550, "5.1.1")


def test_a_mailbox_that_is_not_whole_has_room(tmp_path: Path) -> None:
    (tmp_path / "x/bob").mkdir(parents=True)
    assert asked(backend(tmp_path, Limits(1000)), 1000) is None


def test_only_a_thread_asks_the_disk(tmp_path: Path, receive: Receive, disk: Any) -> None:
    pool = FakePool(immediate=False)
    one = backend(tmp_path, Limits(10_000), pool=pool)
    delivery: Any = one.getDelivery(receive("bob@x").session)
    disk.calls.clear()
    answer = delivery.validateTo(Recipient(parse_mailbox(b"bob@x")))
    assert disk.made(*set(disk.NAMES) - {"close"}) == []
    assert not answer.called
    pool.run()
    assert result(answer) is None


def test_what_is_known_to_have_room_is_not_asked_again_for_a_while(
    tmp_path: Path, receive: Receive, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = FakePool()
    one = backend(tmp_path, Limits(2 * SIZE), pool=pool)
    deliver(one, receive("bob@x"))
    threads: list[object] = []
    monkeypatch.setattr(pool, "callInThreadWithCallback", lambda *arguments: threads.append(arguments))
    delivery: Any = one.getDelivery(receive("bob@x").session)
    bob = Recipient(parse_mailbox(b"bob@x"))
    assert delivery.validateTo(bob) is None
    assert threads == []
    # A size beyond what we know it to have, or time gone by.
    delivery.validateFrom(Sender(None, MailParameters(size=SIZE + 1)))
    delivery.validateTo(bob)
    assert len(threads) == 1
    delivery.validateFrom(Sender(None, MailParameters(size=SIZE)))
    one._quota._latest[BOB].seen -= quota.FRESH
    delivery.validateTo(bob)
    assert len(threads) == 2


def test_only_so_many_mailboxes_are_known(tmp_path: Path, receive: Receive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota, "MOST_KNOWN", 3)
    one = backend(tmp_path, Limits(10_000))
    for number in range(10):
        deliver(one, receive(f"u{number}@x"))
    assert list(one._quota._latest) == [("x", f"u{number}") for number in (7, 8, 9)]
    assert len(one._quota._accounts) == 3


def test_a_disk_that_cannot_be_asked_says_try_again(tmp_path: Path, disk: Any) -> None:
    (tmp_path / "x/bob/cur").mkdir(parents=True)
    disk.fail("open", "bob/cur", errno.EIO)
    assert asked(backend(tmp_path, Limits(1000))) == (451, "4.3.0")


def test_a_file_that_cannot_be_read_says_try_again_and_stays_open_nowhere(
    tmp_path: Path, receive: Receive, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = backend(tmp_path, Limits(10_000))
    deliver(one, receive("bob@x"))

    def pread(*_arguments: int) -> bytes:
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr(os, "pread", pread)
    before = len(os.listdir("/proc/self/fd"))
    assert asked(one, 9_999) == (451, "4.3.0")
    assert deliver(one, receive("bob@x")) == [(451, "4.3.0")]
    assert len(os.listdir("/proc/self/fd")) <= before
    assert len(files(tmp_path)) == 1


# Counting


def fill(root: Path, *names: str, octets: int = 100) -> None:
    for name in names:
        path = root / "x/bob" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * octets)


def test_a_mailbox_without_the_file_is_counted(tmp_path: Path, receive: Receive, counted: list[int]) -> None:
    """All that is in new and cur, of the mailbox and of its folders. Names say the size where they do."""
    fill(
        tmp_path,
        "new/1.a",
        "cur/2.a,S=70:2,S",
        "cur/3.a,S=7,W=9:2,",
        "cur/4.a,S=x:2,",
        ".Trash/cur/5.a",
        ".a.b/new/6.a",
    )
    fill(tmp_path, "tmp/7.a", "subscriptions", ".a.b/maildirfolder", "cur/.hidden", "other/new/8.a", ".ssh/key")
    one = backend(tmp_path, Limits(10_000, 100))
    assert asked(one) is None
    assert sizefile(tmp_path).read_text() == "10000S,100C\n477 6\n"
    assert counted == [1]
    (tmp_path / "x/bob/tmp/7.a").unlink()
    assert deliver(one, receive("bob@x")) == [None]
    assert counted == [1]
    assert record(tmp_path).usage == Usage(477 + SIZE, 7)


def test_links_and_what_cannot_be_looked_into_are_not_counted(tmp_path: Path, disk: Any) -> None:
    fill(tmp_path, "new/1.a", ".b/new/2.a", "tmp/x")
    fill(tmp_path, "../eve/new/3.a")
    (tmp_path / "x/bob/.c").symlink_to(tmp_path / "x/eve")
    (tmp_path / "x/bob/.d").write_text("")
    disk.fail("open", "bob/.b", errno.EACCES)
    asked(backend(tmp_path, Limits(10_000)))
    assert record(tmp_path).usage == Usage(100, 1)


def test_a_message_that_is_moved_while_it_is_counted_counts_once(tmp_path: Path, disk: Any) -> None:
    fill(tmp_path, "new/1.a,S=100", "cur/2.a,S=100:2,S", "tmp/x")
    box = tmp_path / "x/bob"
    disk.before("open", "bob/cur", lambda: (box / "new/1.a,S=100").rename(box / "cur/1.a,S=100:2,"))
    asked(backend(tmp_path, Limits(10_000)))
    assert record(tmp_path).usage == Usage(200, 2)


def test_what_comes_while_it_is_counted_has_it_counted_once_more(tmp_path: Path, disk: Any) -> None:
    fill(tmp_path, "new/1.a,S=100", "cur/2.a,S=100:2,S", "tmp/x")
    set_age(tmp_path / "x/bob/new", 100)
    disk.before("open", "bob/cur", lambda: fill(tmp_path, "new/3.a,S=100"))
    asked(backend(tmp_path, Limits(10_000)))
    assert record(tmp_path).usage == Usage(300, 3)


def test_what_goes_while_it_is_counted_is_not_missed(tmp_path: Path, disk: Any) -> None:
    fill(tmp_path, "new/1.a", "new/2.a", "tmp/x")
    disk.before("stat", "new/1.a", (tmp_path / "x/bob/new/1.a").unlink)
    asked(backend(tmp_path, Limits(10_000)))
    assert record(tmp_path).usage == Usage(100, 1)


def test_our_own_messages_on_their_way_count_once(tmp_path: Path) -> None:
    """Whether they have come to their place or not."""
    boxes = Mailboxes(str(tmp_path), create=True, fsync=False, depth=2)
    one, limits = Quota(boxes), Limits(10_000)
    boxes.open(BOB)
    there, underway = (one.reserve(BOB, name, 100, limits) for name in ("1.a,S=100", "2.a,S=100"))
    fill(tmp_path, "cur/1.a,S=100:2,S")
    sizefile(tmp_path).unlink()
    one.check(BOB, 0, limits)
    assert sizefile(tmp_path).read_text() == "10000S\n200 2\n"
    one.settle(there, is_filed=True)
    one.settle(underway, is_filed=False)
    assert record(tmp_path).usage == Usage(100, 1)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"10000S\n",
        b"garbage",
        b"10000S\n5 1",
        b"10000S\n-5 1\n",
        b"10000S\n\0\0\0\0\0",
        b"9999S\n5 1\n",
        b"10000S,10C\n5 1\n",
        b"nonsense\n5 1\n",
        b"10000S\n" + b"0 0\n" * (LONGEST // 4),
    ],
)
def test_a_file_that_is_wrong_is_made_anew(tmp_path: Path, receive: Receive, data: bytes) -> None:
    """Maildir++: more than 5120 octets, other limits, or no sense."""
    fill(tmp_path, "new/1.a", "maildirsize")
    sizefile(tmp_path).write_bytes(data)
    old = sizefile(tmp_path).stat().st_ino
    assert deliver(backend(tmp_path, Limits(10_000)), receive("bob@x")) == [None]
    assert sizefile(tmp_path).read_text() == f"10000S\n100 1\n{SIZE} 1\n"
    assert sizefile(tmp_path).stat().st_ino != old


def test_a_file_of_5120_octets_is_read(tmp_path: Path, receive: Receive, counted: list[int]) -> None:
    fill(tmp_path, "new/1.a", "maildirsize")
    data = b"10000S\n" + b"0 0\n" * ((LONGEST - 20) // 4)
    data += b"0 0".rjust(LONGEST - len(data) - 1) + b"\n"
    assert len(data) == LONGEST
    sizefile(tmp_path).write_bytes(data)
    assert deliver(backend(tmp_path, Limits(10_000)), receive("bob@x")) == [None]
    assert counted == []


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_is_no_file_is_replaced(tmp_path: Path, receive: Receive, kind: str) -> None:
    """Nobody is held up, and nothing outside is touched."""
    (tmp_path / "x/bob").mkdir(parents=True)
    outside = tmp_path / "outside"
    outside.write_text("10000S\n5 1\n")
    if kind == "link":
        sizefile(tmp_path).symlink_to(outside)
    else:
        os.mkfifo(sizefile(tmp_path))
    assert deliver(backend(tmp_path, Limits(10_000)), receive("bob@x")) == [None]
    assert outside.read_text() == "10000S\n5 1\n"
    assert sizefile(tmp_path).is_file()
    assert not sizefile(tmp_path).is_symlink()


def test_a_directory_of_that_name_is_an_error(tmp_path: Path, receive: Receive) -> None:
    sizefile(tmp_path).mkdir(parents=True)
    assert deliver(backend(tmp_path, Limits(10_000)), receive("bob@x")) == [(451, "4.3.0")]
    assert files(tmp_path) == []


def test_what_was_written_before_the_machine_started_is_not_believed(
    tmp_path: Path, receive: Receive, counted: list[int]
) -> None:
    """A loss of power takes lines whose messages are on disk."""
    one = backend(tmp_path, Limits(10_000))
    deliver(one, receive("bob@x"))
    counted.clear()
    set_age(sizefile(tmp_path), time.clock_gettime(time.CLOCK_BOOTTIME) - 5)
    deliver(one, receive("bob@x"))
    assert counted == []
    set_age(sizefile(tmp_path), time.clock_gettime(time.CLOCK_BOOTTIME) + 5)
    deliver(one, receive("bob@x"))
    assert counted == [1]


class Full:
    """A mailbox of one message that may hold one, and a clock."""

    def __init__(self, root: Path) -> None:
        fill(root, "new/1.a", "tmp/x")
        self.now = time.time()
        self.quota = Quota(Mailboxes(str(root), create=True, fsync=False, depth=2), clock=lambda: self.now)

    def is_full(self) -> bool:
        try:
            self.quota.check(BOB, 0, Limits(0, 1))
        except DeliveryError:
            return True
        return False


def test_a_full_mailbox_is_counted_where_there_are_several_lines(tmp_path: Path, counted: list[int]) -> None:
    """Maildir++: over quota and more than one line. Somebody may have removed messages and not said so."""
    full = Full(tmp_path)
    fill(tmp_path, "maildirsize")
    sizefile(tmp_path).write_text("1C\n100 1\n0 0\n")
    assert full.is_full()
    assert counted == [1]
    assert sizefile(tmp_path).read_text() == "1C\n100 1\n"
    assert full.is_full()
    assert counted == [1]


def test_a_full_mailbox_is_counted_where_that_was_a_quarter_of_an_hour_ago(tmp_path: Path, counted: list[int]) -> None:
    """Maildir++: over quota and older than 15 minutes."""
    full = Full(tmp_path)
    assert full.is_full()
    assert counted == [1]
    (tmp_path / "x/bob/new/1.a").unlink()
    full.now += STALE - 5
    assert full.is_full()
    assert counted == [1]
    full.now += 10
    assert not full.is_full()
    assert counted == [1, 1]


def test_mail_for_a_full_mailbox_has_it_counted_once_a_minute_at_the_most(tmp_path: Path, counted: list[int]) -> None:
    full = Full(tmp_path)
    for _ in range(5):
        sizefile(tmp_path).write_text("1C\n100 1\n0 0\n")
        assert full.is_full()
    assert counted == [1]
    full.now += quota.PAUSE
    assert full.is_full()
    assert counted == [1, 1]


# At the same time


@pytest_twisted.ensureDeferred
async def test_threads_do_not_take_the_same_room(tmp_path: Path, receive: Receive, pool: ThreadPool) -> None:
    one = MaildirBackend(str(tmp_path), reactor=reactor, pool=pool, fsync=Fsync.NO, limits=Limits(30 * SIZE))
    # Those that lie in files go another way, in other threads.
    waiting = [one.deliver(receive("bob@x", block=None if number % 2 else 10)) for number in range(60)]
    outcomes = [said((await each)[0]) for each in waiting]
    assert sorted(outcomes, key=str) == [FULL] * 30 + [None] * 30
    assert len(files(tmp_path)) == 30
    assert record(tmp_path).usage == Usage(30 * SIZE, 30)
    await one.shut_down()


def test_threads_that_count_anew_miss_and_double_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is too long every few messages, while others are on their way into the mailbox."""
    monkeypatch.setattr(sizefile_module, "LONGEST", 60)
    boxes = Mailboxes(str(tmp_path), create=True, fsync=False, depth=2)
    boxes.open(BOB)
    one = Quota(boxes)
    start = threading.Barrier(4)

    def work(who: int) -> None:
        start.wait(60)
        for number in range(100):
            name = f"{number}.{who},S=7"
            try:
                reservation = one.reserve(BOB, name, 7, Limits(0, 150))
            except DeliveryError:
                continue
            is_filed = number % 3 > 0
            if is_filed:
                fill(tmp_path, f"new/{name}", octets=7)
            one.settle(reservation, is_filed=is_filed)

    threads = [threading.Thread(target=work, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(files(tmp_path)) <= 150
    assert record(tmp_path).usage == Usage(7 * len(files(tmp_path)), len(files(tmp_path)))


def test_who_finds_the_room_taken_since_it_looked_takes_nothing(tmp_path: Path, receive: Receive, disk: Any) -> None:
    """Another process has appended its line after we read the file and before we wrote ours."""
    one = backend(tmp_path, Limits(0, 1))
    deliver(one, receive("eve@x"))
    asked(one)
    (tmp_path / "x/bob/tmp").mkdir(parents=True)
    asked(one)
    with sizefile(tmp_path).open("ab") as other:

        def append() -> None:
            other.write(b"100 1\n")
            other.flush()

        disk.before("write", "bob/maildirsize", append)
        assert deliver(one, receive("bob@x")) == [FULL]
    assert sizefile(tmp_path).read_text() == f"1C\n0 0\n100 1\n{SIZE} 1\n-{SIZE} -1\n"
    assert files(tmp_path) == []


def test_a_line_in_a_file_that_was_replaced_is_written_again(tmp_path: Path, receive: Receive, disk: Any) -> None:
    one = backend(tmp_path, Limits(10_000))
    deliver(one, receive("bob@x"))

    def replace() -> None:
        other = tmp_path / "other"
        other.write_text(f"10000S\n{SIZE} 1\n")
        other.rename(sizefile(tmp_path))

    disk.before("write", "bob/maildirsize", replace)
    assert deliver(one, receive("bob@x")) == [None]
    assert sizefile(tmp_path).read_text() == f"10000S\n{SIZE} 1\n{SIZE} 1\n"


def test_a_line_in_a_file_that_was_removed_is_written_again(tmp_path: Path, receive: Receive, disk: Any) -> None:
    """Dovecot removes it where it could not count."""
    one = backend(tmp_path, Limits(10_000))
    deliver(one, receive("bob@x"))
    disk.before("write", "bob/maildirsize", sizefile(tmp_path).unlink)
    assert deliver(one, receive("bob@x")) == [None]
    assert sizefile(tmp_path).read_text() == f"10000S\n{SIZE} 1\n{SIZE} 1\n"


def test_nothing_is_given_back_where_the_file_is_gone(tmp_path: Path) -> None:
    boxes = Mailboxes(str(tmp_path), create=True, fsync=False, depth=2)
    one, limits = Quota(boxes), Limits(10_000)
    boxes.open(BOB)
    reservation = one.reserve(BOB, "1.a,S=100", 100, limits)
    sizefile(tmp_path).unlink()
    one.settle(reservation, is_filed=False)
    assert not sizefile(tmp_path).exists()
    one.check(BOB, 0, limits)
    assert record(tmp_path).usage == Usage()


PROCESS = """
import sys
from lmtp_twisted.backends.maildir.directories import Mailboxes
from lmtp_twisted.backends.maildir.maildirsize import Limits
from lmtp_twisted.backends.maildir.quota import Quota
from lmtp_twisted.errors import DeliveryError

root, who, limit = sys.argv[1], sys.argv[2], int(sys.argv[3])
boxes = Mailboxes(root, create=True, fsync=False, depth=1)
quota, limits = Quota(boxes), Limits(0, limit)
boxes.open(("bob",))
print("ready", flush=True)
sys.stdin.readline()
taken = 0
for number in range(1000):
    name = f"{number}.{who},S=10"
    try:
        reservation = quota.reserve(("bob",), name, 10, limits)
    except DeliveryError:
        continue
    if number % 3:
        with open(f"{root}/bob/new/{name}", "w") as file:
            file.write("0123456789")
        taken += 1
    quota.settle(reservation, is_filed=bool(number % 3))
print(taken)
"""


def test_processes_do_not_take_the_same_room(tmp_path: Path) -> None:
    """Two at a time, whose lines stand in one file, which gets too long now and then."""
    limit = 700
    processes = [
        subprocess.Popen(
            (sys.executable, "-c", PROCESS, str(tmp_path), who, str(limit)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for who in ("a", "b")
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    answers: list[str] = []
    waiting = [
        threading.Thread(target=lambda process=process: answers.append(process.communicate("go\n")[0]))
        for process in processes
    ]
    for thread in waiting:
        thread.start()
    for thread in waiting:
        thread.join()
    assert [process.returncode for process in processes] == [0, 0]
    taken = sum(map(int, answers))
    there = len(os.listdir(tmp_path / "bob/new"))
    assert there == taken
    found = Record.parse((tmp_path / "bob/maildirsize").read_bytes())
    assert found is not None
    print(f"{there} of {limit}, written down {found.usage}")
    # Each of the two may have counted just before the other filed what it had a line for.
    assert limit - 2 <= there <= limit + 20
    assert abs(found.usage.messages - there) <= 20


# From a description


def context() -> BackendContext:
    return BackendContext(FakeReactor(), FakePool(), hostname="mx")  # type: ignore[arg-type]


def test_a_description_sets_it(tmp_path: Path, receive: Receive) -> None:
    built: Any = context().build(f"maildir:{tmp_path},quota=1k:1,overquota=bounce")
    assert [deliver(built, receive("bob@x")) for _ in range(2)] == [[None], [(552, "5.2.2")]]
    assert sizefile(tmp_path).read_bytes().startswith(b"1024S,1C\n")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("quota=much", "quota is octets such as 1G, or octets and messages such as 1G:10000, not 'much'"),
        ("overquota=drop", "overquota is defer or bounce, not 'drop'"),
    ],
)
def test_what_is_wrong_with_it_is_said(tmp_path: Path, options: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        context().build(f"maildir:{tmp_path},{options}")
