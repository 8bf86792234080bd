"""``twistd lmtp`` as a real process: it starts, delivers, logs and stops."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from running_twistd import PATIENCE, TWISTD, Client, end_of, twistd

from lmtp_twisted.backends.maildir.directories import MOST_OPEN


def _mail(directory: Path) -> list[str]:
    """What lies in the Maildirs below."""
    return [path.read_text() for path in directory.glob("*/*/new/*")]


def test_in_the_foreground_it_delivers_into_maildirs_and_ends_on_sigterm(tmp_path: Path) -> None:
    with twistd(tmp_path, "--port", "0", "--backend", "maildir:store") as server:
        with Client(server.port) as client:
            assert client.greeting.startswith("220 ")
            (reply,) = client.deliver("user@example.org")
            assert reply.startswith("250 2.0.0 <user@example.org> ")
            assert client.say("QUIT").startswith("221 ")
        server.terminate()
        assert server.ended() == -signal.SIGTERM
    (message,) = _mail(tmp_path / "store")
    assert message.endswith("Subject: hello\n\nhello\n")
    assert server.output.splitlines()[-1].endswith("Server Shut Down.")


def test_without_a_backend_mail_goes_to_maildirs_below_mail_and_the_log_says_so(tmp_path: Path) -> None:
    with twistd(tmp_path, "--port", "0") as server:
        server.until(rf"info \[lmtp\] backend maildir:mail \(the default\) in {tmp_path}\n")
        with Client(server.port) as client:
            client.deliver("user@example.org")
    assert len(_mail(tmp_path / "mail")) == 1


def test_the_log_says_what_became_of_each_recipient_and_never_takes_two_lines_for_it(tmp_path: Path) -> None:
    with twistd(tmp_path, "--port", "0", "--backend", "null:", "--log-level", "debug") as server:
        with Client(server.port) as client:
            assert client.say("LHLO \x1b[31m\u2028client").startswith("501 ")
            replies = client.deliver("user@example.org", '"a b"@example.org')
            session = server.until(r"debug \[lmtp\] (\w+) session started, peer=127.0.0.1\n")[1]
            server.until(
                rf"info \[lmtp\] {session}\.1\.1 peer=127\.0\.0\.1 from=<a@example\.net> to=<user@example\.org> "
                r"backend=null size=25 "
                r"seconds=0\.\d{3} reply=250 2\.0\.0 Delivered\n"
            )
            server.until(rf'info \[lmtp\] {session}\.1\.2 .* to=<"a\\x20b"@example\.org> ')
        server.until(rf"debug \[lmtp\] {session} session ended, peer=127.0.0.1\n")
    assert [reply.split()[-2] for reply in replies] == [f"{session}.1.1", f"{session}.1.2"]
    assert all(line[:2] == "20" for line in server.output.splitlines())


def test_what_a_handler_prints_and_raises_cannot_forge_lines(tmp_path: Path) -> None:
    (tmp_path / "talkative.py").write_text(
        "def deliver(message, recipient):\n"
        "    print('two\\x1b lines\\r2026 forged')\n"
        "    raise RuntimeError('one\\n2026 forged')\n"
    )
    with (
        twistd(tmp_path, "--port", "0", "--backend", "python:talkative:deliver") as server,
        Client(server.port) as client,
    ):
        assert client.deliver("user@example.org")[0].startswith("451 4.3.0 <user@example.org> ")
        server.until(r"info \[stdout\] two\\x1b lines\\r2026 forged\n")
        server.until(r"critical \[lmtp\] deliver failed: answered 451\n    Traceback \(most recent call last\):\n")
        server.until(r"\n    .*RuntimeError: one\n    2026 forged\n")


def test_routes_take_the_recipients_they_match(tmp_path: Path) -> None:
    arguments = ["--route", "*@nobody.example=null:", "--route", "b.example=maildir:b", "--backend", "maildir:rest"]
    with twistd(tmp_path, "--port", "0", *arguments) as server, Client(server.port) as client:
        replies = client.deliver("x@nobody.example", "x@b.example", "x@c.example")
        assert [reply[:3] for reply in replies] == ["250"] * 3
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*/*/new/..")] == [
        "b/b.example/x/new/..",
        "rest/c.example/x/new/..",
    ]


def test_a_unix_socket_is_for_its_owner_and_group_and_is_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "lmtp"
    with twistd(tmp_path, "--listen", "unix:lmtp", "--backend", "null:") as server:
        server.until(rf"listening on {path}\n")
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        with Client(path=path) as client:
            assert client.deliver("user@example.org")[0].startswith("250 ")
        server.terminate()
        server.ended()
    assert not path.exists()


def test_a_unix_socket_may_have_another_mode(tmp_path: Path) -> None:
    path = tmp_path / "lmtp"
    with twistd(tmp_path, "--listen", "unix:lmtp:mode=600", "--backend", "null:") as server:
        server.until(r"listening on ")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_socket_of_a_server_that_was_killed_is_taken_over(tmp_path: Path) -> None:
    with twistd(tmp_path, "--listen", "unix:lmtp", "--backend", "null:") as server:
        server.until(r"listening on ")
        server.process.kill()
        server.process.wait()
    assert (tmp_path / "lmtp").exists()
    with twistd(tmp_path, "--listen", "unix:lmtp", "--backend", "null:") as server:
        server.until(r"listening on ")
        with Client(path=tmp_path / "lmtp") as client:
            assert client.greeting.startswith("220 ")


def test_several_addresses_are_one_server(tmp_path: Path) -> None:
    with twistd(tmp_path, "--port", "0", "--listen", "unix:lmtp", "--backend", "null:") as server:
        server.until(r"listening on .*lmtp\n")
        with Client(server.port) as client, Client(path=tmp_path / "lmtp") as other:
            assert client.greeting == other.greeting


@pytest.mark.parametrize("reactor", ["poll", "asyncio"])
def test_the_reactor_that_twistd_was_told_to_use_is_used(tmp_path: Path, reactor: str) -> None:
    with twistd(tmp_path, "--port", "0", "--backend", "null:", options=[f"--reactor={reactor}"]) as server:
        assert reactor in server.until(r"reactor class: (\S+)\.\n")[1].lower()
        with Client(server.port) as client:
            assert client.deliver("user@example.org")[0].startswith("250 ")


def test_to_name_the_options_and_the_plugins_imports_no_reactor(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from twisted.scripts.twistd import ServerOptions\n"
        "config = ServerOptions()\n"
        "config.parseOptions(['lmtp', '--port', '0', '--backend', 'maildir:mail'])\n"
        "sys.exit('twisted.internet.reactor' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=tmp_path).returncode == 0


# The end


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Path]:
    """A module whose deliveries, each in a thread, say that they have begun and wait for a file to be written to."""
    os.mkfifo(tmp_path / "begun")
    os.mkfifo(tmp_path / "go")
    (tmp_path / "held.py").write_text(
        "def deliver(message, recipient):\n"
        "    with open('begun', 'w') as begun:\n"
        "        begun.write(f'{recipient}\\n')\n"
        "    with open('go') as go:\n"
        "        go.read()\n"
    )
    yield tmp_path
    # Lets go of whatever is held still.
    os.close(os.open(tmp_path / "go", os.O_RDWR))


def test_sigterm_in_the_middle_of_deliveries_takes_no_reply_away(held: Path) -> None:
    """RFC 2033 §4.2: one reply for each recipient; the shut-down is told after them (RFC 5321 §3.8)."""
    recipients = [f"r{number}@example.org" for number in range(3)]
    with (
        twistd(held, "--port", "0", "--backend", "python:held:deliver,threads=yes") as server,
        Client(server.port) as client,
        Client(server.port) as idle,
        open(os.open(held / "begun", os.O_RDWR)) as begun,
    ):
        client.begin(*recipients)
        client.send("hello\r\n.\r\n")
        assert sorted(begun.readline().strip() for _ in recipients) == recipients
        server.terminate()
        server.until(r"stopping, sessions=2\n")
        assert idle.reply().startswith("421 4.3.2 ")
        assert idle.reply() == ""
        os.close(os.open(held / "go", os.O_WRONLY))
        replies = [client.reply() for _ in recipients]
        assert [reply.split()[2] for reply in replies] == [f"<{name}>" for name in recipients]
        assert all(reply.startswith("250 2.0.0 ") for reply in replies)
        assert client.say("NOOP").startswith("421 4.3.2 ")
        assert client.reply() == ""
        idle.close()
        client.close()
        assert server.ended() == -signal.SIGTERM
    lines = server.output.splitlines()
    assert sum(" reply=250 2.0.0 Delivered" in line for line in lines) == 3
    assert lines[-1].endswith("Server Shut Down.")


def test_deliveries_that_take_longer_than_the_drain_timeout_are_given_up(tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text(
        "from twisted.internet.defer import Deferred\n"
        "def deliver(message, recipient):\n"
        "    print('begun')\n"
        "    return Deferred()\n"
    )
    arguments = ["--backend", "python:endless:deliver", "--drain-timeout", "0.1"]
    with twistd(tmp_path, "--port", "0", *arguments) as server, Client(server.port) as client:
        client.begin("r@example.org")
        client.send("hello\r\n.\r\n")
        server.until(r"\[stdout\] begun\n")
        server.terminate()
        assert client.reply().startswith("451 4.3.0 <r@example.org> ")
        assert server.ended() == -signal.SIGTERM
    assert "warn [lmtp] 1 sessions did not finish in 0.1 s: what is not delivered is cancelled" in server.output


def test_too_few_files_for_so_many_sessions_are_a_warning_at_the_start(tmp_path: Path) -> None:
    few = ["sh", "-c", 'ulimit -n 200; exec "$@"', "sh"]
    with twistd(tmp_path, "--port", "0", "--backend", "null:", prefix=few) as server:
        server.until(r"warn \[lmtp\] only 200 files may be open, too few for 1000 sessions: ")


@pytest.mark.parametrize(("listen", "is_enough"), [("tcp", True), ("haproxy:tcp", False)])
def test_connections_that_wait_for_a_proxys_header_are_files_too(tmp_path: Path, listen: str, is_enough: bool) -> None:
    few = ["sh", "-c", f'ulimit -n {2 * 10 + 500 + 2 * MOST_OPEN}; exec "$@"', "sh"]
    arguments = ["--listen", f"{listen}:0:interface=127.0.0.1", "--backend", "null:", "--max-sessions", "10"]
    with twistd(tmp_path, *arguments, prefix=few) as server:
        server.until("listening on ")
        assert (" files may be open, too few for 10 sessions: " not in server.output) == is_enough


def test_a_client_that_does_not_read_its_last_replies_does_not_keep_the_server(tmp_path: Path) -> None:
    (tmp_path / "wordy.py").write_text("def deliver(message, recipient):\n    return 'x' * 400\n")
    with twistd(tmp_path, "--port", "0", "--backend", "python:wordy:deliver", "--drain-timeout", "0.1") as server:
        client = Client(server.port)
        client.begin("r@example.org")
        # Far more replies than the buffers of both sides hold.
        client.send_until_stuck("hello\r\n.\r\n" + "HELP\r\n" * 4_000_000)
        server.terminate()
        assert server.ended() == -signal.SIGTERM
        client.close()
    assert "warn [lmtp] 1 sessions do not read their replies and are aborted" in server.output


# As a daemon


def _daemonised(directory: Path, *arguments: str) -> int:
    """Start a daemon; returns its process id."""
    command = [*TWISTD, "--pidfile", "lmtp.pid", "--logfile", "lmtp.log", "lmtp", *arguments]
    done = subprocess.run(command, cwd=directory, capture_output=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    return int((directory / "lmtp.pid").read_text())


def _port_of(log: Path) -> int:
    """twistd returns once the daemon listens, so that line is there."""
    return int(log.read_text().partition("listening on 127.0.0.1:")[2].split()[0])


def test_as_a_daemon_it_forks_delivers_reopens_its_log_and_ends_on_sigterm(tmp_path: Path) -> None:
    log = tmp_path / "lmtp.log"
    pid = _daemonised(tmp_path, "--port", "0", "--backend", "maildir:mail")
    try:
        port = _port_of(log)
        with Client(port) as client:
            assert client.deliver("one@example.org", "two@example.org")[1].startswith("250 ")
        log.rename(tmp_path / "lmtp.log.1")
        os.kill(pid, signal.SIGHUP)
        with Client(port) as client:
            deadline = time.monotonic() + PATIENCE
            while not log.exists() and time.monotonic() < deadline:
                client.say("NOOP")
            assert client.deliver("three@example.org")[0].startswith("250 ")
    finally:
        os.kill(pid, signal.SIGTERM)
        end_of(pid)
    assert len(_mail(tmp_path / "mail")) == 3
    old, new = (tmp_path / "lmtp.log.1").read_text(), log.read_text()
    assert "to=<two@example.org>" in old
    assert "to=<three@example.org>" not in old
    assert "to=<three@example.org>" in new
    assert new.endswith("Server Shut Down.\n")
    assert not (tmp_path / "lmtp.pid").exists()


def test_a_daemon_writes_large_messages_to_its_spool(tmp_path: Path) -> None:
    """Its threads run in the process that was forked."""
    pid = _daemonised(tmp_path, "--port", "0", "--backend", "maildir:mail", "--spool", ".")
    try:
        with Client(_port_of(tmp_path / "lmtp.log")) as client:
            line = "x" * 76 + "\r\n"
            (reply,) = client.deliver("user@example.org", content="Subject: large\r\n\r\n" + line * 20000)
            assert reply.startswith("250 ")
    finally:
        os.kill(pid, signal.SIGTERM)
        end_of(pid)
    (message,) = _mail(tmp_path / "mail")
    assert message.count("x" * 76 + "\n") == 20000


# Wrong command lines


def _refused(directory: Path, *arguments: str, options: tuple[str, ...] = ("-n",)) -> str:
    """The one line of a ``twistd lmtp`` that does not start."""
    command = [*TWISTD, "--pidfile=", *options, "lmtp", *arguments]
    done = subprocess.run(
        command, cwd=directory, capture_output=True, timeout=PATIENCE, stdin=subprocess.DEVNULL, text=True
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("twistd lmtp: ")
    return line.removeprefix("twistd lmtp: ")


@pytest.mark.parametrize("options", [("-n",), ()], ids=["foreground", "daemon"])
def test_a_port_in_use_is_one_line_also_where_a_daemon_was_wanted(
    tmp_path: Path, taken_port: int, options: tuple[str, ...]
) -> None:
    complaint = _refused(tmp_path, "--port", str(taken_port), "--backend", "null:", options=options)
    assert complaint == f"--port {taken_port}: Address already in use"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--port", "25"], "--port: port 25 is SMTP's"),
        (["--listen", "tcp:25"], "--listen tcp:25: port 25 is SMTP's"),
        (["--port", "0", "--backend", "maildir:/proc/mail"], "--backend: maildir: "),
        (["--port", "0", "--backend", "nowhere:"], "--backend: 'nowhere:' names no known backend"),
        (["--size-limit", "huge"], "--size-limit: 'huge' is not a size"),
        (["--unknown"], "option --unknown not recognized"),
    ],
)
def test_a_wrong_option_is_one_line(tmp_path: Path, arguments: list[str], complaint: str) -> None:
    assert _refused(tmp_path, *arguments).startswith(complaint)


def test_a_unix_socket_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "lmtp"))
        listener.listen()
        complaint = _refused(tmp_path, "--listen", "unix:lmtp", "--backend", "null:")
    assert complaint == "--listen unix:lmtp: another server listens there"


def test_a_running_server_is_not_disturbed_by_a_second_start(tmp_path: Path) -> None:
    with twistd(tmp_path, "--listen", "unix:lmtp", "--backend", "null:") as server:
        server.until(r"listening on ")
        complaint = _refused(tmp_path, "--listen", "unix:lmtp", "--backend", "null:")
        assert complaint == f"--listen unix:lmtp: in use by process {server.process.pid}"
        with Client(path=tmp_path / "lmtp") as client:
            assert client.greeting.startswith("220 ")
