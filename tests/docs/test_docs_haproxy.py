"""HAProxy takes the configuration of the documentation, and what it passes on arrives as the documentation says."""

from __future__ import annotations

import smtplib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from docs_console import Console, commands_of
from docs_pages import ROOT, blocks_of
from docs_run import Places

pytestmark = pytest.mark.peer("haproxy")

PATIENCE = 30.0
BLOCKS = blocks_of(ROOT / "docs" / "haproxy.rst")
(CONFIGURATION,) = (block for block in BLOCKS if block.language == "cfg")
(SERVER,) = (
    command
    for block in BLOCKS
    if block.language == "console"
    for command in commands_of(block)
    if command.text.startswith("twistd")
)
#: The client's own address, for all of loopback is this machine.
CLIENT = "127.0.0.2"


@contextmanager
def haproxy(configuration: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """HAProxy with a configuration, in the foreground."""
    process = subprocess.Popen(
        ["haproxy", "-db", "-f", str(configuration)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def submit(process: subprocess.Popen[str], port: int) -> None:
    """Send a message as soon as HAProxy listens."""
    until = time.monotonic() + PATIENCE
    while True:
        with suppress(ConnectionRefusedError):
            with smtplib.LMTP("127.0.0.1", port, "client.example.net", source_address=(CLIENT, 0)) as client:
                client.sendmail("you@example.net", ["alice@example.org"], "Subject: Hello\r\n\r\nHello\r\n")
            return
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "HAProxy does not listen"
        time.sleep(0.02)


@pytest.mark.parametrize("version", ["send-proxy-v2", "send-proxy"])
def test_mail_comes_through_the_proxy_of_the_page(version: str) -> None:
    """Over the server as the page starts it; the client's address is in the Received line."""
    assert CONFIGURATION.text.count(" send-proxy-v2 ") == 1
    with tempfile.TemporaryDirectory(prefix="docs-") as name:
        directory = Path(name)
        places = Places(directory)
        configuration = directory / "haproxy.cfg"
        text = places.here(CONFIGURATION.text).replace("send-proxy-v2", version)
        configuration.write_text(text + "\n")
        console = Console(directory, places.environment)
        try:
            console.run(SERVER, places.here(SERVER.text), [places.here(line) for line in SERVER.output])
            with haproxy(configuration, dict(places.environment)) as process:
                submit(process, int(places.here("2525")))
            (file,) = (directory / "srv/mail/example.org/alice/new").iterdir()
            assert f"Received: from client.example.net ([{CLIENT}])\n" in file.read_text()
            console.close()
        finally:
            console.kill()
