"""
What a session agrees on besides mail: TLS, who the client is, and for whom it speaks.

A client that authenticates gets deliveries of its own: the avatar that the portal's realm has for it takes the place of
the server's backend (:mod:`twisted.cred`). Failures are answered late, later each time, and end the session when there
are too many.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.cred.error import LoginFailed, UnhandledCredentials
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from lmtp_twisted.errors import CommandError, DeliveryError
from lmtp_twisted.extensions.auth import Credentials, Exchange, challenge
from lmtp_twisted.extensions.logins import avatar_and_logout, give_back
from lmtp_twisted.extensions.sasl import Mechanism, Surroundings
from lmtp_twisted.flow import Hold
from lmtp_twisted.interfaces import ILMTPDeliveryFactory
from lmtp_twisted.limits import Limit
from lmtp_twisted.receiving import Receiver
from lmtp_twisted.sequence import State
from lmtp_twisted.wire import replies
from lmtp_twisted.wire.attributes import XCLIENT, XFORWARD, parse_attributes
from lmtp_twisted.wire.commands import LINE_LIMITS
from lmtp_twisted.wire.replies import Reply

_log = Logger(namespace="lmtp_twisted")


class Negotiator(Receiver):
    """
    :param factory: what it shares with the others.
    """

    _exchange: Exchange | None = None
    # What the client hears once it has answered the challenge that says that it failed.
    _pending_refusal: Reply | None = None
    _auth_failures = 0
    _unauthenticated_commands = 0
    _penalty: Any = None
    _log_out: Callable[[], Any] | None = None
    # The addresses of the connection, once XCLIENT has replaced them.
    _ends: tuple[Any, Any] | None = None

    # TLS

    def do_STARTTLS(self, argument: bytes) -> None:
        """RFC 3207 §4."""
        if argument:
            self._bad(replies.NO_ARGUMENT)
        elif self.is_secure:
            self.send(replies.TLS_IS_ON.encoded)
        elif self.has_input:
            # It came in the clear, from whomever: none of it must run, neither before nor after the handshake.
            self._say_and_close(replies.NOTHING_MAY_FOLLOW)
        elif not self.can_start_tls:
            self.send(replies.TLS_UNAVAILABLE.encoded)
        else:
            # What was learnt in the clear is forgotten (§4.2), but for what a trusted peer said.
            self.session.lhlo_name = ""
            self.session.xforward = {}
            self.session.xclient.pop("LOGIN", None)
            if self.session.user is not None:
                self._be(None)
            self._enter(State.START)
            self._good(replies.START_TLS)
            self.start_tls(self.factory.tls)

    # Who the client is

    def do_AUTH(self, argument: bytes) -> None:
        """RFC 4954 §4."""
        session = self.session
        if session.user is not None:
            self.send(replies.AUTH_DONE.encoded)
            return
        certificate = (session.tls.peer_certificate if session.tls is not None else None) or b""
        surroundings = Surroundings(self.factory.settings.hostname, certificate)
        try:
            exchange = Exchange(argument, self.offer.mechanisms, surroundings)
        except CommandError as error:
            self._bad(Reply.from_error(error))
            return
        self._exchange = exchange
        self._go_on_with_exchange(exchange, exchange.begin)

    def _go_on_with_exchange(self, exchange: Exchange, step: Callable[[], bytes | Credentials]) -> None:
        """What the client has said leads to a challenge, to a login or to a refusal."""
        try:
            answer = step()
        except CommandError as error:
            self._end_exchange()
            reply = Reply.from_error(error)
            if reply.code == replies.AUTH_FAILED.code:
                self._refuse_login(reply, exchange.mechanism)
            else:
                self._bad(reply)
            return
        if isinstance(answer, bytes):
            self.divert_lines(self._response)
            self.send(challenge(answer))
        else:
            self._end_exchange()
            self._wait_for_turn(answer)

    def _wait_for_turn(self, credentials: Credentials) -> None:
        """Where this peer has failed too often lately, its next guess is not even looked at before it has waited."""
        failures = self.factory.failures.too_many(self.session.peer)
        if failures:
            self._penalise(failures, lambda: self._log_in(credentials))
        else:
            self._log_in(credentials)

    def _end_exchange(self) -> None:
        self._exchange = self._pending_refusal = None
        self.divert_lines(None)

    def _response(self, line: bytes) -> None:
        """The client's answer to a challenge. No line of these goes anywhere else: there may be a password in it."""
        if line[-1:] == b"\r":
            line = line[:-1]
        elif not self.factory.settings.lenient_newlines:
            self._say_and_close(replies.BARE_NEWLINE)
            return
        exchange = self._exchange
        if len(line) + 2 > LINE_LIMITS[b"AUTH"]:
            self._refuse_long_response()
        elif exchange is not None:
            self._go_on_with_exchange(exchange, lambda: exchange.respond(line))
        else:
            reply = self._pending_refusal
            assert reply is not None
            self._end_exchange()
            self._say_refusal(reply)

    @property
    def _is_in_exchange(self) -> bool:
        """Whether the next line is an answer to a challenge."""
        return self._exchange is not None or self._pending_refusal is not None

    def _refuse_long_response(self) -> None:
        has_failed = self._pending_refusal is not None
        self._end_exchange()
        self.factory.limit_reached(self.session, Limit.LINE_LENGTH)
        self._bad(replies.AUTH_LINE_TOO_LONG)
        if has_failed:
            self._end_after_failures()

    def _log_in(self, credentials: Credentials) -> None:
        """Ask the portal."""
        waiting = maybeDeferred(self.factory.portal.login, credentials.value, self.session, ILMTPDeliveryFactory)
        waiting.addCallback(avatar_and_logout)

        def unwanted(result: Any) -> None:
            if not isinstance(result, Failure):
                give_back(result[1])

        self._wait(waiting, lambda result: self._logged_in(result, credentials), unwanted)

    def _logged_in(self, result: Any, credentials: Credentials) -> None:
        if isinstance(result, Failure):
            self._login_failed(result, credentials)
            return
        avatar, self._log_out = result
        self._backend = self.factory.behind_policy(avatar)
        self.session.mechanism = credentials.mechanism.name
        self._authenticated()
        self._good(replies.AUTH_OK)

    def _authenticated(self) -> None:
        if self._tables is self.factory.locked_handlers:
            self._go_by(self.factory.handlers, self._state)
        self.factory.session_authenticated(self.session)

    def _login_failed(self, failure: Failure, credentials: Credentials) -> None:
        # A realm that failed later may have named it already.
        self.session.user = None
        if failure.check(LoginFailed, UnhandledCredentials):
            reply = replies.AUTH_FAILED
        elif isinstance(failure.value, DeliveryError):
            reply = Reply.from_error(failure.value, replies.AUTH_FAILED.code, replies.AUTH_FAILED.enhanced)
            if reply.code == 451:
                # What a temporary failure is elsewhere.
                reply = Reply(replies.AUTH_UNAVAILABLE.code, replies.AUTH_UNAVAILABLE.enhanced, reply.text)
        else:
            _log.failure("{id}: the login failed for want of an answer: answered 454", failure, id=self.session.id)
            reply = replies.AUTH_UNAVAILABLE
        mechanism = credentials.mechanism
        self._refuse_login(reply, mechanism, mechanism.failure if reply.code >= 500 else None)

    def _refuse_login(self, reply: Reply, mechanism: Mechanism, reason: bytes | None = None) -> None:
        """
        Who guesses passwords is to have to wait, and then to begin again.

        :param reply: the refusal.
        :param mechanism: by which it was tried.
        :param reason: what the client hears before, as a challenge that it has to answer.
        """
        self._auth_failures += 1
        self.factory.failures.add(self.session.peer)
        self.factory.authentication_failed(self.session, mechanism.name)
        # Neither the name nor the mechanism's answers: a password may have been typed in any of them.
        _log.warn(
            "{id}: authentication failed, peer={peer} attempt={attempt}",
            id=self.session.id,
            peer=replies.printable(self.session.peer_name),
            attempt=self._auth_failures,
        )

        def say() -> None:
            if reason is None:
                self._say_refusal(reply)
            else:
                self._pending_refusal = reply
                self.divert_lines(self._response)
                self.send(challenge(reason))

        self._penalise(self._auth_failures, say)

    def _penalise(self, failures: int, then: Callable[[], None]) -> None:
        """Go on later, the more failures the later."""

        def over() -> None:
            self._penalty = None
            self.release(Hold.PENALTY, then)

        self.hold(Hold.PENALTY)
        self._penalty = self.clock.callLater(self.factory.settings.auth_failure_delay * failures, over)

    def _say_refusal(self, reply: Reply) -> None:
        self.send(reply.encoded)
        self._end_after_failures()

    def _end_after_failures(self) -> None:
        """There are only so many."""
        if self._auth_failures >= self.factory.settings.max_auth_failures and not self._is_closed:
            self._end_for(Limit.AUTH_FAILURES)

    def count_unauthenticated(self, handler: Callable[[Any, bytes], None], argument: bytes) -> None:
        """A command of a client that has to authenticate first, and does not."""
        self._unauthenticated_commands += 1
        if self._unauthenticated_commands > self.factory.settings.max_unauthenticated_commands:
            self._end_for(Limit.UNAUTHENTICATED_COMMANDS)
        else:
            handler(self, argument)

    # For whom it speaks

    def do_XCLIENT(self, argument: bytes) -> None:
        """Postfix's XCLIENT_README: the session begins anew, as if the client that is named had connected."""
        values = self._attributes(argument, XCLIENT)
        if values is None:
            return
        session = self.session
        session.xclient = known = {**session.xclient, **{name: value or "" for name, value in values.items()}}
        # With what the attributes leave out as it was when the connection was made.
        peer, host = self._ends = self._ends or (session.peer, session.host)
        session.peer = _address(known.get("ADDR", ""), known.get("PORT", ""), peer)
        session.host = _address(known.get("DESTADDR", ""), known.get("DESTPORT", ""), host)
        if "ADDR" in values:
            # What follows may be the client's own words, which a proxy passes on: they are worth what it is worth.
            session.is_trusted = bool(known["ADDR"]) and self.factory.settings.trusted.covers(session.peer)
        session.lhlo_name = ""
        session.xforward = {}
        # An AUTH was the proxy's own; only what XCLIENT said lasts (XCLIENT_README, "Server response").
        self._be(known.get("LOGIN") or None)
        self._enter(State.START)
        self._bad_commands = 0
        self._ask_policy()

    def _be(self, user: str | None) -> None:
        """The client is somebody else from now on, or nobody known."""
        self._give_avatar_back()
        self.session.user = user
        self.session.mechanism = None
        self._backend = self.factory.backend
        if user is not None:
            self._authenticated()
        elif self.factory.settings.auth_required:
            self._go_by(self.factory.locked_handlers, self._state)

    def do_XFORWARD(self, argument: bytes) -> None:
        """Postfix's XFORWARD_README: where the next message came from, for the log."""
        values = self._attributes(argument, XFORWARD)
        if values is not None:
            self.session.xforward = {
                **self.session.xforward,
                **{name: value or "" for name, value in values.items()},
            }
            self._good(replies.FORWARD_OK)

    def _attributes(self, argument: bytes, known: tuple[str, ...]) -> dict[str, str | None] | None:
        if not self.session.is_trusted:
            self.send(replies.NOT_TRUSTED.encoded)
            return None
        try:
            return parse_attributes(argument, known)
        except CommandError as error:
            self._bad(Reply.from_error(error))
            return None

    # The end

    def close(self, *, linger: bool = False) -> None:
        """Say nothing more of ourselves."""
        self._forget_penalty()
        super().close(linger=linger)

    def _forget_penalty(self) -> None:
        if self._penalty is not None:
            self._penalty.cancel()
            self._penalty = None

    def _abandon(self) -> None:
        self._forget_penalty()
        super()._abandon()
        self._give_avatar_back()

    def _give_avatar_back(self) -> None:
        log_out, self._log_out = self._log_out, None
        if log_out is not None:
            give_back(log_out)


def _address(host: str, port: str, known: Any) -> Any:
    """
    The address that the attributes name, with what they leave out as it was known. The port of another host is not
    known.
    """
    number = int(port) if port else 0 if host else getattr(known, "port", 0)
    host = host or str(getattr(known, "host", None) or "")
    if not host:
        return known
    kind = IPv6Address if ":" in host else IPv4Address
    return kind("TCP", host, number)
