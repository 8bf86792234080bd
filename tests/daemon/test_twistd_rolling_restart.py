"""Under load, one server after the other on a socket that stays: nobody notices, and no message is lost."""

from __future__ import annotations

import re
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from running_twistd import Client, Twistd, twistd

CLIENTS = 8
# Of each, before a server is told to stop.
MESSAGES_BETWEEN = 25
# Goes to a file while it comes.
LARGE = 1_500_000


class Sender:
    """
    A client as mail servers are: it sends one message after the other, several in a session, and comes back where it
    is told 421.

    :param number: tells it from others.
    :param to: where its client connects.
    :param size: octets of a message.
    """

    def __init__(self, number: int, to: dict[str, Any], size: int) -> None:
        self.number = number
        self._to = to
        self._body = ("x" * 98 + "\r\n") * (size // 100)
        self.sent: list[str] = []
        self.told_to_come_back = 0
        self.error: BaseException | None = None
        self._ends = Event()
        self._thread = Thread(target=self._run)
        self._thread.start()

    def end(self) -> None:
        """Send no more."""
        self._ends.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._ends.is_set():
                with Client(**self._to) as client:
                    if self._is_good(client.greeting, "220 ") and self._is_good(client.say("LHLO load"), "250 "):
                        self._send_some(client)
        except BaseException as error:
            self.error = error

    def _send_some(self, client: Client) -> None:
        for _ in range(10):
            name = f"{self.number}-{len(self.sent)}"
            commands = (("MAIL FROM:<a@example.net>", "250 "), ("RCPT TO:<a@example.org>", "250 "), ("DATA", "354 "))
            if not all(self._is_good(client.say(command), expected) for command, expected in commands):
                return
            if not self._is_good(client.say(f"Subject: number {name}.\r\n\r\n{self._body}."), "250 "):
                return
            self.sent.append(name)
        self._is_good(client.say("QUIT"), "221 ")

    def _is_good(self, reply: str, expected: str) -> bool:
        if reply.startswith("421 4.3.2 "):
            self.told_to_come_back += 1
            return False
        assert reply.startswith(expected), reply
        return True


@pytest.fixture(params=["TCP", "Unix"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    """What systemd would hold."""
    if request.param == "TCP":
        with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
            yield listener
    else:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "socket"))
            listener.listen(256)
            yield listener


def _wait_for_more(senders: list[Sender]) -> None:
    wanted = [len(sender.sent) + MESSAGES_BETWEEN // (5 if sender.number == 0 else 1) for sender in senders]
    for sender, number in zip(senders, wanted, strict=True):
        while len(sender.sent) < number and sender.error is None:
            pass


def test_nothing_is_lost_and_nobody_is_refused(listener: socket.socket, tmp_path: Path) -> None:
    """
    The first server ends before the second starts, so clients wait in the socket's queue; the third starts before the
    second ends. Each 250 is one file in the mailbox, and each file one 250: who was told 421 has been told the truth.
    """
    is_unix = listener.family == socket.AF_UNIX
    to = {"path": Path(listener.getsockname())} if is_unix else {"port": listener.getsockname()[1]}
    domain = "UNIX" if is_unix else "INET"
    arguments = ["--listen", f"systemd:domain={domain}:index=0", "--backend", "maildir:mail", "--log-level", "warn"]

    def generation() -> Any:
        return twistd(tmp_path, *arguments, sockets={"lmtp": listener})

    def stop(server: Twistd) -> None:
        server.terminate()
        assert server.ended() == -signal.SIGTERM
        assert server.output == "" or "Traceback" not in server.output

    senders: list[Sender] = []
    try:
        with generation() as first:
            senders += [Sender(number, to, LARGE if number == 0 else 2000) for number in range(CLIENTS)]
            _wait_for_more(senders)
            stop(first)
        with generation() as second:
            _wait_for_more(senders)
            with generation() as third:
                _wait_for_more(senders)
                stop(second)
                _wait_for_more(senders)
                for sender in senders:
                    sender.end()
                stop(third)
    finally:
        for sender in senders:
            sender._ends.set()
    assert [sender.error for sender in senders if sender.error] == []
    found: Counter[str] = Counter()
    for path in tmp_path.glob("mail/example.org/a/new/*"):
        with path.open() as file:
            found.update(re.findall(r"^Subject: number (\S+)\.$", file.read(4096), re.MULTILINE))
    assert found == Counter(name for sender in senders for name in sender.sent)
    # The restarts fell into sessions, else nothing was shown.
    assert sum(sender.told_to_come_back for sender in senders) >= CLIENTS
