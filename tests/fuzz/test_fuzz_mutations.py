"""Random edits of the corpus: what a fuzzer does, without one. Each run of the tests tries others."""

from __future__ import annotations

import pytest
from fuzz_corpus import LONGEST, seeds, words
from fuzz_engine import how_to_try_again
from fuzz_planted import planted
from fuzz_targets import TARGETS
from hypothesis import given, note, settings
from hypothesis import strategies as st

#: A session costs as much as some hundred lines.
EXAMPLES = {"session": 100}
PLACES = st.integers(0, LONGEST)


def edited(target: str) -> st.SearchStrategy[bytes]:
    """A seed, with pieces taken out and others put in."""
    known = st.sampled_from(list(seeds(target).values()))
    pieces = st.one_of(st.just(b""), st.sampled_from(words()), st.binary(max_size=4), known)
    edits = st.lists(st.tuples(PLACES, st.integers(0, 20), pieces), max_size=6)
    return st.builds(_edit, known, edits)


def _edit(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for place, length, piece in edits:
        at = place % (len(data) + 1)
        data = data[:at] + piece + data[at + length :]
    return data[:LONGEST]


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_holds_for_whatever_is_made_of_its_corpus(target: str) -> None:
    """See the target for what it demands."""
    _try_edits(target)


@pytest.mark.parametrize("target", TARGETS)
def test_a_planted_defect_is_found(target: str) -> None:
    """A target that never fails proves nothing."""
    with planted(target), pytest.raises(Exception, match=r".") as found:
        _try_edits(target)
    assert any("Again: python tests/fuzz/fuzz_engine.py" in line for line in found.value.__notes__)


def _try_edits(target: str) -> None:
    @settings(max_examples=EXAMPLES.get(target, 500), report_multiple_bugs=False)
    @given(edited(target))
    def holds(data: bytes) -> None:
        note(how_to_try_again(target, data))
        TARGETS[target](data)

    holds()
