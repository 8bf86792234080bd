"""What a worker has answered with 250 survives its ``kill -9``, and that of the parent (RFC 5321 §4.2.5)."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest
from killed_workers import KilledWorkers

KILLS = 5


@pytest.mark.timeout(300)
def test_kills_of_workers_lose_nothing_and_are_seen_by_their_own_sessions_alone(tmp_path: Path) -> None:
    """RFC 5321 §4.2.5. In the end the parent is killed: its workers finish what they have, and nobody is cut off."""
    seed = str(random.randrange(10**6))
    print(f"seed {seed}")
    with contextlib.closing(KilledWorkers(tmp_path / "server", seed)) as server:
        for _ in range(KILLS):
            server.kill_worker()
        server.kill_parent()
        figures = server.figures
    print(figures, f"{server.lost} sessions cut off, {server.kept} not")
    assert figures.kills == KILLS + 1
    # Where it was never struck under load, or all were of one worker, it would prove nothing.
    assert figures.promises > 10 * KILLS
    assert server.lost
    assert server.kept
