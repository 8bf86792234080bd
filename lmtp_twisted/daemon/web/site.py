"""The site of ``--http``: which resources there are, and how it answers."""

from __future__ import annotations

from typing import Any

from twisted.web.resource import Resource
from twisted.web.server import Site

from lmtp_twisted.daemon.members import Members
from lmtp_twisted.daemon.web.health import Health

# Seconds of silence after which a client is gone.
_PATIENCE = 60


def make_site(reactor: Any, members: Members) -> Site:
    """
    :param reactor: the clock.
    :param members: who is asked.
    :returns: makes the connections of the HTTP server.
    """
    root = Resource()
    root.putChild(b"health", Health(members))
    return _QuietSite(root, reactor=reactor, timeout=_PATIENCE)


class _QuietSite(Site):
    """Without a log of its own."""

    noisy = False

    def log(self, request: Any) -> None:
        """Whoever asks each second would fill the log of the mail."""
