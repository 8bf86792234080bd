"""Programs that run beside the reactor: most servers here live in the process of the tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import attrs
from occasions import Occasions
from peer_programs import find, search_path
from twisted.internet import reactor
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

R = TypeVar("R")


@attrs.frozen
class Ended:
    """
    :ivar status: the exit status, or minus the number of the signal.
    :ivar output: what it wrote to standard output.
    :ivar errors: what it wrote to standard error.
    """

    status: int
    output: str
    errors: str


class Program(ProcessProtocol):
    """
    A program that runs.

    :param command: its name, looked for in the path, and its arguments.
    :param given: its standard input, which ends with it.
    :param directory: where it runs.
    :ivar lines: what it wrote so far, a line each, to standard output and standard error.
    """

    transport: Any

    def __init__(self, command: Sequence[str], given: bytes = b"", directory: str | None = None) -> None:
        self.lines: Occasions[str] = Occasions(f"the output of {command[0]}")
        self._given = given
        self._written: dict[int, bytes] = {1: b"", 2: b""}
        self._ends: Occasions[Ended] = Occasions(f"the end of {command[0]}")
        environment = {**os.environ, "PATH": search_path(), "LC_ALL": "C.UTF-8", "PYTHONUNBUFFERED": "1"}
        program = find(command[0])
        assert program is not None, f"no {command[0]} here"
        reactor.spawnProcess(self, program, command, environment, directory)

    def connectionMade(self) -> None:
        """It runs."""
        self.transport.write(self._given)
        self.transport.closeStdin()

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """It wrote something."""
        before = self._written[childFD].rpartition(b"\n")[2]
        self._written[childFD] += data
        for line in (before + data).split(b"\n")[:-1]:
            self.lines.add(line.decode("utf-8", "replace"))

    def processEnded(self, reason: Failure) -> None:
        """It has ended, and all its output has come."""
        error: Any = reason.value
        status = 0 if reason.check(ProcessDone) else -error.signal if error.signal else error.exitCode
        output, errors = (self._written[number].decode("utf-8", "replace") for number in (1, 2))
        self._ends.add(Ended(status, output, errors))
        # Whoever waits for words waits in vain.
        self.lines.add("")

    async def end(self) -> Ended:
        """
        Wait for its end.

        :raises AssertionError: at the deadline; it is killed then.
        """
        try:
            (ended,) = await self._ends.count(1)
        except AssertionError as error:
            self.send_signal(signal.SIGKILL)
            raise AssertionError(f"{error}; it wrote {self._written}") from None
        return ended

    async def says(self, words: str) -> None:
        """
        Wait for a line with these words.

        :raises AssertionError: where it ends without them.
        """
        found = await self.lines.until(lambda lines: [line for line in lines if words in line] or self._ends.seen)
        assert found is not self._ends.seen, f"it has ended: {found}"

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, where it still runs."""
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess(number)


async def run(*command: str, given: bytes = b"") -> Ended:
    """
    Run a program to its end.

    :param command: its name and its arguments.
    :param given: its standard input.
    """
    return await Program(command, given).end()


async def in_thread(function: Callable[..., R], *arguments: Any, **keywords: Any) -> R:
    """Call what blocks, such as smtplib, in a thread: the server it talks to needs the reactor."""
    return await deferToThread(function, *arguments, **keywords)
