"""
What :mod:`session_model` leaves out, as the RFCs and Postfix's readmes have it: AUTH, for whom the client speaks, and
VRFY by a delivery.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any

import attrs
from session_model import VERDICTS, Command, Model

from lmtp_twisted import PermanentFailure, TemporaryFailure

MOST_FAILURES, DELAY = 2, 1.0
MOST_UNAUTHENTICATED = 30

PASSWORD, WRONG = b"s3cr3t-w0rd", b"gu3ss-w0rd"
#: What the checker makes of those whose password is right, and the code it becomes.
LOGINS: dict[bytes, tuple[Any, int]] = {
    b"alice": (b"alice", 235),
    b"closed": (PermanentFailure("your account is closed"), 535),
    b"busy": (TemporaryFailure("later"), 454),
    b"broken": (ZeroDivisionError(), 454),
}
#: The checker fails, which is logged.
BROKEN = b"broken"

_NEED_AUTH = {b"MAIL", b"RCPT", b"DATA", b"BDAT", b"VRFY"}
_NOT_COUNTED = {b"LHLO", b"STARTTLS", b"AUTH", b"XCLIENT", b"QUIT"}
_SHOW_PASSWORD = (b"PLAIN", b"LOGIN", b"XOAUTH2")


def b64(octets: bytes) -> bytes:
    """As a client sends it."""
    return b64encode(octets)


def token_of(user: bytes, token: bytes) -> bytes:
    """The response of XOAUTH2."""
    return b"user=%b\x01auth=Bearer %b\x01\x01" % (user, token)


@attrs.frozen
class Client:
    """
    Whom XCLIENT names.

    :ivar attributes: the argument.
    :ivar login: who has authenticated there, ``""`` nobody, ``None`` where it says nothing of it.
    :ivar trust: whether it may speak for others; ``None`` where it is as before.
    :ivar is_valid: whether this is an argument at all.
    """

    attributes: bytes
    login: str | None = None
    trust: bool | None = None
    is_valid: bool = True


CLIENTS = (
    Client(b"ADDR=192.0.2.8 NAME=inside.example", trust=True),
    Client(b"ADDR=198.51.100.9 PORT=77", trust=False),
    Client(b"ADDR=[UNAVAILABLE]", trust=False),
    Client(b"HELO=x LOGIN=bob", login="bob"),
    Client(b"LOGIN=bob ADDR=IPV6:2001:db8::1", login="bob", trust=False),
    Client(b"login=[unavailable]", login=""),
    Client(b"PROTO=LMTP"),
    Client(b"ADDR=300.1.1.1", is_valid=False),
    Client(b"", is_valid=False),
)


@attrs.define
class NegotiatedModel(Model):
    """
    :ivar now: the time, in seconds.
    :ivar longest: octets of the longest line, its CR counted.
    :ivar is_private: whether a password may be said without TLS.
    :ivar is_required: whether mail is taken from those who authenticated only.
    :ivar is_trusted: whether the peer may speak for others.
    :ivar user: who has authenticated.
    :ivar claimed: who has, as XCLIENT says.
    :ivar has_avatar: whether the deliveries are the user's own.
    :ivar exchange: within one (RFC 4954 §4): the mechanism, and what the client has answered so far. The client's next
        line is an answer to a challenge.
    :ivar failures: of logins.
    :ivar unauthenticated: commands of a client that has to authenticate first.
    :ivar errors: how often the checker failed.
    :ivar not_before: by the place of a reply in :attr:`expected`: when it may come at the earliest.
    :ivar by_avatar: of each message: whether the user's own deliveries got it.
    :ivar secrets: what the client said and nobody else may see.
    """

    now: Callable[[], float] = lambda: 0.0
    longest: int = 1000
    is_private: bool = False
    is_required: bool = False
    is_trusted: bool = False
    user: str | None = None
    claimed: str | None = None
    has_avatar: bool = False
    exchange: tuple[bytes, list[bytes]] | None = None
    failures: int = 0
    unauthenticated: int = 0
    errors: int = 0
    not_before: dict[int, float] = attrs.field(factory=dict)
    by_avatar: list[bool] = attrs.field(factory=list)
    secrets: set[bytes] = attrs.field(factory=lambda: {PASSWORD, WRONG})

    def say(self, command: Command) -> bytes:
        """As :meth:`Model.say`; within an exchange the first line of it, which is an answer then."""
        is_answer = command.kind in ("answer", "proof", "bare_answer")
        if self.closed:
            return super().say(command)
        if self.exchange is not None:
            return super().say(command if is_answer else Command("answer", self._line_of(command)))
        if is_answer:
            return b""
        if self._is_locked:
            line = self._line_of(command)
            verb = line.partition(b" ")[0].upper()
            if verb not in _NOT_COUNTED and len(line) + 2 <= 512:
                octets = self._copy().say_unlocked(command)
                self.unauthenticated += 1
                if self.unauthenticated > MOST_UNAUTHENTICATED:
                    self._end()
                    return octets
                if verb in _NEED_AUTH and (self.hello or verb == b"VRFY"):
                    self._answer(530)
                    return octets
        return super().say(command)

    @property
    def _is_locked(self) -> bool:
        return self.is_required and self.user is None

    def say_unlocked(self, command: Command) -> bytes:
        """As if nothing had to come before."""
        return super().say(command)

    def _copy(self) -> NegotiatedModel:
        return attrs.evolve(
            self, exchange=None, expected=[], contents=[], by_avatar=[], not_before={}, recipients=list(self.recipients)
        )

    def _line_of(self, command: Command) -> bytes:
        return self._copy().say_unlocked(command).partition(b"\r\n")[0]

    def _end(self) -> None:
        self.expected.append(421)
        self.closed = True

    @property
    def may_start_tls(self) -> bool:
        """See :attr:`Model.may_start_tls`."""
        return self.hello and not (self.sender or self.has_tls or self.closed or self.exchange)

    def say_starttls(self, argument: bytes) -> bytes:
        """What was learnt in the clear is forgotten (RFC 3207 §4.2)."""
        had_tls = self.has_tls
        octets = super().say_starttls(argument)
        if self.has_tls and not had_tls:
            self.user, self.claimed, self.has_avatar = None, None, False
        return octets

    def _complete(self, content: bytes, failed: bool) -> None:
        if not failed:
            self.by_avatar.append(self.has_avatar)
        super()._complete(content, failed)

    # AUTH

    @property
    def mechanisms(self) -> tuple[bytes, ...]:
        """Those that show a password need TLS, or a way that nobody listens to (RFC 4954 §4)."""
        return (b"CRAM-MD5", *(_SHOW_PASSWORD if self.has_tls or self.is_private else ()))

    def say_auth(self, argument: tuple[bytes, bytes | None]) -> bytes:
        """A mechanism, and an initial response."""
        mechanism, initial = argument
        line = b" ".join([b"AUTH", *filter(None, argument)])
        if len(line) + 1 > self.longest:
            self._answer_bad(500)
        elif not self.hello or self.sender or self.user is not None:
            self._answer(503)
        elif not mechanism:
            self._answer_bad(501)
        elif mechanism.upper() not in self.mechanisms:
            self._answer_bad(504)
        elif initial and mechanism.upper() == b"CRAM-MD5":
            self._answer_bad(501)
        else:
            self.exchange = mechanism.upper(), []
            if initial is None:
                self.expected.append(334)
            else:
                self._answer_challenge(b"" if initial == b"=" else initial)
        return line + b"\r\n"

    def say_answer(self, line: bytes) -> bytes:
        """An answer to a challenge."""
        assert self.exchange is not None
        if len(line) + 1 > self.longest:
            was_refused = self.exchange[0] == b"REFUSED"
            self.exchange = None
            self._answer_bad(500)
            if was_refused and not self.closed:
                self._end_after_failures()
        elif self.exchange[0] == b"REFUSED":
            self.exchange = None
            self._say_refusal(535)
        elif line == b"*":
            self.exchange = None
            self._answer_bad(501)
        else:
            self._answer_challenge(line)
        return line + b"\r\n"

    def say_bare_answer(self, line: bytes) -> bytes:
        """An answer that ends in a bare LF: the session is over."""
        self.expected.append(500)
        self.closed = True
        return line + b"\n"

    def say_proof(self, argument: tuple[bytes, bytes, bool]) -> bytes:
        """An answer to the challenge of CRAM-MD5: the user, the digest, and whether it is right."""
        user, digest, is_right = argument
        assert self.exchange is not None
        assert self.exchange[0] == b"CRAM-MD5"
        self.exchange = None
        self._log_in(user, is_right)
        return b64(user + b" " + digest) + b"\r\n"

    def _answer_challenge(self, line: bytes) -> None:
        assert self.exchange is not None
        if len(line) > 8:
            self.secrets.add(line)
        mechanism, said = self.exchange
        self.exchange = None
        try:
            octets = b64decode(line, validate=True)
        except binascii.Error:
            octets = None
        # Not every Python minds what is missing.
        if octets is None or len(line) % 4:
            self._answer_bad(501)
            return
        if mechanism == b"LOGIN" and not said:
            self.exchange = mechanism, [octets]
            self.expected.append(334)
        elif mechanism == b"LOGIN":
            self._check(said[0], octets)
        elif mechanism == b"PLAIN":
            authorization, user, password = octets.split(b"\0") if octets.count(b"\0") == 2 else (b"", b"", b"")
            if user and password and authorization not in (b"", user):
                self._refuse(535)
            else:
                self._check(user, password)
        elif mechanism == b"XOAUTH2":
            known = [user for user in LOGINS if octets in (token_of(user, PASSWORD), token_of(user, WRONG))]
            self._check(known[0] if known else b"", octets[-2 - len(PASSWORD) : -2], has_reason=True)
        else:
            self._answer_bad(501)

    def _check(self, user: bytes, password: bytes, has_reason: bool = False) -> None:
        if user and password:
            self._log_in(user, password == PASSWORD, has_reason)
        else:
            self._answer_bad(501)

    def _log_in(self, user: bytes, is_right: bool, has_reason: bool = False) -> None:
        code = LOGINS[user][1] if is_right and user in LOGINS else 535
        if code == 235:
            self._answer(code)
            self.user, self.has_avatar = user.decode("ascii"), True
            return
        if is_right and user == BROKEN:
            self.errors += 1
        self._refuse(code, has_reason and code == 535)

    def _refuse(self, code: int, has_reason: bool = False) -> None:
        """Late; with XOAUTH2 there is a challenge first that says why."""
        self.failures += 1
        self.not_before[len(self.expected)] = self.now() + self.failures * DELAY
        if has_reason:
            self.exchange = b"REFUSED", []
            self.expected.append(334)
        else:
            self._say_refusal(code)

    def _say_refusal(self, code: int) -> None:
        self.expected.append(code)
        self._end_after_failures()

    def _end_after_failures(self) -> None:
        if self.failures >= MOST_FAILURES:
            self._end()

    # For whom it speaks

    def say_xclient(self, client: Client) -> bytes:
        """The session begins anew."""
        if self._may_speak_for(client.is_valid):
            self._answer(220)
            self.hello = False
            if client.trust is not None:
                self.is_trusted = client.trust
            if client.login is not None:
                self.claimed = client.login or None
            # Who authenticated before is the proxy.
            self.user, self.has_avatar = self.claimed, False
        return b"XCLIENT %b\r\n" % client.attributes

    def say_xforward(self, argument: tuple[bytes, bool]) -> bytes:
        """The attributes, and whether these are any."""
        attributes, is_valid = argument
        if self._may_speak_for(is_valid):
            self._answer(250)
        return b"XFORWARD %b\r\n" % attributes

    def _may_speak_for(self, is_valid: bool) -> bool:
        if self.sender:
            self._answer(503)
        elif not self.is_trusted:
            self._answer(550)
        elif not is_valid:
            self._answer_bad(501)
        else:
            return True
        return False

    def say_vrfy(self, name: str) -> bytes:
        """The delivery is asked."""
        self._answer(VERDICTS[self.verdicts[name][0]][1])
        return f"VRFY <{name}@x>\r\n".encode()
