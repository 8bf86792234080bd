"""Mailboxes that vanish while mail comes for them, that may not be written to, and that lead elsewhere."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from backend_messages import received
from twisted.internet import reactor
from twisted.logger import LogEvent, LogLevel, globalLogPublisher
from twisted.python.threadpool import ThreadPool

from lmtp_twisted.backends.maildir import MaildirBackend
from lmtp_twisted.backends.maildir.commit import Filer
from lmtp_twisted.backends.maildir.directories import Mailboxes
from lmtp_twisted.backends.maildir.disk import Disk, Fsync
from lmtp_twisted.backends.maildir.job import Job
from lmtp_twisted.backends.maildir.lines import Newlines
from lmtp_twisted.backends.maildir.refusals import refusal_of
from lmtp_twisted.errors import DeliveryError
from lmtp_twisted.message import ReceivedMessage

WHOLE = b"\nThe first line\nThe second\n"


def said(outcome: object) -> str:
    if outcome is None:
        return "250"
    assert isinstance(outcome, DeliveryError), outcome
    return f"{outcome.code} {outcome.enhanced}"


def filer(root: Path, *, create: bool = True) -> Filer:
    return Filer(Mailboxes(str(root), create=create, fsync=False), "mx", Newlines.LF, Disk(Fsync.NO))


def file(one: Filer, message: ReceivedMessage) -> dict[str, str]:
    """For each mailbox the answer."""
    job = Job(message, [(recipient.address.local,) for recipient in message.recipients])
    one.file([job])
    return {names[0]: said(None if names in job.filed else refusal_of(job.errors[names])) for names in job.mailboxes}


@pytest.fixture
def logged() -> Iterator[list[LogEvent]]:
    """The events of errors."""
    events: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        if event["log_level"] >= LogLevel.error:
            events.append(event)

    globalLogPublisher.addObserver(observe)
    yield events
    globalLogPublisher.removeObserver(observe)


# One that vanishes


@pytest.mark.parametrize("call", ["link", "rename"])
def test_one_that_vanishes_with_the_file_in_it_does_not_take_the_others_along(
    tmp_path: Path, disk: Any, call: str
) -> None:
    """RFC 2033 §4.2: the file from which the others are linked lies in the first mailbox."""
    one = filer(tmp_path)
    file(one, received("a@x", "b@x", "c@x"))
    disk.before(call, "", lambda: shutil.rmtree(tmp_path / "a"))
    assert file(one, received("a@x", "b@x", "c@x")) == {"a": "451 4.3.0", "b": "250", "c": "250"}
    for name in "bc":
        assert [path.read_bytes().endswith(WHOLE) for path in (tmp_path / name / "new").iterdir()] == [True, True]
        assert os.listdir(tmp_path / name / "tmp") == []
    assert file(one, received("a@x")) == {"a": "250"}


def test_where_they_are_not_made_one_that_vanishes_does_not_exist(tmp_path: Path, disk: Any) -> None:
    """RFC 3463 §3.2: X.1.1."""
    for name in "ab":
        (tmp_path / name).mkdir()
    one = filer(tmp_path, create=False)
    file(one, received("a@x", "b@x"))
    disk.before("link", "", lambda: shutil.rmtree(tmp_path / "b"))
    assert file(one, received("a@x", "b@x")) == {"a": "250", "b": "550 5.1.1"}
    assert os.listdir(tmp_path) == ["a"]


@pytest_twisted.ensureDeferred
async def test_mailboxes_that_vanish_under_load_fail_alone_and_the_server_goes_on(
    tmp_path: Path, pool: ThreadPool, logged: list[LogEvent]
) -> None:
    """Whatever is in ``new`` of any mailbox is whole, and each of those that stay has each message once."""
    backend = MaildirBackend(str(tmp_path), fsync=Fsync.NO, hostname="mx", reactor=reactor, pool=pool)
    done, partial = threading.Event(), []
    rounds = 0

    def vanish() -> None:
        nonlocal rounds
        while not done.is_set():
            for name in ("gone1", "gone2"):
                gone = tmp_path / f"away{rounds}"
                with contextlib.suppress(FileNotFoundError):
                    (tmp_path / "x" / name).rename(gone)
                    partial.extend(path for path in gone.glob("new/*") if not path.read_bytes().endswith(WHOLE))
                    rounds += 1
                    while gone.exists():
                        # Something may come into it while it is emptied.
                        shutil.rmtree(gone, ignore_errors=True)

    vanishing = threading.Thread(target=vanish)
    vanishing.start()
    answers = []
    try:
        while rounds < 10 or len(answers) < 400:
            assert len(answers) < 4000, "the other thread has no turn"
            waiting = [backend.deliver(received("gone1@x", "stays1@x", "gone2@x", "stays2@x")) for _ in range(8)]
            answers += [[said(outcome) for outcome in await one] for one in waiting]
    finally:
        done.set()
        vanishing.join()
    assert {answer for one in answers for answer in (one[1], one[3])} == {"250"}
    assert {answer for one in answers for answer in (one[0], one[2])} <= {"250", "451 4.3.0"}
    assert partial == []
    for name in ("stays1", "stays2"):
        messages = list((tmp_path / "x" / name / "new").iterdir())
        assert len(messages) == len(answers)
        assert all(message.read_bytes().endswith(WHOLE) for message in messages)
    assert list(tmp_path.glob("x/stays*/tmp/*")) == []
    assert {event["error"].errno for event in logged} <= {errno.ENOENT, errno.ENOTEMPTY}
    await backend.shut_down()


# One that may not be written to


@pytest.fixture
def others_root() -> Iterator[Path]:
    """A root that anybody may enter, which pytest's directories are not."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o777)
        yield Path(directory)


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """To file systems this thread is an ordinary user (setfsuid(2)); root may do anything."""
    if os.geteuid():
        yield
        return
    libc = ctypes.CDLL(None)
    libc.setfsuid(65534)
    try:
        yield
    finally:
        libc.setfsuid(0)


def test_one_that_may_not_be_written_to_is_451_and_the_others_get_theirs(others_root: Path) -> None:
    """EACCES: an operator's mistake, who can mend it while the client tries again."""
    with as_nobody():
        one = filer(others_root)
        assert set(file(one, received("a@x", "b@x", "c@x", "d@x")).values()) == {"250"}
        os.chmod(others_root / "a/tmp", 0o500)
        os.chmod(others_root / "b/new", 0o500)
        os.chmod(others_root / "d", 0)
        one.mailboxes.close()
        assert file(one, received("a@x", "b@x", "c@x", "d@x")) == {
            "a": "451 4.3.0",
            "b": "451 4.3.0",
            "c": "250",
            "d": "451 4.3.0",
        }
        for name in "abd":
            os.chmod(others_root / name, 0o700)
    assert [len(os.listdir(others_root / name / "new")) for name in "abcd"] == [1, 1, 2, 1]
    assert list(others_root.glob("*/tmp/*")) == []


def test_modes_are_the_owners_alone_whatever_the_umask(others_root: Path) -> None:
    """maildir(5)."""
    umask = os.umask(0)
    try:
        assert file(filer(others_root / "."), received("a@x", "b@x")) == {"a": "250", "b": "250"}
    finally:
        os.umask(umask)
    modes = {(stat.S_ISDIR(path.stat().st_mode), stat.S_IMODE(path.stat().st_mode)) for path in others_root.rglob("*")}
    assert modes == {(True, 0o700), (False, 0o600)}


# One that leads elsewhere


def _a_file(path: Path, elsewhere: Path) -> None:
    path.write_text("")


def _a_link(path: Path, elsewhere: Path) -> None:
    path.symlink_to(elsewhere)


def _a_link_to_nothing(path: Path, elsewhere: Path) -> None:
    path.symlink_to(elsewhere / "nothing")


@pytest.mark.parametrize("folder", ["", "tmp", "new", "cur"])
@pytest.mark.parametrize("make", [_a_file, _a_link, _a_link_to_nothing])
@pytest.mark.parametrize("create", [True, False])
def test_what_is_no_directory_is_451_and_not_followed(
    tmp_path: Path, make: Callable[[Path, Path], None], folder: str, create: bool
) -> None:
    """Also where it would be ``cur``, which only readers open. An operator can mend it."""
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    for name in ("new", "tmp", "cur"):
        (elsewhere / name).mkdir(parents=True)
        (root / "b" / name).mkdir(parents=True)
    wrong = root / "a" / folder
    wrong.parent.mkdir(exist_ok=True)
    make(wrong, elsewhere)
    assert file(filer(root, create=create), received("a@x", "b@x")) == {"a": "451 4.3.0", "b": "250"}
    assert [path for path in elsewhere.rglob("*") if path.is_file()] == []
    assert os.listdir(root / "b/tmp") == []


@pytest.mark.parametrize("folder", ["tmp", "new"])
def test_one_that_becomes_a_link_while_it_is_open_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    """What is open stays what it was, until it is looked at again."""
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    root.mkdir()
    elsewhere.mkdir()
    one = filer(root)
    assert file(one, received("a@x")) == {"a": "250"}
    (root / "a" / folder).rename(root / "a" / "old")
    (root / "a" / folder).symlink_to(elsewhere)
    file(one, received("a@x"))
    one.mailboxes.close()
    assert file(one, received("a@x")) == {"a": "451 4.3.0"}
    assert os.listdir(elsewhere) == []


def test_a_name_too_long_for_the_file_system_is_no_name(tmp_path: Path, disk: Any) -> None:
    """RFC 3463 §3.2: X.1.3. Some have shorter ones than 255 octets, and no try later on would change that."""
    disk.fail("mkdir", "long", errno.ENAMETOOLONG)
    assert file(filer(tmp_path), received("long@x", "b@x")) == {"long": "553 5.1.3", "b": "250"}
