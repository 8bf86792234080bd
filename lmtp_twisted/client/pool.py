"""
The connections to one server: few, kept while they are of use, asked how they are when nobody used them for a while.

No more than so many exist, whether in use or not: a new one is made only where none is idle. A server that cannot be
reached is left alone for a time that doubles, and meanwhile nobody waits for it.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, TimeoutError, gatherResults
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from lmtp_twisted.client.connection import ClientConnection
from lmtp_twisted.client.endpoints import Target
from lmtp_twisted.client.opening import ClientSession, begin
from lmtp_twisted.client.settings import ClientSettings
from lmtp_twisted.errors import TemporaryFailure
from lmtp_twisted.wire.replies import printable

_log = Logger(namespace="lmtp_twisted")


class ConnectionPool:
    """
    :param target: the server.
    :param settings: of the client.
    :param clock: an :class:`~twisted.internet.interfaces.IReactorTime`.
    """

    def __init__(self, target: Target, settings: ClientSettings, clock: Any) -> None:
        self._target = target
        self._settings = settings
        self._clock = clock
        self._turns = DeferredSemaphore(settings.max_connections)
        # All but the idle ones: in use, or on their way to be.
        self._busy: set[ClientConnection] = set()
        self._being_made: set[Deferred[ClientConnection]] = set()
        # The one that was used last is used first, so that those that are too many grow old.
        self._idle: list[ClientSession] = []
        self._timer: Any = None
        self._tls: Any = None
        self._ending: set[Deferred[None]] = set()
        self._failures = 0
        self._not_before = 0.0
        self._is_closed = False

    @property
    def is_full(self) -> bool:
        """Whether no more can wait."""
        return not self._turns.tokens and len(self._turns.waiting) >= self._settings.max_waiting

    @property
    def waiting(self) -> int:
        """How many wait for a connection."""
        return len(self._turns.waiting)

    @property
    def busy(self) -> int:
        """How many have one, or are about to."""
        return self._settings.max_connections - self._turns.tokens

    @property
    def connections(self) -> int:
        """How many there are, idle ones included."""
        return len(self._busy) + len(self._idle)

    async def acquire(self, fresh: bool = False) -> ClientSession:
        """
        A session in which a transaction can begin. Give it back by :meth:`release`.

        :param fresh: one that was not used before.
        :raises TemporaryFailure: where there is none to be had.
        """
        if self.is_full:
            raise TemporaryFailure("Too many messages wait for the server", enhanced="4.3.2")
        try:
            await self._turns.acquire().addTimeout(self._settings.timeouts.turn, self._clock)
        except TimeoutError:
            raise TemporaryFailure("No connection to the server was free in time", enhanced="4.3.2")
        except CancelledError:
            if self._is_closed:
                raise _closed()
            raise
        try:
            return await self._session(fresh)
        except GeneratorExit:
            # The program ends while this waits: whoever would have its turn is being collected just now, too.
            raise
        except BaseException:
            self._turns.release()
            raise

    async def _session(self, fresh: bool) -> ClientSession:
        while self._idle:
            session = self._idle.pop()
            self._busy.add(session.connection)
            if not fresh and await self._is_well(session):
                return session
            self._end(session.connection)
        return await self._open()

    async def _is_well(self, session: ClientSession) -> bool:
        """Whether it can be used again; RSET is what Postfix asks, too."""
        connection = session.connection
        is_old = self._clock.seconds() - session.quiet_since > self._settings.check_after
        if session.is_clean and not is_old:
            return connection.is_quiet
        try:
            connection.send(b"RSET\r\n", 1)
            # A server that does not answer to this in the time of a connection is no better than none.
            answer = await connection.reply(self._settings.timeouts.connect)
        except TemporaryFailure:
            return False
        except GeneratorExit:
            raise
        except BaseException:
            self._end(session.connection)
            raise
        session.is_clean = answer.is_positive
        return session.is_clean

    async def _open(self) -> ClientSession:
        if self._is_closed:
            raise _closed()
        begun = self._clock.seconds()
        if begun < self._not_before:
            raise TemporaryFailure(
                f"{self._target.name} cannot be reached; the next attempt is in {self._not_before - begun:.1f} s",
                enhanced="4.4.1",
            )
        connection = None
        try:
            connection = await self._connect()
            if self._is_closed:
                # While it was made, by an endpoint that cannot be cancelled.
                raise _closed()
            session = await begin(connection, self._settings, self._creator, self._target.security(self._settings))
        except TemporaryFailure as error:
            if connection is not None:
                self._end(connection)
            if self._is_closed:
                raise _closed()
            self._leave_alone(begun, error)
            raise TemporaryFailure(f"{self._target.name}: {error.text}", enhanced=error.enhanced)
        except GeneratorExit:
            raise
        except BaseException:
            if connection is not None:
                connection.abort(_closed())
                self._end(connection)
            raise
        if self._failures:
            _log.info("{server} can be reached again", server=self._target.name)
        self._failures, self._not_before = 0, 0.0
        connection.lost = lambda: self._lost(session)
        return session

    def _creator(self) -> Any:
        # Once: it reads all authorities that the system trusts.
        if self._tls is None:
            self._tls = self._settings.tls.connection_creator(self._target.host)
        return self._tls

    async def _connect(self) -> ClientConnection:
        factory = Factory.forProtocol(lambda: ClientConnection(self._clock))
        factory.noisy = False
        seconds = self._settings.timeouts.connect

        def too_late(*_: object) -> None:
            # What endpoints make of a cancellation is not what Twisted takes for one.
            raise TemporaryFailure(f"No connection within {seconds:g} s", enhanced="4.4.1")

        try:
            made = self._target.endpoint.connect(factory)
            self._being_made.add(made)
            try:
                connection: ClientConnection = await made.addTimeout(seconds, self._clock, too_late)
            finally:
                self._being_made.discard(made)
        except TemporaryFailure:
            raise
        except (CancelledError, ConnectingCancelledError):
            if self._is_closed:
                raise _closed()
            raise
        except Exception as error:
            raise TemporaryFailure(f"No connection: {_one_line(error)}", enhanced="4.4.1")
        self._busy.add(connection)
        return connection

    def _leave_alone(self, begun: float, error: TemporaryFailure) -> None:
        """Once for all that failed at a time."""
        if begun < self._not_before:
            return
        longest = min(self._settings.retry_most, self._settings.retry_first * 2.0 ** min(self._failures, 32))
        wait = longest * (1 + self._settings.random()) / 2
        if not self._failures:
            # It can hold what the server said.
            why = printable(str(error), 300)
            _log.warn("{server} cannot be reached: {error}", server=self._target.name, error=why)
        self._failures += 1
        self._not_before = self._clock.seconds() + wait

    def release(self, session: ClientSession) -> None:
        """Give back a session. It is kept where it can be used again."""
        most = session.able.limit("MAILMAX")
        is_used_up = most is not None and session.transactions >= most
        if session.connection.is_quiet and not is_used_up and not self._is_closed:
            session.quiet_since = self._clock.seconds()
            self._busy.discard(session.connection)
            self._idle.append(session)
            self._wake_later()
        else:
            self._end(session.connection)
        self._turns.release()

    def _lost(self, session: ClientSession) -> None:
        if session in self._idle:
            self._idle.remove(session)

    def _end(self, connection: ClientConnection) -> None:
        """Say goodbye to one."""
        self._busy.discard(connection)
        ending = Deferred.fromCoroutine(connection.quit(self._settings.timeouts.goodbye))
        self._ending.add(ending)
        ending.addBoth(lambda _: self._ending.discard(ending))

    def _wake_later(self) -> None:
        if self._timer is None:
            self._timer = self._clock.callLater(self._settings.keep, self._end_old)

    def _end_old(self) -> None:
        """End those that nobody used for long enough."""
        self._timer = None
        now = self._clock.seconds()
        # The oldest come first.
        while self._idle and now - self._idle[0].quiet_since >= self._settings.keep:
            self._end(self._idle.pop(0).connection)
        if self._idle:
            self._timer = self._clock.callLater(self._idle[0].quiet_since + self._settings.keep - now, self._end_old)

    async def close(self) -> None:
        """End all of them: those that are in use at once, and what they carry is answered as temporary."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # First, so that nobody who waits for another one takes one of these.
        while self._idle:
            self._end(self._idle.pop().connection)
        for made in list(self._being_made):
            made.cancel()
        for connection in list(self._busy):
            connection.abort(_closed())
        for turn in list(self._turns.waiting):
            turn.cancel()
        await gatherResults(list(self._ending))


def _closed() -> TemporaryFailure:
    """A new one each time: what is raised holds on to the frames that it went through."""
    return TemporaryFailure("The client was closed", enhanced="4.3.2")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
