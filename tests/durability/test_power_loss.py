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
from sent_messages import Message
from traced_server import MAIL, Record, deliver, record

pytestmark = pytest.mark.peer("strace")

#: The ways to wait for the disk that promise something.
SAFE = ("yes", "each")


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


@pytest.mark.parametrize("fsync", SAFE)
def test_each_sync_is_missed_or_it_is_known_what_did_its_work(
    verdicts: Callable[[str], list[Verdict]], fsync: str
) -> None:
    """The reasons are those of :class:`Cover`, each of which names the other sync."""
    found = verdicts(fsync)
    assert [str(verdict.sync) for verdict in found if not verdict.loss and not verdict.cover] == []
    assert fsync == "yes" or {verdict.cover for verdict in found} <= {None, Cover.CHANCE, Cover.START}
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


@pytest.mark.parametrize("fsyncs", range(1, 6))
def test_what_a_server_that_was_killed_had_begun_its_successor_makes_certain(tmp_path: Path, fsyncs: int) -> None:
    """
    Killed behind a mkdir(2) and before the fsync(2) of its parent, it leaves a directory that is there, and need not
    be after a loss of power. The next server finds it, and has to promise mail in it.

    :param fsyncs: which of its thread's fsyncs it is that it never comes to; the first is also one of the main thread.
    """
    lost, kept = (Message.make(token, ["a@one.example"], 500) for token in ("lost", "kept"))
    first = record(tmp_path, "fsync=yes", deliver(lost), f"inject=fsync:signal=SIGKILL:when={fsyncs}")
    second = record(tmp_path, "fsync=yes", deliver(kept))
    assert [message for message, _ in second.promises.values()] == [kept]
    known = {**first.promises, **second.promises, "never": (lost, "one.example/a")}
    replay = Replay(str(tmp_path), MAIL, known)
    assert replay.play(first.events) is None
    assert replay.play(second.events) is None
    assert replay.kept == 1
