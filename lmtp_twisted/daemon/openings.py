"""
Where the server listens now: a port for each place, and behind it a door that leads to the generation of now. What is
opened is said in the log.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from lmtp_twisted.daemon.generation import Door, Entrance, Generation

_log = Logger(namespace="lmtp_twisted")


class Openings:
    """
    :param ports: where ports come from, as :class:`~lmtp_twisted.daemon.ports.Ports`.
    :param are_held: whether those of mail are held for workers, and no connection is accepted on them here.
    :ivar listening: by the key of each place what fires with its port.
    """

    def __init__(self, ports: Any, *, are_held: bool) -> None:
        self._ports = ports
        self._are_held = are_held
        self.listening: dict[str, Deferred[Any]] = {}
        self._doors: dict[str, Door] = {}

    def open(self, entrance: Entrance) -> Deferred[None]:
        """
        Listen at a place where we do not.

        :returns: fires when we listen there.
        """
        key = entrance.description.key
        self._doors[key] = Door(entrance.front)
        opened: Deferred[None] = Deferred()

        def listens(port: IListeningPort) -> IListeningPort:
            opened.callback(None)
            return port

        say_where = _shows if entrance.is_web else _listens
        waiting = self._ports.listen(entrance.description, self._doors[key])
        if self._are_held and not entrance.is_web:
            waiting.addCallback(self._ports.hold, entrance.description)
        if self._ports.are_ours:
            waiting.addCallback(say_where)
        self.listening[key] = waiting.addCallbacks(listens, opened.errback)
        return opened

    def lead_to(self, generation: Generation) -> None:
        """Who comes from now on belongs to it. We listen at all its places."""
        for key, entrance in generation.places.items():
            self._doors[key].front = entrance.front

    def close(self, key: str) -> Deferred[Any]:
        """
        Listen no more at a place, or stop trying to.

        :returns: fires when its port is closed.
        """
        waiting = self.listening.pop(key)
        del self._doors[key]
        waiting.cancel()
        return waiting.addCallback(self._close_port)

    def _close_port(self, port: IListeningPort | None) -> Any:
        return None if port is None else self._ports.close(port)


def _listens(port: IListeningPort) -> IListeningPort:
    address: Any = port.getHost()
    if isinstance(address, UNIXAddress):
        _log.info("listening on {path}", path=os.path.abspath(os.fsdecode(address.name or b"")))
        return port
    number = getattr(address, "port", None)
    if number == 25:
        # An endpoint of another package, whose description told us nothing.
        port.stopListening()
        raise ValueError("port 25 is SMTP's, and LMTP must not be spoken there (RFC 2033 section 5)")
    _log.info("listening on {place}", place=_host_and_port(address))
    return port


def _shows(port: IListeningPort) -> IListeningPort:
    address: Any = port.getHost()
    is_unix = isinstance(address, UNIXAddress)
    place = os.path.abspath(os.fsdecode(address.name or b"")) if is_unix else f"http://{_host_and_port(address)}/"
    _log.info("status on {place}", place=place)
    return port


def _host_and_port(address: Any) -> str:
    host = getattr(address, "host", address)
    return f"{f'[{host}]' if ':' in str(host) else host}:{getattr(address, 'port', None)}"
