"""Measures one server under one load, and a scenario's servers in turn, so that a noisy moment hits them all."""

import atexit
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from attrs import field, frozen, mutable

from benchmarks.build import BuildError
from benchmarks.contenders import Contender
from benchmarks.load import LoadError
from benchmarks.process import Server, ServerError, free_port
from benchmarks.scenarios import Scenario


@frozen
class Sample:
    """
    One round of one server.

    :param rate: messages a second.
    :param cpu: µs of the server's CPU time for a message.
    :param peak: octets: the most memory its processes held.
    """

    rate: float
    cpu: float
    peak: int


@mutable
class Row:
    """
    All rounds of one server in one scenario.

    :param samples: one a round; ``None`` for a round without a result.
    :param problem: why there is none; empty where all went well.
    """

    server: str
    samples: list[Sample | None] = field(factory=list)
    problem: str = ""

    def median(self, figure: Callable[[Sample], float]) -> float:
        """The median of one of a sample's figures over the rounds that have a result."""
        return median(figure(sample) for sample in self.samples if sample)

    def spread(self) -> float:
        """How far apart the rates of the rounds are: the range as a share of the median."""
        rates = [sample.rate for sample in self.samples if sample]
        return (max(rates) - min(rates)) / median(rates)

    def times(self, other: "Row") -> float | None:
        """The median, over the rounds that both have, of how many times as fast this one was as the other."""
        pairs = zip(self.samples, other.samples, strict=False)
        ratios = [mine.rate / theirs.rate for mine, theirs in pairs if mine and theirs]
        return median(ratios) if ratios else None


def measure(contender: Contender, scenario: Scenario, below: Path) -> Sample:
    """
    Starts the server, loads it, stops it.

    :param below: where its temporary directory is made; its mail is kept there.
    :raises ServerError: if it does not start.
    :raises LoadError: if it does not take the load.
    :raises BuildError: if it can't be compiled.
    """
    directory = Path(tempfile.mkdtemp(prefix="lmtp-bench-", dir=below))
    # Not before the last round: ext4 passes over inodes that were freed a moment ago, so that whoever comes next would
    # pay half a millisecond of processor time for each file that it makes.
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    directory.chmod(0o755)  # a server may deliver as another user
    if contender.alone is not None:
        found = contender.alone(scenario.load, directory)
        return Sample(rate=found.rate, cpu=found.cpu_seconds / found.messages * 1e6, peak=0)
    port = free_port()
    with Server(contender.command(port, directory), port, directory, workers=contender.workers) as server:
        found = scenario.generator(server, scenario.load)
        return Sample(
            rate=found.rate,
            cpu=found.cpu_seconds / found.messages * 1e6,
            peak=server.memory("VmHWM"),
        )


def compare(
    scenario: Scenario,
    contenders: Sequence[Contender],
    rounds: int,
    below: Path,
    progress: Callable[[str], None],
) -> list[Row]:
    """
    Measures a scenario's servers in turn, so many rounds.

    :returns: a row for each, in the order given. A server that is absent or fails has its problem in the row.
    """
    rows = [Row(contender.name, problem=_absence(contender)) for contender in contenders]
    for number in range(rounds):
        for contender, row in zip(contenders, rows, strict=True):
            if row.problem.startswith("absent"):
                continue
            progress(f"{scenario.name}, round {number + 1} of {rounds}: {contender.name}")
            try:
                row.samples.append(measure(contender, scenario, below))
            except (ServerError, LoadError, BuildError) as error:
                row.samples.append(None)
                row.problem = f"failed: {error}"
    return rows


def _absence(contender: Contender) -> str:
    reason = contender.absence()
    return f"absent: {reason}" if reason else ""
