"""docs/conformance-peers.rst is true: other people's servers do what it says they do."""

from __future__ import annotations

import pytest

from benchmarks.conformance import PAGE, mark, verdicts_on
from benchmarks.judged import JUDGED, Judged, judge
from lmtp_twisted.conformance.reading import read_scenarios

TEXT = PAGE.read_text("utf-8")
PEERS = {"Dovecot": "dovecot", "smtp-server": "node", "smtp-sink": "postfix"}


def _params() -> list[object]:
    return [
        pytest.param(
            judged, id=judged.name, marks=[pytest.mark.peer(PEERS[judged.name])] if judged.name in PEERS else []
        )
        for judged in JUDGED
    ]


@pytest.mark.parametrize("judged", _params())
def test_a_server_does_what_the_page_says_of_it(judged: Judged) -> None:
    """Each verdict. Where a server has a new version, and another verdict, ``make conformance`` writes it down."""
    if absence := judged.absence():
        pytest.skip(absence)
    found = {name: mark(result) for name, result in judge(judged).items()}
    written = verdicts_on(TEXT, judged.name)
    different = {name: (written.get(name), found[name]) for name in sorted(found) if found[name] != written.get(name)}
    assert different == {}, f"{judged.name} {judged.version()}: the page says the first, and it is the second"


def test_the_page_has_every_scenario() -> None:
    """And none that is no more."""
    names = {scenario.name for scenario in read_scenarios()}
    for judged in JUDGED:
        assert verdicts_on(TEXT, judged.name).keys() == names


def test_our_own_server_has_passed_everything() -> None:
    """Nothing failed and nothing absent, on the page that compares it with others."""
    assert set(verdicts_on(TEXT, "lmtp-twisted").values()) == {"✓"}
