"""What a process that serves mail counts and remembers, put together, and what it answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.daemon.monitoring.around import of_backends, of_process, of_spool
from lmtp_twisted.daemon.monitoring.catalogue import Figures
from lmtp_twisted.daemon.monitoring.connected import sessions
from lmtp_twisted.daemon.monitoring.figures import Counts, ErrorCount
from lmtp_twisted.daemon.monitoring.recent import Recent
from lmtp_twisted.spool import Spool


class Monitor:
    """
    :param context: the backends, and their labels.
    :param spool: where contents lie.
    :param protocols: gives the sessions of now.
    :param now: seconds since 1970.
    :ivar counts: for the factories to observe sessions, and to count commands.
    :ivar errors: for the log.
    """

    def __init__(
        self,
        context: BackendContext,
        spool: Spool,
        protocols: Callable[[], Iterable[Any]],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._context = context
        self._spool = spool
        self._protocols = protocols
        self._recent = Recent(context.label_of, now)
        self.counts = Counts(context.label_of, self._recent)
        self.errors = ErrorCount()

    def answers(self) -> dict[str, Callable[[Any], Any]]:
        """The questions that it answers, see :mod:`lmtp_twisted.daemon.monitoring`."""
        return {
            "figures": lambda _: self._figures(),
            "sessions": lambda _: sessions(self._protocols()),
            "events": lambda _: self._recent.events(),
        }

    def _figures(self) -> Figures:
        self._recent.turn()
        return {
            **self.counts.snapshot(),
            "lmtp_errors_total": dict(self.errors.counts),
            **of_spool(self._spool),
            **of_backends(self._context.labelled),
            **of_process(),
        }
