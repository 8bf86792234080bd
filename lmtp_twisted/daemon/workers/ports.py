"""The ports of a server that has workers: the parent holds them, and the workers accept connections on them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.protocols.tls import TLSMemoryBIOFactory

from lmtp_twisted.daemon.listening import ListenDescription, make_endpoint
from lmtp_twisted.daemon.ports import Ports, adopt, let_in
from lmtp_twisted.daemon.privileges import Owner
from lmtp_twisted.daemon.said import Faults
from lmtp_twisted.daemon.servers import Wanted

# Types that put nothing of their own before the session.
_PLAIN = frozenset({"tcp", "tcp6", "unix", "systemd"})


class HeldPorts(Ports):
    """
    The parent's: those of them that it holds are for the workers, and nobody accepts connections here.

    :param reactor: the reactor.
    :param owner: see :class:`Ports`.
    """

    def __init__(self, reactor: Any, owner: Owner | None = None) -> None:
        super().__init__(reactor, owner)
        self._held: dict[str, Any] = {}

    def hold(self, port: Any, place: ListenDescription) -> IListeningPort:
        """
        :param port: one of :meth:`listen`'s, whose factory gets nothing any more.
        :param place: where it listens.
        :raises ValueError: where it cannot be shared.
        """
        try:
            port.stopReading()
            port.fileno()
        except AttributeError:
            port.stopListening()
            raise ValueError(f"what {place.kind}: opens cannot be shared by workers")
        # To shut the socket down would close it for the workers, too.
        port._shouldShutdown = False
        self._held[place.key] = port
        held: IListeningPort = port
        return held

    def close(self, port: Any) -> Deferred[None]:
        """See :meth:`Ports.close`."""
        closed = super().close(port)
        self._held = {key: held for key, held in self._held.items() if held is not port}
        return closed

    def see_to_waiting(self, port: Any) -> None:
        """See :meth:`Ports.see_to_waiting`. Where workers close it later, this is for them."""
        if port not in self._held.values():
            super().see_to_waiting(port)

    def lend(self, keys: Collection[str]) -> list[LentPort]:
        """
        :param keys: of the places that are wanted.
        :returns: each with a descriptor of its own, which whoever gets it closes.
        """
        return [
            LentPort(key, port in self._adopted, os.dup(port.fileno()))
            for key, port in self._held.items()
            if key in keys
        ]


@attrs.frozen
class LentPort:
    """
    :ivar key: of its place.
    :ivar stays: whether somebody else keeps it, and who connects waits for the next server.
    :ivar descriptor: of the socket.
    """

    key: str
    stays: bool
    descriptor: int


class GivenPorts:
    """
    A worker's, which it was given.

    :param reactor: the reactor.
    """

    are_ours = False

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._given: dict[str, LentPort] = {}
        # Those where we listen.
        self._keys: dict[Any, LentPort] = {}

    def give(self, given: Iterable[LentPort]) -> None:
        """
        :param given: all that there are now. They are closed here.
        """
        old, self._given = self._given, {port.key: port for port in given}
        for port in self._given.values():
            os.set_inheritable(port.descriptor, False)
        for port in old.values():
            os.close(port.descriptor)

    def try_to_listen(self, wanted: Sequence[Wanted], faults: Faults, *, is_trial: bool = False) -> list[str]:
        """The parent has done so."""
        return []

    def listen(self, place: ListenDescription, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """See :meth:`lmtp_twisted.daemon.ports.Ports.listen`."""
        given = self._given[place.key]
        if place.kind in _PLAIN:
            listening = maybeDeferred(adopt, self._reactor, given.descriptor, factory)
        else:
            endpoint = make_endpoint(_Adopting(self._reactor, given.descriptor), place)
            listening = endpoint.listen(factory)
        return listening.addCallback(self._remember, given)

    def _remember(self, port: IListeningPort, given: LentPort) -> IListeningPort:
        self._keys[port] = given
        return port

    def close(self, port: Any) -> Deferred[None]:
        """
        Listen no more, see :meth:`lmtp_twisted.daemon.ports.Ports.close`. Where the parent has given it up, who has
        connected already is let in.
        """
        given = self._keys.pop(port)
        if given.key not in self._given and not given.stays:
            self._reactor.callLater(0, let_in, port)
        return maybeDeferred(port.stopListening)


class _Adopting:
    """
    The reactor for endpoints that put something of their own before the session, as ``tls:`` does: what they listen on
    is the port that is there.
    """

    def __init__(self, reactor: Any, descriptor: int) -> None:
        self._reactor = reactor
        self._descriptor = descriptor

    def listenTCP(self, port: int, factory: Any, *_: Any, **__: Any) -> IListeningPort:
        return adopt(self._reactor, self._descriptor, factory)

    def listenUNIX(self, address: str, factory: Any, *_: Any, **__: Any) -> IListeningPort:
        return adopt(self._reactor, self._descriptor, factory)

    def listenSSL(self, port: int, factory: Any, contextFactory: Any, *_: Any, **__: Any) -> IListeningPort:
        return adopt(self._reactor, self._descriptor, TLSMemoryBIOFactory(contextFactory, False, factory))

    def adoptStreamPort(self, descriptor: int, family: int, factory: Any) -> IListeningPort:
        return adopt(self._reactor, self._descriptor, factory)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)
