"""
A real server under attack, with fewer attackers than ``make abuse`` has, and the same bounds: its memory stays below
512 MiB, and a message in another session is answered within a second.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.abuse.__main__ import attacked, held  # noqa: E402
from benchmarks.abuse.attacks import ATTACKS, Attack  # noqa: E402
from benchmarks.abuse.endurance import GROWTH_TARGET, endured  # noqa: E402

QUICK = [attack for attack in ATTACKS if attack.quick]


@pytest.mark.parametrize("attack", QUICK, ids=[attack.name for attack in QUICK])
def test_others_are_served_while_some_attack(attack: Attack) -> None:
    """RFC 5321 §7.8 leaves it to the server to resist."""
    result = attacked(attack, attack.quick, 1.0)
    assert result["arrived"] == attack.quick
    assert min(result["messages"]) > 0
    assert held(result), result


def test_what_a_server_keeps_of_messages_does_not_grow() -> None:
    """No two have the same addresses. By the third look all that is remembered is as large as it gets."""
    resident = endured("null", 20_000)["resident"]
    assert max(resident[3:]) - resident[2] < GROWTH_TARGET, resident


def test_the_documentation_shows_a_run_of_all_attacks_and_all_were_held() -> None:
    """``docs/abuse.rst`` is made from it."""
    results = json.loads((ROOT / "docs/abuse.json").read_text())["attacks"]
    assert [result["attack"] for result in results] == [attack.name for attack in ATTACKS]
    assert [result["attack"] for result in results if not held(result)] == []
    runs = json.loads((ROOT / "docs/endurance.json").read_text())["runs"]
    assert all(run["messages"] >= 200_000 and run["growth"] < GROWTH_TARGET for run in runs)
