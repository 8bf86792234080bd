"""What ``--http`` shows, of real processes."""

from __future__ import annotations

import subprocess
from http.client import HTTPConnection
from pathlib import Path

import pytest
from running_twistd import TWISTD, Client, Twistd, twistd

from lmtp_twisted.daemon.listening import read_http_description


def get(port: int, path: str) -> tuple[int, str]:
    """The status and the body of a page."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def http_port(server: Twistd) -> int:
    """Where it says its status is."""
    return int(server.until(r"status on http://127\.0\.0\.1:(\d+)/\n")[1])


def test_health_is_well_while_mail_is_taken_and_not_while_sessions_end(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "from twisted.internet.defer import Deferred\n"
        "from twisted.internet import reactor\n"
        "async def deliver(message, recipient):\n"
        "    print('delivering', flush=True)\n"
        "    await Deferred()\n"
    )
    arguments = ["--port", "0", "--http", "0", "--backend", "python:slow:deliver", "--drain-timeout", "20"]
    with twistd(tmp_path, *arguments, environment={"PYTHONPATH": str(tmp_path)}) as server:
        port, web = server.port, http_port(server)
        assert get(web, "/health") == (200, "ok\n")
        with Client(port) as client:
            client.begin("b@example.org")
            client.send(".\r\n")
            server.until("delivering")
            server.terminate()
            server.until("stopping, sessions=1")
            assert get(web, "/health") == (503, "not taking mail\n")


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("8025", "tcp:8025:interface=127.0.0.1"),
        ("tcp:8025", "tcp:8025:interface=127.0.0.1"),
        ("tcp6:8025", r"tcp6:8025:interface=\:\:1"),
        ("tcp:8025:interface=192.0.2.1", "tcp:8025:interface=192.0.2.1"),
        ("unix:/run/http.sock", "unix:/run/http.sock"),
    ],
)
def test_a_port_alone_is_on_loopback(given: str, read: str) -> None:
    assert read_http_description(given).text.startswith(read)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("haproxy:tcp:8025", "twistd lmtp: --http haproxy:tcp:8025: haproxy: is for LMTP"),
        ("tcp:", "twistd lmtp: --http tcp:: its port is missing, as in tcp:2524"),
        ("unix:/nowhere/http.sock", "twistd lmtp: --http unix:/nowhere/http.sock: No such file or directory"),
    ],
)
def test_a_wrong_place_is_one_line_before_the_daemon_starts(tmp_path: Path, given: str, line: str) -> None:
    command = [*TWISTD, "-n", "--pidfile=", "lmtp", "--port", "0", "--http", given]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (1, f"{line}\n")
