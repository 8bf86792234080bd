"""The server as a service of Twisted: how it starts, and how it comes to its end without losing a reply."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from threading import Thread
from typing import Any

from twisted.application.service import Service
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import ILogObserver, Logger, globalLogPublisher
from twisted.python.components import Componentized
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.daemon.certificate import ReloadedCertificate
from lmtp_twisted.daemon.logs import Log
from lmtp_twisted.factory import LMTPFactory

_log = Logger(namespace="lmtp_twisted")

# What logrotate and its like send: the first is the custom of daemons, the second twistd's.
_REOPEN = (signal.SIGHUP, signal.SIGUSR1)
# Seconds that a client gets to read its last replies once the time to drain is over.
_FAREWELL = 2.0
#: Seconds between two looks whether the certificate has changed.
LOOK_AFTER = 10.0
#: Seconds that ports, backends and threads get at the least, however little sessions get: they have mail to put away.
LEAST_PATIENCE = 5.0


class LMTPService(Service):
    """
    Starts in two steps: listening, which may need privileges, and the rest after twistd gave them up. Stops in order:
    ports, sessions, backends, threads, log; each has to be done before the next can go.

    :param reactor: the reactor.
    :param servers: what sessions are made by, each with the endpoints where it listens.
    :param pool: the threads; not started yet.
    :param context: the backends.
    :param log: the log.
    :param certificates: are looked after while the server runs.
    :param log_observers: each an :class:`~twisted.logger.ILogObserver` that hears the log while the server runs.
    :param web: what is shown by HTTP, with the endpoints where it listens. It goes on while sessions end.
    :param drain_timeout: seconds that sessions get to finish, and backends and threads after them, these no less than
        :data:`LEAST_PATIENCE`.
    :param facts: what to say in the log at the start.
    """

    def __init__(
        self,
        *,
        reactor: Any,
        servers: Sequence[tuple[LMTPFactory, Sequence[Any]]],
        pool: ThreadPool,
        context: BackendContext,
        log: Log,
        certificates: Sequence[ReloadedCertificate] = (),
        log_observers: Sequence[Any] = (),
        web: Sequence[tuple[IProtocolFactory, Sequence[Any]]] = (),
        drain_timeout: float,
        facts: Sequence[str],
    ) -> None:
        self._reactor = reactor
        self._servers = servers
        self._pool = pool
        self._context = context
        self._log = log
        self._certificates = certificates
        self._log_observers = log_observers
        self._looking: LoopingCall | None = None
        self._drain_timeout = drain_timeout
        self.facts = facts
        self._web = web
        self._listening: list[Deferred[Any]] = []
        self._web_listening: list[Deferred[Any]] = []
        self._handlers: dict[signal.Signals, Any] = {}

    @property
    def factories(self) -> list[LMTPFactory]:
        """What sessions are made by."""
        return [factory for factory, _ in self._servers]

    @property
    def sessions(self) -> list[Any]:
        """Those of now."""
        return [protocol for factory in self.factories for protocol in factory.sessions]

    def setServiceParent(self, parent: Any) -> None:
        """twistd takes the log from the application, unless its options name another."""
        super().setServiceParent(parent)
        if isinstance(parent, Componentized) and ILogObserver.providedBy(self._log):
            parent.setComponent(ILogObserver, self._log)

    # The start

    def privilegedStartService(self) -> None:
        """
        Listen.

        :raises twisted.internet.error.CannotListenError: where a port was taken since it was tried.
        """
        super().privilegedStartService()
        for fact in self.facts:
            _log.info("{fact}", fact=fact)
        for servers, listening, listens in (
            (self._servers, self._listening, _listens),
            (self._web, self._web_listening, _shows),
        ):
            for factory, endpoints in servers:
                for endpoint in endpoints:
                    self._listen(factory, endpoint, listening, listens)

    def _listen(
        self,
        factory: IProtocolFactory,
        endpoint: Any,
        listening: list[Deferred[Any]],
        listens: Callable[[IListeningPort], IListeningPort],
    ) -> None:
        failures: list[Failure] = []
        waiting = endpoint.listen(factory)
        listening.append(waiting)
        waiting.addCallback(listens).addErrback(failures.append)
        if failures:
            failures[0].raiseException()
        # An endpoint that takes its time fails where nobody is left to raise to.
        waiting.addCallback(lambda port: self._too_late(failures[0]) if failures else port)

    def _too_late(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            _log.failure("cannot listen, so the server stops", failure)
            self._reactor.stop()

    def startService(self) -> None:
        """Start what needs no privileges: the threads, and the signals that reopen the log."""
        super().startService()
        if not self._listening:
            self.privilegedStartService()
        self._pool.start()
        self._log.start()
        for observer in self._log_observers:
            globalLogPublisher.addObserver(observer)
        if self._certificates:
            self._looking = LoopingCall(deferToThreadPool, self._reactor, self._pool, self._look)
            self._looking.clock = self._reactor
            self._looking.start(LOOK_AFTER, now=False).addErrback(
                lambda failure: _log.failure("the certificate is looked after no more", failure)
            )
        # Also where there is nothing to reopen: by default these signals end the process, whatever it has under way.
        for number in _REOPEN:
            self._handlers[number] = signal.signal(number, self._reopen)

    def _reopen(self, _number: int, _frame: object) -> None:
        # A signal comes between any two steps of the program, also while a lock is held: do it from the reactor.
        self._reactor.callFromThread(self._log.reopen)

    # The end

    def stopService(self) -> Deferred[None]:
        """
        Sessions past the dot get all their replies, those that are idle are answered 421.

        :returns: fires when all is done.
        """
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        _log.info("stopping, sessions={count}", count=len(self.sessions))
        if self._looking is not None and self._looking.running:
            self._looking.stop()
        await self._close(self._listening)
        timers = [
            self._reactor.callLater(self._drain_timeout, self._hurry_sessions),
            self._reactor.callLater(self._drain_timeout + _FAREWELL, self._abort_sessions),
        ]
        await gatherResults([factory.drain() for factory in self.factories])
        for timer in timers:
            if timer.active():
                timer.cancel()
        await self._close(self._web_listening)
        await self._finish("shutting the backends down", self._context.shut_down())
        await self._finish("stopping the threads", self._stop_pool())
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()
        for observer in self._log_observers:
            globalLogPublisher.removeObserver(observer)
        _log.info("stopped")
        self._log.stop()

    async def _close(self, listening: list[Deferred[Any]]) -> None:
        for waiting in listening:
            waiting.cancel()
            await self._finish("closing a port", waiting.addCallback(_stop_listening))
        listening.clear()

    def _hurry_sessions(self) -> None:
        _log.warn(
            "{count} sessions did not finish in {seconds} s: what is not delivered is cancelled",
            count=len(self.sessions),
            seconds=self._drain_timeout,
        )
        for protocol in self.sessions:
            protocol.finish_now()

    def _abort_sessions(self) -> None:
        _log.warn("{count} sessions do not read their replies and are aborted", count=len(self.sessions))
        for protocol in self.sessions:
            protocol.transport.abortConnection()

    def _look(self) -> None:
        """In a thread."""
        for certificate in self._certificates:
            certificate.look()

    async def _finish(self, what: str, waiting: Deferred[Any]) -> None:
        """Wait for a time, and go on with the next whatever came of it."""
        patience = max(self._drain_timeout, LEAST_PATIENCE)
        over: Deferred[None] = Deferred()

        def finish(result: object) -> None:
            if timer.active():
                timer.cancel()
                over.callback(None)
            if isinstance(result, Failure) and not result.check(CancelledError):
                _log.failure("{what} failed", result, what=what)

        def give_up() -> None:
            _log.warn("{what} takes more than {seconds} s: not waited for", what=what, seconds=patience)
            over.callback(None)
            # It may have more to do than what it waits for, and need not end for being cancelled.
            waiting.cancel()

        timer = self._reactor.callLater(patience, give_up)
        waiting.addBoth(finish)
        await over

    def _stop_pool(self) -> Deferred[None]:
        """In a thread of its own: it waits for the threads, and these may wait for the reactor."""
        stopped: Deferred[None] = Deferred()

        def stop() -> None:
            self._pool.stop()
            self._reactor.callFromThread(stopped.callback, None)

        Thread(target=stop, name="lmtp end", daemon=True).start()
        return stopped


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


def _stop_listening(port: IListeningPort | None) -> Any:
    return None if port is None else port.stopListening()
