"""twistd's ``--uid``, ``--gid`` and ``--pidfile``, by a real process that root starts."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import write_certificate
from running_twistd import PATIENCE, TWISTD, Client, twistd

# Debian's nobody. It owns nothing here but what the tests give it.
UID, GID = 65534, 65534
AS_NOBODY = ("--uid", str(UID), "--gid", str(GID))

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user may enter; pytest's are for their owner."""
    path = Path(tempfile.mkdtemp(prefix="lmtp-"))
    path.chmod(0o755)
    (path / "run").mkdir()
    os.chown(path / "run", UID, GID)
    yield path
    shutil.rmtree(path)


def owner_of(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_uid, found.st_gid


def credentials_of(process: int) -> tuple[str, str, str]:
    """Users, groups and further groups."""
    text = Path(f"/proc/{process}/status").read_text()
    return tuple(re.search(rf"^{name}:\s*(.*?)\s*$", text, re.MULTILINE)[1] for name in ("Uid", "Gid", "Groups"))  # type: ignore[index,return-value]


def test_a_daemon_gives_privileges_up_before_the_first_session_and_what_it_makes_is_its_users(place: Path) -> None:
    """
    A client that connects while it starts waits in the queue of the socket, and is greeted by the user. The number of
    the process is in the file, which is gone in the end.
    """
    run = place / "run"
    (place / "own.py").write_text(
        "import os\ndef deliver(message, recipient):\n"
        "    return f'{os.getresuid()} {os.getresgid()} {os.getgroups()}'.replace(',', '')\n"
    )
    command = [*TWISTD, *AS_NOBODY, "--rundir", str(run), "--pidfile", str(run / "pid"), "--logfile", str(run / "log")]
    command += ["lmtp", "--listen", "unix:socket", "--spool", ".", "--backend", "maildir:mail"]
    command += ["--route", "who@example.org=python:own:deliver"]
    subprocess.run(command, cwd=place, check=True, timeout=PATIENCE, env={**os.environ, "PYTHONPATH": str(place)})
    process = int((run / "pid").read_text())
    try:
        with Client(path=run / "socket") as client:
            assert credentials_of(process) == ("\t".join([str(UID)] * 4), "\t".join([str(GID)] * 4), str(GID))
            (reply,) = client.deliver("who@example.org")
            assert f"({UID} {UID} {UID}) ({GID} {GID} {GID}) [{GID}]" in reply
            # Too large for memory.
            (reply,) = client.deliver("a@example.org", content="Subject: x\r\n\r\n" + ("x" * 998 + "\r\n") * 2000)
            assert reply.startswith("250 ")
        assert stat.S_IMODE((run / "socket").stat().st_mode) == 0o660
        made = [run / "socket", run / "log", run / "mail", *(run / "mail").rglob("*")]
        assert {owner_of(path) for path in made} == {(UID, GID)}
        assert len(list((run / "mail/example.org/a/new").iterdir())) == 1
    finally:
        os.kill(process, signal.SIGTERM)
        while Path(f"/proc/{process}").exists():
            pass
    assert sorted(os.listdir(run)) == ["log", "mail"]


def test_without_a_group_it_is_that_of_the_user(place: Path) -> None:
    """As twistd does it; directories are made so as well."""
    arguments = ["--listen", "unix:run/socket", "--backend", "maildir:run/mail"]
    with twistd(place, *arguments, options=["--uid", str(UID)]) as server:
        server.until("set uid/gid")
        assert {owner_of(place / "run" / name) for name in ("socket", "mail")} == {(UID, GID)}


def test_a_port_that_only_root_can_open_is_opened_and_the_log_reopened(place: Path) -> None:
    """The log's directory is root's, as /var/log is: after a rotation the new file is the user's."""
    (place / "log").touch()
    (place / "log").unlink()
    arguments = ["--listen", "tcp:1023:interface=127.0.0.1", "--backend", "null:"]
    options = [*AS_NOBODY, "--logfile", str(place / "log")]
    with twistd(place, *arguments, options=options) as server:
        while not (place / "log").exists() or "set uid" not in (place / "log").read_text():
            assert server.process.poll() is None
        with Client(1023) as client:
            assert client.say("LHLO c").startswith("250 ")
        # As logrotate does with "create".
        (place / "log").rename(place / "log.1")
        (place / "log").touch()
        os.chown(place / "log", UID, GID)
        server.process.send_signal(signal.SIGHUP)
        while "reloaded, " not in (place / "log").read_text():
            assert server.process.poll() is None
        server.terminate()
        assert server.ended() == -signal.SIGTERM


def test_what_the_user_cannot_read_any_more_is_a_fault_of_the_reload_and_the_old_stays(place: Path) -> None:
    """As a key that is root's: it was read before privileges were given up."""
    _, key = write_certificate(place)
    key.chmod(0o600)
    file = place / "lmtp.toml"
    text = 'backend = "null:"\nlisten = ["unix:run/socket"]\ntls-certificate = "cert.pem"\ntls-key = "key.pem"\n'
    file.write_text(text)
    with twistd(place, "--config", "lmtp.toml", options=AS_NOBODY) as server:
        server.until("set uid/gid")
        server.reload(rf"lmtp\.toml:3: tls-certificate: {key}: Permission denied\n")
        with Client(path=place / "run/socket") as client:
            assert client.say("LHLO c") == "250 STARTTLS"
        file.write_text(text + '[listeners.low]\nlisten = "tcp:1022:interface=127.0.0.1"\n')
        os.chown(key, UID, GID)
        server.reload(r"lmtp\.toml:6: listeners\.low\.listen: Permission denied\n")
        file.write_text(text + '[listeners.more]\nlisten = "unix:run/more"\n')
        server.reload(r"reloaded, certificates read: 1, changed: listeners\.more\n")
        assert owner_of(place / "run/more") == (UID, GID)
        file.chmod(0o600)
        server.reload(rf"{file}: Permission denied\n")


def test_a_socket_that_cannot_be_removed_does_not_keep_the_server(place: Path) -> None:
    """Its directory is root's, as /run is. The next start clears it away."""
    arguments = ["--listen", "unix:socket", "--backend", "null:"]
    for _ in range(2):
        with twistd(place, *arguments, options=AS_NOBODY) as server:
            server.until("set uid/gid")
            with Client(path=place / "socket") as client:
                assert client.greeting.startswith("220 ")
            server.terminate()
            server.until(rf"{place}/socket stays behind: Permission denied\n")
            assert server.ended() == -signal.SIGTERM
        assert "Traceback" not in server.output
