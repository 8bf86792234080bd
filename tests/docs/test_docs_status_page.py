"""The status page behind nginx, as the documentation has it: with a password, below a path, and live."""

from __future__ import annotations

import http.client
import re
import subprocess
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from docs_console import Console, commands_of
from docs_pages import ROOT, blocks_of
from docs_run import Places, free_port
from peer_programs import find

pytestmark = pytest.mark.peer("nginx")

PATIENCE = 30.0
BLOCKS = blocks_of(ROOT / "docs" / "status-page.rst")
(LOCATIONS,) = (block for block in BLOCKS if block.language == "nginx")
COMMANDS = [command for block in BLOCKS if block.language == "console" for command in commands_of(block)]
(SERVER,) = (command for command in COMMANDS if command.text.startswith("twistd"))
(PASSWORDS,) = (command for command in COMMANDS if command.text.startswith("printf"))
FRAME = """
daemon off;
pid {directory}/nginx.pid;
error_log stderr;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port};
{locations}
    }}
}}
"""


@contextmanager
def nginx(directory: Path, locations: str) -> Iterator[int]:
    """One with these locations; its port."""
    port = free_port()
    configuration = directory / "nginx.conf"
    configuration.write_text(FRAME.format(directory=directory, port=port, locations=locations))
    program = find("nginx")
    assert program is not None
    process = subprocess.Popen([program, "-e", "stderr", "-p", str(directory), "-c", str(configuration)])
    try:
        until = time.monotonic() + PATIENCE
        while True:
            with suppress(ConnectionRefusedError):
                ask(port, "/")
                break
            assert process.poll() is None
            assert time.monotonic() < until, "nginx does not listen"
            time.sleep(0.02)
        yield port
    finally:
        process.kill()
        process.wait()


@contextmanager
def answer(port: int, path: str, login: str = "") -> Iterator[http.client.HTTPResponse]:
    """To a GET, as it comes."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
        headers = {"Authorization": f"Basic {b64encode(login.encode()).decode()}"} if login else {}
        connection.request("GET", path, headers=headers)
        with connection.getresponse() as response:
            yield response


def ask(port: int, path: str, login: str = "") -> tuple[int, str]:
    """The status and the body."""
    with answer(port, path, login) as response:
        return response.status, response.read().decode()


def test_who_has_the_password_sees_the_page_and_hears_its_events_at_once() -> None:
    login = "operator:s3cret"
    with tempfile.TemporaryDirectory(prefix="docs-") as name:
        directory = Path(name)
        # Workers of an nginx that root has started are nobody.
        directory.chmod(0o755)
        places = Places(directory)
        console = Console(directory, places.environment)
        try:
            console.run(SERVER, places.here(SERVER.text), [places.here(line) for line in SERVER.output])
            # At a terminal it asks; here it is told.
            made = PASSWORDS.text.replace("openssl passwd -apr1", "echo s3cret | openssl passwd -apr1 -stdin")
            assert made != PASSWORDS.text
            subprocess.run(["sh", "-c", places.here(made)], check=True, cwd=directory)
            with nginx(directory, places.here(LOCATIONS.text)) as port:
                assert ask(port, "/lmtp/")[0] == 401
                assert ask(port, "/lmtp/", "operator:wrong")[0] == 401
                assert ask(port, "/lmtp", login)[0] == 301
                status, document = ask(port, "/lmtp/", login)
                assert status == 200
                # What it asks for is below the same path.
                assert re.findall(r'href="/|new EventSource\("/', document) == []
                assert ask(port, "/lmtp/health", login) == (200, "ok\n")
                with answer(port, "/lmtp/events", login) as events:
                    assert events.getheader("content-type") == "text/event-stream; charset=utf-8"
                    kinds = []
                    while len(kinds) < 3:
                        line = events.readline()
                        assert line, kinds
                        kinds += re.findall(rb"^event: (\w+)", line)
                    assert kinds == [b"state", b"tick", b"tick"]
            console.close()
        finally:
            console.kill()
