"""
A machine that plays random sessions over a connection with its buffers, in the clear and under TLS, with clients that
stop reading, answers that come late, and floods. After each step: no reply is lost, none is too many, nothing is logged
as an error, and memory is bounded.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

from dialogue import LoggedErrors, server
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from memory_tcp import PEER, MemoryClient, certificate
from session_model import (
    ANY,
    CONTENTS,
    LIMIT,
    MOST_BAD,
    MOST_RECIPIENTS,
    NAMES,
    RANDOM,
    TRANSACTION,
    Application,
    Command,
    Model,
    codes_of,
)
from twisted.internet.interfaces import IAddress
from twisted.logger import globalLogPublisher
from twisted.protocols import tls

from lmtp_twisted import flow, streaming
from lmtp_twisted.protocol import LMTPProtocol
from lmtp_twisted.testing import FakePool, FakeReactor, fake_spool

#: Octets of a line, of what is read ahead, and of output: few, so that sessions come to these limits. A line may be no
#: longer than what is read ahead: a transport that is paused brings no end of it.
LINE, AHEAD, BUFFER = 1000, 1200, 400
#: What may wait to be read of a content that is streamed.
UNREAD = 200
#: Octets of the longest segment.
SEGMENT = 500
CERTIFICATE = certificate()

#: Those that are no error of the application's: nothing is logged for them.
ANSWERS = ["none", "none", "true", "text", "reply", "permanent", "temporary"]
VERDICTS = st.fixed_dictionaries(
    {name: st.tuples(st.sampled_from(ANSWERS), st.sampled_from(ANSWERS)) for name in NAMES}
)
#: To look for a planted defect: the same way each time, until it is found.
SEARCH = settings(
    max_examples=500,
    stateful_step_count=40,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
)
SHORT = CONTENTS.filter(lambda content: len(content) <= 100)


def is_harmless(command: Command) -> bool:
    """Whether nothing of it is an error of the application's."""
    return command.kind != "mail" or command.argument[1] in ANSWERS


class WholeSession(RuleBasedStateMachine):
    """A client, a server and the application behind it, each of which may go on at any time."""

    #: Octets of a reply for each octet of its command: those to LHLO are the longest.
    RATIO = 30

    model: Model
    application: Application

    def __init__(self) -> None:
        super().__init__()
        self.errors = LoggedErrors()
        globalLogPublisher.addObserver(self.errors)
        self.reactor = FakeReactor()
        self._patches = [
            mock.patch.object(tls, "_get_default_clock", return_value=self.reactor),
            mock.patch.object(flow, "AHEAD", AHEAD),
            mock.patch.object(streaming, "UNREAD", UNREAD),
            mock.patch.object(LMTPProtocol, "MAX_LENGTH", LINE),
        ]
        for patch in self._patches:
            patch.start()

    @initialize(random=RANDOM, verdicts=VERDICTS, threshold=st.sampled_from([30, 10**6]), slow_disk=st.booleans())
    def connect(self, random: Any, verdicts: dict[str, tuple[str, str]], threshold: int, slow_disk: bool) -> None:
        self.random = random
        self.pool = FakePool(immediate=not slow_disk)
        # How many replies were read.
        self.answered = 0
        # STARTTLS was said, and its answer has not come: until then a client says nothing.
        self.shakes_hands = False
        options = self._begin(verdicts)
        self.model.expected.append(220)
        self.factory = server(
            self.application.deliveries,
            reactor=self.reactor,
            spool=fake_spool(self.reactor, self.pool, threshold=threshold),
            tls=CERTIFICATE,
            size_limit=LIMIT,
            drain_factor=1000,
            max_recipients=MOST_RECIPIENTS,
            max_bad_commands=MOST_BAD,
            **options,
        )
        self.client = MemoryClient(self.factory, BUFFER, self._peer())

    def _begin(self, verdicts: dict[str, tuple[str, str]]) -> dict[str, Any]:
        """Make the model and the application. Returns further arguments of the server."""
        self.model = Model(verdicts)
        self.application = Application(verdicts, self.random)
        return {}

    def _peer(self) -> IAddress:
        return PEER

    def _say(self, commands: list[Command]) -> None:
        data = b"".join(self.model.say(command) for command in commands)
        self.client.send(data, self._cut)
        if self.random.random() < 0.6:
            self.client.move()

    def _cut(self, data: bytes) -> list[bytes]:
        segments = []
        while data:
            size = self.random.choice([1, 2, 10, 100, SEGMENT, SEGMENT])
            segments.append(data[:size])
            data = data[size:]
        return segments

    def _may_speak(self) -> bool:
        return not self.shakes_hands and not self.model.closed

    @precondition(_may_speak)
    @rule(commands=st.lists(ANY.filter(is_harmless), min_size=1, max_size=4))
    def say_anything(self, commands: list[Command]) -> None:
        self._say(commands)

    @precondition(_may_speak)
    @rule(name=st.sampled_from(["c", "client.example"]), commands=TRANSACTION)
    def say_what_makes_sense(self, name: str, commands: list[Command]) -> None:
        self._say([*([] if self.model.hello else [Command("hello", name)]), *commands])

    @precondition(_may_speak)
    @rule(names=st.lists(st.sampled_from(NAMES), max_size=4), chunks=st.lists(SHORT, max_size=3), content=SHORT)
    def send_a_message(self, names: list[str], chunks: list[bytes], content: bytes) -> None:
        """DATA, or BDAT where there are chunks before the last."""
        last = Command("bdat", (content, True)) if chunks else Command("data", content)
        self._say(
            [
                *([] if self.model.hello else [Command("hello", "c")]),
                *([Command("reset")] if self.model.sender else []),
                Command("mail", ("good", "none")),
                *(Command("rcpt", name) for name in names),
                *(Command("bdat", (chunk, False)) for chunk in chunks),
                last,
            ]
        )

    @precondition(_may_speak)
    @rule(times=st.sampled_from([1, 20, 800]), line=st.sampled_from([b"NOOP", b"HELP", b"VRFY x"]))
    def flood(self, times: int, line: bytes) -> None:
        code = {b"NOOP": 250, b"HELP": 214, b"VRFY x": 252}[line]
        self._say([Command("simple", (line, code))] * times)

    @precondition(_may_speak)
    @rule(argument=st.sampled_from([b"", b"", b" now"]), greets=st.booleans())
    def ask_for_tls(self, argument: bytes, greets: bool) -> None:
        if greets and not self.model.closed:
            self._say([Command("hello", "c")])
        had_tls = self.model.has_tls
        self._say([Command("starttls", argument)])
        self.shakes_hands = self.model.has_tls and not had_tls

    @precondition(lambda self: self._may_speak() and self.model.may_start_tls)
    @rule(more=st.sampled_from([b"NOOP\r\n", b"\x16\x03\x01", b"M", b"LHLO d\r\nMAIL FROM:<a@x>\r\n"]))
    def ask_for_tls_and_say_more(self, more: bytes) -> None:
        self.client.send(self.model.say(Command("starttls_and_more", more)))

    @rule(count=st.integers(1, 20))
    def segments_arrive(self, count: int) -> None:
        for _ in range(count):
            self.client.step()
            self._look()

    @rule()
    def everything_arrives(self) -> None:
        self.client.move()

    @rule()
    def read(self) -> None:
        self.client.read()

    @rule()
    def stop_reading(self) -> None:
        self.client.reads = False

    @rule()
    def read_again(self) -> None:
        self.client.reads = True
        self.client.move()

    @precondition(lambda self: self.application.waiting)
    @rule()
    def answer(self) -> None:
        self.application.answer()

    @rule()
    def the_disk_is_done(self) -> None:
        self.pool.run()

    @rule(seconds=st.floats(0, 2))
    def wait(self, seconds: float) -> None:
        self.reactor.advance(seconds)

    @invariant()
    def nothing_is_wrong(self) -> None:
        """At each step."""
        if not hasattr(self, "client"):
            return
        self._look()
        self._shake_hands()

    def _shake_hands(self) -> None:
        """As soon as the server has said so."""
        if self.shakes_hands and self.answered == len(self.model.expected):
            self.shakes_hands = False
            self.client.start_tls()

    def _look(self) -> None:
        self._look_at_log()
        # All that was read before has been looked at.
        lines, self.client.replies = self.client.replies, []
        self._look_at_replies(lines)
        self.application.look(self.model.contents)
        protocol = self.client.protocol
        # A segment may end a record of TLS that began in another one.
        assert len(protocol._input) - protocol._at <= AHEAD + 2 * SEGMENT
        # A segment is run to its end, whatever its replies come to; what has come ahead is run when it may be.
        most = BUFFER + (AHEAD + 2 * SEGMENT) * self.RATIO
        assert sum(map(len, protocol._output)) + self.client.transport.kept <= most
        # What is not read yet of a content that is streamed.
        stream = protocol._transaction and protocol._transaction.content
        if isinstance(stream, streaming.Stream) and not stream.is_complete:
            assert all(part.waiting <= UNREAD + AHEAD + 2 * SEGMENT for part in stream._parts)

    def _look_at_log(self) -> None:
        assert not self.errors.take()

    def _look_at_replies(self, lines: list[str]) -> None:
        codes = codes_of(lines)
        assert codes == self.model.expected[self.answered : self.answered + len(codes)]
        self.answered += len(codes)

    def _chance_of_loss(self) -> float:
        return 0.2

    def _goes_on(self) -> bool:
        """Something that holds the session back ends. Returns whether there was anything."""
        has_run = bool(self.pool.run())
        if self.application.waiting:
            self.application.answer()
            has_run = True
        return has_run

    def _all_is_said(self) -> None:
        """Whatever holds the session back ends."""
        self.client.reads = True
        self.client.move()
        while self._goes_on():
            self.client.move()
        assert self.client.is_silent
        self._look()
        assert self.answered == len(self.model.expected)
        self.application.look(self.model.contents)
        assert len(self.application.contents) == len(self.model.contents)
        assert self.client.is_over == self.model.closed
        self._shake_hands()
        assert (self.client.protocol.session.tls is not None) == self.model.has_tls

    def teardown(self) -> None:
        """The session is brought to its end, or lost where it is."""
        try:
            if hasattr(self, "client"):
                if self.random.random() >= self._chance_of_loss():
                    self._all_is_said()
                self.client.lose()
                while self._goes_on():
                    pass
                self._nothing_is_left()
        finally:
            globalLogPublisher.removeObserver(self.errors)
            for patch in self._patches:
                patch.stop()

    def _nothing_is_left(self) -> None:
        """The connection is lost, and the application has answered."""
        assert self.reactor.getDelayedCalls() == []
        assert self.factory.spool.used == 0
        assert not self.factory.sessions
        self._look_at_log()
