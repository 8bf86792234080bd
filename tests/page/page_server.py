"""A server that has something to show."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
