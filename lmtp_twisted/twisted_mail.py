"""
Adapters: what was written for twisted.mail, an :class:`~twisted.mail.smtp.IMessageDelivery` or an
:class:`~twisted.mail.smtp.IMessageDeliveryFactory`, works unchanged, and each recipient has its own outcome.

The objects are called as :class:`twisted.mail.smtp.ESMTP` calls them, but for three things: an error of one recipient's
message is that recipient's alone; messages are made after the content is complete; and a recipient that was given
twice has one message. Portals and AUTH of twisted.mail are not used.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.mail import smtp
from twisted.python.failure import Failure
from zope.interface import implementer

from lmtp_twisted.awaiting import deferred_of
from lmtp_twisted.envelope import Recipient, Sender
from lmtp_twisted.errors import DeliveryError, PermanentFailure, is_enhanced
from lmtp_twisted.interfaces import ILMTPDelivery, ILMTPDeliveryFactory, IReceivedMessage
from lmtp_twisted.session import SessionInfo
from lmtp_twisted.wire.addresses import Address

#: Octets of the longest line that is given to an IMessage: a line has to be held until its end has come.
MAX_LINE = 4 * 1024 * 1024
#: Seconds of work on one message after which the reactor sees to other sessions.
TURN = 0.01

_log = Logger(namespace="lmtp_twisted")


def adapt(backend: object, *, domain: bytes = smtp.DNSNAME, reactor: Any = None) -> ILMTPDeliveryFactory:
    """
    A delivery factory from a delivery, or a factory of deliveries, of twisted.mail.

    :param backend: provides :class:`~twisted.mail.smtp.IMessageDeliveryFactory`, and is then asked for a delivery for
        each message; or :class:`~twisted.mail.smtp.IMessageDelivery`, and then serves all messages.
    :param domain: the domain of addresses that have none, such as ``<Postmaster>``; by default our host's name, as in
        :class:`~twisted.mail.smtp.SMTPFactory`.
    :param reactor: an :class:`~twisted.internet.interfaces.IReactorTime`; the global reactor by default.
    :raises TypeError: where ``backend`` provides neither.
    """
    if reactor is None:
        from twisted.internet import reactor
    if smtp.IMessageDeliveryFactory.providedBy(backend):
        return _Deliveries(backend.getMessageDelivery, domain, reactor)
    if smtp.IMessageDelivery.providedBy(backend):
        return _Deliveries(lambda: backend, domain, reactor)
    raise TypeError(
        "a backend is an object that provides ILMTPDeliveryFactory, or IMessageDeliveryFactory or IMessageDelivery of "
        f"twisted.mail.smtp; this one provides none of them: {backend!r}"
    )


@attrs.frozen(eq=False)
class PeerTransport:
    """
    What :attr:`SessionProtocol.transport` offers.

    :ivar session: whose addresses they are.
    """

    session: SessionInfo

    def getPeer(self) -> IAddress:
        """The client's address."""
        return self.session.peer

    def getHost(self) -> IAddress:
        """Our own address."""
        return self.session.host


@attrs.frozen(eq=False)
class SessionProtocol:
    """
    What stands in :attr:`twisted.mail.smtp.User.protocol`, where twisted.mail has its own protocol: as much of that as
    a delivery may ask, and nothing that could disturb the session.

    :ivar session: the :class:`~lmtp_twisted.session.SessionInfo`, for those who know LMTP.
    :ivar host: the domain of addresses that have none.
    :ivar helo: the name that the client gave in LHLO and its IP address.
    """

    session: SessionInfo
    host: bytes
    helo: tuple[bytes, bytes]

    @property
    def transport(self) -> PeerTransport:
        """Its ``getPeer`` and ``getHost`` say who is connected to whom."""
        return PeerTransport(self.session)


@implementer(ILMTPDeliveryFactory)
class _Deliveries:
    def __init__(self, give: Callable[[], Any], domain: bytes, reactor: Any) -> None:
        self._give = give
        self._domain = domain
        self._reactor = reactor

    def getDelivery(self, session: SessionInfo) -> Any:
        helo = session.lhlo_name.encode("ascii"), session.peer_name.encode("ascii", "replace")
        protocol = SessionProtocol(session, self._domain, helo)

        def adapt_delivery(delivery: Any) -> ILMTPDelivery:
            if delivery is None:
                raise TypeError("getMessageDelivery gave None instead of an IMessageDelivery")
            return _Delivery(delivery, protocol, self._reactor)

        return _ask(self._give, adapt_delivery)


@implementer(ILMTPDelivery)
class _Delivery:
    """One message on its way through an IMessageDelivery."""

    def __init__(self, delivery: Any, protocol: SessionProtocol, reactor: Any) -> None:
        self._delivery = delivery
        self._protocol = protocol
        self._reactor = reactor
        self._origin: Any = None
        # By mailbox: the user, and what makes its IMessage.
        self._accepted: dict[object, tuple[smtp.User, Callable[[], Any]]] = {}

    def validateFrom(self, sender: Sender) -> Any:
        # RFC 6531 §3.5. smtp.Address turns into ASCII wherever it is used.
        if sender.address is not None and not sender.address.is_ascii:
            raise PermanentFailure("Non-ASCII senders are not supported", code=550, enhanced="5.6.7")
        origin = self._smtp_address(sender.address)
        return _ask(lambda: self._delivery.validateFrom(self._protocol.helo, origin), self._accept_sender)

    def _accept_sender(self, origin: Any) -> None:
        if not origin:
            raise TypeError(f"validateFrom gave {origin!r} instead of the sender's address")
        self._origin = origin

    def validateTo(self, recipient: Recipient) -> Any:
        if not recipient.address.is_ascii:
            raise PermanentFailure("Non-ASCII recipients are not supported", code=553, enhanced="5.6.7")
        destination = self._smtp_address(recipient.address)
        user = smtp.User(destination, self._protocol.helo, self._protocol, self._origin)

        def accept(make: Any) -> None:
            if not callable(make):
                raise TypeError(f"validateTo gave {make!r} instead of a callable that gives an IMessage")
            self._accepted.setdefault(recipient.address.key, (user, make))

        return _ask(lambda: self._delivery.validateTo(user), accept)

    def aborted(self, reason: str) -> None:
        """No IMessage has been made, and an IMessageDelivery is not told."""

    def deliver(self, message: IReceivedMessage) -> list[Deferred[None]]:
        copies = [_Copy(*self._accepted[recipient.address.key]) for recipient in message.recipients]
        Deferred.fromCoroutine(self._feed(message, copies))
        return [copy.outcome for copy in copies]

    async def _feed(self, message: IReceivedMessage, copies: Sequence[_Copy]) -> None:
        """Give the content to all copies at once, so that it is read once."""
        turn = _Turn(self._reactor)
        try:
            for copy in copies:
                if turn.is_over:
                    await turn.next()
                copy.begin(self._received_header)
            async for lines in _lines_of(message):
                for line in lines:
                    if turn.is_over:
                        await turn.next()
                    for copy in copies:
                        copy.take(line)
                copies = [copy for copy in copies if copy.is_open]
                if not copies:
                    return
        except Exception:
            for copy in copies:
                copy.fail(Failure())
        for copy in copies:
            if turn.is_over:
                await turn.next()
            copy.end()

    def _received_header(self, user: smtp.User) -> Any:
        return self._delivery.receivedHeader(self._protocol.helo, self._origin, [user])

    def _smtp_address(self, mailbox: Address | None) -> smtp.Address:
        address = smtp.Address(b"<>")
        if mailbox is not None:
            # Not by its parser, which takes neither address literals nor quoted pairs.
            address.addrstr = f"<{mailbox}>".encode("ascii")
            address.local = str(attrs.evolve(mailbox, domain="")).encode("ascii")
            address.domain = mailbox.domain.encode("ascii") or self._protocol.host
        return address


class _Copy:
    """
    One recipient's IMessage: after ``begin`` it takes lines until ``end``, or until something fails or its outcome is
    cancelled. It hears just one of ``eomReceived`` and ``connectionLost``.

    :ivar outcome: the recipient's.
    """

    __slots__ = ("_make", "_message", "_user", "outcome")

    def __init__(self, user: smtp.User, make: Callable[[], Any]) -> None:
        self._user = user
        self._make = make
        self._message: Any = None
        self.outcome: Deferred[None] = Deferred(lambda _: self._discard())
        # A cancellation from here on is one of eomReceived's Deferred, since that is what outcome then waits for.
        self.outcome.addCallback(self._end_message)
        self.outcome.addCallbacks(lambda _: None, _refusal)

    @property
    def is_open(self) -> bool:
        return not self.outcome.called

    def begin(self, received_header: Callable[[smtp.User], Any]) -> None:
        if not self.is_open:
            return
        try:
            self._message = self._make()
            header = received_header(self._user)
        except Exception:
            self.fail(Failure())
            return
        if header:
            # One call, though it may have several lines, as twisted.mail has it.
            self.take(header)

    def take(self, line: bytes) -> None:
        if not self.is_open:
            return
        try:
            self._message.lineReceived(line)
        except Exception:
            self.fail(Failure())

    def end(self) -> None:
        if self.is_open:
            self.outcome.callback(None)

    def _end_message(self, _: None) -> Any:
        return deferred_of(self._message.eomReceived())

    def fail(self, failure: Failure) -> None:
        if self.is_open:
            self._discard()
            self.outcome.errback(failure)

    def _discard(self) -> None:
        if self._message is None:
            return
        try:
            self._message.connectionLost()
        except Exception:
            _log.failure("connectionLost of {message!r} failed", message=self._message)


class _Turn:
    """How long one message has kept the reactor from all others."""

    __slots__ = ("_ends", "_reactor")

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._ends = reactor.seconds() + TURN

    @property
    def is_over(self) -> bool:
        return bool(self._reactor.seconds() >= self._ends)

    async def next(self) -> None:
        await deferLater(self._reactor, 0)
        self._ends = self._reactor.seconds() + TURN


async def _lines_of(message: IReceivedMessage) -> AsyncIterator[list[bytes]]:
    """
    The content as lines without their CR LF; a bare CR or LF is part of a line. As twisted.mail does it, an empty line
    comes first where the content has no header, so that a ``Received:`` line before it ends the header.
    """
    held: list[bytes] = []
    size, half, is_first = 0, b"", True
    async for chunk in message.chunks():
        chunk = half + chunk
        # The first half of a line end, perhaps.
        half = b"\r" if chunk.endswith(b"\r") else b""
        *lines, rest = chunk.removesuffix(b"\r").split(b"\r\n")
        if lines:
            lines[0] = b"".join([*held, lines[0]])
            held, size = [], 0
            yield _after_header(lines) if is_first else lines
            is_first = False
        held.append(rest)
        size += len(rest)
        if size > MAX_LINE:
            raise PermanentFailure("A line is too long", enhanced="5.6.0")
    last = b"".join([*held, half])
    if last:
        yield _after_header([last]) if is_first else [last]


def _after_header(lines: list[bytes]) -> list[bytes]:
    return [b"", *lines] if lines[0] and b":" not in lines[0] else lines


def _ask(question: Callable[[], Any], then: Callable[[Any], Any]) -> Any:
    """``then`` of the answer, at once or when it has come; what twisted.mail calls an error, as a refusal."""
    try:
        answer = question()
    except smtp.SMTPServerError:
        _refusal(Failure()).raiseException()
    waiting = deferred_of(answer)
    return then(answer) if waiting is None else waiting.addCallbacks(then, _refusal)


def _refusal(failure: Failure) -> Failure:
    """An SMTPServerError as the refusal that it means; any other failure as it is."""
    error = failure.value
    if not isinstance(error, smtp.SMTPServerError) or not isinstance(error.code, int):
        return failure
    text = error.resp.decode("utf-8", "replace") if isinstance(error.resp, bytes) else str(error.resp)
    text = " ".join(text.splitlines())
    head, _, rest = text.partition(" ")
    if is_enhanced(head) and head[0] == str(error.code)[0]:
        return Failure(DeliveryError(error.code, head, rest))
    return Failure(DeliveryError(error.code, None, text))
