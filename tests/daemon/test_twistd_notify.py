"""What systemd is told of a real process, by a socket that is the test's: sd_notify(3) and systemd.service(5)."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from uuid import uuid4

import pytest
from running_twistd import Client, twistd
from told_systemd import Told

# Lets the reactor hang until the test writes into a pipe, and tells a program what is in the environment.
OWN = """\
import os, pathlib
def deliver(message, recipient):
    if recipient.address.local == "stuck":
        pathlib.Path("began").write_text("")
        open("pipe").read()
    else:
        pathlib.Path("environment").write_text("\\n".join(sorted(os.environ)))
"""


@pytest.fixture(params=["file", "abstract"])
def told(request: pytest.FixtureRequest, tmp_path: Path) -> Told:
    return Told(tmp_path / "notify" if request.param == "file" else f"@lmtp-{uuid4()}")


def test_it_says_when_it_is_ready_reloads_and_stops(told: Told, tmp_path: Path) -> None:
    """Type=notify and Type=notify-reload: whoever hears READY can connect."""
    (tmp_path / "lmtp.toml").write_text('backend = "null:"\nlisten = ["unix:socket"]\n')
    with told, twistd(tmp_path, "--config", "lmtp.toml", environment=told.environment) as server:
        assert told.next() == {"READY": "1", "STATUS": "serving, sessions=0"}
        with Client(path=tmp_path / "socket"):
            before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            server.process.send_signal(signal.SIGHUP)
            reloading = told.next()
            assert reloading.pop("RELOADING") == "1"
            assert before < int(reloading.pop("MONOTONIC_USEC")) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            assert not reloading
            assert told.next() == {"READY": "1", "STATUS": "serving, sessions=1"}
            (tmp_path / "lmtp.toml").write_text("no TOML\n")
            server.process.send_signal(signal.SIGHUP)
            assert "RELOADING" in told.next()
            refused = told.next()
            assert refused["READY"] == "1"
            assert "serving, sessions=1; not reloaded: " in refused["STATUS"]
            assert "lmtp.toml:1: " in refused["STATUS"]
            server.terminate()
            assert told.next() == {"STOPPING": "1", "STATUS": "stopping, sessions=1"}
        assert server.ended() == -signal.SIGTERM


def test_the_watchdog_hears_that_the_reactor_runs_and_not_that_it_is_stuck(tmp_path: Path) -> None:
    """WATCHDOG=1 comes twice in the time that systemd waits, from the reactor itself."""
    (tmp_path / "own.py").write_text(OWN)
    os.mkfifo(tmp_path / "pipe")
    with Told(tmp_path / "notify") as told:
        environment = {**told.environment, "WATCHDOG_USEC": "200000"}
        with twistd(
            tmp_path, "--listen", "unix:socket", "--backend", "python:own:deliver", environment=environment
        ) as server:
            for _ in range(3):
                assert told.until(lambda message: "WATCHDOG" in message)["STATUS"] == "serving, sessions=0"
            with Client(path=tmp_path / "socket") as client:
                client.begin("stuck@example.org")
                client.send(".\r\n")
                while not (tmp_path / "began").exists():
                    pass
                # What was said before it was stuck.
                while not told.is_silent(0.5):
                    pass
                (tmp_path / "pipe").write_text("go on")
                assert client.reply().startswith("250 ")
                told.until(lambda message: "WATCHDOG" in message)
            server.terminate()
            told.until(lambda message: "STOPPING" in message)
            assert server.ended() == -signal.SIGTERM


def test_what_is_for_the_server_is_not_for_the_programs_that_it_starts(tmp_path: Path) -> None:
    """They would speak for it."""
    (tmp_path / "own.py").write_text(OWN)
    with Told(tmp_path / "notify") as told:
        environment = {**told.environment, "WATCHDOG_USEC": "200000", "WATCHDOG_PID": "1"}
        with twistd(tmp_path, "--listen", "unix:socket", "--backend", "python:own:deliver", environment=environment):
            # The watchdog is of another process.
            assert told.next()["READY"] == "1"
            with Client(path=tmp_path / "socket") as client:
                assert client.deliver("alice@example.org")[0].startswith("250 ")
            assert told.is_silent(0.5)
    names = (tmp_path / "environment").read_text().split("\n")
    assert "PATH" in names
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & {*names}


def test_a_server_that_cannot_start_is_not_ready(tmp_path: Path) -> None:
    with (
        Told(tmp_path / "notify") as told,
        twistd(tmp_path, "--listen", "unix:no/where", "--backend", "null:", environment=told.environment) as server,
    ):
        assert server.process.wait(30) == 1
        assert told.is_silent(0.1)


@pytest.mark.parametrize("address", ["nowhere", "@nobody"])
def test_where_systemd_does_not_listen_the_server_serves_all_the_same(tmp_path: Path, address: str) -> None:
    with twistd(
        tmp_path, "--listen", "unix:socket", "--backend", "null:", environment={"NOTIFY_SOCKET": address}
    ) as server:
        server.until(r"warn \[lmtp\] systemd cannot be told how we are: \w+")
        server.until("listening on ")
        with Client(path=tmp_path / "socket") as client:
            assert client.greeting.startswith("220 ")
