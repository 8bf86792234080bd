"""Our server on real sockets, in the process of the tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
from occasions import Occasions
from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import TCP4ServerEndpoint, UNIXServerEndpoint
from twisted.internet.interfaces import IListeningPort
from zope.interface import implementer

from lmtp_twisted import LMTPFactory, Settings
from lmtp_twisted.envelope import Envelope, Outcome
from lmtp_twisted.interfaces import ISessionObserver
from lmtp_twisted.session import SessionInfo
from lmtp_twisted.testing import Event

HOSTNAME = "store.example.org"


@implementer(ISessionObserver)
class Sessions:
    """What an observer hears, as something that can be waited for."""

    def __init__(self) -> None:
        self.events: Occasions[Event] = Occasions("what the observer heard")

    def sessionStarted(self, session: SessionInfo) -> None:
        self.events.add(Event("sessionStarted", session))

    def sessionSecured(self, session: SessionInfo) -> None:
        self.events.add(Event("sessionSecured", session))

    def sessionAuthenticated(self, session: SessionInfo) -> None:
        self.events.add(Event("sessionAuthenticated", session))

    def authenticationFailed(self, session: SessionInfo, mechanism: str) -> None:
        self.events.add(Event("authenticationFailed", session, mechanism=mechanism))

    def senderRefused(self, session: SessionInfo, sender: Any, reply: Any) -> None:
        self.events.add(Event("senderRefused", session, sender=sender, reply=reply))

    def recipientRefused(self, session: SessionInfo, sender: Any, recipient: Any, reply: Any, backend: Any) -> None:
        self.events.add(Event("recipientRefused", session, sender=sender, recipient=recipient, reply=reply))

    def transactionEnded(self, session: SessionInfo, envelope: Envelope, outcomes: tuple[Outcome, ...]) -> None:
        self.events.add(Event("transactionEnded", session, envelope, outcomes))

    def sessionEnded(self, session: SessionInfo) -> None:
        self.events.add(Event("sessionEnded", session))

    def named(self, name: str) -> list[Event]:
        """The events of one kind so far."""
        return [event for event in self.events.seen if event.name == name]

    async def until(self, name: str, number: int) -> list[Event]:
        """Wait for the n-th event of one kind, and give all of that kind."""
        await self.events.until(lambda _: len(self.named(name)) >= number)
        return self.named(name)


@attrs.define(eq=False)
class RealServer:
    """
    :ivar factory: the server.
    :ivar sessions: what became of its sessions.
    :ivar listening: its port.
    :ivar where: the number of a port of 127.0.0.1, or the path of a socket.
    """

    factory: LMTPFactory
    sessions: Sessions
    listening: IListeningPort
    where: int | Path

    @property
    def port(self) -> int:
        """The port that it listens on."""
        assert isinstance(self.where, int)
        return self.where

    @property
    def path(self) -> str:
        """The socket that it listens on."""
        return str(self.where)

    async def stop(self) -> None:
        """As a machine that loses its network: the port is closed, and no session hears goodbye."""
        await maybeDeferred(self.listening.stopListening)
        for protocol in list(self.factory.sessions):
            protocol.transport.abortConnection()
        await self.sessions.until("sessionEnded", len(self.sessions.named("sessionStarted")))


#: What starts a server that ends with the test: see :func:`start_server`.
Serve = Callable[..., Awaitable[RealServer]]


async def start_server(where: int | Path, backend: Any = None, **options: Any) -> RealServer:
    """
    :param where: a port of 127.0.0.1, 0 for any free one; or the path of a socket, which all users may connect to.
    :param backend: as the factory takes it.
    :param options: ``deliver``, ``deliverMessage`` and ``tls`` as the factory takes them; all others are settings.
    """
    sessions = Sessions()
    of_factory = {name: options.pop(name) for name in ("deliver", "deliverMessage", "tls") if name in options}
    factory = LMTPFactory(
        backend, settings=Settings(**{"hostname": HOSTNAME, **options}), observers=[sessions], **of_factory
    )
    if isinstance(where, Path):
        endpoint: Any = UNIXServerEndpoint(reactor, str(where), mode=0o666)
    else:
        endpoint = TCP4ServerEndpoint(reactor, where, interface="127.0.0.1")
    listening = await endpoint.listen(factory)
    if isinstance(where, int):
        where = listening.getHost().port
    return RealServer(factory, sessions, listening, where)
