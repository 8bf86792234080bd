"""The site of ``--http``: which resources there are, and how it answers."""

from __future__ import annotations

from typing import Any

from twisted.web.resource import Resource
from twisted.web.server import Site

from lmtp_twisted.daemon.members import Members
from lmtp_twisted.daemon.monitoring.gathering import Gatherer
from lmtp_twisted.daemon.options import installed_version
from lmtp_twisted.daemon.web.events import Events
from lmtp_twisted.daemon.web.health import Health
from lmtp_twisted.daemon.web.inbox import add_inbox
from lmtp_twisted.daemon.web.page import Page
from lmtp_twisted.daemon.web.telling import Telling

# Seconds of silence after which a client is gone.
_PATIENCE = 60


def make_site(reactor: Any, members: Members, hostname: str, workers: int = 1) -> Site:
    """
    :param reactor: the clock.
    :param members: who is asked.
    :param hostname: whose status it is.
    :param workers: how many processes are to serve mail.
    :returns: makes the connections of the HTTP server.
    """
    root = Resource()
    gatherer = Gatherer(members, reactor)
    about = {"host": hostname, "version": installed_version(), "started": reactor.seconds(), "workers": workers}
    root.putChild(b"", Page())
    root.putChild(b"events", Events(gatherer, Telling(gatherer, about), reactor))
    root.putChild(b"health", Health(members))
    add_inbox(root, members, reactor)
    return _StatusSite(root, gatherer, reactor=reactor, timeout=_PATIENCE)


class _StatusSite(Site):
    """
    Gathers figures while it listens.

    :param root: its pages.
    :param gatherer: what they show.
    """

    noisy = False

    def __init__(self, root: Resource, gatherer: Gatherer, **options: Any) -> None:
        super().__init__(root, **options)
        self._gatherer = gatherer

    def startFactory(self) -> None:
        """It listens."""
        super().startFactory()
        self._gatherer.start()

    def stopFactory(self) -> None:
        """It listens no more."""
        self._gatherer.stop()
        super().stopFactory()

    def log(self, request: Any) -> None:
        """Whoever asks each second would fill the log of the mail."""
