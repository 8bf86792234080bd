"""What the tests against real peers share: our server on real sockets, programs, and a Postfix of our own."""

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
