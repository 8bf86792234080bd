"""
What was answered with 250 survives a loss of power (RFC 5321 §4.2.5): recorded system calls, played against the worst
file system there may be. The checker is checked: what a server without syncs loses it finds, and so it does where a
single one is taken out of the record.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from needed_syncs import Cover, Verdict, is_at_start, replay_of, verdicts_on
from power_loss import Replay
from recorded_calls import Call
from sent_messages import Message, mailbox_of
from traced_server import FOLDER, MAIL, Record, deliver, record

pytestmark = pytest.mark.peer("strace")

#: The ways to wait for the disk that promise something.
SAFE = ("yes", "each")
#: A folder that is made in a mailbox that was there before.
FOLDER_OF_OLD = mailbox_of(FOLDER)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Record]:
    """The record of a server with this ``fsync=``; each is made once."""
    return cache(lambda fsync: record(tmp_path_factory.mktemp(fsync), f"fsync={fsync}"))


@pytest.fixture(scope="module")
def verdicts(recorded: Callable[[str], Record]) -> Callable[[str], list[Verdict]]:
    """The verdicts on each sync of a record; made once."""
    return cache(lambda fsync: list(verdicts_on(recorded(fsync))))


@pytest.mark.parametrize("fsync", SAFE)
def test_wherever_power_fails_what_was_answered_with_250_is_whole_in_new(
    recorded: Callable[[str], Record], fsync: str
) -> None:
    """RFC 5321 §4.2.5; and nothing is in ``new`` that is not whole."""
    run = recorded(fsync)
    replay = replay_of(run)
    assert replay.play(run.events) is None
    assert replay.kept == len(run.promises)
    print(f"fsync={fsync}: power failed at {replay.stops} stops, {replay.kept} replies, {len(replay.syncs)} syncs")


@pytest.mark.parametrize("fsync", SAFE)
def test_both_ways_to_wait_for_the_disk_are_in_the_record(recorded: Callable[[str], Record], fsync: str) -> None:
    """Files and directories of a batch by one syncfs(2), or by an fsync(2) each; what is alone always by an fsync."""
    run = recorded(fsync)
    replay = replay_of(run)
    replay.play(run.events)
    together = [sync.what for sync in replay.syncs if sync.call.name == "syncfs" and not is_at_start(sync)]
    each = [sync.what for sync in replay.syncs if sync.call.name == "fsync" and not sync.is_behind]
    for syncs in (together, each) if fsync == "yes" else (each,):
        assert "a file" in syncs
        assert [what for what in syncs if what.endswith("/new")]
    assert fsync == "yes" or not together


def test_a_server_that_does_not_wait_for_the_disk_is_found_out(recorded: Callable[[str], Record]) -> None:
    """``fsync=no`` loses mail, as its documentation says."""
    run = recorded("no")
    loss = replay_of(run).play(run.events)
    assert loss is not None
    assert "may be there and not whole" in loss.what


@pytest.mark.timeout(400)  # a play for each sync; a coverage run takes its time
@pytest.mark.parametrize("fsync", SAFE)
def test_each_sync_is_missed_or_it_is_known_what_did_its_work(
    verdicts: Callable[[str], list[Verdict]], fsync: str
) -> None:
    """The reasons are those of :class:`Cover`, each of which names the other sync."""
    found = verdicts(fsync)
    assert [str(verdict.sync) for verdict in found if not verdict.loss and not verdict.cover] == []
    assert fsync == "yes" or {verdict.cover for verdict in found} <= {None, Cover.CHANCE, Cover.FOLDER, Cover.START}
    for cover in Cover:
        harmless = [str(verdict.sync) for verdict in found if verdict.cover is cover]
        print(f"fsync={fsync}: {len(harmless)} of {len(found)} are not missed: {cover.value}", *harmless, sep="\n  ")


@pytest.mark.parametrize("fsync", SAFE)
def test_each_kind_of_sync_is_missed_somewhere(verdicts: Callable[[str], list[Verdict]], fsync: str) -> None:
    """No kind is in vain but the fsync behind a syncfs and the syncfs at the start, for whose reasons see there."""
    missed = {_kind(verdict) for verdict in verdicts(fsync) if verdict.loss}
    each = {"fsync of a file", "fsync of new", "fsync of a parent"}
    assert missed == each | ({"syncfs of a file", "syncfs of new"} if fsync == "yes" else set())


def _kind(verdict: Verdict) -> str:
    sync = verdict.sync
    what = "a file" if sync.what == "a file" else "new" if sync.what.endswith("/new") else "a parent"
    return f"{sync.call.name} of {what}{' behind a syncfs' if sync.is_behind else ''}"


@pytest.mark.parametrize("fsync", SAFE)
def test_folders_and_the_files_of_the_quota_are_in_the_record(recorded: Callable[[str], Record], fsync: str) -> None:
    """Folders are made in mailboxes old and new; ``maildirsize`` is made, put in its place, and appended to."""
    run = recorded(fsync)
    replay = replay_of(run)
    replay.play(run.events)
    folders = {mailbox for _, mailbox in run.promises.values() if "/." in mailbox}
    assert {FOLDER_OF_OLD, "four.example/g/.lists.python"} < folders
    for name in ("mkdirat .lists", "openat maildirfolder", "renameat maildirsize", "openat maildirsize to append"):
        assert name in {_shown(event.call) for event in run.events if event.is_end}


@pytest.mark.parametrize("fsync", SAFE)
def test_the_sync_of_a_folders_parent_is_missed(recorded: Callable[[str], Record], fsync: str) -> None:
    """It lies in a mailbox that has been there before, and is certain: only the folder would be lost."""
    run = recorded(fsync)
    made = next(event.call for event in run.events if _shown(event.call) == "mkdirat .lists")
    replay = replay_of(run)
    assert replay.play(run.events) is None
    sync = next(sync for sync in replay.syncs if sync.call.number > made.number)
    assert (sync.call.name, sync.what) == ("fsync", f"{MAIL}/one.example/a")
    loss = replay_of(run).play(run.events, {sync.call: range(len(run.events) + 1)})
    assert loss is not None
    assert f"may not be in {FOLDER_OF_OLD}/new" in loss.what


def _shown(call: Call) -> str:
    """The call, and what it names last."""
    name = next((argument.decode() for argument in reversed(call.arguments) if isinstance(argument, bytes)), "")
    appends = " to append" if any("O_APPEND" in str(argument) for argument in call.arguments) else ""
    return f"{call.name} {name}{appends}"


@pytest.mark.parametrize(
    ("address", "fsyncs"),
    [("a@one.example", fsyncs) for fsyncs in range(1, 6)] + [("a+lists@one.example", fsyncs) for fsyncs in range(4, 8)],
)
def test_what_a_server_that_was_killed_had_begun_its_successor_makes_certain(
    tmp_path: Path, address: str, fsyncs: int
) -> None:
    """
    Killed behind a mkdir(2) and before the fsync(2) of its parent, it leaves a directory that is there, and need not
    be after a loss of power. The next server finds it, and has to promise mail in it.

    :param address: of a new mailbox, or a new folder of one.
    :param fsyncs: which of its thread's fsyncs it is that it never comes to; the first is also one of the main thread.
    """
    lost, kept = (Message.make(token, [address], 500) for token in ("lost", "kept"))
    first = record(tmp_path, "fsync=yes", deliver(lost), f"inject=fsync:signal=SIGKILL:when={fsyncs}")
    second = record(tmp_path, "fsync=yes", deliver(kept))
    assert [message for message, _ in second.promises.values()] == [kept]
    known = {**first.promises, **second.promises, "never": (lost, mailbox_of(address))}
    replay = Replay(str(tmp_path), MAIL, known)
    assert replay.play(first.events) is None
    assert replay.play(second.events) is None
    assert replay.kept == 1
