"""The factory: what all sessions of a server share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger

from lmtp_twisted.callables import MessageCallable, RecipientCallable, deliveries_of
from lmtp_twisted.connection import Connection
from lmtp_twisted.envelope import Recipient, Sender
from lmtp_twisted.outbox import Outbox
from lmtp_twisted.policy import PolicyFirst
from lmtp_twisted.protocol import LMTPProtocol
from lmtp_twisted.sequence import SEQUENCE, State
from lmtp_twisted.session import SessionInfo
from lmtp_twisted.settings import Settings
from lmtp_twisted.spool import Spool
from lmtp_twisted.threads import default_pool
from lmtp_twisted.transaction import Transaction
from lmtp_twisted.wire import replies
from lmtp_twisted.wire.parameters import Body
from lmtp_twisted.wire.replies import Reply, encode_lines

_log = Logger(namespace="lmtp_twisted")

Handler = Callable[[Any, bytes], None]

# The parameters of MAIL and RCPT that go with a capability, and are refused where it is switched off.
_KEYWORDS = {
    "SIZE": {"SIZE"},
    "SMTPUTF8": {"SMTPUTF8"},
    "DSN": {"RET", "ENVID", "NOTIFY", "ORCPT"},
    "MT-PRIORITY": {"MT-PRIORITY"},
}
# The parameters of capabilities that are announced in some sessions only, and not in this version.
_NOT_ANNOUNCED = {"AUTH"}


class LMTPFactory(ServerFactory):
    """
    Makes a session for each connection. Give it one of ``backend``, ``deliver`` and ``deliverMessage``::

        async def deliver(message, recipient):
            print(recipient, message.headers["Subject"])

        endpoint.listen(LMTPFactory(deliver=deliver))

    :param backend: an :class:`~lmtp_twisted.interfaces.ILMTPDeliveryFactory`; or an
        :class:`~twisted.mail.smtp.IMessageDeliveryFactory` or :class:`~twisted.mail.smtp.IMessageDelivery` of Twisted.
    :param policy: an :class:`~lmtp_twisted.interfaces.ILMTPDeliveryFactory` whose deliveries are asked first; their
        ``deliver`` is not called.
    :param deliver: called with the message and a recipient, for each recipient; its result is that one's outcome.
    :param deliverMessage: called with the message once; its result is the outcome of all recipients, or a list with
        an outcome for each.
    :param connection_policy: an :class:`~lmtp_twisted.interfaces.IConnectionPolicy`.
    :param tls: makes the TLS connections that STARTTLS asks for: an
        :class:`~twisted.internet.interfaces.IOpenSSLServerConnectionCreator` or a context factory, such as
        :class:`twisted.internet.ssl.CertificateOptions`. Without it STARTTLS is neither announced nor accepted.
    :param observers: each an :class:`~lmtp_twisted.interfaces.ISessionObserver`.
    :param settings: limits, names and policies of the protocol.
    :param reactor: the clock, and where results from threads arrive; the global reactor by default.
    :param spool: where large messages lie while they are received; by default the system's temporary directory.
    :raises TypeError: where none or more than one of the three is given.

    :ivar sessions: the sessions of now, without those that were turned away.
    """

    protocol = LMTPProtocol  # type: ignore[assignment]  # ours is made with its factory
    noisy = False

    def __init__(
        self,
        backend: Any = None,
        *,
        policy: Any = None,
        deliver: RecipientCallable | None = None,
        deliverMessage: MessageCallable | None = None,
        connection_policy: Any = None,
        tls: Any = None,
        observers: Iterable[Any] = (),
        settings: Settings | None = None,
        reactor: Any = None,
        spool: Spool | None = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self.reactor: Any = reactor
        self.settings = settings or Settings()
        chosen = deliveries_of(backend, deliver, deliverMessage, reactor)
        self.backend: Any = chosen if policy is None else PolicyFirst(policy, chosen)
        self.connection_policy = connection_policy
        self.tls = tls
        self.observers = tuple(observers)
        self.spool = spool or Spool(reactor, default_pool(reactor))
        self.outbox = Outbox(reactor)
        self.sessions: set[Connection] = set()
        self._drained: list[Deferred[None]] = []
        self._is_draining = False
        self._prepare()

    def _prepare(self) -> None:
        """Bring the settings into the form in which sessions look things up."""
        settings = self.settings
        offers_tls = self.tls is not None
        # Without TLS, and with it.
        self.lhlo_replies = tuple(
            encode_lines(250, [settings.hostname, *settings.capabilities(is_secure=is_secure, offers_tls=offers_tls)])
            for is_secure in (False, True)
        )
        # By state, then by verb.
        self.handlers: tuple[Mapping[bytes, Handler], ...] = tuple(
            {verb: self._handler(verb, state) for verb in SEQUENCE} for state in State
        )
        self.chunk_refusals = {
            state: replies.DISABLED_COMMAND if "CHUNKING" in settings.disabled else SEQUENCE[b"BDAT"][state]
            for state in State
        }
        refused = set(_NOT_ANNOUNCED)
        for name in settings.disabled:
            refused |= _KEYWORDS.get(name, set())
        self._refused_keywords = tuple(
            frozenset(refused if is_secure and "REQUIRETLS" in settings.enabled else refused | {"REQUIRETLS"})
            for is_secure in (False, True)
        )
        bodies = {Body.EIGHT_BIT_MIME: {"8BITMIME"}, Body.BINARY_MIME: {"BINARYMIME"}}
        # The keyword itself belongs to either of them (RFC 6152 §2, RFC 3030 §3).
        bodies[Body.SEVEN_BIT] = {"8BITMIME", "BINARYMIME"}
        self._refused_bodies = frozenset(body for body, names in bodies.items() if names <= settings.disabled)

    def _handler(self, verb: bytes, state: State) -> Handler:
        name = verb.decode("ascii")
        is_off = name in self.settings.disabled or (verb == b"STARTTLS" and self.tls is None)
        refusal = replies.DISABLED_COMMAND if is_off else SEQUENCE[verb][state]
        # BDAT's handler reads the chunk away before it refuses.
        if refusal is not None and verb != b"BDAT":
            return _refuse_with(refusal)
        handler: Handler = getattr(self.protocol, f"do_{name}")
        return handler

    def buildProtocol(self, addr: IAddress | None) -> LMTPProtocol:  # type: ignore[override]  # made with its factory
        """A new session."""
        return self.protocol(self)

    # What sessions ask

    def lhlo_reply(self, session: SessionInfo) -> bytes:
        """The reply to LHLO."""
        return self.lhlo_replies[session.tls is not None]

    def sender_refusal(self, sender: Sender, session: SessionInfo) -> Reply | None:
        """What the settings have against a sender, before the application is asked."""
        parameters, limit = sender.parameters, self.settings.size_limit
        refused = self._refused_keywords[session.tls is not None]
        if not refused.isdisjoint(parameters.keywords) or parameters.body in self._refused_bodies:
            return replies.UNKNOWN_PARAMETER
        if limit and parameters.size is not None and parameters.size > limit:
            return replies.TOO_LARGE
        if not parameters.smtputf8 and sender.address is not None and not sender.address.is_ascii:
            return replies.SENDER_NEEDS_SMTPUTF8
        return None

    def recipient_refusal(self, recipient: Recipient, transaction: Transaction) -> Reply | None:
        """What the settings have against one more recipient, before the application is asked."""
        if not self._refused_keywords[False].isdisjoint(recipient.parameters.keywords):
            return replies.UNKNOWN_PARAMETER
        if not recipient.address.is_ascii and not transaction.sender.parameters.smtputf8:
            return replies.RECIPIENT_NEEDS_SMTPUTF8
        if len(transaction.accepted) >= self.settings.max_recipients:
            return replies.TOO_MANY_RECIPIENTS
        return None

    # What sessions tell

    def session_started(self, protocol: Connection) -> Reply | None:
        """
        A connection was made.

        :returns: the reply with which it is refused, or ``None``.
        """
        refusal = None
        if self._is_draining:
            refusal = replies.SHUTTING_DOWN
        elif len(self.sessions) >= self.settings.max_sessions:
            refusal = replies.TOO_MANY_SESSIONS
        if refusal is None:
            self.sessions.add(protocol)
        self._tell("sessionStarted", protocol.session)
        return refusal

    def session_secured(self, session: SessionInfo) -> None:
        """TLS is on."""
        self._tell("sessionSecured", session)

    def session_ended(self, protocol: Connection) -> None:
        """A connection is gone."""
        self.sessions.discard(protocol)
        self._tell("sessionEnded", protocol.session)
        if not self.sessions:
            waiting, self._drained = self._drained, []
            for deferred in waiting:
                deferred.callback(None)

    def transaction_ended(self, session: SessionInfo, transaction: Transaction) -> None:
        """A transaction is over."""
        if self.observers:
            self._tell("transactionEnded", session, transaction.envelope, transaction.outcomes())

    def _tell(self, event: str, *arguments: object) -> None:
        for observer in self.observers:
            try:
                getattr(observer, event)(*arguments)
            except Exception:
                _log.failure("{event} of {observer!r} failed", event=event, observer=observer)

    def drain(self) -> Deferred[None]:
        """
        Bring all sessions to an end: new ones and idle ones are answered 421, deliveries under way finish and all
        their replies are sent. Close the ports first.

        :returns: fires when no session is left.
        """
        self._is_draining = True
        done: Deferred[None] = Deferred()
        self._drained.append(done)
        for protocol in list(self.sessions):
            protocol.shut_down()
        if not self.sessions and done in self._drained:
            self._drained.remove(done)
            done.callback(None)
        return done


def _refuse_with(reply: Reply) -> Handler:
    data = reply.encoded
    return lambda protocol, argument: protocol.send(data)
