"""A server that is being measured: started, awaited, stopped. Only what was started here is ever stopped."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from benchmarks import proc

ROOT = Path(__file__).resolve().parent.parent
READY_LIMIT = 30.0
STOP_LIMIT = 10.0


class ServerError(Exception):
    """A server did not start, or did not serve; the text says why in a line."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def end_on_sigterm() -> None:
    """Makes SIGTERM end this process by an exception, so that what it has started is stopped."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


class Server:
    """
    A running server; a context manager that stops it with all its processes.

    :param command: the program and its arguments.
    :param port: where on 127.0.0.1 it has been told to listen.
    :param directory: its working directory; what it prints goes to ``output`` there.
    :param greets: it speaks first; one that waits for a PROXY header does not.
    :param workers: it is ready when so many say in ``twistd.log`` there that they serve; 1 says nothing.
    :raises ServerError: if it can't be started, or does not greet in time; then it has been stopped.
    """

    def __init__(
        self, command: Sequence[str], port: int, directory: Path, *, greets: bool = True, workers: int = 1
    ) -> None:
        self.port = port
        self._speaks_first = greets
        self._output = directory / "output"
        self._log = directory / "twistd.log"
        self._workers = workers
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        with self._output.open("wb") as output:
            try:
                self._process = subprocess.Popen(
                    command,
                    cwd=directory,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, "PYTHONPATH": path},
                    start_new_session=True,
                )
            except OSError as error:
                raise ServerError(f"can't be started: {error}")

    def __enter__(self) -> "Server":
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_LIMIT
        while not self._greets():
            if self._process.poll() is not None:
                raise ServerError(f"ended with status {self._process.returncode}: {self.last_words()}")
            if time.monotonic() > deadline:
                raise ServerError(f"did not greet within {READY_LIMIT:.0f} s: {self.last_words()}")
            time.sleep(0.02)

    def _greets(self) -> bool:
        if self._workers > 1 and not (self._log.exists() and self._log.read_text().count(" serves\n") >= self._workers):
            return False
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                if not self._speaks_first:
                    return True
                greeting = connection.recv(512)
                connection.sendall(b"QUIT\r\n")
                while connection.recv(512):
                    pass
                return greeting.startswith(b"220")
        except OSError:
            return False

    def last_words(self) -> str:
        """The last line that the server printed."""
        lines = self._output.read_text(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")

    def tree(self) -> list[int]:
        """Its process and all descendants."""
        return proc.tree(self._process.pid)

    def cpu_seconds(self) -> float:
        """What its processes have used so far."""
        return proc.cpu_seconds(self.tree())

    def memory(self, field: str) -> int:
        """Octets, summed over its processes: see :func:`benchmarks.proc.memory`."""
        return proc.memory(self.tree(), field)

    def reset_peak(self) -> None:
        """Begins a new measurement of the peak."""
        proc.reset_peak(self.tree())

    def stop(self) -> None:
        """Ends all its processes: asks the first one, and kills what is left after a while."""
        members = {pid: proc.started_at(pid) for pid in self.tree()}
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_LIMIT)
        for pid, started in members.items():
            if started and proc.started_at(pid) == started:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._process.wait()
