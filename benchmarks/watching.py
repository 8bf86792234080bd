"""
``python -m benchmarks.watching``: what ``--http`` costs a server. One that forgets mail has the least else to do.

Two servers run, one with it and one without, and are measured in turn; for each round they are started anew, since two
processes of the same program differ by a few per cent.
"""

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles

from benchmarks.contenders import twistd
from benchmarks.load import Load, pipelined
from benchmarks.process import Server, end_on_sigterm, free_port

SECONDS = 1.0
IN_TURN = 3


def ratios(rounds: int, recipients: int, backend: str) -> list[float]:
    """For each round, the time that a message took with ``--http`` to what it took without: the best of each."""
    load = Load(sessions=10, octets=4096, recipients=recipients, seconds=SECONDS, warmup=2000)
    found = []
    for _ in range(rounds):
        with ExitStack() as stack:
            servers = []
            for options in ((), ("--http", str(free_port()))):
                directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp")))
                port = free_port()
                server = Server(twistd(port, directory, backend, *options), port, directory)
                servers.append(stack.enter_context(server))
            rates: list[list[float]] = [[], []]
            for turn in range(IN_TURN):
                for place in (0, 1) if turn % 2 else (1, 0):
                    rates[place].append(pipelined(servers[place], load).rate)
            found.append(max(rates[0]) / max(rates[1]))
    return found


def main() -> None:
    """The medians and quartiles."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watching", description=__doc__.split("\n\n")[1])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--backend", default="null:", help="such as maildir:mail")
    parsed = parser.parse_args()
    end_on_sigterm()
    for recipients in (1, 5):
        found = ratios(parsed.rounds, recipients, parsed.backend)
        first, _, third = quantiles(found, n=4)
        print(f"{recipients} recipients: {median(found):.3f} ({first:.3f} to {third:.3f})", flush=True)


if __name__ == "__main__":
    main()
