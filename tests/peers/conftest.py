"""What the tests against real peers share: our server on real sockets, programs, a Postfix and an Exim of our own."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from daemons import Daemon, start_daemon
from private_exim import Exim
from private_postfix import Postfix
from programs import Program
from real_servers import RealServer, Serve, start_server
from twisted.internet.defer import ensureDeferred

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def open_directory() -> Iterator[Path]:
    """A directory that other users can enter, unlike ``tmp_path``; its name leaves room for that of a socket."""
    directory = Path(tempfile.mkdtemp(prefix="lmtp-twisted-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def sockets(open_directory: Path) -> Path:
    """Where servers have their Unix sockets."""
    directory = open_directory / "sockets"
    directory.mkdir(mode=0o755)
    return directory


@pytest.fixture(params=["tcp", "unix"])
def where(request: pytest.FixtureRequest, sockets: Path) -> int | Path:
    """Where a server can listen: a test that asks for this runs with both kinds."""
    return 0 if request.param == "tcp" else sockets / f"s{next(_numbers)}"


@pytest_twisted.async_yield_fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts a server, see :func:`real_servers.start_server`, which ends with the test."""
    servers: list[RealServer] = []

    async def start(where: int | Path = 0, backend: Any = None, **options: Any) -> RealServer:
        server = await start_server(where, backend, **options)
        servers.append(server)
        return server

    yield start
    for server in servers:
        await server.stop()


@pytest_twisted.async_yield_fixture
async def start_program() -> AsyncIterator[Callable[..., Program]]:
    """Starts a program, see :class:`programs.Program`, which ends with the test."""
    started: list[Program] = []

    def start(*command: str, **options: Any) -> Program:
        started.append(Program(command, **options))
        return started[-1]

    yield start
    for program in started:
        program.send_signal(signal.SIGTERM)
    for program in started:
        await program.end()


@pytest.fixture
def mail(open_directory: Path, tmp_path: Path) -> Path:
    """Where the mail goes: other users can look into it."""
    return open_directory / tmp_path.name / "mail"


@pytest.fixture
def daemon(tmp_path: Path, mail: Path, start_program: Callable[..., Program]) -> Daemon:
    """Starts a ``twistd lmtp``, which ends with the test; its backend is a Maildir where no other is said."""

    async def start(*options: str) -> Program:
        if not any(option.startswith("--backend") for option in options):
            options += (f"--backend=maildir:{mail}",)
        return await start_daemon(start_program, tmp_path, *options)

    return start


@pytest.fixture(scope="session")
def postfix(open_directory: Path, sockets: Path) -> Iterator[Postfix]:
    """A Postfix of our own, started once."""
    if os.geteuid() != 0:
        pytest.skip("Postfix starts as root only")
    directory = open_directory / "postfix"
    directory.mkdir(mode=0o755)
    instance = Postfix(directory, sockets)
    yield instance
    pytest_twisted.blockon(ensureDeferred(instance.stop()))
    assert not instance.complaints


@pytest.fixture
def exim(open_directory: Path, sockets: Path) -> Iterator[Exim]:
    """An Exim of our own."""
    if os.geteuid() != 0:
        pytest.skip("Exim takes a configuration of ours from root only")
    directory = open_directory / f"exim{next(_numbers)}"
    directory.mkdir(mode=0o755)
    instance = Exim(directory, sockets)
    yield instance
    assert not instance.complaints
