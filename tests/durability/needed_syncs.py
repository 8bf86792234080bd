"""Whether each sync of a record is needed: what is lost without it, or else which other one did its work."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence

import attrs
from power_loss import Loss, Replay, Sync
from traced_server import MAIL, Record


class Cover(enum.Enum):
    """Why nothing is lost without a sync. These reasons are all that there are."""

    #: It is there for what it reports and not for what it writes: that the file system has given up, of which syncfs
    #: says nothing before Linux 6.13. All that it could bring to disk the syncfs before it has.
    REPORTS = "an fsync behind a syncfs brings nothing more to disk"
    #: Before it opens its first mailbox the server syncs the file system: a directory that another has left there, and
    #: that was killed before its fsync, has to be certain too. Here there was no other, and what the server itself
    #: had made before, its root, has been synced. Where there was one it is missed: test_power_loss.py.
    START = "the file system is synced once at the start, and nothing had been there before"
    #: Directories are made, and made certain, before the messages of a batch are written. That a syncfs comes later,
    #: since several wait, is not yet known then; where the message is alone there is none.
    BATCH = "the directory was made for a batch, whose syncfs came before the reply"
    #: A mailbox that is made for a folder is synced twice, once for what makes it a mailbox and once for the folder.
    #: No reply comes in between.
    FOLDER = "the same directory was synced again at once, for the folder that was made in it"
    #: Two threads are at work. Where both wait for the disk, the one that began later has also waited for what the
    #: other had written. Nothing of that can be counted on.
    CHANCE = "another thread happened to sync the same meanwhile"


@attrs.frozen
class Verdict:
    """
    :ivar sync: one of the syncs of a record.
    :ivar loss: what is lost without it; else
    :ivar cover: why nothing is; ``None`` where there is no reason.
    """

    sync: Sync
    loss: Loss | None
    cover: Cover | None = None


def replay_of(record: Record) -> Replay:
    """A replay that has not begun."""
    return Replay(record.directory, MAIL, record.promises)


def verdicts_on(record: Record) -> Iterator[Verdict]:
    """Each sync is taken out in turn."""
    whole = replay_of(record)
    assert whole.play(record.events) is None
    everything = range(len(record.events) + 1)
    for sync in whole.syncs:
        loss = replay_of(record).play(record.events, {sync.call: everything})
        yield Verdict(sync, loss, None if loss else _cover_of(sync, whole.syncs, record))


def _cover_of(sync: Sync, syncs: Sequence[Sync], record: Record) -> Cover | None:
    """
    The reason, if it holds: where those whom it names leave to this sync what is its own work, and do all else, its
    work is missed.
    """
    if sync.is_behind:
        return Cover.REPORTS
    if is_at_start(sync):
        return Cover.START
    others = [other for other in syncs if other.call is not sync.call]
    by_chance = [other for other in others if other.call.thread != sync.call.thread]
    of_batch = [other for other in others if other.call.name == "syncfs"] if is_parent(sync) else []
    at_start = [other for other in others if is_at_start(other)] if is_parent(sync) else []
    for_folder = [other for other in others if _is_next(sync, other, syncs)] if is_parent(sync) else []
    for cover, named in (
        (Cover.START, at_start),
        (Cover.FOLDER, for_folder),
        (Cover.CHANCE, for_folder + by_chance),
        (Cover.BATCH, of_batch + for_folder + by_chance),
    ):
        if replay_of(record).play(record.events, {other.call: sync.work for other in [sync, *named]}):
            return cover
    return None


def is_parent(sync: Sync) -> bool:
    """Whether it is of a directory in which directories are made, not messages."""
    return sync.call.name == "fsync" and sync.what != "a file" and not sync.what.endswith("/new")


def _is_next(sync: Sync, other: Sync, syncs: Sequence[Sync]) -> bool:
    """Whether the other is of the same directory, and what the thread syncs next."""
    later = (each for each in syncs if each.call.thread == sync.call.thread and each.call.number > sync.call.number)
    return other is next(later, None) and other.what == sync.what


def is_at_start(sync: Sync) -> bool:
    return sync.call.name == "syncfs" and sync.what == MAIL
