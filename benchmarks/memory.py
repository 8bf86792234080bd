"""
``python -m benchmarks.memory``: what a large message and many idle sessions cost in memory.

Each figure is a growth over the idle server after a warm-up: the one of the peak while one message of 100 MB comes in,
the same while ten come in at once, and the one that 5,000 sessions cause, each greeted, introduced by LHLO and silent.
"""

import argparse
import contextlib
import resource
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import contenders
from benchmarks.build import BuildError
from benchmarks.contenders import CONTENDERS
from benchmarks.load import Load, LoadError, pipelined
from benchmarks.process import Server, ServerError, end_on_sigterm, free_port

MESSAGE = 100_000_000
SESSIONS = 5000
GROWTH_TARGET = 8 * 1024 * 1024
SESSION_TARGET = 10 * 1024
WARMUP = Load(sessions=10, octets=4096, recipients=1, seconds=60, warmup=0, messages=2000)
SPARE_FILES = 500
AT_ONCE = 10
OURS = ("library-null", "twistd-null", "twistd-maildir")
BACKENDS = {"twistd-null": "null:", "twistd-maildir": "maildir:{}/mail"}
BATCH = 250  # sessions that are opened together


@contextlib.contextmanager
def running(name: str) -> Iterator[Server]:
    """The server of that name, warmed up, with limits that the large message and the many sessions keep within."""
    directory = Path(tempfile.mkdtemp(prefix="lmtp-bench-", dir="/var/tmp"))
    port = free_port()
    try:
        if name in BACKENDS:
            limits = ("--size-limit", "200M", "--max-sessions", "10000")
            command = contenders.twistd(port, directory, BACKENDS[name].format(directory), *limits)
        else:
            command = CONTENDERS[name].command(port, directory)
        with Server(command, port, directory) as server:
            pipelined(server, WARMUP)
            yield server
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def growth_for_messages(name: str, octets: int, count: int = 1) -> int:
    """Octets by which the peak of the server's memory grows while so many messages of this size come in at once."""
    with running(name) as server:
        before = server.memory("VmRSS")
        server.reset_peak()
        pipelined(server, Load(sessions=count, octets=octets, recipients=1, seconds=60, warmup=0, messages=count))
        return server.memory("VmHWM") - before


def growth_for_sessions(name: str, count: int) -> int:
    """Octets by which the server's memory grows with so many idle sessions."""
    with running(name) as server, contextlib.ExitStack() as sessions:
        before = server.memory("VmRSS")
        for opened in range(0, count, BATCH):
            for session in introduced(server.port, min(BATCH, count - opened)):
                sessions.enter_context(session)
        return server.memory("VmRSS") - before


def introduced(port: int, count: int) -> list[socket.socket]:
    """
    Connections that have been greeted and have said LHLO, in step: a server that leaves Nagle's algorithm on takes
    40 ms for each step, however many take it.

    :raises LoadError: if the server does not want one of them.
    """
    try:
        connections = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(count)]
        for connection in connections:
            read_reply(connection, b"220 ")
        for connection in connections:
            connection.sendall(b"LHLO load.example.net\r\n")
        for connection in connections:
            read_reply(connection, b"250 ")
    except OSError as error:
        raise LoadError(str(error))
    return connections


def read_reply(connection: socket.socket, last: bytes) -> None:
    """
    Reads a reply to its last line, which begins as given.

    :raises LoadError: where it is another one.
    """
    reply = b""
    while not (reply.endswith(b"\n") and reply.splitlines()[-1].startswith(last)):
        if not (more := connection.recv(4096)):
            raise LoadError(f"a session was refused: {reply.decode(errors='replace').strip()}")
        reply += more


def allow_files(count: int) -> None:
    """
    Lets this process, and those that it starts, open so many files.

    :raises LoadError: where the hard limit forbids it.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, max(count, hard)))
    except (ValueError, OSError):
        raise LoadError(f"{count} open files are not allowed here (the hard limit is {hard})")


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line; ends the process where it is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description="What a server's memory holds.")
    parser.add_argument(
        "--servers",
        metavar="NAME,…",
        default="library-null,twistd-null,twistd-maildir",
        help=f"of {', '.join(CONTENDERS)}",
    )
    parser.add_argument("--sessions", type=int, metavar="N", default=SESSIONS, help=f"idle ones ({SESSIONS})")
    parser.add_argument("--octets", type=int, metavar="N", default=MESSAGE, help=f"of the message ({MESSAGE})")
    parsed = parser.parse_args(arguments)
    parsed.servers = parsed.servers.split(",")
    for name in parsed.servers:
        if name not in CONTENDERS:
            parser.error(f"no {name!r} among {', '.join(CONTENDERS)}")
    return parsed


def measure(name: str, octets: int, sessions: int) -> bool:
    """
    Measures one server and prints what was found.

    :returns: whether it did all of it; and, if it is ours, kept within the targets.
    """
    if absence := CONTENDERS[name].absence():
        print(f"{name:<16}absent: {absence}")
        return not CONTENDERS[name].ours
    try:
        growth = growth_for_messages(name, octets)
        of_many = growth_for_messages(name, octets, AT_ONCE) / AT_ONCE
        each = growth_for_sessions(name, sessions) / sessions
    except (ServerError, LoadError, BuildError) as error:
        print(f"{name:<16}failed: {error}")
        return False
    kept = max(growth, of_many) < GROWTH_TARGET and each < SESSION_TARGET
    word = ("reached" if kept else "MISSED") if CONTENDERS[name].ours else ""
    print(f"{name:<16}{growth / 2**20:>24.1f}{of_many / 2**20:>24.1f}{each / 2**10:>24.1f}  {word}")
    return kept or not CONTENDERS[name].ours


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Runs what the command line asks for.

    :returns: the exit status: 1 where a server of ours is absent, failed or missed a target.
    """
    parsed = options(arguments)
    end_on_sigterm()
    try:
        allow_files(parsed.sessions + SPARE_FILES)
    except LoadError as error:
        print(error, file=sys.stderr)
        return 1
    message = f"{parsed.octets / 1e6:.0f} MB: peak +MiB"
    many = f"each of {AT_ONCE} at once: +MiB"
    print(f"{'':<16}{message:>24}{many:>24}{'an idle session: KiB':>24}")
    results = [measure(name, parsed.octets, parsed.sessions) for name in parsed.servers]
    print(f"targets: below {GROWTH_TARGET / 2**20:.0f} MiB, below {SESSION_TARGET / 2**10:.0f} KiB")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
