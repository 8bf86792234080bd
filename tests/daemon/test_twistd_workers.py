"""``twistd lmtp --workers`` as real processes: a parent that holds the ports, and workers that take the mail."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from certificates import write_certificate
from running_twistd import PATIENCE, TWISTD, Client, Twistd, end_of, twistd
from test_twistd_http import get
from test_twistd_tls import Implicit

#: A backend that says which process has delivered. What is for "held" waits until somebody writes to "go".
TELLING = """\
import os
def deliver(message, recipient):
    if recipient.address.local == "held":
        print("begun")
        open("go").close()
    return f"by {os.getpid()}"
"""


def _workers(server: Twistd, count: int = 2) -> list[int]:
    """The processes of the first workers, once they serve."""
    return [int(server.until(rf"worker {number} \(process (\d+)\) serves\n")[1]) for number in range(1, count + 1)]


@contextmanager
def _telling(directory: Path, *arguments: str, options: Sequence[str] = ()) -> Iterator[tuple[Twistd, list[int]]]:
    """A server of two workers, whose replies say which of them gave it, and their processes."""
    (directory / "telling.py").write_text(TELLING)
    os.mkfifo(directory / "go")
    backend = ["--backend", "python:telling:deliver,threads=yes"]
    with twistd(directory, "--workers", "2", *backend, *arguments, options=options) as server:
        yield server, _workers(server)


def _go(directory: Path) -> None:
    """Let deliveries that are held go on, once all of them wait."""
    os.close(os.open(directory / "go", os.O_WRONLY))


def _hold(server: Twistd, clients: dict[int, Client]) -> None:
    """Send a message by each, whose delivery is held."""
    before = server.output.count("begun\n")
    for client in clients.values():
        client.begin("held@example.org")
        client.send("hello\r\n.\r\n")
    server.until("(?s)" + ".*begun\n" * (before + len(clients)))


def _finish(clients: dict[int, Client]) -> None:
    """They get the reply that they are owed, and are told of the shut-down after it (RFC 5321 §3.8)."""
    for pid, client in clients.items():
        assert client.reply().endswith(f"by {pid}")
        assert client.say("NOOP").startswith("421 4.3.2 ")
        client.close()


def _process(client: Client) -> int:
    """Which process a client speaks to."""
    (reply,) = client.deliver("user@example.org")
    match = re.search(r"by (\d+)$", reply)
    assert match, reply
    return int(match[1])


def _clients_of_both(stack: ExitStack, port: int, workers: list[int]) -> dict[int, Client]:
    """A session with each of two workers, by its process."""
    clients: dict[int, Client] = {}
    for _ in range(200):
        client = stack.enter_context(Client(port))
        clients.setdefault(_process(client), client)
        if clients.keys() == set(workers):
            return clients
    raise AssertionError(f"200 sessions, and all by {clients.keys()}")


# What they serve


def test_both_workers_take_mail_and_the_parent_takes_none(tmp_path: Path) -> None:
    with _telling(tmp_path, "--port", "0") as (server, workers), ExitStack() as stack:
        assert server.process.pid not in workers
        _clients_of_both(stack, server.port, workers)


def test_mail_is_in_maildirs_below_the_directory_that_twistd_was_told(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    arguments = ["--port", "0", "--workers", "2", "--backend", "maildir:mail"]
    with twistd(tmp_path, *arguments, options=["--rundir", "run"]) as server, Client(server.port) as client:
        assert client.deliver("user@example.org")[0].startswith("250 ")
    assert len(list(tmp_path.glob("run/mail/example.org/user/new/*"))) == 1


def test_a_worker_is_not_seen_to_have_any_of_the_options(tmp_path: Path) -> None:
    with _telling(tmp_path, "--port", "0", "--auth", "memory:user:confidential") as (_, workers):
        for pid in workers:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            assert words[-3:-1] == [b"lmtp-worker", b"%d" % (1 + workers.index(pid))]
            assert not any(b"confidential" in word or b"backend" in word for word in words)
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"confidential" not in environment


@pytest.mark.parametrize("reactor", ["poll", "asyncio"])
def test_the_workers_have_the_reactor_of_the_parent(tmp_path: Path, reactor: str) -> None:
    (tmp_path / "telling.py").write_text(
        "def deliver(message, recipient):\n"
        "    from twisted.internet import reactor\n"
        "    return type(reactor).__name__\n"
    )
    arguments = ["--port", "0", "--workers", "2", "--backend", "python:telling:deliver"]
    with twistd(tmp_path, *arguments, options=[f"--reactor={reactor}"]) as server, Client(server.port) as client:
        assert re.search(rf"(?i) {reactor}(selector)?reactor$", client.deliver("user@example.org")[0])


def test_every_kind_of_port_is_shared_and_a_unix_socket_goes_with_the_parent(tmp_path: Path) -> None:
    """Those that are opened by number or by path, with TLS from the first octet, behind a proxy, and systemd's."""
    write_certificate(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as given:
        arguments = ["--listen", "unix:plain", "--listen-tls", "unix:secure", "--listen", "haproxy:unix:proxied"]
        arguments += ["--listen", "systemd:domain=INET:index=0", "--workers", "2", "--backend", "null:"]
        arguments += ["--tls-certificate", "cert.pem", "--tls-key", "key.pem"]
        with twistd(tmp_path, *arguments, sockets={"mail": given}) as server:
            _workers(server)
            assert stat.S_IMODE((tmp_path / "plain").stat().st_mode) == 0o660
            with Client(path=tmp_path / "plain") as plain:
                assert plain.deliver("a@example.org")[0].startswith("250 ")
            with Implicit(path=tmp_path / "secure") as secure:
                assert secure.deliver("a@example.org")[0].startswith("250 ")
            with Client(path=tmp_path / "proxied", is_greeted=False) as proxied:
                proxied.send("PROXY TCP4 192.0.2.1 192.0.2.2 25 24\r\n")
                assert proxied.reply().startswith("220 ")
                assert proxied.deliver("a@example.org")[0].startswith("250 ")
            with Client(given.getsockname()[1]) as client:
                assert client.deliver("a@example.org")[0].startswith("250 ")
            server.terminate()
            assert server.ended() == -signal.SIGTERM
        assert not any((tmp_path / name).exists() for name in ("plain", "secure", "proxied"))
        # systemd's stays open, and who connects waits for the next server.
        Client(given.getsockname()[1], is_greeted=False).close()


def test_a_limit_of_sessions_holds_for_all_workers_together(tmp_path: Path) -> None:
    with _telling(tmp_path, "--port", "0", "--max-sessions", "9") as (server, workers), ExitStack() as stack:
        clients = [stack.enter_context(Client(server.port)) for _ in range(9)]
        assert {_process(client) for client in clients} <= set(workers)
        with Client(server.port) as late:
            assert late.greeting.startswith("421 4.3.2 ")
        # Those of a worker that has died do not count any more.
        victims = [client for client in clients if _process(client) == workers[0]] or clients
        os.kill(_process(victims[0]), signal.SIGKILL)
        server.until("killed by SIGKILL; ")
        for _ in victims:
            assert stack.enter_context(Client(server.port)).greeting.startswith("220 ")
        with Client(server.port) as late:
            assert late.greeting.startswith("421 4.3.2 ")


def test_a_limit_of_a_peers_sessions_holds_for_all_workers_together(tmp_path: Path) -> None:
    with (
        _telling(tmp_path, "--port", "0", "--listen", "unix:lmtp", "--max-sessions-per-peer", "3") as (server, _),
        ExitStack() as stack,
    ):
        for _ in range(3):
            assert stack.enter_context(Client(server.port)).greeting.startswith("220 ")
        with Client(server.port) as late:
            assert late.greeting.startswith("421 4.3.2 ")
        # Another peer.
        with Client(path=tmp_path / "lmtp") as other:
            assert other.greeting.startswith("220 ")


def test_the_parent_shows_the_status_and_asks_the_workers_for_it(tmp_path: Path) -> None:
    with _telling(tmp_path, "--port", "0", "--http", "0") as (server, workers):
        web = int(server.until(r"status on http://127\.0\.0\.1:(\d+)/\n")[1])
        assert get(web, "/health") == (200, "ok\n")
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        try:
            assert get(web, "/health") == (503, "not taking mail\n")
        finally:
            for pid in workers:
                os.kill(pid, signal.SIGCONT)
        assert get(web, "/health") == (200, "ok\n")


def test_figures_are_the_sum_of_all_workers_and_stay_when_one_dies(tmp_path: Path) -> None:
    def until(sessions: int) -> None:
        """Look until there were so many sessions. There were never fewer than were seen before."""
        seen, deadline = 0, time.monotonic() + PATIENCE
        while seen != sessions:
            assert time.monotonic() < deadline, f"{seen} sessions, and not {sessions}"
            match = re.search(r"^lmtp_sessions_total (\d+)", get(web, "/metrics")[1], re.MULTILINE)
            # Before the first full second there are no figures at all.
            count = 0 if match is None else int(match[1])
            assert count >= seen
            seen = count

    with _telling(tmp_path, "--port", "0", "--http", "0") as (server, workers):
        web = int(server.until(r"status on http://127\.0\.0\.1:(\d+)/\n")[1])
        by = []
        while len(by) < 10 or set(by) != set(workers):
            with Client(server.port) as client:
                by.append(_process(client))
        until(len(by))
        # What it had counted is known by now, so it stays.
        os.kill(workers[0], signal.SIGKILL)
        server.until(r"killed by SIGKILL; (?s:.)*worker 1 \(process \d+\) serves\n")
        with Client(server.port) as client:
            _process(client)
        until(len(by) + 1)


# Other rules


def test_a_reload_reaches_all_workers_and_ports_come_and_go(tmp_path: Path) -> None:
    (tmp_path / "telling.py").write_text(TELLING)
    file = tmp_path / "lmtp.toml"
    rest = 'backend = "python:telling:deliver"\nport = 0\nworkers = 2\n'
    file.write_text(f'hostname = "one.example"\n{rest}listen = ["unix:old"]\n')
    with twistd(tmp_path, "--config", "lmtp.toml") as server, ExitStack() as stack:
        workers = _workers(server)
        kept = _clients_of_both(stack, server.port, workers)
        port = server.port
        with Client(path=tmp_path / "old") as old:
            assert old.greeting.startswith("220 one.example ")
            file.write_text(f'hostname = "two.example"\n{rest}listen = ["unix:new"]\n')
            server.reload(rf"listening on {tmp_path}/new\n(?:.*\n)*.*listening no more on unix:{tmp_path}/old\n")
            assert not (tmp_path / "old").exists()
            assert old.deliver("a@example.org")[0].startswith("250 ")
        news = _clients_of_both(stack, port, workers)
        assert all(client.greeting.startswith("220 two.example ") for client in news.values())
        for pid, client in kept.items():
            assert _process(client) == pid
        with Client(path=tmp_path / "new") as new:
            assert new.greeting.startswith("220 two.example ")
        # One that is wrong changes nothing, also not for a worker that starts then.
        file.write_text(f'hostname = "three.example"\n{rest}listen = ["unix:/nowhere/lmtp"]\n')
        server.reload("all stays as it was")
        os.kill(workers[0], signal.SIGKILL)
        third = int(server.until(r"worker 1 \(process (\d+)\) serves\n")[1])
        clients = _clients_of_both(stack, port, [third, workers[1]])
        assert all(client.greeting.startswith("220 two.example ") for client in clients.values())
        with Client(path=tmp_path / "new") as new:
            assert new.greeting.startswith("220 two.example ")


def test_a_worker_that_hangs_is_replaced_by_one_that_follows_the_reload(tmp_path: Path) -> None:
    (tmp_path / "impatient.py").write_text(
        "from lmtp_twisted.daemon.workers import worker\n"
        "worker.RELOAD_PATIENCE = 0.5\n"
        "def deliver(message, recipient):\n"
        "    pass\n"
    )
    file = tmp_path / "lmtp.toml"
    rest = 'backend = "python:impatient:deliver"\nport = 0\nworkers = 2\n'
    file.write_text(f'hostname = "one.example"\n{rest}listen = ["unix:old"]\n')
    with twistd(tmp_path, "--config", "lmtp.toml") as server:
        port, (hanging, _) = server.port, _workers(server)
        os.kill(hanging, signal.SIGSTOP)
        file.write_text(f'hostname = "two.example"\n{rest}')
        # The reload comes to its end, too: its last step is what is listened on no more.
        server.reload("listening no more on unix:")
        pattern = (
            rf"\(process {hanging}\) has ended after [^\n]*, killed by SIGKILL: it did not follow a reload in time"
        )
        server.until(rf"{pattern}; (?s:.)*worker 1 \(process \d+\) serves\n")
        # Whichever of them it is.
        for _ in range(20):
            with Client(port) as client:
                assert client.greeting.startswith("220 two.example ")
        # The parent has come to the end of the reload: a worker would only close its own end of it.
        assert not (tmp_path / "old").exists()


def test_a_worker_has_the_certificate_that_its_parent_has_read_when_it_was_right(tmp_path: Path) -> None:
    write_certificate(tmp_path)
    arguments = ["--listen-tls", "unix:secure", "--tls-certificate", "cert.pem", "--tls-key", "key.pem"]
    with twistd(tmp_path, *arguments, "--workers", "2", "--backend", "null:") as server:
        workers = _workers(server)
        with Implicit(path=tmp_path / "secure"):
            pass
        (tmp_path / "key.pem").unlink()
        server.output = ""
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        _workers(server)
        with Implicit(path=tmp_path / "secure") as secure:
            assert secure.greeting.startswith("220 ")


# Death


def test_a_worker_that_is_killed_is_replaced_and_the_others_sessions_go_on(tmp_path: Path) -> None:
    with _telling(tmp_path, "--port", "0") as (server, workers), ExitStack() as stack:
        clients = _clients_of_both(stack, server.port, workers)
        os.kill(workers[0], signal.SIGKILL)
        assert clients[workers[0]].reply() == ""
        server.until(rf"worker 1 \(process {workers[0]}\) has ended after \d+\.\d s, killed by SIGKILL; ")
        assert _process(clients[workers[1]]) == workers[1]
        new = int(server.until(r"has ended after [^\n]*\n(?:[^\n]*\n)*?.*worker 1 \(process (\d+)\) serves\n")[1])
        assert new not in workers
        _clients_of_both(stack, server.port, [new, workers[1]])


def test_workers_whose_parent_is_killed_finish_what_they_have_and_end(tmp_path: Path) -> None:
    with _telling(tmp_path, "--port", "0") as (server, workers), ExitStack() as stack:
        clients = _clients_of_both(stack, server.port, workers)
        port = server.port
        _hold(server, clients)
        server.process.kill()
        server.process.wait()
        server.until("(?s)stopping, .*stopping, ")
        with pytest.raises(ConnectionRefusedError):
            Client(port)
        _go(tmp_path)
        _finish(clients)
        stack.close()
        for pid in workers:
            end_of(pid)


def test_a_worker_that_cannot_start_is_tried_again_ever_more_seldom(tmp_path: Path) -> None:
    (tmp_path / "telling.py").write_text(
        "import sys\n"
        "if 'lmtp-worker' in sys.argv:\n"
        "    raise ValueError('not in a worker')\n"
        "def deliver(message, recipient):\n"
        "    pass\n"
    )
    arguments = ["--port", "0", "--workers", "2", "--backend", "python:telling:deliver"]
    with twistd(tmp_path, *arguments) as server:
        for delay in ("0.1", "0.2", "0.4"):
            server.until(
                r"worker 2 \(process \d+\) has ended after \d+\.\d s, status 1: twistd lmtp: .*not in a worker; "
                rf"the next one starts in {delay} s\n"
            )
        server.terminate()
        assert server.ended() == -signal.SIGTERM


# The end


def test_sigterm_to_the_parent_lets_all_workers_finish_and_the_parent_ends_last(tmp_path: Path) -> None:
    """RFC 2033 §4.2: all replies are sent; the shut-down is told after them (RFC 5321 §3.8)."""
    with _telling(tmp_path, "--port", "0") as (server, workers), ExitStack() as stack:
        clients = _clients_of_both(stack, server.port, workers)
        _hold(server, clients)
        server.terminate()
        server.until("(?s)stopping, .*stopping, .*stopping, ")
        _go(tmp_path)
        _finish(clients)
        stack.close()
        assert server.ended() == -signal.SIGTERM
    lines = server.output.splitlines()
    assert sum(" has ended, status 0" in line for line in lines) == 2
    assert "Traceback" not in server.output


def test_a_worker_that_does_not_end_is_killed(tmp_path: Path) -> None:
    (tmp_path / "telling.py").write_text(
        "import time\n"
        "from lmtp_twisted.daemon import service\n"
        "service.LEAST_PATIENCE = 0.1\n"
        "def deliver(message, recipient):\n"
        "    print('stuck')\n"
        "    time.sleep(1000)\n"
    )
    arguments = ["--port", "0", "--workers", "2", "--backend", "python:telling:deliver", "--drain-timeout", "0"]
    with twistd(tmp_path, *arguments) as server, Client(server.port) as client:
        client.begin("user@example.org")
        client.send("hello\r\n.\r\n")
        server.until(r"stuck\n")
        server.terminate()
        assert server.ended() == -signal.SIGTERM
    assert re.search(r"has ended, killed by SIGKILL: it did not end in time\n", server.output)


def test_as_a_daemon_all_of_it_goes_to_the_file_of_the_log_and_is_reopened(tmp_path: Path) -> None:
    (tmp_path / "telling.py").write_text(TELLING)
    options = ["--pidfile", "lmtp.pid", "--logfile", "lmtp.log"]
    arguments = ["--port", "0", "--workers", "2", "--backend", "python:telling:deliver"]
    done = subprocess.run(
        [*TWISTD, *options, "lmtp", *arguments], cwd=tmp_path, capture_output=True, timeout=PATIENCE, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    log, pid = tmp_path / "lmtp.log", int((tmp_path / "lmtp.pid").read_text())
    try:
        with ExitStack() as stack:
            port = int(log.read_text().partition("listening on 127.0.0.1:")[2].split()[0])
            clients = [stack.enter_context(Client(port))]
            workers = {int(found) for found in re.findall(r"worker \d \(process (\d+)\) serves", log.read_text())}
            while len(workers) < 2:
                clients[0].say("NOOP")
                workers = {int(found) for found in re.findall(r"worker \d \(process (\d+)\) serves", log.read_text())}
            both = _clients_of_both(stack, port, list(workers))
            log.rename(tmp_path / "lmtp.log.1")
            os.kill(pid, signal.SIGUSR1)
            for client in both.values():
                count = -1
                while not log.exists() or log.read_text().count("to=<late@") == count:
                    count = log.read_text().count("to=<late@") if log.exists() else -1
                    client.deliver("late@example.org")
    finally:
        os.kill(pid, signal.SIGTERM)
        end_of(pid)
    assert log.read_text().endswith("Server Shut Down.\n")
    assert not (tmp_path / "lmtp.pid").exists()
    for worker in workers:
        end_of(worker)


# Command lines


@pytest.mark.parametrize(
    ("arguments", "options", "why"),
    [
        (["--workers", "0"], [], "--workers: '0' is not from 1 to 256"),
        (["--workers", "many"], [], "--workers: 'many' is neither a number nor auto"),
        (["--workers", "2"], ["--chroot", "."], "--chroot cannot be had: "),
        (["--workers", "2", "--backend", "maildir:/dev/null/x"], [], "--backend: maildir: [Errno 20] "),
    ],
)
def test_what_is_wrong_is_one_line_and_status_1(
    tmp_path: Path, arguments: list[str], options: list[str], why: str
) -> None:
    command = [*TWISTD, "-n", "--pidfile=", *options, "lmtp", "--port", "0", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=PATIENCE, text=True)
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"twistd lmtp: {why}")
    assert (done.returncode, done.stdout) == (1, "")
