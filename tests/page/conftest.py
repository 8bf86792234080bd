"""A browser, and a server under load for it to look at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from headless import Browser, browser
from load import Load
from running_twistd import Twistd, twistd

#: Takes some, refuses some, and takes its time with each.
DELIVERY = """
from twisted.internet import reactor
from twisted.internet.task import deferLater
from lmtp_twisted import PermanentFailure, TemporaryFailure


async def deliver(message, recipient):
    local = recipient.address.local
    await deferLater(reactor, (len(local) + message.size % 7) / 500)
    if local.startswith("later"):
        raise TemporaryFailure(f"Mailbox of {local} is full", code=452, enhanced="4.2.2")
    if local.startswith("never"):
        raise PermanentFailure(f"There is no {local}")
    if "<" in local:
        raise PermanentFailure(f"<img src=x onerror=alert(5)> {message.headers['Subject']}")
"""


class Server:
    """
    A server with a page.

    :ivar port: where it takes mail.
    :ivar web: where it has its page.
    """

    def __init__(self, running: Twistd) -> None:
        self.running = running
        self.port = running.port
        self.web = int(running.until(r"status on http://127\.0\.0\.1:(\d+)/\n")[1])


@contextmanager
def serve(directory: Path, port: int = 0, web: int = 0) -> Iterator[Server]:
    """One that does not outlive the block."""
    (directory / "somewhere.py").write_text(DELIVERY)
    arguments = ["--port", str(port), "--http", str(web), "--hostname", "mx.example.org"]
    arguments += ["--backend", "python:somewhere:deliver", "--trust", "127.0.0.0/8"]
    with twistd(directory, *arguments, environment={"PYTHONPATH": str(directory)}) as running:
        server = Server(running)
        running.drain()
        yield server


@pytest.fixture(scope="session")
def one_browser() -> Iterator[Browser]:
    """It takes a second or two to start."""
    with browser() as made:
        yield made


@pytest.fixture
def page(one_browser: Browser) -> Iterator[Browser]:
    """A browser that shows nothing yet."""
    yield one_browser
    one_browser.close()


@pytest.fixture(scope="session")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that gets mail all the time."""
    with serve(tmp_path_factory.mktemp("busy")) as server, Load(server.port):
        yield server
