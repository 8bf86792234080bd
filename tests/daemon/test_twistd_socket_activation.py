"""Sockets that systemd opens and passes (sd_listen_fds(3)), and real processes that serve on them."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import write_certificate
from running_twistd import PATIENCE, TWISTD, Client, Running, twistd
from test_twistd_tls import Implicit


@pytest.fixture
def inet() -> Iterator[socket.socket]:
    """A socket on any free port of 127.0.0.1."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener


@pytest.fixture
def unix(tmp_path: Path) -> Iterator[socket.socket]:
    """One in the file system, for its owner alone."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "unix"))
        (tmp_path / "unix").chmod(0o600)
        listener.listen(64)
        yield listener


def test_sockets_are_taken_by_number_and_by_name_and_whatever_comes_before_the_session(
    inet: socket.socket, unix: socket.socket, tmp_path: Path
) -> None:
    """Plain, with TLS from the first octet, behind a proxy; each with all that it has elsewhere."""
    write_certificate(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as third:
        arguments = ["--listen", "systemd:domain=INET:index=0", "--listen-tls", "systemd:domain=UNIX:name=secure"]
        arguments += ["--listen", "haproxy:systemd:domain=INET:name=proxied", "--backend", "maildir:mail"]
        arguments += ["--tls-certificate", "cert.pem", "--tls-key", "key.pem"]
        sockets = {"plain": inet, "secure": unix, "proxied": third}
        with twistd(tmp_path, *arguments, sockets=sockets) as server:
            server.until(rf"listening on {tmp_path}/unix\n")
            with Client(inet.getsockname()[1]) as client:
                assert client.deliver("a@example.org")[0].startswith("250 ")
            with Implicit(path=tmp_path / "unix") as secure:
                assert secure.deliver("a@example.org")[0].startswith("250 ")
            with Client(third.getsockname()[1], is_greeted=False) as proxied:
                proxied.send("PROXY TCP4 192.0.2.1 192.0.2.2 25 24\r\n")
                assert proxied.reply().startswith("220 ")
                assert proxied.deliver("a@example.org")[0].startswith("250 ")
            server.terminate()
            assert server.ended() == -signal.SIGTERM
    texts = [path.read_text() for path in tmp_path.glob("mail/*/a/new/*")]
    assert sorted(" with LMTPS id " in text for text in texts) == [False, False, True]
    assert sum("192.0.2.1" in text for text in texts) == 1


def test_a_socket_stays_as_it_is_when_the_server_ends_and_its_queue_waits_for_the_next(
    unix: socket.socket, tmp_path: Path
) -> None:
    """systemd.socket(5): its file, its mode, and who has connected meanwhile."""
    path = tmp_path / "unix"
    arguments = ["--listen", "systemd:domain=UNIX:name=mail", "--backend", "null:"]
    with twistd(tmp_path, *arguments, sockets={"mail": unix}) as server:
        with Client(path=path) as client:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            server.terminate()
            assert client.reply().startswith("421 4.3.2 ")
        assert server.ended() == -signal.SIGTERM
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with Client(path=path, is_greeted=False) as waiting:
        waiting.send("LHLO early\r\n")
        with twistd(tmp_path, *arguments, sockets={"mail": unix}):
            assert waiting.reply().startswith("220 ")
            assert waiting.reply().startswith("250 ")


def test_a_reload_takes_and_gives_back_sockets_of_systemd(
    inet: socket.socket, unix: socket.socket, tmp_path: Path
) -> None:
    """Any number of times: what was passed stays open."""
    first = 'backend = "null:"\nlisten = ["systemd:domain=INET:name=one"]\n'
    second = 'backend = "null:"\nlisten = ["systemd:domain=UNIX:name=two"]\n'
    (tmp_path / "lmtp.toml").write_text(first)
    with twistd(tmp_path, "--config", "lmtp.toml", sockets={"one": inet, "two": unix}) as server:
        server.until(r"listening on 127\.0\.0\.1:\d+\n")
        for _ in range(2):
            (tmp_path / "lmtp.toml").write_text(second)
            server.reload(r"listening no more on systemd:domain=INET:name=one\n")
            with Client(path=tmp_path / "unix") as client:
                assert client.say("LHLO c").startswith("250 ")
            # Nobody takes it now, and it is not refused.
            with Client(inet.getsockname()[1], is_greeted=False) as waiting:
                (tmp_path / "lmtp.toml").write_text(first)
                server.reload(r"listening no more on systemd:domain=UNIX:name=two\n")
                assert waiting.reply().startswith("220 ")
        (tmp_path / "lmtp.toml").write_text(first.replace("one", "three"))
        server.reload(r"lmtp.toml:2: listen\[1\]: systemd has passed no such socket")


@pytest.mark.parametrize("where", ["index=1", "name=other"])
def test_a_socket_that_was_not_passed_is_one_line(inet: socket.socket, tmp_path: Path, where: str) -> None:
    arguments = ["--listen", f"systemd:domain=INET:{where}", "--backend", "null:"]
    with twistd(tmp_path, *arguments, sockets={"mail": inet}) as server:
        assert server.process.stderr is not None
        assert server.process.stderr.read().decode() == (
            f"twistd lmtp: --listen systemd:domain=INET:{where}: systemd has passed no such socket "
            "(LISTEN_FDS, LISTEN_FDNAMES)\n"
        )
        assert server.process.wait(PATIENCE) == 1


def test_what_is_no_listening_socket_is_one_line(tmp_path: Path) -> None:
    """As with Accept=yes, or where the numbers are mixed up."""
    one, other = socket.socketpair()
    arguments = ["--listen", "systemd:domain=UNIX:index=0", "--backend", "null:"]
    with one, other, twistd(tmp_path, *arguments, sockets={"mail": one}) as server:
        assert server.process.stderr is not None
        assert server.process.stderr.read().decode() == (
            "twistd lmtp: --listen systemd:domain=UNIX:index=0: it is no socket that listens for streams\n"
        )
        assert server.process.wait(PATIENCE) == 1


def test_a_check_does_not_ask_for_the_sockets(tmp_path: Path) -> None:
    """It may be run by hand, where systemd passes none."""
    command = [*TWISTD, "lmtp", "--listen", "systemd:domain=INET:name=mail", "--backend", "null:", "--check"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "twistd lmtp: --listen systemd:domain=INET:name=mail: not tried, since it is systemd that passes it\n"
        "twistd lmtp: the server can start\n"
    )


@pytest.mark.peer("systemd")
def test_systemds_own_activation_starts_it_with_the_first_connection(tmp_path: Path) -> None:
    """systemd-socket-activate(1) passes sockets as systemd does, and the first client is served."""
    path, other = tmp_path / "one", tmp_path / "two"
    arguments = ["--listen", "systemd:domain=UNIX:name=first", "--listen", "systemd:domain=UNIX:name=second"]
    command = ["systemd-socket-activate", "-l", str(path), "-l", str(other), "--fdname=first:second", *TWISTD]
    command += ["-n", "--pidfile=", "lmtp", *arguments, "--backend", "null:"]
    running = Running(command, tmp_path, stderr=subprocess.STDOUT, env={**os.environ, "SYSTEMD_LOG_LEVEL": "info"})
    try:
        running.until("Listening on .*two")
        with Client(path=path) as client:
            assert client.deliver("a@example.org")[0].startswith("250 ")
        with Client(path=other) as client:
            assert client.deliver("a@example.org")[0].startswith("250 ")
        running.process.terminate()
        assert running.process.wait(PATIENCE) == -signal.SIGTERM
    finally:
        running.kill()
