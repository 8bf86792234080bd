"""The server as a service of Twisted: how it starts, takes other rules, and ends without losing a reply."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from threading import Thread
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from lmtp_twisted.daemon.generation import Entrance, Generation
from lmtp_twisted.daemon.logs import Log
from lmtp_twisted.daemon.members import Answers
from lmtp_twisted.daemon.monitoring.monitor import Monitor
from lmtp_twisted.daemon.notify import Notifier
from lmtp_twisted.daemon.openings import Openings
from lmtp_twisted.daemon.said import Fault, Faults, plain_line
from lmtp_twisted.factory import LMTPFactory

_log = Logger(namespace="lmtp_twisted")

# Seconds that a client gets to read its last replies once the time to drain is over.
_FAREWELL = 2.0
#: Seconds between two looks whether the certificate has changed.
LOOK_AFTER = 10.0
#: Seconds that ports, backends and threads get at the least, however little sessions get: they have mail to put away.
LEAST_PATIENCE = 5.0

#: Makes the next generation, given the one before; raises :exc:`~lmtp_twisted.daemon.said.Faults`.
Renew = Callable[[Generation], Generation]


def patience_with_workers(drain_timeout: float) -> float:
    """
    :param drain_timeout: what their sessions get.
    :returns: seconds after which a worker is killed that does not end: it hangs, or its ports, backends and threads
        take more than they get at the least. We have ours to end after it, before systemd loses its patience.
    """
    return drain_timeout + _FAREWELL + 3 * LEAST_PATIENCE


class LMTPService(Service):
    """
    Starts in two steps: listening, which may need privileges, and the rest after twistd gave them up. Stops in order:
    ports, sessions, backends, threads, log; each has to be done before the next can go.

    :param reactor: the reactor.
    :param generation: what it goes by at first.
    :param renew: makes what it goes by after a reload.
    :param ports: where its ports come from, as :class:`~lmtp_twisted.daemon.ports.Ports`.
    :param pool: the threads; not started yet.
    :param log: the log.
    :param monitor: what is counted of it.
    :param notifier: tells systemd.
    :param answers: what can be asked of it.
    :param crew: the workers that take the mail in our place, a :class:`~lmtp_twisted.daemon.workers.crew.Crew`.
    """

    def __init__(
        self,
        *,
        reactor: Any,
        generation: Generation,
        renew: Renew,
        ports: Any,
        pool: ThreadPool,
        log: Log,
        monitor: Monitor,
        notifier: Notifier,
        answers: Answers | None = None,
        crew: Any = None,
    ) -> None:
        self._reactor = reactor
        self._ports = ports
        self._pool = pool
        self._log = log
        self._monitor = monitor
        self.answers = answers or {}
        self._crew = crew
        self._renew = renew
        self._notifier = notifier
        #: The one that new sessions belong to.
        self.generation = generation
        # Those that have sessions yet, and what fires when they are gone.
        self._before: dict[Generation, Deferred[None]] = {}
        self._openings = Openings(ports, are_held=crew is not None)
        # What fires when we listen everywhere for the first time.
        self._opening: list[Deferred[None]] = []
        self._looking: LoopingCall | None = None
        self._handlers: dict[signal.Signals, Any] = {}
        self._is_reloading = False
        self._reload_is_wanted = False
        # Whether the reactor was told to stop: it complains of being told again.
        self._is_ending = False

    @property
    def facts(self) -> Sequence[str]:
        """What the log says of it at the start."""
        return self.generation.facts

    @property
    def factories(self) -> list[LMTPFactory]:
        """What sessions are made by."""
        return [factory for generation in self._generations for factory in generation.factories.values()]

    @property
    def sessions(self) -> list[Any]:
        """Those of now."""
        return [protocol for generation in self._generations for protocol in generation.sessions]

    @property
    def _generations(self) -> list[Generation]:
        return [*self._before, self.generation]

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
        # The second is what twistd takes for reopening its log. By default both end the process, so this is done before
        # anybody can know that we are there.
        self._on(signal.SIGHUP, self.reload)
        self._on(signal.SIGUSR1, self.reopen)
        self._say_facts()
        self.generation.begin()
        for entrance in self.generation.entrances:
            failures: list[Failure] = []
            opened = self._openings.open(entrance).addErrback(failures.append)
            if failures:
                failures[0].raiseException()
            # An endpoint that takes its time fails where nobody is left to raise to.
            self._opening.append(opened.addCallback(self._too_late, failures))

    def _too_late(self, _: object, failures: Sequence[Failure]) -> Failure | None:
        for failure in failures:
            if not failure.check(CancelledError):
                _log.failure("cannot listen, so the server stops", failure)
                self.end()
            return failure
        return None

    def startService(self) -> None:
        """Start what needs no privileges: the threads."""
        super().startService()
        if not self._openings.listening:
            self.privilegedStartService()
        self._pool.start()
        self._log.start()
        self._monitor.start()
        self._looking = LoopingCall(self._look)
        self._looking.clock = self._reactor
        self._looking.start(LOOK_AFTER, now=False).addErrback(
            lambda failure: _log.failure("the certificate is looked after no more", failure)
        )
        self._reactor.callWhenRunning(self._begin)

    def _on(self, number: signal.Signals, call: Callable[[], None]) -> None:
        # A signal comes between any two steps of the program, also while a lock is held: do it from the reactor.
        self._handlers[number] = signal.signal(number, lambda *_: self._reactor.callFromThread(call))

    def _heed_once(self, number: signal.Signals) -> None:
        """The reactor stops at this signal by itself; let it hear only the first."""
        stop: Any = signal.getsignal(number)
        if not callable(stop):
            # Whoever runs the reactor has it hear no signals.
            return

        def heed(*arguments: Any) -> None:
            if not self._is_ending:
                self._is_ending = True
                stop(*arguments)

        self._handlers[number] = signal.signal(number, heed)

    def _begin(self) -> None:
        """The reactor runs."""
        self._heed_once(signal.SIGTERM)
        if self._ports.are_ours:
            # Workers leave an interrupt to their parent.
            self._heed_once(signal.SIGINT)
        self._notifier.watch(self._status)
        if self._crew is not None:
            self._opening.append(self._crew.start())
        ready = gatherResults(self._opening, consumeErrors=True)
        ready.addCallbacks(lambda _: self._notifier.ready(self._status()), lambda failure: None)

    def _status(self) -> str:
        return f"{'serving' if self.running else 'stopping'}, sessions={self._session_count}"

    @property
    def _session_count(self) -> int:
        return len(self.sessions) if self._crew is None else self._crew.session_count

    def _look(self) -> Deferred[None] | None:
        certificates = self.generation.certificates

        def look() -> None:
            for certificate in certificates:
                certificate.look()

        return deferToThreadPool(self._reactor, self._pool, look) if certificates else None

    def _say_facts(self) -> None:
        # Workers leave it to their parent.
        for fact in self.facts if self._ports.are_ours else ():
            _log.info("{fact}", fact=fact)

    def reopen(self) -> None:
        """Open the log anew."""
        self._log.reopen()
        if self._crew is not None:
            self._crew.reopen()

    # Other rules

    def reload(self) -> None:
        """
        Read all anew that was read at the start, and go by it for sessions that come. Sessions that are there are left
        alone. Where anything is wrong, all stays as it is, and the log says why. Where this is under way already, it is
        done once more after it.
        """
        self.reopen()
        self._reload_is_wanted = True
        if not self._is_reloading:
            self._is_reloading = True
            Deferred.fromCoroutine(self._reload_while_wanted())

    async def _reload_while_wanted(self) -> None:
        while self._reload_is_wanted:
            self._reload_is_wanted = False
            if not self.running:
                _log.info("nothing is reloaded, since the server stops")
                break
            self._notifier.reloading()
            result = ""
            try:
                await self._reload()
            except Faults as faults:
                _log.error("all stays as it was, faults={count}", count=len(faults.lines))
                # As on standard error, without the name of the program before it.
                lines = [line.removeprefix(plain_line("")) for line in faults.lines]
                for line in lines:
                    _log.error("{line}", line=line)
                result = f"; not reloaded: {lines[0]}"
            except Exception:
                _log.failure("all stays as it was, since something went wrong")
                result = "; not reloaded"
            if self._ports.are_ours:
                # Not those of a worker: each would be counted once more.
                self._monitor.reloads["failed" if result else "ok"] += 1
            if self.running:
                self._notifier.ready(self._status() + result)
        self._is_reloading = False

    async def _reload(self) -> None:
        before = self.generation
        new = self._renew(before)
        wanted = new.places
        try:
            await self._open_all([entrance for key, entrance in wanted.items() if key not in self._openings.listening])
        except BaseException:
            await new.context.shut_down()
            raise
        # From here on nothing can fail.
        new.begin(self._generations)
        self.generation = new
        self._log.level = new.log_level
        self._openings.lead_to(new)
        gone: Deferred[None] = Deferred()
        self._before[before] = gone
        Deferred.fromCoroutine(self._retire(before, gone))
        self._say_facts()
        if self._crew is not None:
            await self._crew.reload()
        for key in self._openings.listening.keys() - wanted.keys():
            _log.info("listening no more on {place}", place=key)
            await self._close(key)

    async def _open_all(self, entrances: Sequence[Entrance]) -> None:
        """
        Listen at new places.

        :raises Faults: where that cannot be done at one of them; then it is done at none.
        """
        faults = Faults()
        self._ports.try_to_listen([entrance.wanted for entrance in entrances], faults)
        faults.end()
        for entrance in entrances:
            with faults.caught():
                if not self.running:
                    raise ValueError("the server stops")
                try:
                    await self._openings.open(entrance)
                except Exception as error:
                    raise Fault(entrance.wanted[0], f": {error}")
        if faults.lines:
            for entrance in entrances:
                await self._close(entrance.description.key)
        faults.end()

    async def _retire(self, generation: Generation, gone: Deferred[None]) -> None:
        """Wait for its last session, and end it."""
        await generation.ended()
        generation.end()
        await generation.context.shut_down()
        del self._before[generation]
        gone.callback(None)

    # The end

    def end(self) -> None:
        """Have the program stop, unless it does so already."""
        if not self._is_ending:
            self._is_ending = True
            self._reactor.stop()

    def stopService(self) -> Deferred[None]:
        """
        Sessions past the dot get all their replies, those that are idle are answered 421.

        :returns: fires when all is done.
        """
        super().stopService()
        self._is_ending = True
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        _log.info("stopping, sessions={count}", count=self._session_count)
        self._notifier.stopping(self._status())
        if self._looking is not None and self._looking.running:
            self._looking.stop()
        # Before the ports are closed: who has connected already is told.
        for generation in self._generations:
            generation.refuse()
        for entrance in self.generation.entrances:
            if not entrance.is_web:
                await self._close(entrance.description.key)
        if self._crew is not None:
            await self._crew.stop(patience_with_workers(self._drain_timeout))
        timers = [
            self._reactor.callLater(self._drain_timeout, self._hurry_sessions),
            self._reactor.callLater(self._drain_timeout + _FAREWELL, self._abort_sessions),
        ]
        for generation in self._generations:
            await generation.ended()
        for timer in timers:
            if timer.active():
                timer.cancel()
        for key in list(self._openings.listening):
            await self._close(key)
        backends = gatherResults([*self._before.values(), self.generation.context.shut_down()])
        await self._finish("shutting the backends down", backends)
        await self._finish("stopping the threads", self._stop_pool())
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()
        self._monitor.stop()
        self._notifier.close()
        _log.info("stopped")
        self._log.stop()

    @property
    def _drain_timeout(self) -> float:
        return self.generation.drain_timeout

    async def _close(self, key: str) -> None:
        if key in self._openings.listening:
            await self._finish("closing a port", self._openings.close(key))

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
        for generation in self._generations:
            generation.end()

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
