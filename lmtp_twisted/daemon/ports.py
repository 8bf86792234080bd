"""
Where listening ports come from: this process opens them, or it was given them by systemd and the like.

Whoever serves asks an object with the three methods of :class:`Ports`, and does not care. A process that gets its
sockets from elsewhere has another such object, and :func:`adopt` for what it was given.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import AdoptedStreamServerEndpoint
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.logger import Logger

from lmtp_twisted.daemon.listening import ListenDescription, NotPassedError, make_endpoint, try_to_listen
from lmtp_twisted.daemon.privileges import Owner
from lmtp_twisted.daemon.said import Fault, Faults
from lmtp_twisted.daemon.servers import Wanted

_log = Logger(namespace="lmtp_twisted")

# What systemd asks for by itself. A smaller one would make that of whoever opened the socket smaller, too.
_BACKLOG = 4096
# Before a name of a Unix socket: Twisted takes it for one without a file, so it changes no mode and removes nothing.
_NAMELESS = b"\0"


class Ports:
    """
    Ports that this process opens, and those of systemd's sockets.

    :param reactor: the reactor.
    :param owner: whose the Unix sockets will be that it opens; else they are ours.
    """

    #: Whether they are for this process to tell of.
    are_ours = True

    def __init__(self, reactor: Any, owner: Owner | None = None) -> None:
        self._reactor = reactor
        self._owner = owner
        self._adopted: set[IListeningPort] = set()

    def try_to_listen(self, wanted: Sequence[Wanted], faults: Faults, *, is_trial: bool = False) -> list[str]:
        """
        See whether :meth:`listen` will do: listen everywhere for a moment, and clear away sockets that nobody listens
        on any more.

        :param wanted: places where this process does not listen.
        :param faults: gets what is wrong.
        :param is_trial: whether the server that shall start may run already, so that its places are in use.
        :returns: in a trial, what is in use, and what could not be tried.
        """
        notes: list[str] = []
        tried_places: list[str | None] = []
        with ExitStack() as tried:
            for place, description, _ in wanted:
                where = description.values.get("port", description.values.get("address"))
                try:
                    endpoint = make_endpoint(self._reactor, description)
                    if isinstance(endpoint, AdoptedStreamServerEndpoint):
                        family_of(endpoint.fileno)
                    try_to_listen(description, tried, leaves_no_trace=is_trial)
                    tried_places.append(where)
                except OSError as error:
                    if is_trial and error.errno == errno.EADDRINUSE and where not in tried_places:
                        notes.append(f"{place}: in use, as it is where this server runs already")
                    else:
                        faults.add(Fault(place, f": {error.strerror or error}"))
                except NotPassedError as error:
                    if is_trial:
                        notes.append(f"{place}: not tried, since it is systemd that passes it")
                    else:
                        faults.add(Fault(place, f": {error}"))
                except ValueError as error:
                    faults.add(Fault(place, f": {error}"))
        return notes

    def listen(self, description: ListenDescription, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        Listen at a place where this process does not.

        :param description: its ``key`` names the place. What it says of ``haproxy:`` is not for here.
        :param factory: gets the connections.
        """
        endpoint = make_endpoint(self._reactor, description)
        if not isinstance(endpoint, AdoptedStreamServerEndpoint):
            listening: Deferred[IListeningPort] = endpoint.listen(factory)
            return listening.addCallback(self._give_away)
        # Its own way closes the descriptor, so that there would be no second time.
        return maybeDeferred(adopt, self._reactor, endpoint.fileno, factory).addCallback(self._remember)

    def _give_away(self, port: IListeningPort) -> IListeningPort:
        # After a reload we are the owner.
        if self._owner is not None and os.geteuid() == 0 and isinstance(port, unix.Port):
            os.chown(port.getHost().name, *self._owner)
        return port

    def _remember(self, port: IListeningPort) -> IListeningPort:
        self._adopted.add(port)
        return port

    def close(self, port: IListeningPort) -> Deferred[None]:
        """
        Listen no more. Who has connected already is let in first, if nobody else will: closing the socket would reset
        these connections.

        :param port: one of :meth:`listen`'s.
        """
        if port in self._adopted:
            self._adopted.discard(port)
        elif isinstance(port, tcp.Port):
            if isinstance(port, unix.Port):
                _remove_name(port)
            self.see_to_waiting(port)
        stop: Any = port.stopListening
        closed: Deferred[None] = maybeDeferred(stop)
        return closed

    def see_to_waiting(self, port: tcp.Port) -> None:
        """Let in who has connected to a port that is about to be closed."""
        # Twisted closes the socket in the reactor's next turn. This comes before it in the same turn.
        self._reactor.callLater(0, let_in, port)


def _remove_name(port: Any) -> None:
    """From now on nobody finds it. Twisted would leave the socket open where its file can't be removed."""
    path = port.getHost().name
    try:
        os.unlink(path)
        if port.lockFile is not None:
            port.lockFile.unlock()
    except OSError as error:
        _log.warn("{path} stays behind: {error}", path=os.path.abspath(os.fsdecode(path)), error=error.strerror)
    port.lockFile = None
    port._bindPath = _NAMELESS + path


def let_in(port: tcp.Port) -> None:
    """
    Accept all connections that wait.

    :param port: where they wait.
    """
    # Some may come meanwhile, so there is an end to it.
    waiting = select.poll()
    waiting.register(port.fileno(), select.POLLIN)
    for _ in range(_BACKLOG):
        if not waiting.poll(0):
            return
        port.doRead()


def family_of(descriptor: int) -> int:
    """
    The address family of a socket that somebody else has opened.

    :raises ValueError: where it is no socket that listens.
    """
    try:
        with socket.socket(fileno=os.dup(descriptor)) as given:
            if given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return given.family
    except OSError:
        pass
    raise ValueError("it is no socket that listens for streams")


def adopt(reactor: Any, descriptor: int, factory: IProtocolFactory) -> IListeningPort:
    """
    Accept connections on a socket that somebody else has opened and keeps: nothing of it changes when the port is
    closed, and who connects then waits for the next one.

    With Twisted's ``adoptStreamPort`` a Unix socket becomes writable for all, its queue shorter, and in the end its
    file is removed and the socket shut down for all who have it.

    :param descriptor: of a socket that listens; it stays open.
    :param factory: gets the connections.
    :raises ValueError: where it is no such socket.
    """
    family = family_of(descriptor)
    # The flag belongs to the socket and not to the descriptor.
    os.set_blocking(descriptor, False)
    port: Any
    if family == socket.AF_UNIX:
        port = unix.Port._fromListeningDescriptor(reactor, descriptor, factory)
        port._bindPath = _NAMELESS + port._bindPath
        port._shouldShutdown = False
        port.backlog = _BACKLOG
    else:
        port = tcp.Port._fromListeningDescriptor(reactor, descriptor, family, factory)
    port.startListening()
    listening: IListeningPort = port
    return listening
