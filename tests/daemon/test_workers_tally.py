"""Numbers that several processes share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lmtp_twisted.daemon.workers import tally as tally_module
from lmtp_twisted.daemon.workers.tally import SharedTally, make_memory


@pytest.fixture
def memory() -> Iterator[int]:
    """The descriptor of a memory for three processes."""
    descriptor = make_memory(3)
    yield descriptor
    os.close(descriptor)


def _tallies(memory: int) -> list[SharedTally]:
    return [SharedTally(memory, 3, row) for row in range(3)]


def test_the_total_is_that_of_all_processes(memory: int) -> None:
    first, second, third = _tallies(memory)
    first.add("sessions", 1)
    first.add("sessions", 1)
    second.add("sessions", 1)
    assert [one.total("sessions") for one in (first, second, third)] == [3, 3, 3]


def test_each_name_has_a_number_of_its_own(memory: int) -> None:
    first, second, _ = _tallies(memory)
    first.add("192.0.2.1", 1)
    second.add("192.0.2.2", 1)
    assert (first.total("192.0.2.1"), first.total("192.0.2.2"), first.total("192.0.2.3")) == (1, 1, 0)


def test_what_was_added_can_be_taken_away_and_added_again(memory: int) -> None:
    first, second, _ = _tallies(memory)
    for _ in range(3):
        first.add("peer", 1)
        assert second.total("peer") == 1
        first.add("peer", -1)
        assert second.total("peer") == 0


def test_the_row_of_a_process_that_is_gone_is_cleared_and_the_others_stay(memory: int) -> None:
    first, second, _ = _tallies(memory)
    first.add("sessions", 1)
    second.add("sessions", 1)
    SharedTally(memory, 3, None).clear(0)
    assert second.total("sessions") == 1
    # The next process on that row begins at nothing.
    SharedTally(memory, 3, 0).add("sessions", 1)
    assert second.total("sessions") == 2


def test_names_that_share_a_place_are_told_apart_and_one_too_many_is_not_counted(
    memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tally_module, "_BUCKETS", 1)
    first, second, _ = _tallies(memory)
    names = [f"peer {number}" for number in range(9)]
    for name in names:
        first.add(name, 1)
        first.add(name, 1)
    assert [second.total(name) for name in names] == [2] * 8 + [0]
    # It goes as it came, and takes nothing away from others.
    first.add(names[8], -1)
    first.add(names[8], -1)
    assert [second.total(name) for name in names] == [2] * 8 + [0]
    # Where another has gone there is room.
    first.add(names[3], -1)
    first.add(names[3], -1)
    first.add("late", 1)
    assert (second.total("late"), second.total(names[3])) == (1, 0)


def test_a_thousand_names_come_and_go(memory: int) -> None:
    first, second, _ = _tallies(memory)
    names = [f"2001:db8::{number:x}" for number in range(1000)]
    for name in names:
        first.add(name, 1)
        second.add(name, 1)
    assert all(first.total(name) == 2 for name in names)
    for name in names:
        first.add(name, -1)
    assert all(first.total(name) == 1 for name in names)
