"""Mail for a subaddress in the folder of its detail, on real file systems."""

from __future__ import annotations

import errno
import mailbox
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backend_messages import received
from hypothesis import given, settings
from hypothesis import strategies as st

from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.backends.maildir import Detail, Fsync, MaildirBackend
from lmtp_twisted.envelope import Recipient
from lmtp_twisted.errors import DeliveryError
from lmtp_twisted.message import ReceivedMessage
from lmtp_twisted.testing import FakePool, FakeReactor
from lmtp_twisted.wire.addresses import Address, parse_mailbox

Receive = Callable[..., ReceivedMessage]

pytestmark = pytest.mark.usefixtures("no_linger")


def backend(root: Path, **options: Any) -> MaildirBackend:
    """A backend without threads that files into folders."""
    options = {"detail": Detail.FOLDER, "reactor": FakeReactor(), "pool": FakePool(), **options}
    return MaildirBackend(str(root), hostname="mx", **options)


def deliver(one: MaildirBackend, message: ReceivedMessage) -> list[Any]:
    outcomes: list[Any] = []
    one.deliver(message).addBoth(outcomes.append)
    return list(outcomes[0])


def said(outcome: object) -> tuple[int | None, str | None] | None:
    if outcome is None:
        return None
    assert isinstance(outcome, DeliveryError)
    return outcome.code, outcome.enhanced


def tree(root: Path) -> dict[str, int]:
    """How many messages each directory has where there are any."""
    counts = {str(new.parent.relative_to(root)): len(list(new.iterdir())) for new in root.rglob("new")}
    assert not [file for tmp in root.rglob("tmp") for file in tmp.iterdir()]
    return {name: count for name, count in counts.items() if count}


def make_folder(root: Path, name: str) -> Path:
    folder = root / "x/bob" / name
    for each in ("tmp", "new", "cur"):
        (folder / each).mkdir(parents=True)
    return folder


# Folders that are there


def test_mail_goes_into_the_folder_that_its_detail_names(tmp_path: Path, receive: Receive) -> None:
    """RFC 5233."""
    make_folder(tmp_path, ".lists.python")
    assert deliver(backend(tmp_path), receive("bob+lists.python@x")) == [None]
    assert tree(tmp_path) == {"x/bob/.lists.python": 1}


def test_pythons_mailbox_module_finds_it_there(tmp_path: Path, receive: Receive) -> None:
    deliver(backend(tmp_path, create_folders=True), receive("bob+lists@x"))
    found = mailbox.Maildir(tmp_path / "x/bob", create=False)
    assert len(found) == 0
    assert [message["Subject"] for message in found.get_folder("lists")] == ["hello"]


def test_without_that_folder_it_goes_where_other_mail_goes_and_makes_none(tmp_path: Path, receive: Receive) -> None:
    assert deliver(backend(tmp_path), receive("bob+lists@x")) == [None]
    assert tree(tmp_path) == {"x/bob": 1}
    assert sorted(os.listdir(tmp_path / "x/bob")) == ["cur", "new", "tmp"]


def test_a_folder_is_found_as_soon_as_it_is_there(tmp_path: Path, receive: Receive) -> None:
    one = backend(tmp_path)
    deliver(one, receive("bob+lists@x"))
    make_folder(tmp_path, ".lists")
    deliver(one, receive("bob+lists@x"))
    assert tree(tmp_path) == {"x/bob": 1, "x/bob/.lists": 1}


def test_a_folder_that_was_removed_is_one_no_more(tmp_path: Path, receive: Receive) -> None:
    one = backend(tmp_path)
    folder = make_folder(tmp_path, ".lists")
    deliver(one, receive("bob+lists@x"))
    folder.rename(tmp_path / "elsewhere")
    # A look at what is open is taken once a second.
    for open_one in one._mailboxes._open.values():
        open_one._seen -= 2
    assert deliver(one, receive("bob+lists@x")) == [None]
    assert len(list((tmp_path / "x/bob/new").iterdir())) == 1


@pytest.mark.parametrize("recipients", [("bob+a@x", "bob+a@x"), ("bob+a@x", "Bob+a@X")])
def test_recipients_of_one_folder_get_one_copy(tmp_path: Path, receive: Receive, recipients: tuple[str, ...]) -> None:
    make_folder(tmp_path, ".a")
    assert deliver(backend(tmp_path), receive(*recipients)) == [None, None]
    assert tree(tmp_path) == {"x/bob/.a": 1}


def test_recipients_of_two_folders_get_two(tmp_path: Path, receive: Receive) -> None:
    make_folder(tmp_path, ".a")
    assert deliver(backend(tmp_path), receive("bob@x", "bob+a@x")) == [None, None]
    assert tree(tmp_path) == {"x/bob": 1, "x/bob/.a": 1}


def test_those_whose_folders_are_not_there_share_the_mailbox(tmp_path: Path, receive: Receive) -> None:
    assert deliver(backend(tmp_path), receive("bob@x", "bob+a@x", "bob+b@x")) == [None] * 3
    assert tree(tmp_path) == {"x/bob": 1}


def test_by_default_the_detail_is_ignored(tmp_path: Path, receive: Receive) -> None:
    make_folder(tmp_path, ".a")
    one = backend(tmp_path, detail=Detail.IGNORE)
    assert deliver(one, receive("bob@x", "bob+a@x")) == [None, None]
    assert tree(tmp_path) == {"x/bob": 1}


# Folders that are made


def test_a_folder_is_made_where_that_is_asked_for(tmp_path: Path, receive: Receive) -> None:
    """Maildir++: a Maildir in the mailbox, with a mark; what is read in is as closed as the mailbox."""
    assert deliver(backend(tmp_path, create_folders=True), receive("bob+lists.Ünï@x")) == [None]
    folder = tmp_path / "x/bob/.lists.&ANw-n&AO8-"
    assert sorted(os.listdir(folder)) == ["cur", "maildirfolder", "new", "tmp"]
    assert (folder / "maildirfolder").read_bytes() == b""
    assert stat.S_IMODE((folder / "maildirfolder").stat().st_mode) == 0o600
    assert {stat.S_IMODE((folder / name).stat().st_mode) for name in (".", "tmp", "new", "cur")} == {0o700}
    assert sorted(os.listdir(tmp_path / "x/bob")) == [".lists.&ANw-n&AO8-", "cur", "new", "tmp"]
    assert tree(tmp_path) == {"x/bob/.lists.&ANw-n&AO8-": 1}


def test_all_that_leads_to_a_new_folder_is_synced_before_the_message_is_visible(
    tmp_path: Path, receive: Receive, disk: Any
) -> None:
    deliver(backend(tmp_path, create_folders=True, fsync=Fsync.EACH), receive("bob+a@x"))
    calls = disk.made("mkdir", "fsync", "rename")
    made = [call for call in calls if call[0] == "mkdir"]
    assert made[-4:] == [("mkdir", f"x/bob/.a{name}") for name in ("", "/tmp", "/new", "/cur")]
    for _, path in made:
        parent = os.path.dirname(path)
        after = calls[calls.index(("mkdir", path)) :]
        assert ("fsync", parent) in after[: [call[0] for call in after].index("rename")]


def test_the_mark_is_there_when_the_folder_is_synced(tmp_path: Path, receive: Receive, disk: Any) -> None:
    deliver(backend(tmp_path, create_folders=True), receive("bob+a@x"))
    calls = disk.made("open", "fsync")
    assert calls.index(("open", "x/bob/.a/maildirfolder")) < calls.index(("fsync", "x/bob/.a"))


def test_a_folder_that_was_not_made_whole_is_finished(tmp_path: Path, receive: Receive) -> None:
    """As a loss of power can leave it."""
    (tmp_path / "x/bob/.a").mkdir(parents=True)
    (tmp_path / "x/bob/.b/tmp").mkdir(parents=True)
    one = backend(tmp_path, create_folders=True)
    assert deliver(one, receive("bob+a@x", "bob+b@x")) == [None, None]
    assert tree(tmp_path) == {"x/bob/.a": 1, "x/bob/.b": 1}


def test_two_that_make_it_at_the_same_time_both_have_it(tmp_path: Path, receive: Receive, disk: Any) -> None:
    (tmp_path / "x/bob").mkdir(parents=True)
    disk.before("mkdir", "bob/.a", lambda: make_folder(tmp_path, ".a"))
    assert deliver(backend(tmp_path, create_folders=True), receive("bob+a@x")) == [None]
    assert tree(tmp_path) == {"x/bob/.a": 1}


def test_a_mark_that_somebody_else_makes_will_do(tmp_path: Path, receive: Receive, disk: Any) -> None:
    folder = make_folder(tmp_path, ".a")
    disk.before("open", "maildirfolder", (folder / "maildirfolder").touch)
    assert deliver(backend(tmp_path), receive("bob+a@x")) == [None]


def test_a_full_disk_refuses_the_recipient(tmp_path: Path, receive: Receive, disk: Any) -> None:
    disk.fail("mkdir", ".a", errno.ENOSPC)
    one = backend(tmp_path, create_folders=True)
    outcomes = deliver(one, receive("bob+a@x", "bob@x"))
    assert [said(outcome) for outcome in outcomes] == [(452, "4.3.1"), None]
    assert tree(tmp_path) == {"x/bob": 1}


def test_no_folder_makes_a_mailbox_where_mailboxes_are_not_made(tmp_path: Path, receive: Receive) -> None:
    one = backend(tmp_path, create=False, create_folders=True)
    (outcome,) = deliver(one, receive("bob+a@x"))
    assert said(outcome) == (550, "5.1.1")
    assert os.listdir(tmp_path) == []


def test_who_has_a_mailbox_has_one_at_rcpt_whatever_the_detail(tmp_path: Path, receive: Receive) -> None:
    (tmp_path / "x/bob").mkdir(parents=True)
    one = backend(tmp_path, create=False)
    results: list[Any] = []
    found = one.validateTo(Recipient(parse_mailbox(b"bob+a@x")))
    assert found is not None
    found.addBoth(results.append)
    assert results == [None]
    missing = one.validateTo(Recipient(parse_mailbox(b"eve+a@x")))
    assert missing is not None
    missing.addErrback(lambda failure: results.append(said(failure.value)))
    assert results[1:] == [(550, "5.1.1")]


# What is no folder


@pytest.mark.parametrize("create_folders", [False, True])
def test_a_directory_that_is_no_maildir_is_no_folder(tmp_path: Path, receive: Receive, create_folders: bool) -> None:
    """A mailbox may be its user's home."""
    keys = tmp_path / "x/bob/.ssh"
    keys.mkdir(parents=True)
    (keys / "authorized_keys").touch()
    assert deliver(backend(tmp_path, create_folders=create_folders), receive("bob+ssh@x")) == [None]
    assert os.listdir(keys) == ["authorized_keys"]
    assert tree(tmp_path) == {"x/bob": 1}


@pytest.mark.parametrize("create_folders", [False, True])
def test_neither_is_a_file(tmp_path: Path, receive: Receive, create_folders: bool) -> None:
    (tmp_path / "x/bob").mkdir(parents=True)
    (tmp_path / "x/bob/.forward").touch()
    assert deliver(backend(tmp_path, create_folders=create_folders), receive("bob+forward@x")) == [None]
    assert tree(tmp_path) == {"x/bob": 1}


@pytest.mark.parametrize("create_folders", [False, True])
def test_neither_is_a_link_to_a_maildir(tmp_path: Path, receive: Receive, create_folders: bool) -> None:
    other = make_folder(tmp_path, "../../elsewhere")
    (tmp_path / "x/bob").mkdir(parents=True, exist_ok=True)
    (tmp_path / "x/bob/.a").symlink_to(other)
    assert deliver(backend(tmp_path, create_folders=create_folders), receive("bob+a@x")) == [None]
    assert tree(tmp_path) == {"x/bob": 1}


def test_a_folder_that_cannot_be_opened_is_not_passed_over(tmp_path: Path, receive: Receive, disk: Any) -> None:
    make_folder(tmp_path, ".a")
    disk.fail("open", "bob/.a", errno.EIO)
    outcomes = deliver(backend(tmp_path), receive("bob+a@x", "bob@x"))
    assert [said(outcome) for outcome in outcomes] == [(451, "4.3.0"), None]


def test_nothing_is_made_for_a_message_that_nobody_waits_for(tmp_path: Path, receive: Receive) -> None:
    pool = FakePool(immediate=False)
    done = backend(tmp_path, create_folders=True, pool=pool).deliver(receive("bob+a@x"))
    done.addErrback(lambda failure: None)
    done.cancel()
    pool.run()
    assert os.listdir(tmp_path) == []


@given(st.lists(st.text(max_size=12), min_size=1, max_size=3))
@settings(max_examples=50)
def test_no_detail_gets_outside_its_mailbox(details: list[str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory, "mail")
        one = backend(root, create_folders=True, fsync=Fsync.NO)
        message = received("bob@x")
        recipients = tuple(Recipient(Address(f"bob+{detail}", "x")) for detail in details)
        object.__setattr__(message.envelope, "recipients", recipients)
        assert deliver(one, message) == [None] * len(details)
        one.shut_down()
        assert os.listdir(directory) == ["mail"]
        assert os.listdir(root) == ["x"]
        assert os.listdir(root / "x") == ["bob"]
        inside = set(os.listdir(root / "x/bob"))
        assert {"cur", "new", "tmp"} <= inside
        assert all(name.startswith(".") for name in inside - {"cur", "new", "tmp"})
        assert 1 <= sum(tree(root).values()) <= len(set(details))


# From a description


def context() -> BackendContext:
    return BackendContext(FakeReactor(), FakePool(), hostname="mx")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", {"x/bob": 1}),
        (",detail=ignore,create=yes", {"x/bob": 1}),
        (",detail=folder", {"x/bob": 1}),
        (",detail=folder,create=mailboxes", {"x/bob": 1}),
        (",detail=folder,create=yes", {"x/bob/.a": 1}),
        (",detail=folder,create=yes,separator=", {"x/bob+a": 1}),
        (",detail=folder,create=yes,separator=-", {"x/bob+a": 1}),
    ],
)
def test_the_options_say_what_becomes_of_a_detail(
    tmp_path: Path, receive: Receive, options: str, expected: dict[str, int]
) -> None:
    built: Any = context().build(f"maildir:{tmp_path}{options}")
    assert deliver(built, receive("bob+a@x")) == [None]
    assert tree(tmp_path) == expected


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("detail=yes", "detail is ignore or folder, not 'yes'"),
        ("separator=x", "separator is punctuation such as [+], not 'x'"),
    ],
)
def test_what_is_wrong_with_them_is_said(tmp_path: Path, options: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        context().build(f"maildir:{tmp_path},{options}")
