"""
Whatever a recipient is called, nothing outside the root is touched, and inside it only mailboxes are.

Watched in two ways: the whole tree is compared before and after each session, and each call of Python's that has a path
is looked at. The calls of a real ``twistd`` are looked at with strace, in ``tests/daemon``.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile_names import LOCAL_PARTS, Tree, recipient, recipients
from hypothesis import given, settings
from hypothesis import strategies as st

from lmtp_twisted import LMTPFactory
from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.testing import Conversation, FakePool, FakeReactor

#: Behind the root: where a mailbox is below it, as a pattern of its path.
LAYOUTS = {
    "": r"[^/.][^/]*/[^/.][^/]*",
    "/{local}": r"[^/.][^/]*",
    "/{domain}/of-{local}/Maildir": r"[^/.][^/]*/of-[^/]+/Maildir",
    "/{local}@{domain}": r"[^/.][^/]*@[^/]*",
}

#: With folders that are made.
FOLDERS = "detail=folder,create=yes"

# To a recipient, and to what looks like another command.
_ANSWERS = ("250", "500", "501", "553", "550", "503", "502", "555", "214", "252", "421", "452")

Watched = Callable[[Path], contextlib.AbstractContextManager[Any]]

pytestmark = pytest.mark.usefixtures("no_linger")


@pytest.fixture(scope="session")
def watched(disk_class: Any) -> Watched:
    """All calls with a path that are made in a block, by their paths from a root on."""

    @contextlib.contextmanager
    def watch(root: Path) -> Iterator[Any]:
        with pytest.MonkeyPatch.context() as patch:
            yield disk_class(root, patch)

    return watch


def session(root: Path, layout: str, options: str) -> Conversation:
    """With a server that looks at nothing else."""
    context = BackendContext(FakeReactor(), FakePool(), hostname="mx.example.org")  # type: ignore[arg-type]  # fakes
    backend = context.build(f"maildir:{root}{layout},{options}")
    client = Conversation(LMTPFactory(backend=backend, reactor=FakeReactor()))
    client.say("LHLO client.example", "MAIL FROM:<a@example.net> SMTPUTF8")
    return client


def deliver(client: Conversation, names: list[bytes]) -> list[str]:
    """Offer each recipient, and a message for those that were taken; returns the final replies."""
    accepted = 0
    for name in names:
        # A name with a CR LF is several lines.
        for reply in client.send(b"RCPT TO:<" + name + b">\r\n"):
            accepted += reply.startswith("250 2.1.5")
            assert reply[:3] in _ANSWERS, reply
    if client.is_closed:
        return []
    replies = client.say("DATA", "Subject: hello", "", "hello", ".")
    if not accepted:
        return []
    assert len(replies) == accepted + 1
    return replies[1:]


def look(tree: Tree, calls: Any, layout: str) -> None:
    """Nothing but mailboxes and their folders was touched."""
    tree.look(LAYOUTS[layout])
    for name, *paths in calls.calls:
        # What an earlier run had open is closed whenever its last reference goes.
        for path in () if name == "close" else paths:
            assert not path.startswith("/"), (name, path)
            assert ".." not in path.split("/"), (name, path)
            assert "\0" not in path, (name, path)


_SOME = st.lists(recipients, min_size=1, max_size=4)
_LAYOUT = st.sampled_from(sorted(LAYOUTS))


_OPTIONS = st.lists(st.sampled_from(["case=keep", "create=yes", "detail=folder", "quota=1G"]), unique=True).map(
    ",".join
)


@settings(max_examples=200)
@given(names=_SOME, layout=_LAYOUT, options=_OPTIONS)
def test_no_recipient_touches_anything_outside_the_root(
    watched: Watched, names: list[bytes], layout: str, options: str
) -> None:
    """RFC 5321 §4.1.2: a local part may be nearly anything."""
    with tempfile.TemporaryDirectory() as directory:
        tree = Tree(directory)
        before = tree.outside()
        client = session(tree.root, layout, f"fsync=no,{options}".rstrip(","))
        with watched(tree.root) as calls:
            replies = deliver(client, names)
        assert [reply for reply in replies if not reply.startswith(("250 2.0.0 ", "553 5.1.3 "))] == []
        assert tree.outside() == before
        look(tree, calls, layout)


@settings(max_examples=75)
@given(names=_SOME, layout=_LAYOUT)
def test_where_mailboxes_are_not_made_no_recipient_makes_anything(
    watched: Watched, names: list[bytes], layout: str
) -> None:
    """Nor finds what is not below the root: a mailbox outside is no mailbox."""
    with tempfile.TemporaryDirectory() as directory:
        tree = Tree(directory)
        before = tree.outside()
        client = session(tree.root, layout, "fsync=no,create=no")
        with watched(tree.root) as calls:
            assert deliver(client, names) == []
        assert tree.outside() == before
        assert os.listdir(tree.root) == []
        look(tree, calls, layout)
        assert calls.made("mkdir", "link", "rename", "unlink", "write") == []


@settings(max_examples=75)
@given(first=recipients, names=_SOME, layout=_LAYOUT)
def test_no_recipient_of_a_full_mailbox_touches_anything_outside_the_root(
    watched: Watched, first: bytes, names: list[bytes], layout: str
) -> None:
    """There is room for the first message only. Where the second is for other mailboxes as well they get it."""
    with tempfile.TemporaryDirectory() as directory:
        tree = Tree(directory)
        before = tree.outside()
        client = session(tree.root, layout, f"fsync=no,quota=1G:1,{FOLDERS}")
        with watched(tree.root) as calls:
            deliver(client, [first])
            if not client.is_closed:
                client.say("RSET", "MAIL FROM:<a@example.net> SMTPUTF8")
                replies = deliver(client, [first, *names])
                assert {reply[:10] for reply in replies} <= {"250 2.0.0 ", "452 4.2.2 ", "553 5.1.3 "}
        assert tree.outside() == before
        look(tree, calls, layout)


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
@pytest.mark.parametrize("local", LOCAL_PARTS, ids=lambda local: ascii(local)[:30])
@pytest.mark.parametrize("options", ["", f",{FOLDERS}", f",{FOLDERS},quota=1G"], ids=["", "folders", "quota"])
def test_each_known_trick_is_a_mailbox_or_a_folder_or_a_refusal(
    tmp_path: Path, watched: Watched, local: str, layout: str, options: str
) -> None:
    tree = Tree(str(tmp_path))
    before = tree.outside()
    client = session(tree.root, layout, f"fsync=no{options}")
    with watched(tree.root) as calls:
        replies = deliver(client, [recipient(local, "x")])
    assert [reply[:9] for reply in replies] in ([], ["250 2.0.0"])
    assert len([name for name in tree.inside() if ",S=" in name]) == len(replies)
    assert tree.outside() == before
    look(tree, calls, layout)


def test_the_watch_sees_who_climbs_out(tmp_path: Path, watched: Watched) -> None:
    """Or it would prove nothing."""
    tree = Tree(str(tmp_path))
    before = tree.outside()
    with watched(tree.root) as calls:
        os.close(os.open(tree.root / "../outside/new/left", os.O_CREAT | os.O_WRONLY))
    with pytest.raises(AssertionError):
        look(tree, calls, "")
    assert tree.outside() != before
