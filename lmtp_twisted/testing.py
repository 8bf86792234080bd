"""
For people who test their own deliveries, and for our own tests: a session without a network, a clock that one turns by
hand, and deliveries that answer as they are told.

A test of a delivery reads like the dialogue it causes::

    client = Conversation(LMTPFactory(backend=mine, reactor=FakeReactor()))
    assert client.say("LHLO client.example")[-1].startswith("250 ")
    assert client.say("MAIL FROM:<a@example.net>") == ["250 2.1.0 Sender OK"]
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
from twisted.internet.defer import maybeDeferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from lmtp_twisted.envelope import Envelope, Outcome, Recipient, Sender
from lmtp_twisted.errors import ContentLost
from lmtp_twisted.factory import LMTPFactory
from lmtp_twisted.inbox_server import InboxServer as InboxServer
from lmtp_twisted.interfaces import (
    ILMTPDelivery,
    ILMTPDeliveryFactory,
    IReceivedMessage,
    ISessionObserver,
    IStreamingDelivery,
)
from lmtp_twisted.limits import Limit
from lmtp_twisted.session import SessionInfo
from lmtp_twisted.spool import Spool
from lmtp_twisted.threads import use_pool
from lmtp_twisted.wire.replies import Reply


class FakePool:
    """
    A thread pool without threads: what is put into it runs at once, or when :meth:`run` is called.

    :param immediate: whether it runs at once.
    """

    def __init__(self, immediate: bool = True) -> None:
        self._immediate = immediate
        self._waiting: list[Callable[[], None]] = []

    def callInThreadWithCallback(
        self, done: Callable[[bool, Any], None] | None, function: Callable[..., Any], *arguments: Any, **keywords: Any
    ) -> None:
        """See :meth:`twisted.python.threadpool.ThreadPool.callInThreadWithCallback`."""

        def run() -> None:
            try:
                result = function(*arguments, **keywords)
            except Exception:
                success, result = False, Failure()
            else:
                success = True
            if done is not None:
                done(success, result)

        if self._immediate:
            run()
        else:
            self._waiting.append(run)

    def callInThread(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> None:
        """See :meth:`twisted.python.threadpool.ThreadPool.callInThread`."""
        self.callInThreadWithCallback(None, function, *arguments, **keywords)

    def run(self) -> int:
        """
        Run what waits.

        :returns: how many there were.
        """
        waiting, self._waiting = self._waiting, []
        for function in waiting:
            function()
        return len(waiting)


class FakeReactor(Clock):
    """
    A clock that one turns by hand, for :class:`~lmtp_twisted.factory.LMTPFactory`'s ``reactor``. What the server gives
    to a thread runs at once.
    """

    def __init__(self) -> None:
        super().__init__()
        use_pool(self, FakePool())

    def callFromThread(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> None:
        """Call it at once."""
        function(*arguments, **keywords)


def fake_spool(reactor: FakeReactor, pool: FakePool | None = None, **limits: Any) -> Spool:
    """A :class:`~lmtp_twisted.spool.Spool` for tests: real files, no threads. ``limits`` as that class takes them."""
    return Spool(reactor, pool or FakePool(), **limits)  # type: ignore[arg-type]  # a pool as far as a spool needs it


class Conversation:
    """
    A client's side of one session, in memory.

    :param factory: the server; its reactor should be a :class:`FakeReactor`.
    :param peer: where the client comes from; somewhere on the network by default.
    :ivar greeting: the lines that came when the connection was made.
    :ivar protocol: the server's side.
    :ivar transport: the :class:`~twisted.internet.testing.StringTransport` between them.
    """

    def __init__(self, factory: LMTPFactory, peer: IAddress | None = None) -> None:
        self.transport = StringTransport(peerAddress=peer)
        self.protocol = factory.buildProtocol(None)
        self.protocol.makeConnection(self.transport)
        self.greeting = self.read()

    def say(self, *lines: str) -> list[str]:
        """
        Send command lines, in one segment.

        :param lines: without their line ends.
        :returns: the lines that came back, without theirs.
        """
        return self.send("".join(f"{line}\r\n" for line in lines).encode())

    def send(self, data: bytes) -> list[str]:
        """
        Send octets, in one segment.

        :returns: the lines that came back.
        """
        self.protocol.dataReceived(data)
        return self.read()

    def read(self) -> list[str]:
        """The lines that came since they were last read."""
        data = self.transport.value()
        self.transport.clear()
        text: str = data.decode("ascii")
        if text and not text.endswith("\r\n"):
            raise AssertionError(f"the server's output ends within a line: {text!r}")
        return text.split("\r\n")[:-1]

    @property
    def is_closed(self) -> bool:
        """Whether the server has closed or aborted the connection."""
        return bool(
            self.transport.disconnecting or self.transport.disconnected or getattr(self.transport, "aborting", False)
        )

    def half_close(self) -> None:
        """The client will send no more, but reads."""
        self.protocol.readConnectionLost()

    def lose(self) -> None:
        """The connection is lost."""
        self.protocol.connectionLost(Failure(ConnectionDone()))


@implementer(ILMTPDeliveryFactory, IStreamingDelivery)
class ScriptedDeliveries:
    """
    Deliveries that answer as they are told, and remember what they were asked.

    An answer is a value, an awaitable or an exception to raise; a callable is called for one.

    :param outcomes: for recipients, by address: their outcome. Others are delivered.
    :param recipients: for recipients, by address: the answer to ``validateTo``. Others are accepted.
    :param senders: for senders, by address: the answer to ``validateFrom``. Others are accepted.
    :param deliver: replaces ``deliver``: called with the message.
    :param streams: whether messages are read while they come; the outcomes are given when they are complete.
    :ivar calls: each call as a tuple of the method's name and its argument; ``("lost", error)`` where a content was
        lost while it was read.
    :ivar messages: each message as it was delivered.
    :ivar contents: what was read of each message so far, where messages are read while they come.
    """

    def __init__(
        self,
        outcomes: Mapping[str, Any] | None = None,
        *,
        recipients: Mapping[str, Any] | None = None,
        senders: Mapping[str, Any] | None = None,
        deliver: Callable[[IReceivedMessage], Any] | None = None,
        streams: bool = False,
    ) -> None:
        self._outcomes = outcomes or {}
        self._recipients = recipients or {}
        self._senders = senders or {}
        self._deliver = deliver
        self._streams = streams
        self.calls: list[tuple[str, Any]] = []
        self.messages: list[IReceivedMessage] = []
        self.contents: list[bytes] = []

    def getDelivery(self, session: SessionInfo) -> ILMTPDelivery:
        """This object: it keeps no state of a message."""
        self.calls.append(("getDelivery", session))
        return self

    def validateFrom(self, sender: Sender) -> Any:
        """As the script says."""
        self.calls.append(("validateFrom", sender))
        return _answer(self._senders.get(str(sender)))

    def validateTo(self, recipient: Recipient) -> Any:
        """As the script says."""
        self.calls.append(("validateTo", recipient))
        return _answer(self._recipients.get(str(recipient)))

    def streams(self, recipients: Sequence[Recipient]) -> bool:
        """As the script says."""
        return self._streams

    def deliver(self, message: IReceivedMessage) -> Any:
        """As the script says."""
        self.calls.append(("deliver", message))
        self.messages.append(message)
        if self._deliver is not None:
            return self._deliver(message)
        if self._streams:
            self.contents.append(b"")
            return self._read(message, len(self.contents) - 1)
        return self._outcomes_of(message)

    async def _read(self, message: IReceivedMessage, place: int) -> list[Any]:
        try:
            async for chunk in message.chunks():
                self.contents[place] += chunk
        except ContentLost as error:
            self.calls.append(("lost", error))
            raise
        return self._outcomes_of(message)

    def _outcomes_of(self, message: IReceivedMessage) -> list[Any]:
        return [_outcome(self._outcomes.get(str(recipient))) for recipient in message.recipients]

    def aborted(self, reason: str) -> None:
        """Remember it."""
        self.calls.append(("aborted", reason))


def _answer(answer: Any) -> Any:
    if callable(answer) and not isinstance(answer, type):
        answer = answer()
    if isinstance(answer, BaseException) and not isinstance(answer, Failure):
        raise answer
    return answer


def _outcome(outcome: Any) -> Any:
    if callable(outcome) and not isinstance(outcome, type):
        outcome = outcome()
    if isinstance(outcome, BaseException) and not isinstance(outcome, Failure):
        return Failure(outcome)
    return outcome


@attrs.frozen
class Event:
    """
    What an observer heard.

    :ivar name: the method.
    :ivar session: of this session.
    :ivar envelope: of a transaction, else ``None``.
    :ivar outcomes: of a transaction, else ``()``.
    :ivar limit: that was reached, else ``None``.
    :ivar sender: that was refused, or whose recipient was, else ``None``.
    :ivar recipient: that was refused, else ``None``.
    :ivar reply: the refusal, else ``None``.
    :ivar backend: whose the recipient was that was refused, else ``None``.
    :ivar mechanism: by which the client failed to authenticate, else ``""``.
    """

    name: str
    session: SessionInfo
    envelope: Envelope | None = None
    outcomes: tuple[Outcome, ...] = ()
    limit: Limit | None = None
    sender: Sender | None = None
    recipient: Recipient | None = None
    reply: Reply | None = None
    backend: Any = None
    mechanism: str = ""


@implementer(ISessionObserver)
class RecordingObserver:
    """
    Remembers what it heard.

    :ivar events: all of it, in order.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []

    def sessionStarted(self, session: SessionInfo) -> None:
        """Remember it."""
        self.events.append(Event("sessionStarted", session))

    def sessionSecured(self, session: SessionInfo) -> None:
        """Remember it."""
        self.events.append(Event("sessionSecured", session))

    def sessionAuthenticated(self, session: SessionInfo) -> None:
        """Remember it."""
        self.events.append(Event("sessionAuthenticated", session))

    def limitReached(self, session: SessionInfo, limit: Limit) -> None:
        """Remember it."""
        self.events.append(Event("limitReached", session, limit=limit))

    def authenticationFailed(self, session: SessionInfo, mechanism: str) -> None:
        """Remember it."""
        self.events.append(Event("authenticationFailed", session, mechanism=mechanism))

    def senderRefused(self, session: SessionInfo, sender: Sender | None, reply: Reply) -> None:
        """Remember it."""
        self.events.append(Event("senderRefused", session, sender=sender, reply=reply))

    def recipientRefused(
        self, session: SessionInfo, sender: Sender, recipient: Recipient | None, reply: Reply, backend: Any
    ) -> None:
        """Remember it."""
        event = Event("recipientRefused", session, sender=sender, recipient=recipient, reply=reply, backend=backend)
        self.events.append(event)

    def transactionEnded(self, session: SessionInfo, envelope: Envelope, outcomes: tuple[Outcome, ...]) -> None:
        """Remember it."""
        self.events.append(Event("transactionEnded", session, envelope, outcomes))

    def sessionEnded(self, session: SessionInfo) -> None:
        """Remember it."""
        self.events.append(Event("sessionEnded", session))


@asynccontextmanager
async def serving(backend: Any, **options: Any) -> AsyncIterator[int]:
    """
    A server on the reactor of the test, for senders that are on it too::

        async with serving(Faults(inbox, Refuse(), every=2)) as port:
            await send(port)
            (message,) = await inbox.wait_for(1)

    :param backend: as :class:`~lmtp_twisted.factory.LMTPFactory` takes it, and ``options`` as well.
    :returns: its port on 127.0.0.1. At the end its sessions end at once, whatever they do.
    """
    factory = LMTPFactory(backend, **options)
    listening = factory.reactor.listenTCP(0, factory, interface="127.0.0.1")
    try:
        yield listening.getHost().port
    finally:
        await maybeDeferred(listening.stopListening)
        for protocol in list(factory.sessions):
            protocol.transport.abortConnection()
        await factory.drain()
