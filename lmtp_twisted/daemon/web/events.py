"""``/events``: the status page is told each second what is new, as long as it reads."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import SERVICE_UNAVAILABLE
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from lmtp_twisted.daemon.monitoring.gathering import Gatherer
from lmtp_twisted.daemon.web.plain import Plain, Shown
from lmtp_twisted.daemon.web.telling import Event, Telling

_log = Logger(namespace="lmtp_twisted")

#: Pages that are told at a time.
MOST_READERS = 20
#: Seconds that a page may leave unread what was written to it.
PATIENCE = 20
# Seconds after which a page comes again, in milliseconds as the format has it.
_RETRY = b"retry: 2000\n\n"
# Seconds between two signs of life for proxies, whatever else there is to say.
_ALIVE_AFTER = 10
_ALIVE = b":\n\n"


@implementer(IPushProducer)
class _Reader:
    """
    A page that is told.

    :ivar until: the second up to which it knows all.
    :ivar is_waiting: whether what it lacks is being asked for.
    :ivar paused_at: since when it has not read what was written; ``None`` while it reads.
    """

    def __init__(self, request: Any, until: int, reactor: Any) -> None:
        self.request = request
        self.until = until
        self.is_waiting = False
        self.paused_at: float | None = None
        self._reactor = reactor

    def write(self, event: Event) -> None:
        self.until = event.until
        self.request.write(event.data)

    def pauseProducing(self) -> None:
        self.paused_at = self._reactor.seconds()

    def resumeProducing(self) -> None:
        # What it has missed it is told with the next tick.
        self.paused_at = None

    def stopProducing(self) -> None:
        """The connection is lost, which the request says as well."""


class Events(Shown):
    """
    One event a second, made and encoded once for all pages. Nothing is asked and made while nobody looks. For a page
    that does not read nothing is kept: it is told later what it has missed, or its connection is ended.

    :param gatherer: knows what there is to tell, and when.
    :param telling: puts it into words.
    :param reactor: the clock.
    """

    def __init__(self, gatherer: Gatherer, telling: Telling, reactor: Any) -> None:
        super().__init__()
        self._gatherer = gatherer
        self._telling = telling
        self._reactor = reactor
        self._readers: list[_Reader] = []
        self._is_asking = False
        self._alive = LoopingCall(self._look_after)
        self._alive.clock = reactor

    def render_HEAD(self, request: Any) -> bytes:
        """As GET, which has no end."""
        self._set_headers(request)
        return b""

    def render_GET(self, request: Any) -> object:
        """What is new, for ever."""
        if len(self._readers) >= MOST_READERS:
            return Plain(SERVICE_UNAVAILABLE, "too many pages are open", ((b"retry-after", b"10"),)).render(request)
        self._set_headers(request)
        # The header is the browser's, the argument our page's where the browser would not come again by itself.
        heard = request.getHeader(b"last-event-id") or request.args.get(b"after", [b""])[0]
        reader = _Reader(request, self._telling.place(heard.decode("ascii", "replace")), self._reactor)
        request.notifyFinish().addBoth(lambda _: self._remove(reader))
        request.registerProducer(reader, True)
        request.write(_RETRY)
        self._add(reader)
        self._catch_up(reader)
        return NOT_DONE_YET

    def _set_headers(self, request: Any) -> None:
        request.setHeader(b"content-type", b"text/event-stream; charset=utf-8")
        # nginx would keep it until it has a buffer full.
        request.setHeader(b"x-accel-buffering", b"no")

    def _add(self, reader: _Reader) -> None:
        self._readers.append(reader)
        if len(self._readers) == 1:
            self._telling.begin()
            self._gatherer.ticked.append(self._ticked)
            self._alive.start(_ALIVE_AFTER, now=False)

    def _remove(self, reader: _Reader) -> None:
        self._readers.remove(reader)
        if not self._readers:
            self._gatherer.ticked.remove(self._ticked)
            self._alive.stop()

    def _ticked(self, _tick: object) -> None:
        if not self._is_asking:
            self._is_asking = True
            _run(self._tell(), self._told)

    def _told(self) -> None:
        self._is_asking = False

    async def _tell(self) -> None:
        event = await self._telling.news()
        for reader in list(self._readers):
            if reader.paused_at is not None:
                continue
            if reader.until == event.after:
                reader.write(event)
            elif reader.until != event.until:
                self._catch_up(reader)

    def _catch_up(self, reader: _Reader) -> None:
        if not reader.is_waiting:
            reader.is_waiting = True
            _run(self._fill(reader), lambda: setattr(reader, "is_waiting", False))

    async def _fill(self, reader: _Reader) -> None:
        event = await self._telling.since(reader.until)
        if reader in self._readers and reader.paused_at is None:
            reader.write(event)

    def _look_after(self) -> None:
        for reader in list(self._readers):
            if reader.paused_at is None:
                reader.request.write(_ALIVE)
            elif self._reactor.seconds() - reader.paused_at > PATIENCE:
                reader.request.transport.abortConnection()


def _run(doing: Coroutine[Deferred[Any], Any, None], done: Callable[[], None]) -> None:
    def ended(result: Failure | None) -> None:
        done()
        if result is not None:
            _log.failure("the status page could not be told", result)

    Deferred.fromCoroutine(doing).addBoth(ended)
