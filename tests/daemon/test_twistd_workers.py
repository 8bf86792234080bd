"""``twistd lmtp --workers`` as real processes: a parent that holds the ports, and workers that take the mail."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from running_twistd import PATIENCE, TWISTD, Client, Twistd, twistd

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


def _end_of(pid: int) -> None:
    """Wait until a process that is not our child has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ready, _, _ = select.select([descriptor], [], [], PATIENCE)
        assert ready, f"process {pid} does not end"
    finally:
        os.close(descriptor)


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
        assert client.deliver("user@example.org")[0].lower().endswith(f"{reactor}selectorreactor") or client.deliver(
            "user@example.org"
        )[0].lower().endswith(f"{reactor}reactor")


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
            _end_of(pid)


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


# Command lines


@pytest.mark.parametrize(
    ("arguments", "options", "why"),
    [
        (["--workers", "0"], [], "--workers: '0' is not from 1 to 256"),
        (["--workers", "many"], [], "--workers: 'many' is neither a number nor auto"),
        (["--workers", "2"], ["--chroot", "."], "--workers: under --chroot there is no Python to start them with"),
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
