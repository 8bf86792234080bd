"""
Whatever a recipient is called, nothing outside the root is touched, and inside it only mailboxes are.

Watched in two ways: the whole tree is compared before and after each session, and each call of Python's that has a path
is looked at. The calls of a real ``twistd`` are looked at with strace, in ``tests/daemon``.
"""

from __future__ import annotations

import contextlib
import os
import re
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
            assert reply[:3] in ("250", "500", "501", "553", "550", "503", "502", "555", "214", "252", "421"), reply
    if client.is_closed:
        return []
    replies = client.say("DATA", "Subject: hello", "", "hello", ".")
    if not accepted:
        return []
    assert len(replies) == accepted + 1
    return replies[1:]


def look(tree: Tree, calls: Any, layout: str) -> None:
    """Nothing but mailboxes was touched."""
    mailbox = LAYOUTS[layout]
    files = re.compile(rf"{mailbox}/(\.[^/]+/)?(new|tmp)/\d+\.M\d+P\d+Q\d+\.[\w.]+,S=\d+")
    for name in tree.inside():
        assert files.fullmatch(name), name
    for name, *paths in calls.calls:
        # What an earlier run had open is closed whenever its last reference goes.
        for path in () if name == "close" else paths:
            assert not path.startswith("/"), (name, path)
            assert ".." not in path.split("/"), (name, path)
            assert "\0" not in path, (name, path)


_SOME = st.lists(recipients, min_size=1, max_size=4)
_LAYOUT = st.sampled_from(sorted(LAYOUTS))


@settings(max_examples=150)
@given(names=_SOME, layout=_LAYOUT, case=st.sampled_from(["fold", "keep"]))
def test_no_recipient_touches_anything_outside_the_root(
    watched: Watched, names: list[bytes], layout: str, case: str
) -> None:
    """RFC 5321 §4.1.2: a local part may be nearly anything."""
    with tempfile.TemporaryDirectory() as directory:
        tree = Tree(directory)
        before = tree.outside()
        client = session(tree.root, layout, f"fsync=no,case={case}")
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


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
@pytest.mark.parametrize("local", LOCAL_PARTS, ids=lambda local: ascii(local)[:30])
def test_each_known_trick_is_a_mailbox_or_a_refusal(tmp_path: Path, watched: Watched, local: str, layout: str) -> None:
    tree = Tree(str(tmp_path))
    before = tree.outside()
    client = session(tree.root, layout, "fsync=no")
    with watched(tree.root) as calls:
        replies = deliver(client, [recipient(local, "x")])
    assert [reply[:9] for reply in replies] in ([], ["250 2.0.0"])
    assert len(tree.inside()) == len(replies)
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
