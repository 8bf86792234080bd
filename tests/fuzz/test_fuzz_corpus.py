"""What was worth trying once is tried each time, on every Python, and without a fuzzer."""

from __future__ import annotations

import re

import pytest
from fuzz_corpus import CORPUS, DICTIONARY, LONGEST, seeds, words
from fuzz_targets import TARGETS

SEEDS = [(target, name) for target in TARGETS for name in seeds(target)]


@pytest.mark.parametrize(("target", "name"), SEEDS)
def test_a_target_holds_for_its_corpus(target: str, name: str) -> None:
    """Made by hand, or found."""
    TARGETS[target](seeds(target)[name])


def test_each_target_has_a_corpus_and_each_corpus_a_target() -> None:
    """None is forgotten, and none is left over."""
    assert sorted(path.name for path in CORPUS.iterdir()) == sorted(TARGETS)
    assert all(len(seeds(target)) >= 5 for target in TARGETS)


@pytest.mark.parametrize(("target", "name"), SEEDS)
def test_what_is_kept_is_small_and_different(target: str, name: str) -> None:
    """A corpus is read by people."""
    data = seeds(target)[name]
    assert 0 < len(data) <= LONGEST
    assert list(seeds(target).values()).count(data) == 1


def test_the_dictionary_is_one_that_libfuzzer_reads() -> None:
    r"""One word a line, in quotes, with no escapes but ``\\``, ``\"`` and ``\xAB``."""
    lines = [line for line in DICTIONARY.read_text(encoding="ascii").splitlines() if not line.startswith("#")]
    for line in lines:
        assert re.fullmatch(r'"(?:[ !#-\[\]-~]|\\["\\]|\\x[0-9a-f]{2})+"', line), line
    assert len(words()) == len(set(words())) == len(lines)
