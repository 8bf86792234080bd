"""Each row of the table in docs/relay.rst is so: a relay in memory, between a client and a server with a script."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from failure_tables import rows
from scripted_server import ALL, LOST, TIMES, ScriptedServer

from lmtp_twisted import LMTPFactory, Settings
from lmtp_twisted.backends.relay import RelayBackend
from lmtp_twisted.client import ClientSettings, LMTPClient, Password, Security
from lmtp_twisted.testing import Conversation, FakeReactor, fake_spool

ROWS = rows("relay.rst", "failures of the relay")


class Relay:
    """A relay with one server."""

    def __init__(self, answers: dict[str, Any] | None = None, **settings: Any) -> None:
        self.clock = FakeReactor()
        self.server = ScriptedServer(self.clock, answers or {})
        self.backend = RelayBackend(["unix:/nobody"], hostname="mx.example", reactor=self.clock)
        chosen = ClientSettings(hostname="mx.example", timeouts=TIMES, **settings)
        self.backend.clients = [LMTPClient(self.server, chosen, self.clock)]
        self.factory = LMTPFactory(
            self.backend,
            settings=Settings(hostname="mx.example", bare_newlines="keep"),
            reactor=self.clock,
            spool=fake_spool(self.clock),
        )

    def settle(self, seconds: float = 0) -> None:
        """All that can happen then does."""
        self.clock.advance(seconds)
        for _ in range(60):
            self.clock.advance(0)

    def client(self) -> Conversation:
        """Somebody who has a message."""
        client = Conversation(self.factory)
        client.say("LHLO c")
        return client

    def send(self, content: str = "Subject: Hello", *, then: float = 0, stops: bool = False) -> list[str]:
        """A message for two: the code and the enhanced code of each final reply."""
        client = self.client()
        client.say("MAIL FROM:<s@y>", "RCPT TO:<a@x>", "RCPT TO:<b@x>", "DATA")
        found = client.say(*content.split("\n"), ".")
        self.settle(then)
        if stops:
            self.close()
        found += client.read()
        return [" ".join(line.split()[:2]) for line in found]

    def close(self) -> None:
        """It ends."""
        self.backend.close()
        self.settle()


def _loop() -> list[str]:
    relay = Relay({".": None})
    first = relay.client()
    first.say("MAIL FROM:<s@y>", "RCPT TO:<a@x>", "DATA")
    first.say("Subject: Hello", ".")
    relay.settle()
    (line,) = relay.server.lines
    received = line.content.decode().removesuffix("\r\n")
    assert received.startswith("Received: ")
    return relay.send(received.replace("\r\n", "\n"))


def _full() -> list[str]:
    relay = Relay({".": None}, max_connections=1, max_waiting=1)
    for _ in range(2):
        relay.send()
    (reply,) = relay.client().say("MAIL FROM:<s@y>")
    return [" ".join(reply.split()[:2])]


def _away() -> list[str]:
    relay = Relay()
    relay.server.is_down = True
    return [*relay.send(), *relay.send()]


PLAYED: dict[str, Callable[[], list[str]]] = {
    "a server refuses a recipient at RCPT": lambda: Relay({"RCPT": "550 5.1.1 No", "DATA": "503 5.5.1 No"}).send(),
    "a server refuses a recipient after the message": lambda: Relay({".": "452 4.2.2 Full\n452 4.2.2 Full"}).send(),
    "a server is away: for its recipients": _away,
    "a server is lost or silent before it has answered: for its recipients": lambda: [
        *Relay({".": LOST}).send(),
        *Relay({".": None}).send(then=TIMES.final),
    ],
    "a server ends the session (421): for its recipients": lambda: Relay({"MAIL": "421 4.3.2 Bye"}).send(),
    "a server does not do as LMTP says: for its recipients": lambda: Relay({"MAIL": "Hello!"}).send(),
    "TLS is wanted and not offered: for its recipients": lambda: Relay(security=Security.STARTTLS).send(),
    "a server refuses our login: for its recipients": lambda: Relay(
        {"LHLO": "250-x\n250 AUTH PLAIN", "AUTH": "535 5.7.8 No"}, credentials=Password("u", "p")
    ).send(),
    "the message is larger than a server takes: for its recipients": lambda: Relay(
        {"LHLO": f"{ALL[:-12]}250 SIZE 9"}
    ).send(),
    "the message is 8bit, and a server has no 8BITMIME: for its recipients": lambda: Relay({"LHLO": "250 x"}).send(
        "Subject: Hello\n\n\u00e9"
    ),
    "the message was here before": _loop,
    "a thousand messages wait for each server": _full,
    "the relay is stopped": lambda: Relay({".": None}).send(stops=True),
}


def test_every_row_is_played() -> None:
    """And there is nothing that no row says."""
    assert PLAYED.keys() == ROWS.keys()


@pytest.mark.parametrize("what", ROWS)
def test_a_row_of_the_table_of_the_relay_is_so(what: str) -> None:
    """For each recipient that it is about."""
    found = PLAYED[what]()
    assert found
    assert set(found) == {ROWS[what]}


def test_what_a_relay_is_not_told_to_do_is_an_error_at_its_start() -> None:
    """In one line."""
    clock = FakeReactor()
    for endpoints in ([], ["nonsense"], ["unix:/a", "unix:/a"]):
        with pytest.raises(ValueError, match=r"server|endpoint"):
            RelayBackend(endpoints, hostname="mx.example", reactor=clock)
