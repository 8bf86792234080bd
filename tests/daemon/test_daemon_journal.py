"""The lines that say what became of each message."""

from __future__ import annotations

import re

import pytest
from zope.interface.verify import verifyObject

from lmtp_twisted import LMTPFactory, PermanentFailure, Reply, Settings
from lmtp_twisted.daemon.journal import Journal
from lmtp_twisted.daemon.logs import Log
from lmtp_twisted.interfaces import ISessionObserver
from lmtp_twisted.testing import Conversation, FakeReactor, ScriptedDeliveries, fake_spool


class ListedLog(Log):
    """Remembers what it was told."""

    def __init__(self, level: str) -> None:
        super().__init__(level)
        self.lines: list[str] = []

    def say(self, level: str, *bodies: str) -> None:
        self.lines += [f"{level} {body}" for body in bodies]


def _deliver(log: Log, deliveries: ScriptedDeliveries, *commands: str) -> Conversation:
    reactor = FakeReactor()
    factory = LMTPFactory(backend=deliveries, observers=[Journal(log, reactor)], reactor=reactor, spool=fake_spool(reactor))
    client = Conversation(factory)
    client.say("LHLO client", *commands)
    return client


def test_it_is_an_observer_of_sessions() -> None:
    verifyObject(ISessionObserver, Journal(Log("info"), FakeReactor()))


def test_each_final_reply_is_a_line_that_has_its_id() -> None:
    log = ListedLog("info")
    deliveries = ScriptedDeliveries({"b@example.org": PermanentFailure("no room", enhanced="5.2.2")})
    client = _deliver(
        log, deliveries, "MAIL FROM:<a@example.net>", "RCPT TO:<b@example.org>", "RCPT TO:<c@example.org>"
    )
    client.say("DATA")
    refused, delivered = client.say("Subject: x", "", "hello", ".")
    ids = [re.search(r"> (\S+) ", reply)[1] for reply in (refused, delivered)]  # type: ignore[index]
    assert [re.sub(r"seconds=\d+\.\d{3} ", "", line) for line in log.lines] == [
        f"info {ids[0]} from=<a@example.net> to=<b@example.org> size=21 reply=554 5.2.2 no room",
        f"info {ids[1]} from=<a@example.net> to=<c@example.org> size=21 reply=250 2.0.0 Delivered",
    ]


def test_the_seconds_are_those_of_the_delivery() -> None:
    log = ListedLog("info")
    reactor = FakeReactor()

    def deliver(message: object) -> list[None]:
        reactor.advance(1.25)
        return [None]

    factory = LMTPFactory(
        backend=ScriptedDeliveries(deliver=deliver),
        observers=[Journal(log, reactor)],
        reactor=reactor,
        spool=fake_spool(reactor),
    )
    client = Conversation(factory)
    client.say("LHLO client", "MAIL FROM:<>", "RCPT TO:<b@example.org>", "DATA")
    client.say(".")
    (line,) = log.lines
    assert " from=<> " in line
    assert " size=0 seconds=1.250 " in line


def test_a_recipient_given_twice_has_two_lines() -> None:
    """As it has two replies (RFC 2033 §4.2)."""
    log = ListedLog("info")
    client = _deliver(log, ScriptedDeliveries(), "MAIL FROM:<a@b>", "RCPT TO:<c@d>", "RCPT TO:<c@d>", "DATA")
    client.say(".")
    assert [line.split()[1][-4:] for line in log.lines] == [".1.1", ".1.2"]


def test_non_ascii_addresses_are_readable_and_what_a_handler_says_cannot_begin_a_line() -> None:
    log = ListedLog("info")
    deliveries = ScriptedDeliveries({"zoë@example.org": Reply(450, "4.2.0", "not\r\ninfo now\u2028ü")})
    client = _deliver(log, deliveries, "MAIL FROM:<a@b> SMTPUTF8", "RCPT TO:<zoë@example.org>", "DATA")
    client.say(".")
    (line,) = log.lines
    assert " to=<zoë@example.org> " in line
    assert line.endswith(r" reply=450 4.2.0 not info now\x{2028}\x{FC}")
    assert line.isprintable()


@pytest.mark.parametrize("commands", [("RSET",), ("QUIT",)])
def test_a_message_that_was_given_up_has_no_line(commands: tuple[str, ...]) -> None:
    log = ListedLog("info")
    _deliver(log, ScriptedDeliveries(), "MAIL FROM:<a@b>", "RCPT TO:<c@d>", *commands)
    assert log.lines == []


def test_a_message_that_was_too_large_has_a_line_for_each_recipient() -> None:
    log = ListedLog("info")
    client = _deliver(log, ScriptedDeliveries(), "MAIL FROM:<a@b>", "RCPT TO:<c@d>", "RCPT TO:<e@f>", "DATA")
    client.send(b"Received: x\r\n" * 101 + b"\r\n.\r\n")
    assert [line.partition("reply=")[2][:9] for line in log.lines] == ["554 5.4.6", "554 5.4.6"]


def test_sessions_come_and_go_at_debug() -> None:
    log = ListedLog("debug")
    client = _deliver(log, ScriptedDeliveries())
    client.lose()
    session = client.protocol.session
    assert log.lines == [
        f"debug {session.id} session started, peer={session.peer_name}",
        f"debug {session.id} session ended",
    ]


@pytest.mark.parametrize(("level", "count"), [("debug", 3), ("info", 1), ("warn", 0)])
def test_only_what_is_wanted_is_said(level: str, count: int) -> None:
    log = ListedLog(level)
    client = _deliver(log, ScriptedDeliveries(), "MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA")
    client.say(".")
    client.lose()
    assert len(log.lines) == count


def test_who_authenticated_and_what_limit_was_reached_is_said_at_debug() -> None:
    """A name is one line, whatever a realm or a trusted peer made of it."""
    for level in ("debug", "info"):
        log = ListedLog(level)
        reactor = FakeReactor()
        factory = LMTPFactory(
            backend=ScriptedDeliveries(),
            observers=[Journal(log, reactor)],
            reactor=reactor,
            spool=fake_spool(reactor),
            settings=Settings(hostname="x", trusted=["0.0.0.0/0"]),
        )
        client = Conversation(factory)
        client.say("XCLIENT LOGIN=b+C3+B6b+C2+ADx", "GET / HTTP/1.1")
        session = client.protocol.session.id
        assert log.lines == (
            [
                f"debug {session} session started, peer=192.168.1.1",
                rf"debug {session} session authenticated, user=böb\xadx",
                f"debug {session} limit reached: http",
            ]
            if level == "debug"
            else []
        )
