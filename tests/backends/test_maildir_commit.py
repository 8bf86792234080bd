"""Filing a batch: what is answered with a yes is on disk, and what is answered with a no is nowhere."""

from __future__ import annotations

import errno
import gc
import mailbox
import os
import re
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backend_messages import received
from hypothesis import given, settings
from hypothesis import strategies as st

from lmtp_twisted.backends.maildir.commit import Filer
from lmtp_twisted.backends.maildir.directories import Mailboxes
from lmtp_twisted.backends.maildir.disk import Disk, Fsync
from lmtp_twisted.backends.maildir.job import Job
from lmtp_twisted.backends.maildir.lines import Newlines
from lmtp_twisted.backends.maildir.naming import Case, Layout, Naming
from lmtp_twisted.errors import PermanentFailure
from lmtp_twisted.message import ReceivedMessage
from lmtp_twisted.wire.addresses import Address

Receive = Callable[..., ReceivedMessage]
NAME = re.compile(r"\d+\.M\d+P\d+Q\d+\.mx,S=\d+")


def filer(root: Path, *, hostname: str = "mx", fsync: Fsync = Fsync.EACH, create: bool = True) -> Filer:
    mailboxes = Mailboxes(str(root), create=create, fsync=fsync is not Fsync.NO)
    return Filer(mailboxes, hostname, Newlines.LF, Disk(fsync))


def job(message: ReceivedMessage) -> Job:
    """Each recipient's mailbox is a directory of its local part."""
    return Job(message, [(recipient.address.local,) for recipient in message.recipients])


def files(root: Path, name: str, folder: str = "new") -> list[Path]:
    directory = root / name / folder
    return sorted(directory.iterdir()) if directory.is_dir() else []


def nothing_in_tmp(root: Path) -> bool:
    return not list(root.glob("*/tmp/*"))


def filed(*jobs: Job) -> list[set[str]]:
    return [{names[0] for names in job.filed} for job in jobs]


# The file


def test_a_message_is_one_file_in_new(tmp_path: Path, receive: Receive) -> None:
    message = receive("a@x")
    filing = job(message)
    filer(tmp_path).file([filing])
    (file,) = files(tmp_path, "a")
    assert file.read_bytes() == (message.trace() + message.read()).replace(b"\r\n", b"\n")
    assert filed(filing) == [{"a"}]
    assert nothing_in_tmp(tmp_path)


def test_a_file_is_its_owners_alone(tmp_path: Path, receive: Receive) -> None:
    filer(tmp_path).file([job(receive("a@x"))])
    assert stat.S_IMODE(files(tmp_path, "a")[0].stat().st_mode) == 0o600


def test_a_file_is_named_as_maildir_asks_with_its_size(tmp_path: Path, receive: Receive) -> None:
    """maildir(5): seconds, microseconds, process and counter before the host; ``S=`` spares readers a stat."""
    filer(tmp_path).file([job(receive("a@x"))])
    (file,) = files(tmp_path, "a")
    assert NAME.fullmatch(file.name)
    assert f"P{os.getpid()}Q" in file.name
    assert file.name.endswith(f",S={file.stat().st_size}")


def test_a_hostname_cannot_be_a_path_or_a_flag(tmp_path: Path, receive: Receive) -> None:
    r"""maildir(5): a slash is \\057 and a colon \\072; a comma would begin a size."""
    filer(tmp_path, hostname="a/b:c,d" + "e" * 300).file([job(receive("a@x"))])
    (file,) = files(tmp_path, "a")
    assert r".a\057b\072c\054de" in file.name


def test_names_are_never_used_twice(tmp_path: Path) -> None:
    one = filer(tmp_path)
    assert len({one.unique_name() for _ in range(1000)}) == 1000


def test_a_large_message_is_written_block_by_block(
    tmp_path: Path, receive: Receive, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"".join(b"line %d\r\n" % number for number in range(100_000))
    message = receive("a@x", content=content, block=100_000)
    largest, write = 0, os.write

    def measured(descriptor: int, data: bytes) -> int:
        nonlocal largest
        largest = max(largest, len(data))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", measured)
    filer(tmp_path).file([job(message)])
    (file,) = files(tmp_path, "a")
    assert file.read_bytes() == (message.trace() + content).replace(b"\r\n", b"\n")
    assert largest <= 256 * 1024


def test_a_disk_that_takes_less_than_it_is_given_is_given_the_rest(
    tmp_path: Path, receive: Receive, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:10]))
    message = receive("a@x")
    filer(tmp_path).file([job(message)])
    (file,) = files(tmp_path, "a")
    assert file.read_bytes().endswith(b"\nThe first line\nThe second\n")


def test_pythons_mailbox_module_reads_it(tmp_path: Path, receive: Receive) -> None:
    filer(tmp_path).file([job(receive("a@x")), job(receive("a@x", content=b"Subject: two\r\n\r\n2\r\n"))])
    with_python = mailbox.Maildir(tmp_path / "a", create=False)
    assert sorted(message["Subject"] for message in with_python) == ["hello", "two"]
    assert {message["Return-Path"] for message in with_python} == {"<sender@example.net>"}
    assert {message.get_subdir() for message in with_python} == {"new"}


# Several recipients


def test_further_recipients_get_links(tmp_path: Path, receive: Receive) -> None:
    filing = job(receive("a@x", "b@x", "c@x"))
    filer(tmp_path).file([filing])
    found = [files(tmp_path, name)[0].stat() for name in "abc"]
    assert {status.st_nlink for status in found} == {3}
    assert len({status.st_ino for status in found}) == 1
    assert filed(filing) == [{"a", "b", "c"}]
    assert nothing_in_tmp(tmp_path)


def test_recipients_of_one_mailbox_get_one_copy(tmp_path: Path, receive: Receive) -> None:
    """Whatever their spelling; each has its outcome."""
    filing = Job(receive("a@x", "A@x", "b@x"), [("a",), ("a",), ("b",)])
    filer(tmp_path).file([filing])
    assert [len(files(tmp_path, name)) for name in "ab"] == [1, 1]
    assert filing.outcomes() == [None, None, None]


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EMLINK, errno.EPERM])
def test_where_no_link_can_be_made_a_copy_does(tmp_path: Path, receive: Receive, disk: Any, number: int) -> None:
    disk.fail("link", "", number)
    filing = job(receive("a@x", "b@x", "c@x"))
    filer(tmp_path).file([filing])
    found = [files(tmp_path, name)[0] for name in "abc"]
    assert {file.stat().st_nlink for file in found} == {1}
    assert len({file.read_bytes() for file in found}) == 1
    assert filed(filing) == [{"a", "b", "c"}]
    assert nothing_in_tmp(tmp_path)


def test_a_copy_is_synced_before_it_is_in_new(tmp_path: Path, receive: Receive, disk: Any) -> None:
    disk.fail("link", "", errno.EXDEV)
    filer(tmp_path).file([job(receive("a@x", "b@x"))])
    calls = [(name, re.sub(r"/\d.*", "/FILE", paths[-1])) for name, *paths in disk.made("fsync", "rename", "close")]
    assert calls.index(("fsync", "b/tmp/FILE")) < calls.index(("rename", "b/new/FILE"))


def test_the_next_recipient_is_linked_to_the_copy(tmp_path: Path, receive: Receive, disk: Any) -> None:
    """Too many links are not made better by trying each time."""
    disk.fail("link", "b/new", errno.EMLINK)
    filer(tmp_path).file([job(receive("a@x", "b@x", "c@x"))])
    a, b, c = (files(tmp_path, name)[0].stat().st_ino for name in "abc")
    assert a != b == c


@pytest.mark.parametrize("failing", ["write", "fsync", "open"])
def test_a_copy_that_fails_is_no_delivery(tmp_path: Path, receive: Receive, disk: Any, failing: str) -> None:
    one = filer(tmp_path)
    one.file([job(receive("b@x"))])
    disk.fail("link", "", errno.EXDEV)
    disk.fail(failing, "b/tmp/", errno.ENOSPC)
    filing = job(receive("a@x", "b@x", "c@x"))
    one.file([filing])
    assert filed(filing) == [{"a", "c"}]
    assert filing.errors[("b",)].errno == errno.ENOSPC  # type: ignore[attr-defined]  # an OSError
    assert len(files(tmp_path, "b")) == 1
    assert nothing_in_tmp(tmp_path)


def test_each_file_system_gets_a_file_of_its_own(tmp_path: Path, receive: Receive, disk: Any) -> None:
    one = filer(tmp_path)
    for name in "cd":
        one.mailboxes.open((name,)).device = -1
    filing = job(receive("a@x", "b@x", "c@x", "d@x"))
    one.file([filing])
    assert {files(tmp_path, name)[0].stat().st_nlink for name in "abcd"} == {2}
    assert filed(filing) == [{"a", "b", "c", "d"}]
    assert "link failed" not in {call[0] for call in disk.calls}


# The order that makes it durable


def test_a_file_is_synced_before_it_is_in_new_and_new_before_the_answer(
    tmp_path: Path, receive: Receive, disk: Any
) -> None:
    """RFC 5321 §4.2.5: with its 250 a server takes the responsibility for the message."""
    one = filer(tmp_path)
    for name in "abc":
        one.mailboxes.open((name,))
    disk.calls.clear()
    one.file([job(receive("a@x", "b@x")), job(receive("c@x"))])
    calls = [(name, re.sub(r"/\d.*", "/FILE", paths[-1])) for name, *paths in disk.made(*disk.NAMES)]
    assert calls == [
        ("open", "a/tmp/FILE"),
        ("write", "a/tmp/FILE"),
        ("open", "c/tmp/FILE"),
        ("write", "c/tmp/FILE"),
        ("posix_fadvise", "a/tmp/FILE"),
        ("posix_fadvise", "c/tmp/FILE"),
        ("fsync", "a/tmp/FILE"),
        ("fsync", "c/tmp/FILE"),
        ("close", "a/tmp/FILE"),
        ("close", "c/tmp/FILE"),
        ("link", "b/new/FILE"),
        ("rename", "a/new/FILE"),
        ("rename", "c/new/FILE"),
        ("fsync", "b/new"),
        ("fsync", "a/new"),
        ("fsync", "c/new"),
    ]


def test_a_directory_is_synced_once_for_a_whole_batch(tmp_path: Path, receive: Receive, disk: Any) -> None:
    one = filer(tmp_path)
    one.mailboxes.open(("a",))
    disk.calls.clear()
    one.file([job(receive("a@x")) for _ in range(5)])
    assert [call for call in disk.made("fsync") if call[1] == "a/new"] == [("fsync", "a/new")]
    assert len(files(tmp_path, "a")) == 5


def test_nothing_is_synced_where_that_is_off(tmp_path: Path, receive: Receive, disk: Any) -> None:
    filing = job(receive("a@x", "b@x"))
    filer(tmp_path, fsync=Fsync.NO).file([filing, job(receive("a@x"))])
    assert disk.made("fsync", "posix_fadvise") == []
    assert filed(filing) == [{"a", "b"}]


def test_a_kernel_that_takes_no_advice_is_no_failure(tmp_path: Path, receive: Receive, disk: Any) -> None:
    disk.fail("posix_fadvise", "", errno.EINVAL)
    jobs = [job(receive("a@x")), job(receive("b@x"))]
    filer(tmp_path).file(jobs)
    assert filed(*jobs) == [{"a"}, {"b"}]


# Failures


@pytest.mark.parametrize(
    ("call", "where"),
    [("open", "b/tmp"), ("mkdir", "b"), ("link", "b/new"), ("fsync", "b/new")],
)
def test_one_mailbox_that_fails_leaves_the_others_alone(
    tmp_path: Path, receive: Receive, disk: Any, call: str, where: str
) -> None:
    disk.fail(call, where, errno.EACCES)
    filing, other = job(receive("a@x", "b@x", "c@x")), job(receive("d@x"))
    filer(tmp_path).file([filing, other])
    assert filed(filing, other) == [{"a", "c"}, {"d"}]
    assert filing.errors[("b",)].errno == errno.EACCES  # type: ignore[attr-defined]  # an OSError
    assert [len(files(tmp_path, name)) for name in "abcd"] == [1, 0, 1, 1]
    assert nothing_in_tmp(tmp_path)


@pytest.mark.parametrize(
    ("call", "where"),
    [("open", "a/tmp/"), ("write", "a/tmp"), ("rename", "a/new"), ("fsync", "a/new")],
)
def test_the_mailbox_that_was_to_hold_the_file_may_fail_too(
    tmp_path: Path, receive: Receive, disk: Any, call: str, where: str
) -> None:
    filer(tmp_path).mailboxes.open(("a",))
    disk.fail(call, where, errno.EDQUOT)
    filing = job(receive("a@x", "b@x", "c@x"))
    filer(tmp_path).file([filing])
    assert filed(filing) == [{"b", "c"}]
    assert filing.errors[("a",)].errno == errno.EDQUOT  # type: ignore[attr-defined]  # an OSError
    assert [len(files(tmp_path, name)) for name in "abc"] == [0, 1, 1]
    assert nothing_in_tmp(tmp_path)


@pytest.mark.parametrize("call", ["fsync", "close"])
def test_a_file_that_cannot_be_synced_is_delivered_to_nobody(
    tmp_path: Path, receive: Receive, disk: Any, call: str
) -> None:
    """The disk may have lost it already, whoever links to it."""
    disk.fail(call, "a/tmp/", errno.EIO, times=1)
    filing, other = job(receive("a@x", "b@x")), job(receive("c@x"))
    filer(tmp_path).file([filing, other])
    assert filed(filing, other) == [set(), {"c"}]
    assert {error.errno for error in filing.errors.values()} == {errno.EIO}  # type: ignore[attr-defined]  # OSErrors
    assert [len(files(tmp_path, name)) for name in "abc"] == [0, 0, 1]
    assert nothing_in_tmp(tmp_path)


def test_another_file_system_is_not_touched_by_it(tmp_path: Path, receive: Receive, disk: Any) -> None:
    one = filer(tmp_path)
    one.mailboxes.open(("b",)).device = -1
    disk.fail("fsync", "a/tmp/", errno.EIO)
    filing = job(receive("a@x", "b@x"))
    one.file([filing])
    assert filed(filing) == [{"b"}]


def test_a_directory_that_cannot_be_synced_takes_back_all_that_went_there(
    tmp_path: Path, receive: Receive, disk: Any
) -> None:
    disk.fail("fsync", "a/new", errno.EIO)
    jobs = [job(receive("a@x")), job(receive("b@x", "a@x")), job(receive("b@x"))]
    filer(tmp_path).file(jobs)
    assert filed(*jobs) == [set(), {"b"}, {"b"}]
    assert [len(files(tmp_path, name)) for name in "ab"] == [0, 2]


def test_a_file_that_cannot_be_removed_does_not_hide_the_failure(tmp_path: Path, receive: Receive, disk: Any) -> None:
    disk.fail("fsync", "a/tmp/", errno.EIO)
    disk.fail("unlink", "", errno.EIO)
    filing = job(receive("a@x"))
    filer(tmp_path).file([filing])
    assert filed(filing) == [set()]


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_a_defect_of_ours_takes_everything_back(
    tmp_path: Path, receive: Receive, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    one, jobs = filer(tmp_path), [job(receive("a@x", "b@x")), job(receive("c@x"))]

    def defect(_: object) -> None:
        raise error

    monkeypatch.setattr(one, "_sync_directories", defect)
    one.file(jobs)
    assert filed(*jobs) == [set(), set()]
    assert {type(found) for each in jobs for found in each.errors.values()} == {error}
    assert [files(tmp_path, name) for name in "abc"] == [[], [], []]
    assert nothing_in_tmp(tmp_path)


def test_a_defect_in_one_link_is_that_recipients_failure(tmp_path: Path, receive: Receive, disk: Any) -> None:
    disk.fail("link", "b/new", ZeroDivisionError())
    filing = job(receive("a@x", "b@x"))
    filer(tmp_path).file([filing])
    assert filed(filing) == [{"a"}]
    assert isinstance(filing.errors[("b",)], ZeroDivisionError)


def test_a_message_that_cannot_be_read_is_in_nobodys_mailbox(
    tmp_path: Path, receive: Receive, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = receive("a@x", "b@x", block=10)

    def blocks(_: object) -> Any:
        yield b"one"
        raise OSError(errno.EIO, "read")

    monkeypatch.setattr(type(message), "blocks", blocks)
    filing = job(message)
    filer(tmp_path).file([filing])
    assert filed(filing) == [set()]
    assert nothing_in_tmp(tmp_path)


# Mailboxes that go


def remove(root: Path, name: str) -> None:
    for folder in ("tmp", "new", "cur"):
        (root / name / folder).rmdir()
    (root / name).rmdir()


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_mailbox_that_was_removed_is_made_again(tmp_path: Path, receive: Receive, name: str) -> None:
    one = filer(tmp_path)
    for each in "ab":
        one.mailboxes.open((each,))
    remove(tmp_path, name)
    filing = job(receive("a@x", "b@x"))
    one.file([filing])
    assert filed(filing) == [{"a", "b"}]
    assert [len(files(tmp_path, each)) for each in "ab"] == [1, 1]


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_mailbox_that_was_removed_and_is_not_to_be_made_does_not_exist(
    tmp_path: Path, receive: Receive, name: str
) -> None:
    one = filer(tmp_path, create=False)
    for each in "ab":
        (tmp_path / each).mkdir()
        one.mailboxes.open((each,))
    remove(tmp_path, name)
    filing = job(receive("a@x", "b@x"))
    one.file([filing])
    (error,) = filing.errors.values()
    assert isinstance(error, PermanentFailure)
    assert (error.code, error.enhanced) == (550, "5.1.1")
    assert filed(filing) == [{"a", "b"} - {name}]


def test_a_mailbox_that_was_removed_and_made_again_gets_the_message(tmp_path: Path, receive: Receive) -> None:
    one = filer(tmp_path)
    one.mailboxes.open(("a",))
    remove(tmp_path, "a")
    filer(tmp_path).mailboxes.open(("a",))
    one.file([job(receive("a@x"))])
    assert len(files(tmp_path, "a")) == 1


def test_a_mailbox_that_goes_at_the_last_moment_is_a_failure(tmp_path: Path, receive: Receive, disk: Any) -> None:
    disk.fail("rename", "", errno.ENOENT)
    filing = job(receive("a@x"))
    filer(tmp_path).file([filing])
    assert filed(filing) == [set()]
    assert nothing_in_tmp(tmp_path)


# Cancelled jobs


def test_a_job_that_was_cancelled_before_its_turn_touches_nothing(tmp_path: Path, receive: Receive, disk: Any) -> None:
    filing = job(receive("a@x"))
    filing.is_cancelled = True
    filer(tmp_path).file([filing])
    # What other tests have left is closed whenever Python finds it.
    assert disk.made(*set(disk.NAMES) - {"close"}) == []


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_job_that_is_cancelled_before_it_is_linked_leaves_nothing(
    tmp_path: Path, receive: Receive, disk: Any, call: str
) -> None:
    filing, other = job(receive("a@x", "b@x")), job(receive("a@x"))
    disk.before(call, "a/tmp", lambda: setattr(filing, "is_cancelled", True))
    filer(tmp_path).file([filing, other])
    assert filed(filing, other) == [set(), {"a"}]
    assert [len(files(tmp_path, name)) for name in "ab"] == [1, 0]
    assert nothing_in_tmp(tmp_path)


# Whatever the names


@settings(max_examples=150, deadline=None)
@given(
    st.text(max_size=12) | st.sampled_from(["..", "../..", "/etc/passwd", "a/../../b", "tmp", "new"]),
    st.text(max_size=6),
)
def test_no_recipient_gets_a_file_outside_the_root(local: str, domain: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory, "outer", "root")
        root.mkdir(parents=True)
        try:
            names = Naming(Layout.parse(str(root)).parts, Case.FOLD, "mx").mailbox_of(Address(local, domain))
        except PermanentFailure:
            return
        filing = Job(received("a@x"), [names])
        filer(root, fsync=Fsync.NO).file([filing])
        assert filing.filed == {names}
        found = [path for path in Path(directory).rglob("*") if path.is_file()]
        assert [path.relative_to(root).parts[:-1] for path in found] == [(*names, "new")]
        assert len(names) == 2


def test_what_failed_keeps_no_directory_open(tmp_path: Path, receive: Receive, disk: Any) -> None:
    """A traceback in a cycle of references would, until the next collection of garbage."""
    gc.collect()
    gc.disable()
    try:
        disk.fail("fsync", "a/tmp/", errno.EIO)
        one = filer(tmp_path)
        filing = job(receive("a@x", "b@x"))
        one.file([filing])
        assert filing.errors
        one.mailboxes.close()
        del one, filing
        assert not [path for path in map(disk.opened, os.listdir("/proc/self/fd")) if path.startswith(str(tmp_path))]
    finally:
        gc.enable()
