"""Nodes of the cluster are killed under load: what was answered 250 is in the queue."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from pathlib import Path
from threading import Event, Lock, Thread

import pytest
from rabbitmq_cluster import RabbitCluster
from running_twistd import Client, twistd

pytestmark = pytest.mark.peer("rabbitmq")

SESSIONS = 50
#: Seconds between two messages of a session.
PACE = 0.1
#: Seconds in which mail has to be taken again, at the latest.
PATIENCE = 60.0


def content_of(name: str) -> str:
    """Some 4 KiB that nobody else has."""
    lines = (hashlib.sha256(f"{name} {number}".encode()).hexdigest() for number in range(60))
    return f"Subject: {name}\r\n\r\n" + "\r\n".join(lines) + "\r\n"


class Load:
    """
    Sessions that send one message after the other, each for one recipient, whatever they are told.

    :param port: of the server.
    :ivar accepted: the messages that got a 250.
    :ivar refused: how often a reply began so.
    :ivar errors: what ended a session early.
    :ivar longest_pause: seconds between two 250, at the most.
    """

    def __init__(self, port: int) -> None:
        self.accepted: set[str] = set()
        self.refused: Counter[str] = Counter()
        self.longest_pause = 0.0
        self._port = port
        self._last = time.monotonic()
        self._lock = Lock()
        self._is_over = Event()
        self.errors: list[BaseException] = []
        self._threads = [Thread(target=self._run, args=(number,)) for number in range(SESSIONS)]
        for thread in self._threads:
            thread.start()

    def _run(self, session: int) -> None:
        try:
            with Client(self._port) as client:
                assert client.say("LHLO client.example").startswith("250 ")
                number = 0
                while not self._is_over.is_set():
                    number += 1
                    self._send(client, f"{session}-{number}")
                    # Not as fast as they can: all of it is counted afterwards.
                    self._is_over.wait(PACE)
        except BaseException as error:
            self.errors.append(error)

    def _send(self, client: Client, name: str) -> None:
        for command, expected in [
            ("MAIL FROM:<you@example.net>", "250 "),
            (f"RCPT TO:<user{name}@example.org>", "250 "),
            ("DATA", "354 "),
        ]:
            reply = client.say(command)
            if not reply.startswith(expected):
                with self._lock:
                    self.refused[reply[:9]] += 1
                assert client.say("RSET").startswith("250 ")
                return
        client.send(f"{content_of(name)}.\r\n")
        reply = client.reply()
        with self._lock:
            if reply.startswith("250 "):
                self.accepted.add(name)
                now = time.monotonic()
                self.longest_pause, self._last = max(self.longest_pause, now - self._last), now
            else:
                self.refused[reply[:9]] += 1

    def until_accepted(self, number: int) -> None:
        """Wait until so many more messages got a 250."""
        wanted, deadline = len(self.accepted) + number, time.monotonic() + PATIENCE
        while len(self.accepted) < wanted:
            assert not self.errors, self.errors
            assert time.monotonic() < deadline, f"{len(self.accepted)} accepted, {dict(self.refused)}"
            time.sleep(0.02)

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *_: object) -> None:
        """Let all sessions finish what they are at."""
        self._is_over.set()
        for thread in self._threads:
            thread.join()


def test_what_got_a_250_is_in_the_queue_though_nodes_and_its_leader_were_killed(
    rabbitmq: RabbitCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By SIGKILL, under the load of fifty sessions. What got no 250 may be there, too; nothing is there in part."""
    backend = f"amqp:{rabbitmq.url},exchange=killed,queue=killed,timeout=20"
    with twistd(tmp_path, "--port", "0", "--backend", backend) as server, Load(server.port) as load:
        server.drain()
        load.until_accepted(500)
        victims = []
        for who in ("the node that serves us", "the leader"):
            name = rabbitmq.leader("killed") if who == "the leader" else rabbitmq.serving()
            victims.append(name)
            rabbitmq.nodes[name].kill()
            load.until_accepted(500)
            rabbitmq.nodes[name].start()
            rabbitmq.nodes[name].wait()
            load.until_accepted(500)
    assert not load.errors
    found = Counter(body for _, body in rabbitmq.contents("killed"))
    expected = {content_of(name).encode() for name in load.accepted}
    sent = found.keys() - expected
    with capsys.disabled():
        print(f"\nkilled {' and '.join(victims)}: {len(load.accepted)} messages got a 250,")
        print(f"{len(expected - found.keys())} of them were lost, {found.total() - len(found)} are there twice;")
        print(f"refused: {dict(load.refused)}, {len(sent)} of these are there all the same;")
        print(f"the longest time without a 250 was {load.longest_pause:.1f} s")
    assert expected <= found.keys()
    names = [body.split(b"\r\n", 1)[0].removeprefix(b"Subject: ").decode() for body in sent]
    assert sent == {content_of(name).encode() for name in names}
