"""What a process that serves mail counts and remembers, put together, and what it answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import attrs
from twisted.logger import globalLogPublisher

from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.daemon.monitoring.around import of_backends, of_process, of_spools
from lmtp_twisted.daemon.monitoring.catalogue import Figures, added, cumulative
from lmtp_twisted.daemon.monitoring.connected import sessions
from lmtp_twisted.daemon.monitoring.figures import Counts, ErrorCount
from lmtp_twisted.daemon.monitoring.recent import Recent
from lmtp_twisted.spool import Spool


@attrs.frozen(eq=False)
class _Watched:
    """One generation of backends, and what is counted of it."""

    context: BackendContext
    spool: Spool
    counts: Counts

    def figures(self) -> Figures:
        return {**self.counts.snapshot(), **of_backends(self.context.labelled)}


class Monitor:
    """
    :param protocols: gives the sessions of now.
    :param now: seconds since 1970.
    :param restarts: gives how many workers were started in the place of one that had ended.
    :ivar reloads: how many there were, by their result.
    """

    def __init__(
        self,
        protocols: Callable[[], Iterable[Any]],
        now: Callable[[], float] = time.time,
        restarts: Callable[[], int] = lambda: 0,
    ) -> None:
        self._protocols = protocols
        self._restarts = restarts
        self._recent = Recent(now)
        self._watched: list[_Watched] = []
        # What those counted that are no more.
        self._past: Figures = {}
        self._errors = ErrorCount()
        self.reloads = {"ok": 0, "failed": 0}

    def start(self) -> None:
        """The server starts: hear its log."""
        globalLogPublisher.addObserver(self._errors)

    def stop(self) -> None:
        """The server has stopped."""
        globalLogPublisher.removeObserver(self._errors)

    def watch(self, context: BackendContext, spool: Spool) -> Counts:
        """
        Count what becomes of mail, until its backends end.

        :param context: the backends.
        :param spool: where contents lie.
        :returns: for factories, to observe sessions and to count commands.
        """
        watched = _Watched(context, spool, Counts(context, self._recent))
        self._watched.append(watched)
        context.add_shutdown(lambda: self._end(watched))
        return watched.counts

    def _end(self, watched: _Watched) -> None:
        self._watched.remove(watched)
        self._past = added([self._past, cumulative(watched.figures())])

    def answers(self) -> dict[str, Callable[[Any], Any]]:
        """The questions that it answers, see :mod:`lmtp_twisted.daemon.monitoring`."""
        return {
            "figures": lambda _: self._figures(),
            "sessions": lambda _: sessions(self._protocols()),
            "events": lambda _: self._events(),
        }

    def _events(self) -> dict[str, Any]:
        for watched in self._watched:
            watched.counts.catch_up()
        return self._recent.events()

    def _figures(self) -> Figures:
        self._recent.turn()
        return {
            **added([self._past, *(watched.figures() for watched in self._watched)]),
            **of_spools({watched.spool for watched in self._watched}),
            **self.without_mail(),
        }

    def without_mail(self) -> Figures:
        """What also a process counts that takes no mail, but looks after workers."""
        return {
            "lmtp_errors_total": dict(self._errors.counts),
            "lmtp_reloads_total": dict(self.reloads),
            "lmtp_worker_restarts_total": {"": self._restarts()},
            **of_process(),
        }
