"""
The life of a connection: the greeting, silence, waiting for the application, the end.

What is said in between is :mod:`lmtp_twisted.protocol`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from zope.interface import implementer

from lmtp_twisted.awaiting import FAILURES, cancel, deferred_of
from lmtp_twisted.disconnect import Disconnect
from lmtp_twisted.errors import TemporaryFailure
from lmtp_twisted.extensions.starttls import facts_of
from lmtp_twisted.flow import HeldLineReceiver, Hold
from lmtp_twisted.limits import Limit
from lmtp_twisted.session import SessionInfo
from lmtp_twisted.verdict import CONNECTION, Question
from lmtp_twisted.wire import replies
from lmtp_twisted.wire.replies import Reply

if TYPE_CHECKING:
    from lmtp_twisted.factory import LMTPFactory


#: Seconds that a handshake of TLS may take.
HANDSHAKE_TIMEOUT = 60.0


@implementer(IHandshakeListener)
class Connection(HeldLineReceiver, TimeoutMixin):
    """
    :param factory: what it shares with the others.

    :ivar factory: the same.
    :ivar session: who is talking; set when the connection is made.
    """

    factory: LMTPFactory
    session: SessionInfo

    _greeting: Any = None
    _begins_with_handshake = False
    _is_shaking_hands = False
    _answer: Deferred[Any] | None = None
    _answer_timer: Any = None
    # What is said to whatever comes next, where we want to end the session.
    _last_word: Reply | None = None
    _session_timer: Any = None

    def __init__(self, factory: LMTPFactory) -> None:
        super().__init__()
        self.factory = factory
        self.clock = factory.reactor
        self.outbox = factory.outbox
        self.turns = factory.turns
        self._patience = 0.0
        self._last_heard = 0.0
        # Final replies are owed: until they are sent, nothing but a lost connection ends the session.
        self._is_past_the_dot = False

    @property
    def write_timeout(self) -> float:
        """Seconds that a client may leave our output unread."""
        return self.factory.settings.write_timeout

    def callLater(self, period: float, func: Callable[[], None]) -> Any:
        """For :class:`~twisted.protocols.policies.TimeoutMixin`."""
        return self.clock.callLater(period, func)

    def resetTimeout(self) -> None:
        """The client has said something. Where the timer stands is looked at when it fires: this is called often."""
        self._last_heard = self.clock.seconds()

    def connectionMade(self) -> None:
        """Greet, or refuse."""
        super().connectionMade()
        transport = self.transport
        if hasattr(transport, "setTcpNoDelay"):
            transport.setTcpNoDelay(True)
        self.session = self.factory.new_session(transport)
        self._wait_for_client(self.factory.settings.idle_timeout)
        refusal = self.factory.session_started(self)
        if refusal is not None:
            self.send(refusal.encoded)
            # Where there may be any number of these, without lingering.
            self.close(linger=self.factory.is_draining)
            return
        settings = self.factory.settings
        if settings.session_timeout:
            self._session_timer = self.clock.callLater(settings.session_timeout, self._session_takes_too_long)
        if settings.greeting_delay:
            self.hold(Hold.GREETING)
        # Where TLS comes first, what the client shows there is for the policy to see.
        if self.is_secure:
            self._begins_with_handshake = True
            self._shake_hands()
        else:
            self._ask_policy()

    def _ask_policy(self) -> None:
        policy = self.factory.connection_policy
        if policy is None:
            self._connection_validated(CONNECTION.accepted)
            return
        try:
            answer = policy.validateConnection(self.session)
            waiting = deferred_of(answer)
        except FAILURES:
            answer, waiting = Failure(), None
        self._go_on(CONNECTION, answer, waiting, self._connection_validated)

    def _connection_validated(self, verdict: Reply) -> None:
        if not verdict.is_positive:
            temporary = verdict.code < 500
            self._say_and_close(Reply(421 if temporary else 554, verdict.enhanced, verdict.text or "Not welcome"))
        elif Hold.GREETING in self._holds:
            self._greeting = self.clock.callLater(self.factory.settings.greeting_delay, self._greet)
        else:
            self._greet()

    def _greet(self) -> None:
        self.send(f"220 {self.factory.settings.hostname} LMTP {self.factory.settings.banner}\r\n".encode("ascii"))
        if Hold.GREETING in self._holds:
            self.release(Hold.GREETING)

    def start_tls(self, tls: Any) -> None:
        """See :meth:`HeldLineReceiver.start_tls`."""
        super().start_tls(tls)
        if not self._is_closed:
            self._shake_hands()

    def _shake_hands(self) -> None:
        # Whatever comes until it is over is TLS's, and no sign of life for us.
        self._is_shaking_hands = True
        self._wait_for_client(min(HANDSHAKE_TIMEOUT, self.factory.settings.idle_timeout))

    def handshakeCompleted(self) -> None:
        """TLS is on."""
        self._is_shaking_hands = False
        if not self._is_closed:
            self._wait_for_client(self.factory.settings.idle_timeout)
        self.session.tls = facts_of(self.transport)
        self.factory.session_secured(self.session)
        if self._begins_with_handshake:
            self._begins_with_handshake = False
            self._ask_policy()

    def dataReceived(self, data: bytes) -> None:
        """Octets from the client."""
        if data and not self._is_closed:
            self._last_heard = self.clock.seconds()
            if self._holds and Hold.GREETING in self._holds:
                self._end_for(Limit.EARLY_TALKER)
        super().dataReceived(data)

    def release(self, reason: Hold, then: Callable[[], None] | None = None) -> None:
        """What we waited for is there. The client's time to say something begins now."""
        self.resetTimeout()
        super().release(reason, then)

    def close(self, *, linger: bool = False) -> None:
        """Say nothing more of ourselves."""
        self._forget_timers()
        super().close(linger=linger)

    def _forget_timers(self) -> None:
        self.setTimeout(None)
        for timer in (self._greeting, self._session_timer):
            if timer is not None and timer.active():
                timer.cancel()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Ask and wait for nothing any more."""
        super().connectionLost(reason)
        answer = self._answer
        if answer is not None:
            self._forget_answer()
            cancel(answer)
        self._abandon()
        self._forget_timers()
        self.factory.session_ended(self)

    def timeoutConnection(self) -> None:
        """The client may have said nothing for long. Where it is we who are slow, it has every right to."""
        is_our_turn = self._holds and not self._is_shaking_hands
        left = self._patience if is_our_turn else self._last_heard + self._patience - self.clock.seconds()
        if left > 0:
            self.setTimeout(left)
        elif self._is_shaking_hands:
            # Nothing can be said before it is over.
            self.factory.limit_reached(self.session, Limit.IDLE)
            self.transport.abortConnection()
        elif self._last_word is not None:
            self._say_and_close(self._last_word)
        else:
            self._end_for(Limit.IDLE)

    def _session_takes_too_long(self) -> None:
        self.factory.limit_reached(self.session, Limit.SESSION_TIME)
        self.shut_down(replies.SESSION_TOO_LONG)

    def _give_up(self) -> None:
        if not self._is_closed:
            self.factory.limit_reached(self.session, Limit.UNREAD_REPLIES)
        super()._give_up()

    def _wait_for_client(self, seconds: float) -> None:
        """From now on the client may be silent for so long."""
        self._patience = seconds
        self.resetTimeout()
        self.setTimeout(seconds)

    def shut_down(self, last_word: Reply = replies.SHUTTING_DOWN) -> None:
        """
        The session has to end: say goodbye now; or, where final replies are owed, at the next command after them
        (RFC 5321 §3.8).

        :param last_word: why, a 421.
        """
        self._last_word = last_word
        if not self._is_past_the_dot:
            self._say_and_close(last_word)

    def finish_now(self) -> None:
        """
        The server can wait no longer: what is not delivered yet is cancelled and answered 451, and the connection ends
        when the replies are sent.
        """
        raise NotImplementedError

    def _abandon(self) -> None:
        """The connection is lost: give up what the session has under way."""
        raise NotImplementedError

    def _end_for(self, limit: Limit) -> None:
        """The client has reached a limit that ends the session."""
        self.factory.limit_reached(self.session, limit)
        assert limit.reply is not None
        self._say_and_close(limit.reply)

    def _say_and_close(self, reply: Reply) -> None:
        self.send(reply.encoded)
        self.close(linger=True)

    def _go_on(
        self, question: Question, answer: object, waiting: Deferred[Any] | None, then: Callable[[Reply], None]
    ) -> None:
        """
        The application was asked: go on with its verdict, at once where it has one, else when it comes.

        :param question: what its answers mean.
        :param answer: what it returned, or the failure it ended in.
        :param waiting: its answer as a Deferred, where there is something to wait for.
        :param then: gets the reply.
        """
        if waiting is None:
            self._judged(question.verdict(answer), then)
        else:
            self._wait(waiting, lambda answer: self._judged(question.verdict(answer), then))

    def _judged(self, verdict: Reply, then: Callable[[Reply], None]) -> None:
        if isinstance(verdict, Disconnect):
            self.send(verdict.encoded[: verdict.octets])
            self._cut_off(verdict)
        else:
            then(verdict)

    def _cut_off(self, disconnect: Disconnect) -> None:
        """The application wants the connection to end here, as if it were lost."""
        self._abandon()
        self.close(linger=not disconnect.reset)
        if disconnect.reset:
            self.transport.abortConnection()

    def _wait(
        self,
        waiting: Deferred[Any],
        then: Callable[[Any], None],
        unwanted: Callable[[Any], None] | None = None,
    ) -> None:
        """
        Run no further command until the application has answered, or its time is over.

        :param waiting: its answer.
        :param then: gets it.
        :param unwanted: gets an answer for which it is too late.
        """

        def answered(result: Any) -> None:
            is_awaited = self._answer is waiting
            if is_awaited:
                self._forget_answer()
            if is_awaited and not self._is_closed:
                self.release(Hold.ANSWER, lambda: then(result))
            elif unwanted is not None:
                unwanted(result)

        def too_late() -> None:
            self._forget_answer()
            # Before the session goes on, so that no two questions of it overlap.
            cancel(waiting)
            if not self._is_closed:
                failure = Failure(TemporaryFailure(replies.TIMED_OUT.text, enhanced=replies.TIMED_OUT.enhanced))
                self.release(Hold.ANSWER, lambda: then(failure))

        self.hold(Hold.ANSWER)
        self._answer = waiting
        self._answer_timer = self.clock.callLater(self.factory.settings.delivery_timeout, too_late)
        waiting.addBoth(answered)

    def _forget_answer(self) -> None:
        self._answer = None
        if self._answer_timer.active():
            self._answer_timer.cancel()
