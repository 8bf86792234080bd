"""``twistd lmtp --config`` as a real process: what it serves, what it logs, and ``--check`` beside it."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from certificates import write_certificate
from running_twistd import PATIENCE, TWISTD, Client, twistd

FILE = """\
hostname = "mx.example.org"
max-sessions = 3
backend = "store"
[backends]
store = "maildir:mail"
[listeners.mta]
listen = "unix:run/mta"
trust = ["unix"]
size-limit = 1000
[listeners.others]
port = 0
auth = ["file:users"]
auth-required = true
tls-certificate = "cert.pem"
tls-key = "key.pem"
max-sessions = 1
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """That of the file, which is not where the server runs."""
    directory = tmp_path / "etc"
    (directory / "run").mkdir(parents=True)
    write_certificate(directory)
    (directory / "users").write_text("alice:s3cret\n")
    (directory / "lmtp.toml").write_text(FILE)
    return directory


def _check(directory: Path, file: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [*TWISTD, "lmtp", "--config", file, "--check"], cwd=directory, capture_output=True, text=True, timeout=PATIENCE
    )
    return done.returncode, done.stdout, done.stderr


def test_each_listener_goes_by_its_own_policies(directory: Path, tmp_path: Path) -> None:
    with twistd(tmp_path, "--config", "etc/lmtp.toml") as server:
        port = server.port
        server.until(r"info \[lmtp\] configuration \S+/etc/lmtp\.toml \(listeners: 2, backends: 1\)\n")
        server.until(rf"listening on {directory}/run/mta\n")
        with Client(path=directory / "run/mta") as mta, Client(port) as other:
            assert mta.greeting.startswith("220 mx.example.org ")
            assert mta.say("LHLO c").startswith("250 ")
            assert mta.say("XFORWARD NAME=client.example") == "250 2.0.0 OK"
            assert mta.say("MAIL FROM:<> SIZE=1001").startswith("552 5.3.4 ")
            assert mta.deliver("alice@example.org")[0].startswith("250 2.0.0 ")
            assert other.say("LHLO c").startswith("250 ")
            assert other.say("MAIL FROM:<>").startswith("530 5.7.0 ")
            # One of this listener's at a time, and three in all.
            with Client(port) as refused, Client(path=directory / "run/mta") as third:
                assert refused.greeting.startswith("421 4.3.2 ")
                assert third.greeting.startswith("220 ")
                with Client(path=directory / "run/mta") as fourth:
                    assert fourth.greeting.startswith("421 4.3.2 ")
        server.terminate()
        assert server.ended() == -signal.SIGTERM
    assert len(list((directory / "mail/example.org/alice/new").iterdir())) == 1
    assert os.listdir(tmp_path) == ["etc"]
    for secret in ("s3cret", "users", "cert.pem", "maildir"):
        assert secret not in server.output


def test_a_file_can_be_checked_while_a_server_uses_it(directory: Path) -> None:
    """Before it starts anew: neither its process id nor its places are in the way."""
    with twistd(directory, "--config", "lmtp.toml", options=["--pidfile=twistd.pid"]) as server:
        server.until(r"listening on \S+/run/mta\n")
        before = sorted(os.listdir(directory))
        in_use = "lmtp.toml:7: listeners.mta.listen: in use, as it is where this server runs already\n"
        assert _check(directory, "lmtp.toml") == (0, in_use + "twistd lmtp: the server can start\n", "")
        assert sorted(os.listdir(directory)) == before
        with Client(path=directory / "run/mta") as client:
            assert client.greeting.startswith("220 ")


def test_what_is_wrong_is_told_on_standard_error(directory: Path) -> None:
    (directory / "lmtp.toml").write_text(FILE.replace("size-limit", "size-limt").replace("1000", "true"))
    fault = "lmtp.toml:9: listeners.mta.size-limt is no key, did you mean size-limit?\n"
    assert _check(directory, "lmtp.toml") == (1, "", fault)
    started = subprocess.run(
        [*TWISTD, "lmtp", "--config", "lmtp.toml"], cwd=directory, capture_output=True, text=True, timeout=PATIENCE
    )
    assert (started.returncode, started.stdout, started.stderr) == (1, "", fault)
    assert not {"twistd.log", "twistd.pid", "mail"} & set(os.listdir(directory))
