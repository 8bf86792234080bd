"""
Random sessions with AUTH, XCLIENT, XFORWARD and VRFY among all else, in the clear and under TLS: no reply is lost or
too many, no line of an exchange runs as a command, refusals come late, and nobody sees what a client said there.
"""

from __future__ import annotations

import hmac
from base64 import b64decode
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from dialogue import LoggedErrors
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test
from logins import LOCAL
from memory_tcp import PEER
from negotiation_application import NegotiatedApplication
from negotiation_model import (
    CLIENTS,
    DELAY,
    LOGINS,
    MOST_FAILURES,
    MOST_UNAUTHENTICATED,
    PASSWORD,
    WRONG,
    NegotiatedModel,
)
from negotiation_moves import GOOD_LOGIN, GUESS, LOGIN_LINES, NEGOTIATION
from session_model import NAMES, Command
from twisted.internet.interfaces import IAddress
from twisted.logger import LogEvent, Logger, eventAsText, globalLogPublisher
from whole_session import LINE, SEARCH, SHORT, WholeSession, is_harmless

from lmtp_twisted.flow import HeldLineReceiver, Hold
from lmtp_twisted.negotiation import Negotiator
from lmtp_twisted.protocol import LMTPProtocol
from lmtp_twisted.testing import RecordingObserver
from lmtp_twisted.trust import Trust


class NegotiatedSession(WholeSession):
    """One in which the client may say who it is, and for whom it speaks."""

    # There is more to announce.
    RATIO = 60

    model: NegotiatedModel
    application: NegotiatedApplication

    def __init__(self) -> None:
        super().__init__()
        self._logged: list[LogEvent] = []
        self._failed_logins = 0
        self._last_line = ""
        self._observer = RecordingObserver()
        globalLogPublisher.addObserver(self._logged.append)

    def _begin(self, verdicts: dict[str, tuple[str, str]]) -> dict[str, Any]:
        self._is_local, is_required, is_trusted = (self.random.random() < chance for chance in (0.7, 0.4, 0.5))
        self.model = NegotiatedModel(
            verdicts,
            now=self.reactor.seconds,
            longest=LINE,
            is_private=self._is_local,
            is_required=is_required,
            is_trusted=is_trusted,
        )
        self.application = NegotiatedApplication(verdicts, self.random)
        return {
            "portal": self.application.portal,
            "connection_policy": self.application,
            "observers": [self._observer],
            "auth_required": is_required,
            "trusted": ["192.0.2.0/24", "unix"] if is_trusted else [],
            "max_auth_failures": MOST_FAILURES,
            "auth_failure_delay": DELAY,
            "max_unauthenticated_commands": MOST_UNAUTHENTICATED,
        }

    def _peer(self) -> IAddress:
        return LOCAL if self._is_local else PEER

    def _say_after_hello(self, commands: list[Command]) -> None:
        self._say([*([] if self.model.hello else [Command("hello", "c")]), *commands])

    @precondition(WholeSession._may_speak)
    @rule(parts=st.lists(NEGOTIATION, min_size=1, max_size=3))
    def negotiate(self, parts: list[list[Command]]) -> None:
        """Anything."""
        self._say([command for part in parts for command in part if is_harmless(command)])

    @precondition(WholeSession._may_speak)
    @rule(commands=LOGIN_LINES)
    def log_in(self, commands: list[Command]) -> None:
        """With a password or a token."""
        self._say_after_hello(commands)

    @precondition(WholeSession._may_speak)
    @rule(guesses=st.lists(GUESS, min_size=1, max_size=3))
    def guess(self, guesses: list[list[Command]]) -> None:
        """A password."""
        self._say_after_hello([command for guess in guesses for command in guess])

    @precondition(WholeSession._may_speak)
    @rule(login=GOOD_LOGIN, names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=3), content=SHORT)
    def log_in_and_send(self, login: list[Command], names: list[str], content: bytes) -> None:
        """A message, as a user."""
        self._say([] if self.model.user else login if self.model.hello else [Command("hello", "c"), *login])
        self.send_a_message(names, [content] if len(names) > 1 else [], content)

    @precondition(lambda self: self._may_speak() and self.model.user is not None and self.model.may_start_tls)
    @rule()
    def ask_for_tls_as_a_user(self) -> None:
        """Who is nobody any more afterwards."""
        self.ask_for_tls(b"", False)

    @precondition(WholeSession._may_speak)
    @rule(client=st.sampled_from(CLIENTS))
    def speak_for(self, client: Any) -> None:
        """Somebody else."""
        self._say([Command("xclient", client)])

    @precondition(WholeSession._may_speak)
    @rule()
    def ask_for_a_challenge(self) -> None:
        """And read what came."""
        self._say_after_hello([Command("auth", (b"CRAM-MD5", None))])
        self.read_again()

    @precondition(lambda self: self._may_speak() and self._has_challenge())
    @rule(user=st.sampled_from([b"alice", b"alice", *LOGINS]), password=st.sampled_from([PASSWORD, PASSWORD, WRONG]))
    def answer_the_challenge(self, user: bytes, password: bytes) -> None:
        """Only who has read it can."""
        digest = hmac.new(password, b64decode(self._last_line[4:]), "md5").hexdigest().encode("ascii")
        self._say([Command("proof", (user, digest, password == PASSWORD))])

    def _has_challenge(self) -> bool:
        exchange = self.model.exchange
        return exchange is not None and exchange[0] == b"CRAM-MD5" and self.answered == len(self.model.expected)

    @precondition(lambda self: self._may_speak() and self.model.exchange is not None)
    @rule(line=st.sampled_from([b"", b"AAAA", b"NOOP", b"*"]))
    def answer_with_a_bare_newline(self, line: bytes) -> None:
        """Which ends the session."""
        self._say([Command("bare_answer", line)])

    @precondition(lambda self: self.client.protocol._penalty is not None)
    @rule()
    def the_penalty_is_over(self) -> None:
        """Time passes."""
        self.reactor.advance(DELAY * MOST_FAILURES)

    def _look_at_log(self) -> None:
        for event in self.errors.take():
            assert "the login failed for want of an answer" in event["log_format"]
            self._failed_logins += 1
        assert self._failed_logins <= self.model.errors
        events, self._logged[:] = list(self._logged), []
        for event in events:
            self._has_no_secret(eventAsText(event) + repr(event))

    def _has_no_secret(self, text: str) -> None:
        for secret in self.model.secrets:
            assert secret.decode("ascii") not in text

    def _look_at_replies(self, lines: list[str]) -> None:
        before = self.answered
        super()._look_at_replies(lines)
        self._last_line = lines[-1] if lines else self._last_line
        for place in range(before, self.answered):
            assert self.reactor.seconds() >= self.model.not_before.get(place, 0)

    def _chance_of_loss(self) -> float:
        return 0.5 if self.client.protocol._penalty or self.model.exchange else super()._chance_of_loss()

    def _goes_on(self) -> bool:
        if self.client.protocol._penalty is None or self.client.transport.disconnected:
            return super()._goes_on()
        self.the_penalty_is_over()
        return True

    def _all_is_said(self) -> None:
        super()._all_is_said()
        session = self.client.protocol.session
        assert session.user == self.model.user
        assert self.application.by_avatar == self.model.by_avatar
        assert self._failed_logins == self.model.errors
        assert session.is_trusted == self.model.is_trusted
        # Nobody has the avatar of somebody who is gone.
        if not self.model.closed:
            assert self.application.given == self.model.has_avatar

    def _nothing_is_left(self) -> None:
        super()._nothing_is_left()
        assert self.application.given == 0
        self._has_no_secret(repr(self._observer.events))

    def teardown(self) -> None:
        """See :meth:`WholeSession.teardown`."""
        try:
            super().teardown()
        finally:
            globalLogPublisher.removeObserver(self._logged.append)


def test_no_reply_is_lost_and_no_secret_is_seen_whatever_is_negotiated(logged: LoggedErrors) -> None:
    """RFC 4954 §4 and §6, RFC 3207 §4.2, Postfix's XCLIENT_README and XFORWARD_README."""
    run_state_machine_as_test(NegotiatedSession, settings=settings(max_examples=300, stateful_step_count=40))
    # The machine has looked at them: those of checkers that fail.
    logged.take()


def _refuse_at_once(self: Any, failures: int, then: Callable[[], None]) -> None:
    then()


def _forget_the_reply(self: Any, failures: int, then: Callable[[], None], penalise: Any = Negotiator._penalise) -> None:
    penalise(self, failures, lambda: None)


def _stay(self: Any, user: str | None, be: Any = Negotiator._be) -> None:
    if user is not None:
        be(self, user)


def _tell(self: Any, credentials: Any, log_in: Any = Negotiator._log_in) -> None:
    value = credentials.value
    Logger().debug("{said!r}", said=getattr(value, "password", None) or getattr(value, "token", None))
    log_in(self, credentials)


def _run_when_held(self: Any, reason: Hold, hold: Any = HeldLineReceiver.hold) -> None:
    if reason is not Hold.PENALTY:
        hold(self, reason)


@pytest.mark.parametrize(
    ("place", "name", "broken"),
    [
        # A line of an exchange runs as a command.
        (LMTPProtocol, "divert_lines", lambda self, taker: None),
        # Guesses cost nothing.
        (Negotiator, "_penalise", _refuse_at_once),
        # The refusal is never said.
        (Negotiator, "_penalise", _forget_the_reply),
        # What is said meanwhile is answered first.
        (LMTPProtocol, "hold", _run_when_held),
        # As often as one likes.
        (Negotiator, "_say_refusal", lambda self, reply: self.send(reply.encoded)),
        # What was said in the clear counts under TLS.
        (Negotiator, "_be", _stay),
        # An avatar is kept for ever.
        (Negotiator, "_give_avatar_back", lambda self: None),
        # The timer of a session that is over.
        (Negotiator, "_forget_penalty", lambda self: None),
        # Somebody may read passwords in the log.
        (Negotiator, "_log_in", _tell),
        # Who is named by a proxy may name others.
        (Trust, "covers", lambda self, peer: True),
    ],
    ids=["command", "at once", "lost", "order", "limit", "user", "avatar", "timer", "secret", "trust"],
)
def test_a_planted_defect_is_found(logged: LoggedErrors, place: Any, name: str, broken: Any) -> None:
    """A test that never fails proves nothing."""
    with mock.patch.object(place, name, broken), pytest.raises(AssertionError):
        run_state_machine_as_test(NegotiatedSession, settings=SEARCH)
    logged.take()
