"""
The commands of a page: run for real in a directory of the page's own, with the interpreter of the tests first in the
path. A server is started in the background and waited for until it greets; what it printed is looked at when it ends.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
from docs_pages import Block

#: Seconds that a command or the start of a server may take.
PATIENCE = 30.0
#: Seconds that what a server prints may come after what it was asked.
LATE = 5.0

_ADDRESS = re.compile(r"--port (\d+)|listenTCP\((\d+)|(haproxy:)?(?<!--http )(?:tcp:(\d+)|unix:([^\s:\"']+))")
_CONFIGURATION = re.compile(r"--config (\S+)")
_IN_CONFIGURATION = re.compile(r"""^port = (\d+)|^listen = \[?"(?:tcp:(\d+)|unix:([^:"]+))""", re.MULTILINE)
_DAEMON = re.compile(r"(PYTHONPATH=\S+ )?twistd ")
_STOPS = re.compile(r"^kill .*\$\(cat (\S+\.pid)\)")
_PROGRAM = re.compile(r"python (\S+\.py)\b")
# What is given to react() ends by itself.
_RUNS_A_REACTOR = re.compile(r"\breactor\.run\(|\.serve_forever\(")
# A web server, which does not speak first.
_WEB = re.compile(r"HTTPServer\(\(\"127\.0\.0\.1\", (\d+)\)")


@attrs.frozen
class Command:
    """
    :ivar block: where it stands.
    :ivar text: what is typed; empty where the block begins with output of the server that runs.
    :ivar is_for_root: whether its prompt is ``#``.
    :ivar output: the lines that the page shows under it, none where it shows none.
    """

    block: Block
    text: str
    is_for_root: bool
    output: tuple[str, ...]


def commands_of(block: Block) -> list[Command]:
    """The commands of a console block, or of a shell block: there each line is one."""
    if block.language == "sh":
        return [Command(block, line, False, ()) for line in block.text.split("\n") if line.strip()]
    found: list[Command] = []
    lines = iter(block.text.split("\n"))
    for line in lines:
        if line[:2] in ("$ ", "# "):
            text = line[2:]
            while text.endswith("\\"):
                text = f"{text[:-1].rstrip()} {next(lines).strip()}"
            found.append(Command(block, text, line[0] == "#", ()))
        else:
            if not found:
                found.append(Command(block, "", False, ()))
            found[-1] = attrs.evolve(found[-1], output=(*found[-1].output, line))
    return found


def is_shown(expected: Sequence[str], printed: str, *, whole: bool) -> bool:
    """
    Whether a page shows what was printed. ``…`` stands for any text within a line; alone, for any number of lines.

    :param whole: whether lines that the page does not show must not be there.
    """
    between = "(?:.*\n)*?"
    pattern = "" if whole else between
    for line in expected:
        if line.strip() == "…":
            pattern += between
        else:
            pattern += ".*?".join(map(re.escape, line.rstrip().split("…"))) + r"[ \t]*\n" + ("" if whole else between)
    actual = printed if printed.endswith("\n") or not printed else printed + "\n"
    return re.fullmatch(pattern + ("" if whole else between), actual) is not None


def assert_shown(place: str, expected: Sequence[str], printed: str, *, whole: bool) -> None:
    """See :func:`is_shown`."""
    shown = "\n".join(expected)
    assert is_shown(expected, printed, whole=whole), f"{place} shows\n{shown}\nbut it was\n{printed}"


class _Server:
    """A command that runs until it is interrupted, as by Ctrl-C."""

    def __init__(
        self, command: Command, text: str, directory: Path, environment: Mapping[str, str], addresses: list[str]
    ) -> None:
        self.addresses = addresses
        self._place = command.block.place
        self._output = directory / f".output-of-line-{command.block.line}"
        # In the order in which they were shown: the lines under the command, then those of later blocks.
        self.expected: list[str] = []
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                # "exec", so that the signal reaches the program and not a shell.
                ["sh", "-c", f"exec {text}"],
                cwd=directory,
                # What it was doing is printed where it is ended by SIGABRT.
                env={**environment, "PYTHONFAULTHANDLER": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def wait_until_it_greets(self) -> None:
        until = time.monotonic() + PATIENCE
        for address in self.addresses:
            while not _is_there(address):
                assert self._process.poll() is None, f"{self._place}: the server ended at once:\n{self._printed}"
                if time.monotonic() > until:
                    self._process.send_signal(signal.SIGABRT)
                    self._process.wait(PATIENCE)
                    raise AssertionError(f"{self._place}: nobody greets on {address}:\n{self._printed}")
                time.sleep(0.02)

    @property
    def _printed(self) -> str:
        return self._output.read_text("utf-8")

    def kill(self) -> None:
        """End it, whatever it is doing."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Interrupt it once it has printed what the page shows, and see whether it ended well."""
        try:
            # Its log is a little late, and so may be one of its workers. Some print the last of it when they end.
            until = time.monotonic() + LATE
            while not is_shown(self.expected, self._printed, whole=False) and time.monotonic() < until:
                time.sleep(0.02)
            self._process.send_signal(signal.SIGINT)
            status = self._process.wait(PATIENCE)
        finally:
            self.kill()
        printed = self._printed
        # twistd ends by the signal that it got, once it has done all that is to be done.
        assert status in (0, -signal.SIGINT), f"{self._place}: the server ended with {status}:\n{printed}"
        assert "Traceback" not in printed or "Traceback" in "".join(self.expected), f"{self._place}:\n{printed}"
        assert_shown(self._place, self.expected, printed, whole=False)


def _addresses(text: str) -> list[str]:
    mail = ["".join(found) for found in _ADDRESS.findall(text)]
    return mail + [f"web:{port}" for port in _WEB.findall(text)]


def _addresses_in(configuration: Path) -> list[str]:
    """Those where a server greets without TLS."""
    found = _IN_CONFIGURATION.findall(configuration.read_text("utf-8"))
    return [str(configuration.parent / socket) if socket else port or other for port, other, socket in found]


def _is_there(address: str) -> bool:
    if address.endswith(".pid"):
        return os.path.exists(address)
    kind, _, address = address.rpartition(":")
    family = socket.AF_INET if address.isdigit() else socket.AF_UNIX
    with socket.socket(family) as client:
        client.settimeout(PATIENCE)
        try:
            client.connect(("127.0.0.1", int(address)) if address.isdigit() else address)
            if kind == "web":
                client.sendall(b"HEAD / HTTP/1.0\r\n\r\n")
                return client.recv(4) == b"HTTP"
            if kind:
                client.sendall(b"PROXY UNKNOWN\r\n")
            # It listens before its reactor runs, and only then an interrupt ends it well.
            return client.recv(4) == b"220 "
        except OSError:
            return False


class Console:
    """
    The terminals of one page.

    :param directory: where commands run.
    :param environment: their environment variables.
    """

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._directory = directory
        self._environment = environment
        self._servers: list[_Server] = []

    def run(self, command: Command, text: str, output: Sequence[str]) -> None:
        """
        :param command: the command of the page.
        :param text: what to run, with ports and paths of this run.
        :param output: what it prints then.
        :raises AssertionError: where it fails, or prints something else.
        """
        if not text:
            assert self._servers, f"{command.block.place}: output, but of which command?"
            self._servers[-1].expected += output
        elif self._is_server(text):
            self._start(command, text, output)
        else:
            self._run_to_its_end(command, text, output)

    def _is_server(self, text: str) -> bool:
        if text.startswith("twistd -n "):
            return True
        program = _PROGRAM.match(text)
        return bool(program and _RUNS_A_REACTOR.search((self._directory / program[1]).read_text("utf-8")))

    def _start(self, command: Command, text: str, output: Sequence[str]) -> None:
        program = _PROGRAM.match(text)
        addresses = _addresses((self._directory / program[1]).read_text("utf-8") if program else text)
        for path in _CONFIGURATION.findall(text):
            addresses += _addresses_in(self._directory / path)
        assert addresses, f"{command.block.place}: a server, but where does it listen?"
        if not program and "--pidfile" not in text:
            # Of these there is only one in a directory.
            addresses.append(f"{self._directory}/twistd.pid")
        self._make_way(addresses)
        server = _Server(command, text, self._directory, self._environment, addresses)
        self._servers.append(server)
        server.expected += output
        server.wait_until_it_greets()

    def _make_way(self, addresses: list[str]) -> None:
        """End the servers that are in the way of another: as a page says, stop the one and start the other."""
        for server in list(self._servers):
            if set(server.addresses) & set(addresses):
                self._servers.remove(server)
                server.stop()

    def _run_to_its_end(self, command: Command, text: str, output: Sequence[str]) -> None:
        if _DAEMON.match(text):
            self._make_way(_addresses(text))
        done = subprocess.run(
            ["bash", "-c", text],
            cwd=self._directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            timeout=PATIENCE,
        )
        assert done.returncode == 0, f"{command.block.place}: {text!r} ended with {done.returncode}:\n{done.stdout}"
        if output:
            assert_shown(command.block.place, output, done.stdout, whole=True)
        for daemon in _STOPS.findall(text):
            _wait_for_its_end(command, self._directory / daemon)

    def close(self) -> None:
        """
        Stop all servers.

        :raises AssertionError: where one printed something else than the page shows, or a daemon was left running.
        """
        for server in list(self._servers):
            server.stop()
            self._servers.remove(server)
        left = self.kill()
        assert not left, f"daemons were left running: {left}"

    def kill(self) -> list[str]:
        """
        End all that still runs.

        :returns: the names of the daemons among it.
        """
        while self._servers:
            self._servers.pop().kill()
        return [path.name for path in self._directory.glob("*.pid") if _kill(int(path.read_text()))]


def _wait_for_its_end(command: Command, pidfile: Path) -> None:
    """A daemon that was told to stop removes its file when it is done."""
    until = time.monotonic() + PATIENCE
    while pidfile.exists():
        assert time.monotonic() < until, f"{command.block.place}: the daemon does not end"
        time.sleep(0.02)


def _kill(process: int) -> bool:
    """Kill it; whether it was there."""
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
