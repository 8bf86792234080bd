"""Real ``twistd`` processes, and a client that is as simple as can be."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any

#: Seconds after which something that should have happened is taken not to happen.
PATIENCE = 30.0

# Begins a program as systemd does: sockets from descriptor 3 on, and variables that say so.
_PASSING = """\
import fcntl, os, sys
names, numbers, command = sys.argv[1], sys.argv[2].split(","), sys.argv[3:]
high = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 100) for number in numbers]
for place, number in enumerate(high, 3):
    os.dup2(number, place)
    os.close(number)
for number in numbers:
    if int(number) >= 3 + len(high):
        os.close(int(number))
os.environ.update(LISTEN_FDS=str(len(high)), LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES=names)
os.execvp(command[0], command)
"""

# The script of the same name, wherever it was installed.
TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]


class Running:
    """
    A program that runs, and what it writes to its standard output.

    :param options: as :class:`subprocess.Popen` takes them.
    :ivar output: as much of it as was read.
    """

    def __init__(self, command: Sequence[str], directory: Path, **options: Any) -> None:
        self.process = subprocess.Popen(
            command, cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, **options
        )
        self.output = ""

    def until(self, pattern: str) -> re.Match[str]:
        """Read the output until it has a line like that."""
        deadline = time.monotonic() + PATIENCE
        assert self.process.stdout is not None
        while (match := re.search(pattern, self.output)) is None:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not data:
                raise AssertionError(f"no line like {pattern!r} in the output:\n{self.output}")
            self.output += data.decode()
        return match

    def drain(self) -> None:
        """Read what it still writes, so that it is never held up; nobody waits for a line of it any more."""
        Thread(target=self._drain, daemon=True).start()

    def _drain(self) -> None:
        with suppress(ValueError, OSError):
            assert self.process.stdout is not None
            while data := os.read(self.process.stdout.fileno(), 65536):
                self.output += data.decode("utf-8", "replace")

    def kill(self) -> None:
        """It ends, if it has not yet."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


class Twistd(Running):
    """
    A ``twistd -n lmtp`` whose log goes to its standard output.

    :param directory: where it runs.
    :param arguments: for ``lmtp``.
    :param options: for ``twistd`` itself.
    :param prefix: the words of a command that runs it.
    :param sockets: by their names: given to it as systemd gives them.
    """

    def __init__(
        self,
        directory: Path,
        arguments: Sequence[str] = (),
        options: Sequence[str] = (),
        environment: dict[str, str] | None = None,
        prefix: Sequence[str] = (),
        sockets: dict[str, socket.socket] | None = None,
    ) -> None:
        numbers = [given.fileno() for given in (sockets or {}).values()]
        if sockets:
            passed = ",".join(map(str, numbers))
            prefix = [sys.executable, "-c", _PASSING, ":".join(sockets), passed, *prefix]
        command = [*prefix, *TWISTD, "-n", "--pidfile=", *options, "lmtp", *arguments]
        super().__init__(
            command,
            directory,
            env={**os.environ, **(environment or {})},
            stderr=subprocess.PIPE,
            pass_fds=numbers,
        )

    @property
    def port(self) -> int:
        """The port that it says it listens on."""
        return int(self.until(r"listening on 127\.0\.0\.1:(\d+)[\"\n]")[1])

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.process.terminate()

    def reload(self, expected: str) -> None:
        """Send SIGHUP, and wait for a line that comes after it."""
        self.output = ""
        self.process.send_signal(signal.SIGHUP)
        self.until(expected)

    def ended(self) -> int:
        """Wait for its end; :attr:`output` then has all of its log. Returns the exit status."""
        out, err = self.process.communicate(timeout=PATIENCE)
        self.output += out.decode()
        assert err == b""
        return self.process.returncode


@contextmanager
def twistd(
    directory: Path,
    *arguments: str,
    options: Sequence[str] = (),
    environment: dict[str, str] | None = None,
    prefix: Sequence[str] = (),
    sockets: dict[str, socket.socket] | None = None,
) -> Iterator[Twistd]:
    """A running ``twistd -n lmtp``, which does not outlive the block."""
    running = Twistd(directory, arguments, options, environment, prefix, sockets)
    try:
        yield running
    finally:
        running.kill()


def end_of(pid: int) -> None:
    """Wait until a process that is not our child has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ready, _, _ = select.select([descriptor], [], [], PATIENCE)
        assert ready, f"process {pid} does not end"
    finally:
        os.close(descriptor)


class Client:
    """
    One session of LMTP over a socket that blocks.

    :param is_greeted: whether to wait for the greeting.
    """

    #: The address that it comes from.
    SOURCE = "127.0.0.1"

    def __init__(self, port: int | None = None, path: Path | None = None, *, is_greeted: bool = True) -> None:
        if path is None:
            self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE, (self.SOURCE, 0))
        else:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(PATIENCE)
        self._lines = self._socket.makefile("r", encoding="ascii", newline="\r\n")
        try:
            if path is not None:
                self._socket.connect(str(path))
            self.greeting = self.reply() if is_greeted else ""
        except OSError:
            self.close()
            raise

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._lines.close()
        self._socket.close()

    def send(self, text: str) -> None:
        """Send text as it is."""
        self._socket.sendall(text.encode())

    def send_until_stuck(self, text: str) -> None:
        """Send text until the server takes no more of it for a while."""
        self._socket.settimeout(1.0)
        try:
            self._socket.sendall(text.encode())
        except TimeoutError:
            return
        raise AssertionError("the server has taken all of it")

    def say(self, command: str) -> str:
        """Send a command line; returns the last line of the reply."""
        self.send(f"{command}\r\n")
        return self.reply()

    def reply(self) -> str:
        """The last line of the next reply; empty where the connection was closed."""
        while (line := self._lines.readline())[3:4] == "-":
            pass
        return line.removesuffix("\r\n")

    def begin(self, *recipients: str, sender: str = "a@example.net") -> None:
        """LHLO, MAIL, RCPT and DATA: what follows is content."""
        for command in ["LHLO client", f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{name}>" for name in recipients)]:
            assert self.say(command).startswith("250 ")
        assert self.say("DATA").startswith("354 ")

    def deliver(self, *recipients: str, content: str = "Subject: hello\r\n\r\nhello\r\n") -> list[str]:
        """Send a message; returns its final replies."""
        self.begin(*recipients)
        self.send(f"{content}.\r\n")
        return [self.reply() for _ in recipients]
