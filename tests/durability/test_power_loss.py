"""
What was answered with 250 survives a loss of power (RFC 5321 §4.2.5): recorded system calls, played against the worst
file system there may be. The checker is checked: what a server without syncs loses it finds, and so it does where a
single one is taken out of the record.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from needed_syncs import Cover, Verdict, is_parent, replay_of, verdicts_on
from traced_server import Record, record

pytestmark = pytest.mark.peer("strace")

#: The ways to wait for the disk that promise something.
SAFE = ("yes", "each")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Record]:
    """The record of a server with this ``fsync=``; each is made once."""
    records: dict[str, Record] = {}

    def recorded(fsync: str) -> Record:
        if fsync not in records:
            records[fsync] = record(tmp_path_factory.mktemp(fsync), f"fsync={fsync}")
        return records[fsync]

    return recorded


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
    together = [sync.what for sync in replay.syncs if sync.call.name == "syncfs"]
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
def test_each_sync_is_missed_or_it_is_known_what_did_its_work(recorded: Callable[[str], Record], fsync: str) -> None:
    """The reasons are those of :class:`Cover`, each of which names the other sync."""
    found = list(verdicts_on(recorded(fsync)))
    assert [str(verdict.sync) for verdict in found if not verdict.loss and not verdict.cover] == []
    assert fsync == "yes" or {verdict.cover for verdict in found} <= {None, Cover.CHANCE}
    for cover in Cover:
        harmless = [str(verdict.sync) for verdict in found if verdict.cover is cover]
        print(f"fsync={fsync}: {len(harmless)} of {len(found)} are not missed: {cover.value}", *harmless, sep="\n  ")


@pytest.mark.parametrize("fsync", SAFE)
def test_each_kind_of_sync_is_missed_somewhere(recorded: Callable[[str], Record], fsync: str) -> None:
    """No kind is there in vain but the fsync behind a syncfs, which is there for what it reports."""
    missed = {_kind(verdict) for verdict in verdicts_on(recorded(fsync)) if verdict.loss}
    each = {"fsync of a file", "fsync of new", "fsync of a parent"}
    assert missed == each | ({"syncfs of a file", "syncfs of new"} if fsync == "yes" else set())


def _kind(verdict: Verdict) -> str:
    sync = verdict.sync
    what = "a file" if sync.what == "a file" else "a parent" if is_parent(sync) else "new"
    return f"{sync.call.name} of {what}{' behind a syncfs' if sync.is_behind else ''}"
