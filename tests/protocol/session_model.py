"""
A model of a session: what a client says, and the codes that the RFCs say it is answered with. Deliveries that answer as
the model has it are here too.
"""

from __future__ import annotations

from random import Random
from typing import Any

import attrs
from dialogue import stuffed
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from lmtp_twisted import PermanentFailure, Reply, TemporaryFailure
from lmtp_twisted.streaming import Part
from lmtp_twisted.testing import ScriptedDeliveries

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
    :ivar has_tls: whether TLS is on, or will be as soon as what was said is answered (RFC 3207 §4).
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
    has_tls: bool = False
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

    @property
    def may_start_tls(self) -> bool:
        """Whether STARTTLS is the next thing that could come (RFC 3207 §4)."""
        return self.hello and not self.sender and not self.has_tls and not self.closed

    def say_starttls(self, argument: bytes) -> bytes:
        if not self.hello or self.sender:
            self._answer(503)
        elif argument:
            self._answer_bad(501)
        elif self.has_tls:
            self._answer(503)
        else:
            self._answer(220)
            self.hello, self.has_tls = False, True
        return b"STARTTLS" + argument + b"\r\n"

    def say_starttls_and_more(self, more: bytes) -> bytes:
        """More in the same segment: refused, and the session is over (RFC 3207 §4)."""
        assert self.may_start_tls
        self._answer(503)
        self.closed = True
        return b"STARTTLS\r\n" + more

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


class Chance(Random):
    """
    Chance that the server may be asked by: what hypothesis makes for that ends a test by an exception, which a Deferred
    would catch.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._name = f"Chance({seed})"

    def __repr__(self) -> str:
        return self._name


RANDOM = st.builds(Chance, st.integers(0, 2**32))


@attrs.define
class Content:
    """
    One that is complete.

    :ivar read: what the delivery has read of it.
    :ivar is_whole: whether that is all of it.
    """

    read: bytes = b""
    is_whole: bool = False


class Application:
    """
    Deliveries that answer as the verdicts say, at once or when they are told. Some read the content while it comes:
    in step with it, slowly, not to its end, or not at all.

    :param verdicts: by recipient, as the model has them.
    :param random: decides which answers come at once.
    :ivar contents: those that are complete.
    """

    def __init__(self, verdicts: dict[str, tuple[str, str]], random: Any) -> None:
        self._verdicts = verdicts
        self._random = random
        self.waiting: list[tuple[Deferred[Any], Any]] = []
        self.contents: list[Content] = []
        self.deliveries = ScriptedDeliveries(deliver=self._deliver, streams=True)
        self.deliveries.streams = lambda recipients: bool(random.random() < 0.5)  # type: ignore[method-assign]
        self.deliveries.validateFrom = lambda sender: self._give(str(sender)[:-2] or "none")  # type: ignore[method-assign]
        self.deliveries.validateTo = lambda recipient: self._give(verdicts[str(recipient)[0]][0])  # type: ignore[method-assign]

    def _give(self, verdict: str) -> Any:
        return self.give(VERDICTS[verdict][0])

    def give(self, value: Any) -> Any:
        """Answer with a value or an exception, at once or later."""
        if self._random.random() < 0.5:
            self.waiting.append((Deferred(), value))
            return self.waiting[-1][0]
        if isinstance(value, Exception):
            raise value
        return value

    def _deliver(self, message: Any) -> Any:
        content = Content()
        message.completed.addCallbacks(lambda _: self.contents.append(content), lambda _: None)
        if message.inMemory or not isinstance(message._content, Part):
            content.read, content.is_whole = message.read(), True
        elif self._random.random() < 0.8:
            return self._stream(message, content, self._random.choice(["in step", "slowly", "late", "not to its end"]))
        return self._outcomes(message)

    async def _stream(self, message: Any, content: Content, way: str) -> Any:
        if way == "late":
            await self._turn()
        async for chunk in message.chunks():
            content.read += chunk
            if way == "not to its end":
                break
            if way == "slowly":
                await self._turn()
        else:
            content.is_whole = True
        outcomes = self._outcomes(message)
        return await outcomes if isinstance(outcomes, Deferred) else outcomes

    def _turn(self) -> Deferred[Any]:
        self.waiting.append((Deferred(), None))
        return self.waiting[-1][0]

    def look(self, contents: list[bytes]) -> None:
        """What is complete was sent, and what was read of it is its beginning."""
        assert len(self.contents) <= len(contents)
        for content, sent in zip(self.contents, contents, strict=False):
            assert content.read == sent if content.is_whole else sent.startswith(content.read)

    def _outcomes(self, message: Any) -> Any:
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
        if deferred.called:
            # It was cancelled, and nobody will see what would have come.
            for outcome in value if isinstance(value, list) else []:
                if isinstance(outcome, Deferred):
                    outcome.addErrback(lambda failure: None)
        elif isinstance(value, Exception):
            deferred.errback(value)
        else:
            deferred.callback(value)


def codes_of(lines: list[str]) -> list[int]:
    """The code of each reply."""
    return [int(line[:3]) for line in lines if line[3] == " "]


def verdicts_of(random: Any) -> dict[str, tuple[str, str]]:
    likely = ["none", "none", "none", "text", *VERDICTS]
    return {name: (random.choice(likely), random.choice(list(VERDICTS))) for name in NAMES}
