"""
``make kill``: kills servers under load at random moments, and prints what was left.

A program of its own, so that it can run for as long as anybody likes; the tests kill fewer.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from killed_server import Figures, KilledServer


def kill(directory: Path, kills: int, seed: str, parallel: int) -> Figures:
    """
    :param directory: an empty one.
    :param kills: how many.
    :param seed: of messages and moments.
    :param parallel: servers at a time, each with mailboxes of its own.
    :raises AssertionError: where anything was lost, partial or doubled.
    """
    every = [Figures() for _ in range(parallel)]

    def run(number: int) -> None:
        server = KilledServer(directory / str(number), f"{seed}.{number}", every[number])
        for _ in range(number, kills, parallel):
            server.kill()

    with ThreadPoolExecutor(parallel) as pool:
        for end in [pool.submit(run, number) for number in range(parallel)]:
            end.result()
    return Figures.sum(every)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="make kill", description=__doc__)
    parser.add_argument("--kills", type=int, default=500, help="how many [500]")
    parser.add_argument(
        "--seed", default=str(random.randrange(10**6)), help="of messages and moments [another each time]"
    )
    parser.add_argument("--parallel", type=int, default=3, help="servers at a time [3]")
    parser.add_argument("--directory", help="where the mailboxes go for that time [the system's for temporary files]")
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        figures = kill(Path(directory), options.kills, options.seed, options.parallel)
    print(f"{figures}; {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
