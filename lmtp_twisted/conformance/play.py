"""
A scenario on its connection: what it says is sent, and what comes is held against what it expects.

Each ends with NOOP and QUIT, unless the server has closed the connection. Whatever was answered once too often, or not
at all, is found there: replies have no other name than their place.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import attrs

from lmtp_twisted.conformance import placeholders
from lmtp_twisted.conformance.connection import Closed, Connection, Silence, Unexpected
from lmtp_twisted.conformance.replies import Pattern, Reply, printable
from lmtp_twisted.conformance.result import Result, Verdict
from lmtp_twisted.conformance.scenario import Act, Expect, Level, Scenario, Send, Step
from lmtp_twisted.conformance.session import Server, begin
from lmtp_twisted.conformance.settings import Settings
from lmtp_twisted.conformance.values import value_of

#: Seconds in which nothing may come where a scenario says so.
_MOMENT = 0.3
#: Seconds between two segments, in which the server reads the first.
_GAP = 0.005
#: Seconds at a border between segments that a scenario asks for.
_BORDER = 0.25
#: Octets of a step that a report shows.
_SHOWN = 200

_CLOSING: tuple[Step, ...] = (
    Send("NOOP\\r\\n", "1", 0),
    Expect(attrs.evolve(Pattern.parse("250"), text="250 to NOOP at the end"), "1", 0),
    Send("QUIT\\r\\n", "1", 0),
    Expect(attrs.evolve(Pattern.parse("221"), text="221 to QUIT at the end"), "1", 0),
    Expect(None, "1", 0),
)


class Deviation(Exception):
    """
    The server did something else.

    :ivar expected: what it should have done.
    :ivar came: what it did.
    :ivar brief: the same without what changes from run to run.
    """

    def __init__(self, expected: str, came: str, brief: str) -> None:
        super().__init__(came)
        self.expected, self.came, self.brief = expected, came, brief


class Absent(Exception):
    """What the scenario is about cannot be seen with this server."""


class _Over(Exception):
    """The scenario has ended as it may; whether the connection is closed."""

    def __init__(self, is_closed: bool) -> None:
        self.is_closed = is_closed


class Play:
    """
    :param connection: before anything was sent or read.
    :param server: what it said of itself before.
    :param cut: after how many octets of the scenario's own steps a segment ends.
    :ivar inexact: the first reply that has another code than the exact one, behind what was expected.
    """

    def __init__(
        self, connection: Connection, scenario: Scenario, settings: Settings, server: Server, cut: int | None
    ) -> None:
        self._connection = connection
        self._scenario = scenario
        self._settings = settings
        self._server = server
        self._cut = cut
        self._sent = 0
        self._transcript: list[str] = []
        self._codes: list[str] = []
        self._last: Reply | None = None
        self._kept: Reply | Unexpected | None = None
        self._secrets: set[str] = set()
        self.inexact: tuple[str, Reply] | None = None

    def result(self, verdict: Verdict, level: Level, expected: str = "", came: str = "", brief: str = "") -> Result:
        """What is to be reported, with what was said up to now."""
        return Result(
            self._scenario,
            verdict,
            level,
            expected=expected,
            came=self._without_secrets(came),
            brief=self._without_secrets(brief),
            transcript=tuple(map(self._without_secrets, self._transcript)),
            codes=tuple(self._codes),
            sent=self._sent,
        )

    def run(self) -> None:
        """
        Play it.

        :raises Deviation: where the server does something else.
        :raises Absent: where what the scenario is about cannot be seen.
        """
        try:
            begin(self._connection, self._settings, self._scenario.start)
        except Unexpected as error:
            raise Deviation(f"a session, up to {self._scenario.start}", str(error), error.brief)
        self._steps(self._scenario.opening, is_own=False)
        is_closed = False
        try:
            self._steps(self._scenario.steps, is_own=True)
        except _Over as end:
            is_closed = end.is_closed
        last = self._scenario.steps[-1]
        if not is_closed and not (isinstance(last, Expect) and last.pattern is None and not last.is_silence):
            self._steps(_CLOSING, is_own=False)

    def _steps(self, steps: Sequence[Step], is_own: bool) -> None:
        burst: list[bytes] = []
        for step in steps:
            if isinstance(step, Send):
                burst.append(self._octets(step.text) * self._count(step.times))
                continue
            if burst:
                self._send(b"".join(burst), is_own)
                burst = []
            if isinstance(step, Act):
                self._act(step)
            else:
                for _ in range(self._count(step.times)):
                    self._expect(step)
        if burst:
            self._send(b"".join(burst), is_own)

    def _count(self, times: str) -> int:
        return placeholders.evaluate(times, self._server.numbers)

    def _octets(self, text: str) -> bytes:
        return placeholders.octets_of(text, self._value, self._server.numbers)

    def _value(self, name: str) -> bytes:
        value = value_of(name, self._settings, self._last)
        if name.startswith("auth-") and value:
            self._secrets.add(value.decode("ascii"))
        return value

    def _without_secrets(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "[secret]")
        return text

    def _send(self, octets: bytes, is_own: bool) -> None:
        # Whole secrets are found before anything is cut off.
        shown = self._without_secrets(printable(octets[: 100 * _SHOWN]))
        self._transcript.append(f"C: {shown[:_SHOWN]}{'…' if len(shown) > _SHOWN else ''}")
        pieces = [octets]
        if is_own:
            at = -1 if self._cut is None else self._cut - self._sent
            if 0 < at < len(octets):
                pieces = [octets[:at], octets[at:]]
                self._transcript[-1] += f"  (cut after {at} octets)"
            self._sent += len(octets)
        try:
            self._connection.send(pieces[0])
            for piece in pieces[1:]:
                time.sleep(_GAP)
                self._connection.send(piece)
        except Unexpected as error:
            raise Deviation("to be read", str(error), error.brief)

    def _act(self, act: Act) -> None:
        self._transcript.append(f"! {act.name}")
        try:
            if act.name.startswith("handshake"):
                self._connection.start_tls(self._settings.tls_context(), self._settings.tls_name)
            elif act.name == "close writing":
                self._connection.close_writing()
            else:
                time.sleep(_BORDER)
        except Unexpected as error:
            if act.name == "handshake or end" and isinstance(error, Closed):
                raise _Over(True)
            raise Deviation(act.name, str(error), error.brief)

    def _expect(self, step: Expect) -> None:
        if step.is_silence:
            self._expect_silence()
        elif step.is_end:
            self._offer_end(step)
        elif step.pattern is None:
            self._expect_end()
        else:
            self._expect_reply(step.pattern)

    def _next(self) -> Reply | Closed:
        """The next reply, or the end of the connection; what is kept is first."""
        kept, self._kept = self._kept, None
        if isinstance(kept, (Reply, Closed)):
            return kept
        if kept is not None:
            raise kept
        try:
            reply = self._connection.read_reply(self._patience())
        except Closed as closed:
            self._transcript.append(f"S: {closed}")
            self._codes.append("closed")
            return closed
        except Unexpected as error:
            self._transcript.append(f"S: {error}")
            raise
        self._transcript.append(f"S: {reply}")
        self._codes.append(reply.codes)
        self._last = reply
        return reply

    def _patience(self) -> float | None:
        # The server is to be waited for as long as it waits for us.
        needs_idle = any(need.name == "idle" for need in self._scenario.needs)
        return self._settings.idle + self._settings.patience if needs_idle and self._settings.idle else None

    def _expect_reply(self, pattern: Pattern) -> None:
        recipient = None if pattern.recipient is None else self._octets(pattern.recipient).decode("latin-1")
        words = b"" if pattern.words is None else self._octets(pattern.words)
        expected = printable(self._octets(pattern.text))
        try:
            reply = self._next()
        except Silence as error:
            raise self._silent(expected, error)
        except Unexpected as error:
            raise Deviation(expected, str(error), error.brief)
        if isinstance(reply, Closed):
            raise Deviation(expected, str(reply), reply.brief)
        if not pattern.accepts(reply, recipient, words):
            raise Deviation(expected, str(reply), reply.codes)
        has_enhanced_codes = "ENHANCEDSTATUSCODES" in self._server.capabilities
        if self.inexact is None and not pattern.is_met_exactly(reply, has_enhanced_codes=has_enhanced_codes):
            self.inexact = expected, reply

    def _silent(self, expected: str, error: Silence) -> Deviation:
        """A reply that is missing and a server that hangs are two things: a NOOP tells them apart."""
        came = f"nothing within {self._settings.patience:g} s"
        brief = "nothing"
        try:
            self._connection.send(b"NOOP\r\n")
            reply = self._connection.read_reply(min(1.0, self._settings.patience))
        except Unexpected as then:
            came += f"; to NOOP: {then.brief}"
        else:
            self._transcript += ["C: NOOP", f"S: {reply}"]
            came += f"; to NOOP: {reply}"
            brief += f", and {reply.code} to NOOP"
        return Deviation(expected, came, brief)

    def _expect_end(self) -> None:
        kept, self._kept = self._kept, None
        if isinstance(kept, Closed):
            return
        if kept is not None:
            raise Deviation("closed", str(kept), kept.codes if isinstance(kept, Reply) else kept.brief)
        try:
            self._connection.read_end()
        except Unexpected as error:
            self._transcript.append(f"S: {error}")
            raise Deviation("closed", str(error), error.brief)
        self._transcript.append("S: closed")
        self._codes.append("closed")

    def _expect_silence(self) -> None:
        try:
            self._connection.read_nothing(_MOMENT)
        except Unexpected as error:
            raise Deviation("silence", str(error), error.brief)

    def _offer_end(self, step: Expect) -> None:
        try:
            reply = self._next()
        except Unexpected as error:
            # That is for the step behind it to judge: it says what else would have done.
            self._kept = error
            return
        if isinstance(reply, Closed):
            fits = step.pattern is None
        else:
            fits = step.pattern is not None and step.pattern.accepts(reply)
        if not fits:
            self._kept = reply
        elif step.is_absence:
            came = "closed" if isinstance(reply, Closed) else f"answered {reply.codes}"
            raise Absent(f"it was {came}, so there is nothing to judge")
        else:
            if step.then_closed:
                self._expect_end()
            raise _Over(step.then_closed or isinstance(reply, Closed))
