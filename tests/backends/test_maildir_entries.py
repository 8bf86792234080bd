"""What a directory says of a mailbox, where the Maildir backend gets it: its path, below the root, and its quota."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.logger import LogEvent, globalLogPublisher

from lmtp_twisted import LMTPFactory, Settings
from lmtp_twisted.backends.maildir import Detail, Fsync, Limits, MaildirBackend
from lmtp_twisted.envelope import DirectoryEntry
from lmtp_twisted.recipients import Resolver
from lmtp_twisted.resolving import Resolving
from lmtp_twisted.testing import Conversation, FakePool, FakeReactor
from lmtp_twisted.wire.addresses import Address

SIZE = 10_000


class Entries:
    def __init__(self, **entries: DirectoryEntry) -> None:
        self.entries = entries

    def entryOf(self, address: Address) -> DirectoryEntry | None:
        return self.entries.get(address.local)


def session(backend: MaildirBackend, **entries: DirectoryEntry) -> Conversation:
    resolving = Resolving(Resolver(directory=Entries(**entries), hostname="mx"), backend)
    client = Conversation(LMTPFactory(backend=resolving, reactor=FakeReactor(), settings=Settings(hostname="mx")))
    client.say("LHLO c")
    return client


def backend(root: Path, **options: Any) -> MaildirBackend:
    return MaildirBackend(str(root), reactor=FakeReactor(), pool=FakePool(), fsync=Fsync.NO, **options)  # type: ignore[arg-type]


def send(client: Conversation, *recipients: str, size: int = 0) -> list[str]:
    """The codes of RCPT, and those after the dot."""
    client.say(f"MAIL FROM:<> SIZE={size}")
    replies = client.say(*(f"RCPT TO:<{recipient}>" for recipient in recipients))
    client.say("DATA")
    if any(reply.startswith("250") for reply in replies):
        replies += client.say("x" * size, ".")
    client.say("RSET")
    return [reply[:9] for reply in replies]


def files(path: Path) -> int:
    return len(list(path.iterdir())) if path.is_dir() else 0


@pytest.mark.parametrize("path", ["a/alice", "alice", "x/y/z/alice", "a/alice/", "{root}/a/alice"])
def test_a_mailbox_is_where_the_directory_says_below_the_root(tmp_path: Path, path: str) -> None:
    client = session(backend(tmp_path), alice=DirectoryEntry(path.format(root=tmp_path)), bob=DirectoryEntry())
    assert send(client, "alice@x", "bob@x") == ["250 2.1.5", "250 2.1.5", "250 2.0.0", "250 2.0.0"]
    assert files(tmp_path / path.format(root=tmp_path) / "new") == 1
    assert files(tmp_path / "x/bob/new") == 1


@pytest.mark.parametrize(
    "path",
    [
        "..",
        "../alice",
        "a/../../alice",
        "/etc/mail",
        "//x",
        "a//b",
        ".",
        "a/.ssh",
        ".alice",
        "a\0b",
        "x" * 300,
        "{root}x/a",
    ],
)
def test_a_path_that_is_not_below_the_root_is_used_by_nobody(tmp_path: Path, path: str) -> None:
    """It is the operator's to mend, so nobody's mail is returned for it."""
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    root = tmp_path / "mail"
    client = session(backend(root), alice=DirectoryEntry(path.format(root=root)), bob=DirectoryEntry("b"))
    assert send(client, "alice@x", "bob@x") == ["451 4.3.5", "250 2.1.5", "250 2.0.0"]
    globalLogPublisher.removeObserver(events.append)
    assert any("makes no sense" in event["log_format"] for event in events)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mail"]
    assert [path.name for path in root.iterdir()] == ["b"]


def test_no_symbolic_link_leads_out(tmp_path: Path) -> None:
    (tmp_path / "mail").mkdir()
    (tmp_path / "mail/a").symlink_to("/tmp")
    client = session(backend(tmp_path / "mail"), alice=DirectoryEntry("a/alice"))
    assert send(client, "alice@x")[-1] == "451 4.3.0"


@pytest.mark.parametrize("path", ["alice", "a/alice", "a/b/c/alice"])
def test_folders_are_below_the_mailbox_whatever_its_path(tmp_path: Path, path: str) -> None:
    one = backend(tmp_path, detail=Detail.FOLDER, create_folders=True, limits=Limits(0, 2))
    client = session(one, alice=DirectoryEntry(path))
    assert send(client, "alice+lists@x") == ["250 2.1.5", "250 2.0.0"]
    assert (tmp_path / path / ".lists/maildirfolder").exists()
    assert files(tmp_path / path / ".lists/new") == 1
    # The folder and the mailbox have one quota.
    assert send(client, "alice@x") == ["250 2.1.5", "250 2.0.0"]
    assert send(client, "alice@x") == ["452 4.2.2"]
    assert (tmp_path / path / "maildirsize").read_text().startswith("2C\n")
    assert not (tmp_path / path / ".lists/maildirsize").exists()


def test_where_mailboxes_are_hidden_directories_the_same_holds(tmp_path: Path) -> None:
    """Their names look like those of folders, so a path of one's own cannot be told from a folder's."""
    one = backend(tmp_path / "{local}/.mail", detail=Detail.FOLDER, create_folders=True, limits=Limits(0, 1))
    client = session(one, alice=DirectoryEntry(), bob=DirectoryEntry("bob"))
    assert send(client, "alice+lists@x") == ["250 2.1.5", "250 2.0.0"]
    assert files(tmp_path / "alice/.mail/.lists/new") == 1
    assert (tmp_path / "alice/.mail/maildirsize").exists()
    assert send(client, "bob@x") == ["451 4.3.5"]


def test_two_recipients_with_one_mailbox_get_one_copy(tmp_path: Path) -> None:
    client = session(backend(tmp_path), alice=DirectoryEntry("shared"), bob=DirectoryEntry("shared"))
    assert send(client, "alice@x", "bob@x")[2:] == ["250 2.0.0", "250 2.0.0"]
    assert files(tmp_path / "shared/new") == 1


@pytest.mark.parametrize("limits", [None, Limits(SIZE * 100)])
def test_a_quota_of_the_directory_comes_before_the_backends(tmp_path: Path, limits: Limits | None) -> None:
    client = session(backend(tmp_path, limits=limits), alice=DirectoryEntry(quota="0:1"), bob=DirectoryEntry(quota="0"))
    assert send(client, "alice@x", "bob@x") == ["250 2.1.5", "250 2.1.5", "250 2.0.0", "250 2.0.0"]
    assert send(client, "alice@x", "bob@x") == ["452 4.2.2", "250 2.1.5", "250 2.0.0"]
    assert (tmp_path / "x/alice/maildirsize").read_text().startswith("1C\n")
    assert not (tmp_path / "x/bob/maildirsize").exists()


def test_the_size_of_the_message_counts_before_it_has_come(tmp_path: Path) -> None:
    """RFC 1870 §6. The first recipient with a quota tells the backend to look at sizes."""
    client = session(backend(tmp_path), alice=DirectoryEntry(quota=str(SIZE)))
    assert send(client, "alice@x", size=SIZE * 2) == ["250 2.1.5", "452 4.2.2"]
    assert send(client, "alice@x", size=SIZE * 2) == ["452 4.2.2"]


def test_a_quota_that_changes_is_heeded(tmp_path: Path) -> None:
    one = backend(tmp_path)
    entries = Entries(alice=DirectoryEntry(quota="0:1"))
    resolving = Resolving(Resolver(directory=entries, hostname="mx"), one)
    client = Conversation(LMTPFactory(backend=resolving, reactor=FakeReactor(), settings=Settings(hostname="mx")))
    client.say("LHLO c")
    assert send(client, "alice@x")[-1] == "250 2.0.0"
    assert send(client, "alice@x")[-1] == "452 4.2.2"
    entries.entries["alice"] = DirectoryEntry(quota="0:2")
    assert send(client, "alice@x")[-1] == "250 2.0.0"
    assert send(client, "alice@x")[-1] == "452 4.2.2"


@pytest.mark.parametrize("quota", ["much", "-1", "1G;", "1.5G"])
def test_a_quota_that_makes_no_sense_is_no_quota_that_is_not_heeded(tmp_path: Path, quota: str) -> None:
    client = session(backend(tmp_path), alice=DirectoryEntry(quota=quota))
    assert send(client, "alice@x") == ["451 4.3.5"]
