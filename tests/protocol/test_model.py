"""
Random sessions against a small model: one reply for each command, one for each accepted recipient after a content, in
order, with the codes that follow from the state, however the octets are cut and whenever the application answers.
"""

from __future__ import annotations

import re
from typing import Any

import attrs
from dialogue import Client, LoggedErrors, greeted, server, stuffed
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from lmtp_twisted import PermanentFailure, Reply, TemporaryFailure
from lmtp_twisted.testing import FakeReactor, ScriptedDeliveries, fake_spool

LIMIT = 300
MOST_RECIPIENTS = 5
MOST_BAD = 4

#: How a sender, recipient or delivery may turn out: what the application gives, and the code it becomes.
VERDICTS: dict[str, tuple[Any, int]] = {
    "none": (None, 250),
    "true": (True, 250),
    "text": ("with words", 250),
    "reply": (Reply(250, "2.1.0", "as it is"), 250),
    "permanent": (PermanentFailure("no", code=552, enhanced="5.2.2"), 552),
    "temporary": (TemporaryFailure("later", code=450), 450),
    "wrong": (7, 451),
    "closing": (Reply(421), 451),
    "exception": (ZeroDivisionError(), 451),
}


@attrs.frozen
class Command:
    """One step of a client: what it says, and what of the model it concerns."""

    kind: str
    argument: Any = None


@attrs.define
class Model:
    """
    What the RFCs say of the state of a session (RFC 2033 §4, RFC 5321 §4.1.4, RFC 3030 §2), and nothing else.

    :ivar verdicts: by recipient: the verdict on RCPT and the outcome after the content.
    :ivar expected: the codes of all replies so far.
    :ivar contents: what was delivered so far.
    """

    verdicts: dict[str, tuple[str, str]]
    hello: bool = False
    sender: bool = False
    recipients: list[str] = attrs.field(factory=list)
    chunks: bytes | None = None
    chunk_failed: bool = False
    bad: int = 0
    closed: bool = False
    expected: list[int] = attrs.field(factory=list)
    contents: list[bytes] = attrs.field(factory=list)

    def say(self, command: Command) -> bytes:
        """The octets with which the command is said. The model goes on."""
        if self.closed:
            return b"NOOP\r\n"
        octets: bytes = getattr(self, f"say_{command.kind}")(command.argument)
        return octets

    def _answer(self, code: int) -> None:
        self.expected.append(code)
        if code // 100 == 2 or code == 354:
            self.bad = 0

    def _answer_bad(self, code: int) -> None:
        self.expected.append(code)
        self.bad += 1
        if self.bad >= MOST_BAD:
            self.expected.append(421)
            self.closed = True

    def _forget(self) -> None:
        self.sender, self.recipients, self.chunks, self.chunk_failed = False, [], None, False

    def say_hello(self, name: str) -> bytes:
        self.hello = True
        self._forget()
        self._answer(250)
        return f"LHLO {name}\r\n".encode()

    def say_simple(self, line_and_code: tuple[bytes, int]) -> bytes:
        line, code = line_and_code
        self._answer(code)
        return line + b"\r\n"

    def say_bad(self, line_and_code: tuple[bytes, int]) -> bytes:
        line, code = line_and_code
        self._answer_bad(code)
        return line + b"\r\n"

    def say_reset(self, _: None) -> bytes:
        self._forget()
        self._answer(250)
        return b"RSET\r\n"

    def say_mail(self, argument: tuple[str, str]) -> bytes:
        path, verdict = argument
        if not self.hello or self.sender:
            self._answer(503)
        elif path == "bad":
            self._answer(501)
        elif path == "none":
            self._answer_bad(501)
        elif path == "large":
            self._answer(552)
        else:
            code = VERDICTS[verdict][1]
            self._answer(code)
            self.sender = code == 250
        paths = {"none": b"", "bad": b"<a..b@x>", "large": b"<a@x> SIZE=%d" % (LIMIT + 1), "null": b"<>"}
        return b"MAIL FROM:%b\r\n" % paths.get(path, b"<%b@x>" % verdict.encode())

    def say_rcpt(self, name: str) -> bytes:
        if not self.sender or self.chunks is not None:
            self._answer(503)
        elif name == "bad":
            self._answer(501)
        elif len(self.recipients) >= MOST_RECIPIENTS:
            self._answer(452)
        else:
            code = VERDICTS[self.verdicts[name][0]][1]
            self._answer(code)
            if code == 250:
                self.recipients.append(name)
        return b"RCPT TO:<>\r\n" if name == "bad" else f"RCPT TO:<{name}@x>\r\n".encode()

    def say_data(self, content: bytes) -> bytes:
        if not self.recipients or self.chunks is not None:
            self._answer(503)
            return b"DATA\r\n"
        self._answer(354)
        if not content.endswith(b"\r\n") and content:
            content += b"\r\n"
        self._complete(content, failed=len(content) > LIMIT)
        return b"DATA\r\n" + stuffed(content) + b".\r\n"

    def say_bdat(self, argument: tuple[bytes, bool]) -> bytes:
        content, last = argument
        if not self.hello or not self.sender:
            self._answer(503)
        elif not self.recipients:
            if last:
                self._forget()
            else:
                # What it brought is lost: no recipient can join for the rest.
                self.chunks = b""
                self._answer(503)
        else:
            self.chunks = (self.chunks or b"") + content
            self.chunk_failed = self.chunk_failed or len(self.chunks) > LIMIT
            if last:
                self._complete(self.chunks, self.chunk_failed)
            else:
                self._answer(552 if self.chunk_failed else 250)
        return b"BDAT %d%b\r\n%b" % (len(content), b" LAST" if last else b"", content)

    def _complete(self, content: bytes, failed: bool) -> None:
        if not failed:
            self.contents.append(content)
        for name in self.recipients:
            code = 552 if failed else VERDICTS[self.verdicts[name][1]][1]
            self.expected.append(code)
        self._forget()


NAMES = ("a", "b", "c", "d")
CONTENTS = st.one_of(
    st.binary(max_size=40),
    st.lists(st.sampled_from([b".", b"\r\n", b"\r", b"\n", b"..", b"x", b"QUIT", b"\x00"]), max_size=20).map(b"".join),
    st.just(b"x" * (LIMIT + 1)),
    st.just(b"Subject: x\r\n\r\n.\r\nRSET\r\n"),
)
HELLO = st.builds(Command, st.just("hello"), st.sampled_from(["c", "client.example", "[192.0.2.1]"]))
MAIL = st.builds(
    Command,
    st.just("mail"),
    st.tuples(st.sampled_from(["good", "good", "null", "bad", "large", "none"]), st.sampled_from(list(VERDICTS))),
).map(lambda command: Command("mail", ("null", "none")) if command.argument[0] == "null" else command)
RCPT = st.builds(Command, st.just("rcpt"), st.sampled_from([*NAMES, *NAMES, "bad"]))
DATA = st.builds(Command, st.just("data"), CONTENTS)
BDAT = st.builds(Command, st.just("bdat"), st.tuples(CONTENTS, st.booleans()))
RESET = st.just(Command("reset"))
SIMPLE = st.builds(
    Command,
    st.just("simple"),
    st.sampled_from([(b"NOOP", 250), (b"noop x", 250), (b"VRFY a", 252), (b"EXPN a", 502), (b"HELP", 214)]),
)
BAD = st.builds(
    Command,
    st.just("bad"),
    st.sampled_from(
        [
            (b"XYZZY", 500),
            (b"", 500),
            (b"EHLO c", 500),
            (b"LHLO", 501),
            (b"RSET x", 501),
            (b"QUIT x", 501),
            (b"VRFY", 501),
            (b"NOOP " + b"x" * 600, 500),
            (b"MAIL FROM:<" + b"QUIT\r" * 3000 + b">", 500),
        ]
    ),
)
ANY = st.one_of(HELLO, MAIL, RCPT, DATA, BDAT, RESET, SIMPLE, BAD)
GOOD_MAIL = st.just(Command("mail", ("good", "none")))
TRANSACTION = st.tuples(
    GOOD_MAIL,
    st.lists(st.one_of(RCPT, RCPT, RCPT, SIMPLE), max_size=7),
    st.lists(BDAT, max_size=4),
    st.one_of(DATA, BDAT, RESET),
).map(lambda parts: [parts[0], *parts[1], *parts[2], parts[3]])
SESSIONS = st.lists(st.one_of(ANY.map(lambda command: [command]), TRANSACTION, TRANSACTION), max_size=8).map(
    lambda parts: [command for part in parts for command in part]
)
RANDOM = st.randoms(use_true_random=False)


class Application:
    """
    Deliveries that answer as the verdicts say, at once or when they are told.

    :param verdicts: by recipient, as the model has them.
    :param random: decides which answers come at once.
    """

    def __init__(self, verdicts: dict[str, tuple[str, str]], random: Any) -> None:
        self._verdicts = verdicts
        self._random = random
        self.waiting: list[tuple[Deferred[Any], Any]] = []
        self.deliveries = ScriptedDeliveries(deliver=self._deliver)
        self.deliveries.validateFrom = lambda sender: self._give(str(sender)[:-2] or "none")  # type: ignore[method-assign]
        self.deliveries.validateTo = lambda recipient: self._give(verdicts[str(recipient)[0]][0])  # type: ignore[method-assign]

    def _give(self, verdict: str) -> Any:
        value = VERDICTS[verdict][0]
        if self._random.random() < 0.5:
            self.waiting.append((Deferred(), value))
            return self.waiting[-1][0]
        if isinstance(value, Exception):
            raise value
        return value

    def _deliver(self, message: Any) -> Any:
        def outcome(recipient: Any) -> Any:
            try:
                return self._give(self._verdicts[str(recipient)[0]][1])
            except Exception as error:
                failed: Deferred[Any] = Deferred()
                failed.errback(error)
                return failed

        outcomes = [outcome(recipient) for recipient in message.recipients]
        if self._random.random() < 0.3:
            self.waiting.append((Deferred(), outcomes))
            return self.waiting[-1][0]
        return outcomes

    def answer(self) -> None:
        """Give one of the answers that are waited for."""
        deferred, value = self.waiting.pop(self._random.randrange(len(self.waiting)))
        if isinstance(value, Exception):
            deferred.errback(value)
        else:
            deferred.callback(value)


def _codes(lines: list[str]) -> list[int]:
    return [int(line[:3]) for line in lines if line[3] == " "]


def _play(client: Client, application: Application, octets: bytes, random: Any) -> list[str]:
    """Send the octets in random segments, and let the application answer in between. Returns the replies."""
    lines: list[str] = []
    at = 0
    while at < len(octets):
        size = random.choice([1, 1, 2, 3, 10, 100, 5000])
        lines += client.send(octets[at : at + size])
        at += size
        while application.waiting and random.random() < 0.2:
            application.answer()
            lines += client.read()
    while application.waiting:
        application.answer()
        lines += client.read()
    return lines


def _verdicts_of(random: Any) -> dict[str, tuple[str, str]]:
    likely = ["none", "none", "none", "text", *VERDICTS]
    return {name: (random.choice(likely), random.choice(list(VERDICTS))) for name in NAMES}


@given(SESSIONS, RANDOM)
@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_each_command_has_one_reply_and_each_message_one_for_each_recipient(
    logged: LoggedErrors, commands: list[Command], random: Any
) -> None:
    """RFC 2033 §4.2, RFC 5321 §4.1.4, RFC 2920 §3.2."""
    verdicts = _verdicts_of(random)
    model = Model(verdicts)
    octets = b"".join(model.say(command) for command in commands)
    application = Application(verdicts, random)
    reactor = FakeReactor()
    factory = server(
        application.deliveries,
        reactor=reactor,
        spool=fake_spool(reactor, threshold=random.choice([50, 10**6])),
        size_limit=LIMIT,
        drain_factor=1000,
        max_recipients=MOST_RECIPIENTS,
        max_bad_commands=MOST_BAD,
    )
    client = Client(factory)
    lines = _play(client, application, octets, random)
    logged.take()
    assert _codes(lines) == model.expected
    assert client.is_closed == model.closed
    assert [message.read() for message in application.deliveries.messages] == model.contents
    client.lose()
    assert factory.spool.used == 0
    assert reactor.getDelayedCalls() == []


@given(st.lists(st.sampled_from(NAMES), min_size=1, max_size=12), RANDOM)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_the_final_replies_are_in_the_order_of_the_recipients_and_as_early_as_may_be(
    logged: LoggedErrors, recipients: list[str], random: Any
) -> None:
    """RFC 2033 §4.2: after each outcome, all replies are there up to the first recipient without one."""
    waiting: dict[str, tuple[Deferred[Any], str]] = {}

    def deliver(message: Any) -> list[Deferred[Any]]:
        for recipient in message.recipients:
            waiting[str(recipient)[0]] = (Deferred(), random.choice(list(VERDICTS)))
        return [waiting[str(recipient)[0]][0] for recipient in message.recipients]

    client = greeted(ScriptedDeliveries(deliver=deliver))
    client.say("MAIL FROM:<s@x>", *(f"RCPT TO:<{name}@x>" for name in recipients))
    lines = client.content()
    codes = {name: VERDICTS[verdict][1] for name, (_, verdict) in waiting.items()}
    assert lines == []
    pending = list(waiting)
    random.shuffle(pending)
    while pending:
        deferred, verdict = waiting[pending.pop()]
        value = VERDICTS[verdict][0]
        if isinstance(value, Exception):
            deferred.errback(value)
        else:
            deferred.callback(value)
        lines += client.read()
        first_open = next((place for place, name in enumerate(recipients) if name in pending), len(recipients))
        assert _codes(lines) == [codes[name] for name in recipients[:first_open]]
    logged.take()
    for line, name in zip(lines, recipients, strict=True):
        named = re.search("<(.)@x>", line)
        assert named is not None
        assert named[1] == name
    client.lose()


@given(st.binary(max_size=300), st.lists(st.integers(1, 50), max_size=30), st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_octets_are_delivered_as_they_are(content: bytes, sizes: list[int], chunked: bool) -> None:
    """RFC 5321 §4.5.2, RFC 3030 §2."""
    deliveries = ScriptedDeliveries()
    client = greeted(deliveries)
    client.say("MAIL FROM:<a@x>", "RCPT TO:<b@x>")
    if chunked:
        octets = b"BDAT %d LAST\r\n%b" % (len(content), content)
    else:
        content += b"" if not content or content.endswith(b"\r\n") else b"\r\n"
        octets = b"DATA\r\n" + stuffed(content) + b".\r\n"
    octets += b"NOOP\r\n"
    lines, at = [], 0
    for size in [*sizes, len(octets)]:
        lines += client.send(octets[at : at + size])
        at += size
    assert _codes(lines) == ([250, 250] if chunked else [354, 250, 250])
    assert [message.read() for message in deliveries.messages] == [content]
    client.lose()


FRAGMENTS = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [b"\r\n", b"\r", b"\n", b"NOOP", b"MAIL FROM:", b"<a@x>", b"RCPT TO:", b"DATA", b"LHLO ", b" ", b"."]
    ),
    st.just(b"x" * 13_000),
)


@given(st.lists(FRAGMENTS, max_size=30))
@settings(max_examples=300, deadline=None)
def test_no_octets_whatever_break_the_session(segments: list[bytes]) -> None:
    """Each is answered in whole lines, or the connection is closed with one; once the line has ended, it goes on."""
    # BDAT is followed by octets that are no commands.
    assume(b"BDAT" not in b"".join(segments).upper())
    client = greeted(max_bad_commands=10**6)
    lines: list[str] = []
    for segment in segments:
        lines += client.send(segment)
    lines += client.send(b"\r\n")
    if client.is_closed:
        assert _codes(lines)[-1] in (221, 421, 500)
        assert client.say("NOOP") == []
    else:
        assert _codes(client.say("NOOP")) == [250]
    client.lose()
