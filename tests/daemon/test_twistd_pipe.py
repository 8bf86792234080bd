"""A real ``twistd lmtp`` that runs programs: many sessions, hostile names, programs that are killed, what is left."""

from __future__ import annotations

import os
import re
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from hostile_names import DOMAINS, LOCAL_PARTS, recipient
from running_twistd import PATIENCE, Client, Twistd, twistd


@contextmanager
def running(directory: Path, script: str, arguments: str = "", options: str = "", *others: str) -> Iterator[Twistd]:
    """A server that runs a script of the shell, in a directory of its own."""
    program = directory / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    work = directory / "work"
    work.mkdir()
    backend = f"pipe:{program} {arguments},directory={work}{options}"
    with twistd(directory, "--port", "0", "--backend", backend, *others) as server:
        yield server


def children(process: int) -> list[int]:
    """The processes that it has started and not waited for, zombies too."""
    found: list[int] = []
    for thread in Path(f"/proc/{process}/task").iterdir():
        found += map(int, (thread / "children").read_text().split())
    return found


def descriptors(process: int) -> int:
    """How many it has open."""
    return len(os.listdir(f"/proc/{process}/fd"))


def lives(process: int | str) -> bool:
    """Whether it runs; a zombie, whose parent takes its time, does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(condition: Callable[[], object]) -> None:
    """Wait for what another process does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.01)


def words(reply: str) -> str:
    """A final reply without the recipient and the id."""
    code, enhanced, _, _, *text = reply.split(" ")
    return " ".join((code, enhanced, *text))


def test_a_hundred_sessions_get_all_their_replies_and_leave_nothing(tmp_path: Path) -> None:
    """RFC 2033 §4.2: one for each recipient, in order; then no zombie is left and no descriptor."""
    script = 'cat >"$USER.$QUEUE_ID"; case "$USER" in b*) exit 67 ;; c*) kill -9 $$ ;; d*) exec <&-; exit 75 ;; esac'
    content = "Subject: hello\r\n\r\n" + "x" * 70 + "\r\n" * 2000
    with running(tmp_path, script, options=",processes=8,queue=1000") as server:
        port, process = server.port, server.process.pid
        with Client(port):
            before = descriptors(process) - 1

        def session(number: int) -> list[str]:
            with Client(port) as client:
                return [
                    reply[:9] for reply in client.deliver(*(f"{name}{number}@x" for name in "abcd"), content=content)
                ]

        with ThreadPoolExecutor(100) as sessions:
            for replies in sessions.map(session, range(100)):
                assert replies == ["250 2.0.0", "550 5.1.1", "451 4.3.0", "451 4.3.0"]
        until(lambda: not children(process) and descriptors(process) == before)
    files = list((tmp_path / "work").glob("a*"))
    assert len(files) == 100
    assert all(path.read_text().endswith(content.replace("\r\n", "\n")) for path in files)


def test_no_program_ever_has_a_socket_or_a_file_of_ours(tmp_path: Path) -> None:
    """Though a hundred sessions are open, and messages lie in files."""
    script = 'ls -l /proc/self/fd >"$USER"; cat >/dev/null'
    with running(tmp_path, script) as server:
        clients = [Client(server.port) for _ in range(100)]
        assert words(clients[50].deliver("a@x", content="x" * 3_000_000 + "\r\n")[0]) == "250 2.0.0 Delivered"
        for client in clients:
            client.close()
    targets = re.findall(r"(\d+) -> (\S+)", (tmp_path / "work" / "a").read_text())
    assert [number for number, _ in targets] == ["0", "1", "2", "3"]
    assert not [target for _, target in targets if target.startswith("socket:")]


def test_hostile_names_reach_a_program_as_they_are_or_not_at_all(tmp_path: Path) -> None:
    """Each argument is one argument; no file but those of the script comes into being."""
    script = 'for argument; do printf "%s\\n" "$argument"; done >>log; printf "%s\\n" "$USER" >>users'
    with running(tmp_path, script, "-- {recipient} {user} {extension} {domain} {sender}", ",processes=1") as server:
        accepted: list[str] = []
        with Client(server.port) as client:
            client.say("LHLO client.example")
            for local in LOCAL_PARTS:
                client.say("MAIL FROM:<s@x> SMTPUTF8")
                taken = 0
                for domain in DOMAINS[:3]:
                    name = recipient(local.replace("\r", "").replace("\n", "\v"), domain).decode()
                    taken += client.say(f"RCPT TO:<{name}>").startswith("250 ")
                if not taken:
                    client.say("RSET")
                    continue
                accepted += [local] * taken
                assert client.say("DATA").startswith("354 ")
                client.send("Subject: hello\r\n\r\nhello\r\n.\r\n")
                assert {client.reply()[:9] for _ in range(taken)} == {"250 2.0.0"}
        assert len(accepted) > 50
    work = tmp_path / "work"
    assert sorted(path.name for path in work.iterdir()) == ["log", "users"]
    lines = (work / "log").read_text().splitlines()
    # Twice the same recipient is one delivery.
    users = (work / "users").read_text().splitlines()
    assert len(lines) == 6 * len(users)
    for number in range(len(users)):
        hyphens, address, user, extension, domain, sender = lines[6 * number : 6 * number + 6]
        assert (hyphens, user, sender) == ("--", users[number], "s@x")
        assert address.rpartition("@")[2] == domain
        for value in (address, user, domain):
            assert value
            assert value[0] not in "-."
        assert extension[:1] not in ("-", ".")
        assert "/" not in user + extension


def test_a_child_that_somebody_kills_is_tried_again(tmp_path: Path) -> None:
    """kill -9, from outside, in the midst of it."""
    with running(tmp_path, "echo $$ >new; mv new pid; exec sleep 600") as server, Client(server.port) as client:
        client.begin("a@x")
        client.send("Subject: hello\r\n\r\nhello\r\n.\r\n")
        pid = tmp_path / "work" / "pid"
        until(pid.exists)
        os.kill(int(pid.read_text()), signal.SIGKILL)
        assert words(client.reply()) == "451 4.3.0 Delivery program failed"


def test_when_the_connection_is_lost_all_of_its_programs_end(tmp_path: Path) -> None:
    """With what they have started; those that waited never run."""
    script = 'echo run >>"$USER"; sleep 600 & echo $$ $! >>pids; wait'
    with running(tmp_path, script, options=",processes=2") as server:
        client = Client(server.port)
        client.begin("a@x", "b@x", "c@x")
        client.send("Subject: hello\r\n\r\nhello\r\n.\r\n")
        pids = tmp_path / "work" / "pids"
        until(lambda: pids.exists() and len(pids.read_text().split()) == 4)
        client._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        until(lambda: not any(map(lives, pids.read_text().split())))
        until(lambda: not children(server.process.pid))
        assert not (tmp_path / "work" / "c").exists()
        with Client(server.port) as another:
            assert another.say("LHLO x").startswith("250 ")


def test_a_server_that_stops_lets_programs_finish(tmp_path: Path) -> None:
    """And answers for them."""
    os.mkfifo(tmp_path / "fifo")
    with running(tmp_path, f": >runs; cat {tmp_path}/fifo; : >done") as server, Client(server.port) as client:
        client.begin("a@x")
        client.send("Subject: hello\r\n\r\nhello\r\n.\r\n")
        until((tmp_path / "work" / "runs").exists)
        server.terminate()
        server.until("stopping, sessions=1")
        (tmp_path / "fifo").write_bytes(b"")
        assert words(client.reply()) == "250 2.0.0 Delivered"
        client.close()
        assert server.ended() == -signal.SIGTERM
        assert (tmp_path / "work" / "done").exists()


def test_a_server_that_can_wait_no_longer_leaves_no_program_behind(tmp_path: Path) -> None:
    """Not even one that does not heed SIGTERM."""
    script = "trap '' TERM; echo $$ >new; mv new pid; while :; do sleep 0.1; done"
    with running(tmp_path, script, "", "", "--drain-timeout", "0.2") as server, Client(server.port) as client:
        client.begin("a@x")
        client.send("Subject: hello\r\n\r\nhello\r\n.\r\n")
        pid = tmp_path / "work" / "pid"
        until(pid.exists)
        server.terminate()
        assert words(client.reply()) == "451 4.3.0 Delivery was cancelled"
        client.close()
        assert server.ended() == -signal.SIGTERM
        assert not lives(pid.read_text().strip())
        assert "not waited for" not in server.output


def test_a_large_message_goes_through_a_slow_program_whole(tmp_path: Path) -> None:
    """It lies in a file, and is read as the program takes it."""
    content = "Subject: large\r\n\r\n" + ("0123456789" * 7 + "\r\n") * 200_000
    script = "head -c 100000 >first; sleep 0.3; cat >rest"
    with running(tmp_path, script) as server, Client(server.port) as client:
        assert words(client.deliver("a@x", content=content)[0]) == "250 2.0.0 Delivered"
    read = (tmp_path / "work" / "first").read_text() + (tmp_path / "work" / "rest").read_text()
    assert read.endswith(content.replace("\r\n", "\n"))
