"""The lines that say what became of each message."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from twisted.logger import globalLogPublisher
from zope.interface.verify import verifyObject

from lmtp_twisted import LMTPFactory, PermanentFailure, Reply, Settings
from lmtp_twisted.daemon.journal import TOGETHER, Journal
from lmtp_twisted.daemon.logs import Log, WrittenLog
from lmtp_twisted.daemon.ration import MOST, SECONDS, Ration
from lmtp_twisted.daemon.writer import LineWriter
from lmtp_twisted.interfaces import ISessionObserver
from lmtp_twisted.testing import Conversation, FakeReactor, ScriptedDeliveries, fake_spool


class ListedLog(Log):
    """Remembers what it was told."""

    def __init__(self, level: str) -> None:
        super().__init__(level)
        self.lines: list[str] = []

    def say(self, level: str, *bodies: str, seconds: float | None = None) -> None:
        self.lines += [f"{level} {body}" for body in bodies]


def _deliver(log: Log, deliveries: ScriptedDeliveries, *commands: str) -> Conversation:
    reactor = FakeReactor()
    journal = Journal(log, reactor, {None: "", deliveries: "scripted"}.__getitem__)
    factory = LMTPFactory(backend=deliveries, observers=[journal], reactor=reactor, spool=fake_spool(reactor))
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
    origin = "peer=192.168.1.1 from=<a@example.net>"
    assert [re.sub(r"seconds=\d+\.\d{3} ", "", line) for line in log.lines] == [
        f"info {ids[0]} {origin} to=<b@example.org> backend=scripted size=21 reply=554 5.2.2 no room",
        f"info {ids[1]} {origin} to=<c@example.org> backend=scripted size=21 reply=250 2.0.0 Delivered",
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
    assert log.lines.pop(0).endswith(" limit=received lines")
    assert [line.partition("reply=")[2][:9] for line in log.lines] == ["554 5.4.6", "554 5.4.6"]


def test_sessions_come_and_go_at_debug() -> None:
    log = ListedLog("debug")
    client = _deliver(log, ScriptedDeliveries())
    client.lose()
    session = client.protocol.session
    assert log.lines == [
        f"debug {session.id} session started, peer={session.peer_name}",
        f"debug {session.id} session ended, peer={session.peer_name}",
    ]


@pytest.mark.parametrize(("level", "count"), [("debug", 3), ("info", 1), ("warn", 0)])
def test_only_what_is_wanted_is_said(level: str, count: int) -> None:
    log = ListedLog(level)
    client = _deliver(log, ScriptedDeliveries(), "MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA")
    client.say(".")
    client.lose()
    assert len(log.lines) == count


def test_who_authenticated_is_said_at_debug() -> None:
    """A name is one line, whatever a realm or a trusted peer made of it."""
    log = ListedLog("debug")
    client = _connected(log, ScriptedDeliveries())
    client.say("XCLIENT LOGIN=b+C3+B6b+20x+3Dy+C2+ADx")
    session = client.protocol.session.id
    assert log.lines[1:] == [rf"debug {session} session authenticated, peer=192.168.1.1 user=böb x=y\xadx"]


def _connected(log: Log, deliveries: ScriptedDeliveries, reactor: FakeReactor | None = None) -> Conversation:
    reactor = reactor or FakeReactor()
    factory = LMTPFactory(
        backend=deliveries,
        observers=[Journal(log, reactor)],
        reactor=reactor,
        spool=fake_spool(reactor),
        settings=Settings(hostname="x", trusted=["0.0.0.0/0"], max_received=1),
    )
    return Conversation(factory)


def test_a_limit_that_was_reached_is_said() -> None:
    log = ListedLog("info")
    client = _connected(log, ScriptedDeliveries())
    client.say("GET / HTTP/1.1")
    assert log.lines == [f"info {client.protocol.session.id} limit reached, peer=192.168.1.1 limit=http"]


def test_who_was_refused_is_said_with_its_reply() -> None:
    log = ListedLog("info")
    refusing = ScriptedDeliveries({}, recipients={"b@example.org": PermanentFailure("no such user")})
    client = _connected(log, refusing)
    client.say("LHLO client", "XFORWARD IDENT=4ABC", "MAIL FROM:<>", "RCPT TO:<b@example.org>", "RCPT TO:<b", "RSET")
    client.say("MAIL FROM:<b> SIZE=x")
    session = client.protocol.session.id
    assert log.lines == [
        f"info {session} recipient refused, peer=192.168.1.1 queue=4ABC from=<> to=<b@example.org> "
        "reply=550 5.1.1 no such user",
        f"info {session} recipient refused, peer=192.168.1.1 queue=4ABC from=<> "
        "reply=501 5.1.3 An address stands in angle brackets",
        f"info {session} sender refused, peer=192.168.1.1 reply=501 5.5.4 Bad value of SIZE",
    ]


def test_no_value_looks_like_another_field() -> None:
    """Whoever wrote it: in text each is one word, but for the last."""
    log = ListedLog("info")
    client = _connected(log, ScriptedDeliveries())
    client.say("LHLO client", "XFORWARD IDENT=4A+20from+3D<c@d>", 'MAIL FROM:<"a> to=<x@y> "@b>')
    client.say('RCPT TO:<"size=1 \\" reply=250"@d>', "DATA")
    client.say("Message-ID: <a@b> size=2 \x1b[31m\u00e9", "", ".")
    (line,) = log.lines
    names = [word.partition("=")[0] for word in line.split(" ")[2:9]]
    assert names == ["peer", "queue", "message-id", "from", "to", "size", "seconds"]
    assert r" queue=4A\x20from=<c@d> message-id=<a@b>\x20size=2\x20?[31m\\x{E9} from=<" in line
    assert r' from=<"a>\x20to=<x@y>\x20"@b> to=<"size=1\x20\\"\x20reply=250"@d> ' in line


def test_a_flood_of_refusals_is_counted_and_not_written() -> None:
    """What anybody can cause without end must not fill the disk."""
    log = ListedLog("info")
    reactor = FakeReactor()
    client = _connected(log, ScriptedDeliveries(), reactor)
    seen: list[str] = []
    client.say("LHLO client", "MAIL FROM:<a@b>", *["RCPT TO:<@>"] * (MOST + 50))
    assert len(log.lines) == MOST
    globalLogPublisher.addObserver(observe := lambda event: seen.append(event["log_format"].format(**event)))
    try:
        reactor.advance(SECONDS)
        assert seen == ["50 refusals of the last 10 s were left out"]
        client.say("RCPT TO:<@>")
        assert len(log.lines) == MOST + 1
        assert not reactor.getDelayedCalls() or len(seen) == 1
    finally:
        globalLogPublisher.removeObserver(observe)


def test_what_was_left_out_is_said_when_the_server_stops() -> None:
    reactor = FakeReactor()
    told: list[int] = []
    ration = Ration(reactor, told.append)
    assert [ration.allows_one() for _ in range(MOST + 3)] == [True] * MOST + [False] * 3
    ration.close()
    ration.close()
    assert told == [3]
    assert not reactor.getDelayedCalls()


def test_records_of_many_messages_are_all_there(tmp_path: Path) -> None:
    """They are made some at a time, by two threads, and each once."""
    writer = LineWriter(str(tmp_path / "log"))
    log = WrittenLog("info", writer)
    writer.start()
    client = _connected(log, ScriptedDeliveries())
    client.say("LHLO client")
    for _ in range(10 * TOGETHER + 5):
        client.say("MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", ".")
    writer.stop()
    found = re.findall(r"\.(\d+)\.1 peer=", (tmp_path / "log").read_text())
    assert sorted(map(int, found)) == list(range(1, 10 * TOGETHER + 6))
