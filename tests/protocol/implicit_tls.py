"""An endpoint with TLS from the first octet, as the daemon has it."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from zope.interface import implementer

from lmtp_twisted.daemon.listening import ListenDescription, front_of


@implementer(IStreamServerEndpoint)
@attrs.frozen
class TLSEndpoint:
    """
    :ivar endpoint: the :class:`~twisted.internet.interfaces.IStreamServerEndpoint` below it.
    :ivar tls: makes the connections.
    """

    endpoint: Any
    tls: Any

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        front = front_of(ListenDescription("tcp:0", "tcp", {}), self.tls, protocolFactory, reactor)
        listening: Deferred[IListeningPort] = self.endpoint.listen(front)
        return listening
