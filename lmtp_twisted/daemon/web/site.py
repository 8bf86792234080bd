"""The site of ``--http``: which resources there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtp_twisted.daemon.members import Members
from lmtp_twisted.daemon.monitoring.catalogue import Figures
from lmtp_twisted.daemon.monitoring.gathering import Gatherer
from lmtp_twisted.daemon.options import installed_version
from lmtp_twisted.daemon.web.channel import StatusSite
from lmtp_twisted.daemon.web.events import Events
from lmtp_twisted.daemon.web.health import Health
from lmtp_twisted.daemon.web.inbox import add_inbox
from lmtp_twisted.daemon.web.metrics import Metrics
from lmtp_twisted.daemon.web.page import Page
from lmtp_twisted.daemon.web.plain import Shown
from lmtp_twisted.daemon.web.telling import Telling


def make_site(
    reactor: Any, members: Members, hostname: str, workers: int = 1, own: Callable[[], Figures] = dict
) -> StatusSite:
    """
    :param reactor: the clock.
    :param members: who is asked.
    :param hostname: whose status it is.
    :param workers: how many processes are to serve mail.
    :param own: see :class:`~lmtp_twisted.daemon.monitoring.gathering.Gatherer`.
    :returns: makes the connections of the HTTP server.
    """
    root = Shown()
    gatherer = Gatherer(members, reactor, own)
    about = {"host": hostname, "version": installed_version(), "started": reactor.seconds(), "workers": workers}
    root.putChild(b"", Page())
    root.putChild(b"events", Events(gatherer, Telling(gatherer, about), reactor))
    root.putChild(b"health", Health(members))
    root.putChild(b"metrics", Metrics(gatherer))
    add_inbox(root, members, reactor)
    return _GatheringSite(root, gatherer, reactor=reactor)


class _GatheringSite(StatusSite):
    """
    Gathers figures while it listens.

    :param root: its pages.
    :param gatherer: what they show.
    """

    def __init__(self, root: Shown, gatherer: Gatherer, **options: Any) -> None:
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
