"""
What the server goes by, as its configuration said at one time. A reload makes another generation, for the sessions that
come; those that are there go on with theirs, and with the last of them a generation ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.interfaces import IAddress, IProtocol
from twisted.internet.protocol import ServerFactory

from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.daemon.certificate import ReloadedCertificate
from lmtp_twisted.daemon.listening import ListenDescription
from lmtp_twisted.daemon.servers import Wanted
from lmtp_twisted.extensions.proxy import HeaderFactory
from lmtp_twisted.factory import LMTPFactory
from lmtp_twisted.headcount import HeadCount
from lmtp_twisted.spool import Spool


@attrs.frozen(eq=False)
class Entrance:
    """
    A place to listen, and what is behind it.

    :ivar wanted: the place, as it was said.
    :ivar front: gets the connections.
    :ivar is_web: whether something is shown by HTTP there. It stays open while sessions end.
    """

    wanted: Wanted
    front: Any
    is_web: bool = False

    @property
    def description(self) -> ListenDescription:
        """What the place is."""
        return self.wanted[1]


@attrs.define(eq=False)
class Generation:
    """
    :ivar entrances: the places to listen.
    :ivar factories: what sessions are made by, each by the name of the listener whose rules it has; that of the rules
        of the top is empty.
    :ivar shared_count: counts the sessions of all these.
    :ivar spool: where their messages lie while they are received.
    :ivar context: the backends.
    :ivar drain_timeout: seconds that sessions get to finish when the server stops.
    :ivar log_level: the least that is logged.
    :ivar certificates: those to be looked after.
    :ivar facts: what to say in the log of it.
    :ivar options: what it was made of.
    """

    entrances: Sequence[Entrance]
    factories: Mapping[str, LMTPFactory]
    shared_count: HeadCount
    spool: Spool
    context: BackendContext
    drain_timeout: float
    log_level: str = "info"
    certificates: Sequence[ReloadedCertificate] = ()
    facts: Sequence[str] = ()
    options: Any = None

    @property
    def places(self) -> dict[str, Entrance]:
        """All of them, by their places' keys."""
        return {entrance.description.key: entrance for entrance in self.entrances}

    @property
    def sessions(self) -> list[Any]:
        """Those of now."""
        return [protocol for factory in self.factories.values() for protocol in factory.sessions]

    def begin(self, before: Sequence[Generation] = ()) -> None:
        """
        From now on there may be connections.

        :param before: generations whose sessions go on beside ours, and count against our limits.
        """
        for entrance in self.entrances:
            entrance.front.doStart()
        for generation in before:
            for name, factory in generation.factories.items():
                factory.count_also(self.factories[name].counts if name in self.factories else [self.shared_count])

    def refuse(self) -> None:
        """Bring the sessions to an end, and turn away those that come."""
        for factory in self.factories.values():
            factory.drain()

    async def ended(self) -> None:
        """Wait for the last of its connections. No new ones may come any more."""
        for entrance in self.entrances:
            if isinstance(entrance.front, HeaderFactory):
                await entrance.front.when_empty()
        for factory in self.factories.values():
            await factory.when_empty()

    def end(self) -> None:
        """Nothing is waited for any more."""
        for entrance in self.entrances:
            entrance.front.doStop()
        for protocol in self.sessions:
            protocol.transport.abortConnection()


def tally_name(number: int, listener: str | None = None) -> str:
    """
    What sessions are counted by where processes share a limit. While they change to other rules, those of the old do
    not count against the new.

    :param number: of the generation.
    :param listener: whose sessions; ``None`` is all.
    """
    return str(number) if listener is None else f"{number} {listener}"


class Door(ServerFactory):
    """
    The factory of a port, which leads to that of the entrance. A port stays while generations come and go.

    :param front: the entrance's.
    """

    noisy = False

    def __init__(self, front: Any) -> None:
        self.front = front

    def buildProtocol(self, addr: IAddress | None) -> IProtocol | None:  # type: ignore[override]
        """A connection has come."""
        protocol: IProtocol | None = self.front.buildProtocol(addr)
        return protocol
