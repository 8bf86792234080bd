"""The factory: what all sessions of a server share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger

from lmtp_twisted.callables import MessageCallable, RecipientCallable, deliveries_of
from lmtp_twisted.connection import Connection
from lmtp_twisted.envelope import Recipient, Sender
from lmtp_twisted.extensions.logins import Failures, naming
from lmtp_twisted.extensions.peer import CAN_TELL, credentials_of, link_of, may_be_trusted
from lmtp_twisted.extensions.sasl import mechanisms_for
from lmtp_twisted.headcount import HeadCount
from lmtp_twisted.limits import Limit
from lmtp_twisted.offer import Offer, Offers
from lmtp_twisted.outbox import Outbox
from lmtp_twisted.policy import PolicyFirst
from lmtp_twisted.protocol import LMTPProtocol
from lmtp_twisted.receiving import FEW_RECIPIENTS
from lmtp_twisted.sequence import LEAD_TO_AUTH, NEED_AUTH, SEQUENCE, State
from lmtp_twisted.session import SessionInfo
from lmtp_twisted.settings import Settings
from lmtp_twisted.spool import Spool
from lmtp_twisted.threads import default_pool
from lmtp_twisted.transaction import Transaction
from lmtp_twisted.turns import Turns
from lmtp_twisted.verdict import backend_for
from lmtp_twisted.wire import replies
from lmtp_twisted.wire.parameters import Body
from lmtp_twisted.wire.replies import Reply

_log = Logger(namespace="lmtp_twisted")

# So many more recipients at a time are counted among those of all messages.
_MORE_RECIPIENTS = 50

Handler = Callable[[Any, bytes], None]

#: What the verbs that are none of ours are counted under.
OTHER_VERBS = "other"

# Verbs that HELP does not name: not LMTP's, or for few.
_NO_HELP = frozenset({b"EHLO", b"HELO", b"EXPN", b"XCLIENT", b"XFORWARD"})


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
    :param portal: a :class:`twisted.cred.portal.Portal` for AUTH. Its realm is asked for an
        :class:`~lmtp_twisted.interfaces.ILMTPDeliveryFactory`, with the :class:`~lmtp_twisted.session.SessionInfo` as
        the mind; its checkers decide which mechanisms there are. Without it AUTH is neither announced nor accepted.
    :param observers: each an :class:`~lmtp_twisted.interfaces.ISessionObserver`.
    :param settings: limits, names and policies of the protocol.
    :param reactor: the clock, and where results from threads arrive; the global reactor by default.
    :param spool: where large messages lie while they are received; by default the system's temporary directory.
    :param shared_count: counts the sessions of several factories, which share its limits; those of the settings are for
        the sessions of this one.
    :param own_count: counts these, where several processes share the limits of the settings.
    :param command_counts: is kept up to date with how often each verb was said that the server has, whatever it was
        answered, and under ``"other"`` all others; without MAIL and RCPT in their turn, of which there are most, and
        of which observers hear. Several factories may share it.
    :raises TypeError: where none or more than one of the three is given.
    :raises ValueError: where the settings require AUTH, and there is no portal or it is disabled.

    :ivar sessions: the sessions of now, without those that were turned away.
    :ivar counts: the limits that they count against.
    :ivar is_draining: whether all sessions are to end, and those that come are turned away.
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
        portal: Portal | None = None,
        observers: Iterable[Any] = (),
        settings: Settings | None = None,
        reactor: Any = None,
        spool: Spool | None = None,
        shared_count: HeadCount | None = None,
        own_count: HeadCount | None = None,
        command_counts: dict[str, int] | None = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self.reactor: Any = reactor
        self.settings = settings or Settings()
        chosen = deliveries_of(backend, deliver, deliverMessage, reactor)
        self._policy = policy
        self.backend = self.behind_policy(chosen)
        self.connection_policy = connection_policy
        self.tls = tls
        # AUTH is neither announced nor called where there is none.
        self.portal: Any = None if portal is None else naming(portal)
        self.failures = Failures(reactor)
        self.observers = tuple(observers)
        self.spool = spool or Spool(reactor, default_pool(reactor))
        self.outbox = Outbox(reactor)
        self.command_counts = command_counts
        self.turns = Turns(reactor, self.outbox)
        self.sessions: set[Connection] = set()
        self.first_room = min(FEW_RECIPIENTS, self.settings.max_recipients)
        own_count = own_count or HeadCount(self.settings.max_sessions, self.settings.max_sessions_per_peer)
        self.counts: tuple[HeadCount, ...] = (own_count,) if shared_count is None else (own_count, shared_count)
        self._emptied: list[Deferred[None]] = []
        self.is_draining = False
        self._prepare()

    def _prepare(self) -> None:
        """Bring the settings into the form in which sessions look things up."""
        settings = self.settings
        if settings.auth_required and (self.portal is None or "AUTH" in settings.disabled):
            raise ValueError("AUTH is required, so a portal is needed and it cannot be disabled")
        if (settings.allowed_uids or settings.allowed_gids) and not CAN_TELL:
            raise ValueError("allowed_uids, allowed_gids: this system does not say who connects to a Unix socket")
        interfaces = () if self.portal is None else self.portal.listCredentialsInterfaces()
        if settings.auth_required and not mechanisms_for(interfaces, is_private=True, has_certificate=True):
            raise ValueError("AUTH is required, and the portal has no checker for what a mechanism of it gives")
        self.offers = Offers(settings, self.tls is not None, interfaces)
        # By state, then by verb; and the same for those who have to authenticate first, and for those who have to go.
        self.handlers = self._tables(self._handler)
        self.locked_handlers = self._tables(self._locked_handler)
        # The replies to a BDAT whose octets have been read away, for those who are through and those who are not.
        self.chunk_refusals, self.locked_chunk_refusals = (
            tuple(self._refusal(b"BDAT", state, is_locked) for state in State) for is_locked in (False, True)
        )
        self.farewell_handlers = ({b"QUIT": self._counted(b"QUIT", self.protocol.do_QUIT)},) * len(State)
        verbs = (verb.decode("ascii") for verb in SEQUENCE if verb not in _NO_HELP and not self._is_off(verb))
        self.help = Reply(214, "2.0.0", f"This is LMTP, RFC 2033: {' '.join(verbs)}")
        bodies = {Body.EIGHT_BIT_MIME: {"8BITMIME"}, Body.BINARY_MIME: {"BINARYMIME"}}
        # The keyword itself belongs to either of them (RFC 6152 §2, RFC 3030 §3).
        bodies[Body.SEVEN_BIT] = {"8BITMIME", "BINARYMIME"}
        self._refused_bodies = frozenset(body for body, names in bodies.items() if names <= settings.disabled)

    def _tables(self, handler: Callable[[bytes, State], Handler]) -> tuple[Mapping[bytes, Handler], ...]:
        return tuple({verb: self._counted(verb, handler(verb, state)) for verb in SEQUENCE} for state in State)

    def _counted(self, verb: bytes, handler: Handler) -> Handler:
        """The handler; where commands are counted, one that counts. Where they are not this costs a session nothing."""
        counts, name = self.command_counts, verb.decode("ascii")
        if counts is None:
            return handler
        for each in (name, OTHER_VERBS):
            counts.setdefault(each, 0)
        if handler in (self.protocol.do_MAIL, self.protocol.do_RCPT):
            return handler

        def count(protocol: Any, argument: bytes) -> None:
            counts[name] += 1
            handler(protocol, argument)

        return count

    def _is_off(self, verb: bytes) -> bool:
        needed = {b"STARTTLS": self.tls, b"AUTH": self.portal}
        # CHUNKING is what BDAT belongs to.
        name = "CHUNKING" if verb == b"BDAT" else verb.decode("ascii")
        return name in self.settings.disabled or (verb in needed and needed[verb] is None)

    def _refusal(self, verb: bytes, state: State, is_locked: bool) -> Reply | None:
        """The reply that is given instead of calling the verb's handler."""
        if self._is_off(verb):
            # AUTH has its place in the order of things even where there is none (RFC 4954 §4).
            return replies.LHLO_FIRST if verb == b"AUTH" and state is State.START else replies.DISABLED_COMMAND
        refusal = SEQUENCE[verb][state]
        if is_locked and verb in NEED_AUTH and (refusal is None or state is not State.START):
            return replies.AUTH_REQUIRED
        return refusal

    def _handler(self, verb: bytes, state: State, is_locked: bool = False) -> Handler:
        refusal = self._refusal(verb, state, is_locked)
        # BDAT's handler reads the chunk away before it refuses.
        if refusal is not None and verb != b"BDAT":
            return _refuse_with(refusal)
        handler: Handler = getattr(self.protocol, f"do_{verb.decode('ascii')}")
        return handler

    def _locked_handler(self, verb: bytes, state: State) -> Handler:
        handler = self._handler(verb, state, True)
        if verb in LEAD_TO_AUTH:
            return handler
        return lambda protocol, argument: protocol.count_unauthenticated(handler, argument)

    def behind_policy(self, backend: Any) -> Any:
        """A backend, or the avatar that takes its place, as sessions ask it: after the policy."""
        return backend if self._policy is None else PolicyFirst(self._policy, backend)

    def buildProtocol(self, addr: IAddress | None) -> LMTPProtocol:  # type: ignore[override]  # made with its factory
        """A new session."""
        return self.protocol(self)

    # What sessions ask

    def sender_refusal(self, sender: Sender, offer: Offer, session: SessionInfo) -> Reply | None:
        """What the settings have against a sender, before the application is asked."""
        parameters, limit = sender.parameters, self.settings.size_limit
        if not offer.refused_keywords.isdisjoint(parameters.keywords) or parameters.body in self._refused_bodies:
            return replies.UNKNOWN_PARAMETER
        if limit and parameters.size is not None and parameters.size > limit:
            self.limit_reached(session, Limit.MESSAGE_SIZE)
            return replies.TOO_LARGE
        if not parameters.smtputf8 and sender.address is not None and not sender.address.is_ascii:
            return replies.SENDER_NEEDS_SMTPUTF8
        return None

    def recipient_refusal(
        self, recipient: Recipient, offer: Offer, session: SessionInfo, transaction: Transaction
    ) -> Reply | None:
        """What the settings have against one more recipient, before the application is asked."""
        if not offer.refused_keywords.isdisjoint(recipient.parameters.keywords):
            return replies.UNKNOWN_PARAMETER
        if not recipient.address.is_ascii and not transaction.sender.parameters.smtputf8:
            return replies.RECIPIENT_NEEDS_SMTPUTF8
        return None if len(transaction.accepted) < transaction.room else self._no_room_for_more(session, transaction)

    def _no_room_for_more(self, session: SessionInfo, transaction: Transaction) -> Reply | None:
        most = self.settings.max_recipients
        if transaction.room < most and self.spool.make_room_for_recipients(_MORE_RECIPIENTS):
            transaction.room = min(transaction.room + _MORE_RECIPIENTS, most)
            transaction.reserved += _MORE_RECIPIENTS
            return None
        self.limit_reached(session, Limit.RECIPIENTS)
        return replies.TOO_MANY_RECIPIENTS if transaction.room >= most else replies.TOO_MANY_RECIPIENTS_NOW

    # What sessions tell

    def new_session(self, transport: Any) -> SessionInfo:
        """What is known of a client when its connection was made."""
        peer = transport.getPeer()
        return SessionInfo(
            peer,
            transport.getHost(),
            link=link_of(transport),
            credentials=credentials_of(transport),
            is_trusted=may_be_trusted(transport) and self.settings.trusted.covers(peer),
        )

    def session_started(self, protocol: Connection) -> Reply | None:
        """
        A connection was made.

        :returns: the reply with which it is refused, or ``None``.
        """
        session, settings = protocol.session, self.settings
        limit = next(filter(None, (count.limit_for(session) for count in self.counts)), None)
        if limit is None and session.credentials is not None and not settings.lets_in(session.credentials):
            limit = Limit.PEER_CREDENTIALS
            _log.warn(
                "{id}: user {uid}, group {gid}, process {pid} may not connect",
                id=session.id,
                uid=session.credentials.uid,
                gid=session.credentials.gid,
                pid=session.credentials.pid,
            )
        self._tell("sessionStarted", session)
        if self.is_draining:
            # It is waited for: this reply, too, is to be read.
            self.sessions.add(protocol)
            return replies.SHUTTING_DOWN
        if limit is not None:
            self.limit_reached(session, limit)
            return limit.reply
        self.sessions.add(protocol)
        for count in self.counts:
            count.add(protocol, session)
        return None

    def session_secured(self, session: SessionInfo) -> None:
        """TLS is on."""
        self._tell("sessionSecured", session)

    def session_authenticated(self, session: SessionInfo) -> None:
        """The client has authenticated."""
        self._tell("sessionAuthenticated", session)

    def authentication_failed(self, session: SessionInfo, mechanism: str) -> None:
        """The client has failed to authenticate."""
        self._tell("authenticationFailed", session, mechanism)

    def limit_reached(self, session: SessionInfo, limit: Limit) -> None:
        """The client has reached a limit."""
        self._tell("limitReached", session, limit)

    def session_ended(self, protocol: Connection) -> None:
        """A connection is gone."""
        self.sessions.discard(protocol)
        for count in self.counts:
            count.remove(protocol)
        self._tell("sessionEnded", protocol.session)
        self._tell_if_empty()

    def count_also(self, counts: Iterable[HeadCount]) -> None:
        """
        The sessions of now, and those to come, count against the limits of others as well.

        :param counts: the limits.
        """
        added = tuple(count for count in counts if count not in self.counts)
        self.counts += added
        for protocol in self.sessions:
            for count in added:
                count.add(protocol, protocol.session)

    def when_empty(self) -> Deferred[None]:
        """
        :returns: fires when no session is left.
        """
        done: Deferred[None] = Deferred()
        self._emptied.append(done)
        self._tell_if_empty()
        return done

    def _tell_if_empty(self) -> None:
        if not self.sessions:
            emptied, self._emptied = self._emptied, []
            for deferred in emptied:
                deferred.callback(None)

    def sender_refused(self, session: SessionInfo, sender: Sender | None, reply: Reply) -> None:
        """A MAIL command was refused."""
        self._tell("senderRefused", session, sender, reply)

    def recipient_refused(
        self, session: SessionInfo, transaction: Transaction, recipient: Recipient | None, reply: Reply, backend: Any
    ) -> None:
        """A RCPT command was refused."""
        if self.observers:
            meant = None if recipient is None else backend_for(transaction.delivery, recipient, backend)
            self._tell("recipientRefused", session, transaction.sender, recipient, reply, meant)

    def transaction_ended(self, session: SessionInfo, transaction: Transaction, backend: Any) -> None:
        """A transaction is over."""
        self.spool.recipients -= transaction.reserved
        transaction.reserved = 0
        if not self.observers:
            return
        # What _tell does, but this is told for each message.
        envelope, outcomes = transaction.envelope, transaction.outcomes(backend)
        for observer in self.observers:
            try:
                observer.transactionEnded(session, envelope, outcomes)
            except Exception:
                self._failed("transactionEnded", observer)

    def unknown_command(self) -> None:
        """A verb that is none of ours was said."""
        if self.command_counts is not None:
            self.command_counts[OTHER_VERBS] += 1

    def _tell(self, event: str, *arguments: object) -> None:
        for observer in self.observers:
            try:
                getattr(observer, event)(*arguments)
            except Exception:
                self._failed(event, observer)

    def _failed(self, event: str, observer: object) -> None:
        _log.failure("{event} of {observer!r} failed", event=event, observer=observer)

    @property
    def is_taking(self) -> bool:
        """Whether new sessions are taken."""
        return not self.is_draining

    def drain(self) -> Deferred[None]:
        """
        Bring all sessions to an end: new ones and idle ones are answered 421, deliveries under way finish and all
        their replies are sent. Close the ports first.

        :returns: fires when no session is left.
        """
        self.is_draining = True
        for protocol in list(self.sessions):
            protocol.shut_down()
        return self.when_empty()


def _refuse_with(reply: Reply) -> Handler:
    data = reply.encoded
    return lambda protocol, argument: protocol.send(data)
