"""``--trace``: which dialogues are written, what they show, and what they hide."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import Portal
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from lmtp_twisted import PermanentFailure, Settings
from lmtp_twisted.daemon.tracing import dialogue as dialogue_module
from lmtp_twisted.daemon.tracing.choice import Choice
from lmtp_twisted.daemon.tracing.dialogue import BEGINNING, LATEST, Tracer
from lmtp_twisted.daemon.tracing.files import TraceFiles
from lmtp_twisted.daemon.tracing.sessions import TracedProtocol, TracingFactory
from lmtp_twisted.testing import Conversation, FakePool, FakeReactor, ScriptedDeliveries, fake_spool

LOCAL = UNIXAddress(b"/run/lmtp.sock")


class Traced:
    """A server whose sessions are traced, and what was written of them."""

    def __init__(self, directory: Path, *choice: str, content: int = 500, **options: Any) -> None:
        self.directory = directory
        self.reactor = FakeReactor()
        files = TraceFiles(str(directory), 1 << 20, self.reactor, FakePool())
        self.tracer = Tracer(Choice.of(choice), files, self.reactor, content)
        backend = options.pop("backend", None) or ScriptedDeliveries()
        portal = options.pop("portal", None)
        self.factory = TracingFactory(
            backend,
            settings=Settings(hostname="mx", **options),
            portal=portal,
            reactor=self.reactor,
            spool=fake_spool(self.reactor),
            tracer=self.tracer,
        )

    def client(self, peer: Any = None) -> Conversation:
        """One that has connected."""
        return Conversation(self.factory, peer)

    def text(self) -> str:
        """All that was written."""
        return "".join(path.read_text() for path in sorted(self.directory.iterdir()))

    def said(self) -> list[str]:
        """The lines without their times and without the first."""
        return [line[9:] for line in self.text().splitlines()[1:]]


@pytest.fixture
def traced(tmp_path: Path) -> Callable[..., Traced]:
    """Makes a server."""
    return lambda *choice, **options: Traced(tmp_path, *choice, **options)


def _deliver(client: Conversation, *recipients: str, content: str = "Subject: x\r\n\r\nhello\r\n") -> None:
    client.say("LHLO client", "MAIL FROM:<a@example.net>", *(f"RCPT TO:<{name}>" for name in recipients), "DATA")
    client.send(f"{content}.\r\n".encode())


# What is chosen


def test_all_sessions(traced: Callable[..., Traced]) -> None:
    server = traced("all")
    server.client().lose()
    assert "S: 220 mx LMTP ready\n" in server.text()


@pytest.mark.parametrize(("peer", "is_chosen"), [("192.0.2.7", True), ("198.51.100.1", False)])
def test_sessions_of_a_network(traced: Callable[..., Traced], peer: str, is_chosen: bool) -> None:
    server = traced("peer=192.0.2.0/24")
    client = server.client(IPv4Address("TCP", peer, 1))
    _deliver(client, "b@example.org")
    client.lose()
    assert bool(server.text()) is is_chosen


def test_others_are_not_even_listened_to(traced: Callable[..., Traced]) -> None:
    """Where only peers are chosen, other sessions are of the usual class."""
    server = traced("peer=192.0.2.0/24")
    assert type(server.factory.buildProtocol(IPv4Address("TCP", "198.51.100.1", 1))) is not TracedProtocol
    assert type(server.factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1))) is TracedProtocol


def test_sessions_of_unix_sockets(traced: Callable[..., Traced]) -> None:
    server = traced("peer=unix")
    server.client(LOCAL).lose()
    assert ", peer unix, chosen for its peer\n" in server.text()


def test_peers_that_xclient_names(traced: Callable[..., Traced]) -> None:
    """With what was said before."""
    server = traced("peer=192.0.2.0/24", trusted=["198.51.100.1"])
    client = server.client(IPv4Address("TCP", "198.51.100.1", 1))
    assert not server.text()
    client.say("XCLIENT ADDR=192.0.2.9")
    assert server.said()[:3] == [
        "S: 220 mx LMTP ready",
        "C: XCLIENT ADDR=192.0.2.9",
        "-- the client is 192.0.2.9",
    ]
    client.lose()


@pytest.mark.parametrize(
    ("recipient", "is_chosen"), [("B@Example.ORG", True), ("b@example.com", False), ("refused@example.org", True)]
)
def test_sessions_with_a_recipient(traced: Callable[..., Traced], recipient: str, is_chosen: bool) -> None:
    """As routes match them; from the beginning, though it is known late."""
    refusing = ScriptedDeliveries(recipients={"refused@example.org": PermanentFailure("no")})
    server = traced("recipient=*@example.org", backend=refusing)
    client = server.client()
    _deliver(client, recipient)
    client.lose()
    assert bool(server.text()) is is_chosen
    if is_chosen:
        assert server.said()[0] == "S: 220 mx LMTP ready"
        assert server.said()[-1] == "-- the client has closed the connection"


def test_sessions_in_which_something_fails(traced: Callable[..., Traced]) -> None:
    failing = ScriptedDeliveries({"full@example.org": PermanentFailure("full", enhanced="5.2.2")})
    server = traced("failure", backend=failing)
    client = server.client()
    _deliver(client, "b@example.org")
    assert not server.text()
    _deliver(client, "full@example.org")
    said = server.said()
    assert said[0] == "S: 220 mx LMTP ready"
    assert re.fullmatch(r"S: 554 5\.2\.2 <full@example\.org> \S+ full", said[-1])
    client.say("NOOP")
    assert server.said()[-2:] == ["C: NOOP", "S: 250 2.0.0 OK"]
    client.lose()


def test_a_session_that_ends_as_it_should_has_not_failed(traced: Callable[..., Traced]) -> None:
    """A 421 for silence ends each connection that a mail server keeps."""
    server = traced("failure", idle_timeout=10)
    client = server.client()
    _deliver(client, "b@example.org")
    client.say("QUIT")
    client.lose()
    silent = server.client()
    server.reactor.advance(11)
    assert silent.is_closed
    silent.lose()
    assert not server.text()
    assert server.tracer.in_memory == 0


def test_a_session_that_breaks_off_has_failed(traced: Callable[..., Traced]) -> None:
    server = traced("failure")
    client = server.client()
    client.say("LHLO client", "MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", "Subject: half")
    client.protocol.connectionLost(Failure(ConnectionLost()))
    assert server.said()[-2:] == [
        "C: Subject: half",
        "-- the connection is lost: Connection to the other side was lost in a non-clean fashion.",
    ]


@pytest.mark.parametrize("text", ["", "peer", "peer=x", "recipient=", "failures", "all=1", "recipient=a b"])
def test_what_is_no_choice(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        Choice.of([text])


# What is shown


def test_a_dialogue_is_readable_as_it_is(traced: Callable[..., Traced]) -> None:
    """With the times of all that was said: early replies are seen to be early."""
    slow: Deferred[None] = Deferred()
    server = traced("all", backend=ScriptedDeliveries({"slow@example.org": slow}))
    client = server.client()
    server.reactor.advance(0.25)
    _deliver(client, "b@example.org", "slow@example.org", content="Subject: x\r\n\r\n..hello\r\n")
    server.reactor.advance(1.5)
    slow.callback(None)
    client.say("QUIT")
    client.lose()
    session = client.protocol.session.id
    text = re.sub(r"(?m)^(.{8} S: 250)-.*\n", "", server.text())
    head, *lines = text.splitlines()
    assert re.fullmatch(rf"-- \d{{4}}-\S+, session {session}, peer 192\.168\.1\.1, chosen for one of all", head)
    assert lines == [
        "   0.000 S: 220 mx LMTP ready",
        "   0.250 C: LHLO client",
        "   0.250 C: MAIL FROM:<a@example.net>",
        "   0.250 C: RCPT TO:<b@example.org>",
        "   0.250 C: RCPT TO:<slow@example.org>",
        "   0.250 C: DATA",
        "   0.250 S: 250 LIMITS RCPTMAX=1000",
        "   0.250 S: 250 2.1.0 Sender OK",
        "   0.250 S: 250 2.1.5 Recipient OK",
        "   0.250 S: 250 2.1.5 Recipient OK",
        "   0.250 S: 354 End data with <CR><LF>.<CR><LF>",
        "   0.250 C: Subject: x",
        "   0.250 C: ",
        "   0.250 C: ..hello",
        "   0.250 C: .",
        f"   0.250 S: 250 2.0.0 <b@example.org> {session}.1.1 Delivered",
        f"   1.750 S: 250 2.0.0 <slow@example.org> {session}.1.2 Delivered",
        "   1.750 C: QUIT",
        "   1.750 S: 221 2.0.0 Bye",
        "   1.750 -- the connection is closed",
    ]
    (path,) = server.directory.iterdir()
    assert path.name == f"{session}.trace"
    assert path.stat().st_mode & 0o777 == 0o600


def test_content_is_cut_with_a_note_of_how_much(traced: Callable[..., Traced]) -> None:
    server = traced("all", content=14)
    client = server.client()
    _deliver(client, "b@example.org", content="Subject: x\r\n\r\n" + "hello\r\n" * 1000)
    said = server.said()
    at = said.index("C: Subject: x")
    assert said[at : at + 3] == ["C: Subject: x", "C: ", "C: (7,003 octets more of content not shown)"]
    client.lose()


def test_chunks_too(traced: Callable[..., Traced]) -> None:
    """RFC 3030; the octets of all chunks of a message count together."""
    server = traced("all", content=6)
    client = server.client()
    client.say("LHLO client", "MAIL FROM:<a@b>", "RCPT TO:<c@d>")
    client.send(b"BDAT 5\r\na\r\nb\n")
    client.send(b"BDAT 4 LAST\r\nwxyzNOOP\r\n")
    said = server.said()
    at = said.index("C: BDAT 5")
    assert [line for line in said[at:] if line[0] == "C"] == [
        "C: BDAT 5",
        "C: a",
        "C: b",
        "C: BDAT 4 LAST",
        "C: w",
        "C: (3 octets more of content not shown)",
        "C: NOOP",
    ]
    client.lose()


def test_without_content_there_is_only_its_size(traced: Callable[..., Traced]) -> None:
    server = traced("all", content=0)
    client = server.client()
    _deliver(client, "b@example.org", content="Subject: secret\r\n\r\n")
    assert "secret" not in server.text()
    assert "C: (22 octets more of content not shown)" in server.said()
    client.lose()


def test_control_characters_are_escaped(traced: Callable[..., Traced]) -> None:
    """Nothing that a client sends begins a line, moves a cursor or changes a direction."""
    server = traced("all")
    client = server.client()
    client.send(b"NOOP \x1b[2J\x00\x7f\xff \xe2\x80\xae\xc3\xab\r\nNOOP\rS: 250 forged\r\nNOOP\n")
    said = server.said()
    assert r"C: NOOP \x1b[2J\x00\x7f\xff " + "\\u202eë" in said
    assert r"C: NOOP\rS: 250 forged" not in said
    assert r"C: NOOP\n" in said
    assert all(line.isprintable() for line in said)
    client.lose()


def test_a_long_line_is_cut(traced: Callable[..., Traced]) -> None:
    server = traced("all")
    client = server.client()
    client.send(b"RCPT TO:<" + b"x" * 5000 + b">\r\n" + b"MAIL FROM:<" + b"y" * 20_000 + b">\r\n")
    assert max(map(len, server.said())) < 2100
    assert "-- a line was too long" in server.said()
    client.lose()


def test_it_says_that_the_client_does_not_read_and_that_it_half_closes(traced: Callable[..., Traced]) -> None:
    server = traced("all")
    client = server.client()
    client.protocol.pauseProducing()
    client.protocol.resumeProducing()
    client.half_close()
    client.lose()
    assert server.said()[1:] == [
        "-- the client does not read its replies",
        "-- the client will say nothing more",
        "-- the connection is closed",
    ]


# What is hidden


def _portal() -> Portal:
    class Realm:
        def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
            return interfaces[0], ScriptedDeliveries(), lambda: None

    return Portal(Realm(), [InMemoryUsernamePasswordDatabaseDontUse(alice=b"secret")])


SECRET = "AGFsaWNlAHNlY3JldA=="
WRONG = "AGFsaWNlAHdyb25n"


@pytest.mark.parametrize(
    "lines",
    [
        [f"AUTH PLAIN {SECRET}"],
        [f"auth plain {SECRET}"],
        ["AUTH PLAIN", SECRET],
        ["AUTH LOGIN YWxpY2U=", "c2VjcmV0"],
        ["AUTH LOGIN", "YWxpY2U=", "c2VjcmV0"],
        ["AUTH CRAM-MD5", "YWxpY2UgMDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="],
        [f"AUTH PLAIN {WRONG}", f"AUTH PLAIN {WRONG}"],
        [f"AUTH {SECRET}", SECRET],
        [f"AUTH FOO {SECRET}", SECRET],
        [f" AUTH PLAIN {SECRET}", SECRET],
        [f"AUTH\tPLAIN {SECRET}", SECRET],
        [f"AUTHPLAIN {SECRET}"],
        [f"AUTH PLAIN\t{SECRET}"],
        ["AUTH PLAIN", "*", SECRET],
        [f"AUTH PLAIN {SECRET}x", SECRET],
        [f"AUTH PLAIN {SECRET}", f"AUTH PLAIN {SECRET}", SECRET],
        ["AUTH PLAIN", SECRET + "A" * 13_000],
        ["AUTH PLAIN " + SECRET + "A" * 13_000],
        [f"PASS {SECRET}", f"LOGIN alice {SECRET}", SECRET],
        [f"XCLIENT LOGIN={SECRET.rstrip('=')}", f"xclient NAME=x login={SECRET.rstrip('=')}"],
    ],
)
@pytest.mark.parametrize("max_commands", [0, 100])
def test_no_secret_is_shown(traced: Callable[..., Traced], lines: list[str], max_commands: int) -> None:
    """Neither a password, however it is said, nor what it is answered to."""
    server = traced("all", portal=_portal(), trusted=["unix"], max_commands=max_commands)
    client = server.client(LOCAL)
    client.say("LHLO client", *lines, "NOOP")
    server.reactor.pump([1] * 10)
    client.lose()
    words = {word for line in lines for word in re.findall(r"[A-Za-z0-9+/]{8,}", line) if word not in _SAID}
    shown = server.text()
    assert words
    for word in words:
        assert word[:8] not in shown
    assert "PDE" not in shown
    assert "not shown" in shown or "a line was too long" in shown


_SAID = {"AUTHPLAIN"}


def test_behind_auth_commands_are_shown_again(traced: Callable[..., Traced]) -> None:
    server = traced("all", portal=_portal(), trusted=["unix"])
    client = server.client(LOCAL)
    client.say("LHLO client", "AUTH LOGIN", "YWxpY2U=", "c2VjcmV0", "NOOP")
    assert [line for line in server.said() if "S: 250" not in line][2:] == [
        "C: AUTH LOGIN",
        "C: (8 octets not shown)",
        "C: (8 octets not shown)",
        "C: NOOP",
        "S: 334 (12 octets not shown)",
        "S: 334 (12 octets not shown)",
        "S: 235 2.7.0 Authenticated",
    ]
    client.lose()


# What is kept in memory


def test_of_a_long_dialogue_the_beginning_and_the_end_are_kept(traced: Callable[..., Traced]) -> None:
    server = traced("failure")
    client = server.client()
    for _ in range(2000):
        client.say("NOOP")
    assert server.tracer.in_memory <= BEGINNING + LATEST
    client.say("FOO")
    said = server.said()
    assert said[0] == "S: 220 mx LMTP ready"
    assert said[-2:] == ["C: FOO", "S: 500 5.5.2 Command not recognised"]
    (gap,) = re.findall(r"-- ([0-9]+) lines were not kept", server.text())
    assert len(said) + int(gap) == 4004
    assert server.tracer.in_memory == 0
    client.lose()


def test_all_dialogues_together_have_a_bound(traced: Callable[..., Traced], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialogue_module, "MOST_IN_MEMORY", 50_000)
    server = traced("failure")
    clients = [server.client() for _ in range(20)]
    for _ in range(20):
        for client in clients:
            client.say("NOOP", "RSET")
            assert server.tracer.in_memory <= 50_000
    for client in clients:
        client.lose()
    assert server.tracer.in_memory == 0
