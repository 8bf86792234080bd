"""Keeps one connection to a cluster: the next node where one fails, and pauses that grow where all do."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from itertools import cycle
from typing import Any

from pika.exceptions import AMQPError
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from lmtp_twisted.backends.amqp.broker import Node
from lmtp_twisted.backends.amqp.connection import CONNECT_TIMEOUT, Connection

_log = Logger(namespace="lmtp_twisted")

#: Seconds of the first pause and of the longest.
FIRST_PAUSE = 0.2
MOST_PAUSE = 30.0
#: Seconds after which a connection was a good one: what ends earlier counts as a failure, or a channel that the broker
#: closes each time would be opened without a pause.
GOOD = 30.0
#: Seconds that a connection gets to say goodbye.
GOODBYE = 2.0


class Cluster:
    """
    :param reactor: waits.
    :param nodes: of the cluster. Who starts begins with any of them, so that many servers spread over all.
    :param connect: opens a connection to a node.
    :param changed: called when :attr:`connection` or :attr:`is_down` has changed, or the connection itself.
    :ivar connection: the open one, if there is one.
    :ivar is_down: no node could be reached, one after the other, since there was one.
    """

    def __init__(
        self,
        reactor: Any,
        nodes: Sequence[Node],
        connect: Callable[[Node], Coroutine[Deferred[Any], Any, Connection]],
        changed: Callable[[], object],
    ) -> None:
        self._reactor = reactor
        self._nodes = random.sample(nodes, len(nodes))
        self._connect = connect
        self._changed = changed
        self._is_stopped = False
        self._running: Deferred[None] | None = None
        self.connection: Connection | None = None
        self.is_down = False

    def start(self) -> None:
        """Connect, and stay connected."""
        if not self._is_stopped:
            self._running = Deferred.fromCoroutine(self._run())
            self._running.addErrback(lambda failure: _log.failure("no more connections are made", failure))

    async def stop(self) -> None:
        """Say goodbye and connect no more."""
        self._is_stopped = True
        connection, running = self.connection, self._running
        if connection is not None and running is not None:
            timer = self._reactor.callLater(GOODBYE, connection.abandon, "it does not say goodbye")
            try:
                # The broker may be closing it at this very moment.
                with suppress(AMQPError):
                    connection.close()
                await running
            finally:
                if timer.active():
                    timer.cancel()
        elif running is not None:
            running.cancel()
        self._set(None, True)

    async def _run(self) -> None:
        failures = 0
        for node in cycle(self._nodes):
            try:
                opening = Deferred.fromCoroutine(self._connect(node))
                connection = await opening.addTimeout(CONNECT_TIMEOUT, self._reactor)
            except Exception as error:
                if self._is_stopped:
                    return
                _log.warn("cannot connect to {node}: {error}", node=node, error=_in_words(error))
                failures += 1
            else:
                since = self._reactor.seconds()
                _log.info("connected to {node}", node=node)
                connection.changed = self._changed
                self._set(connection, False)
                why = await connection.closed
                self._set(None, False)
                if self._is_stopped:
                    return
                _log.warn("lost the connection to {node}: {why}", node=node, why=_in_words(why))
                failures = 1 if self._reactor.seconds() - since >= GOOD else failures + 1
            rounds, rest = divmod(failures, len(self._nodes))
            if rest == 0:
                self._set(None, True)
                await self._pause(min(FIRST_PAUSE * 2 ** min(rounds - 1, 20), MOST_PAUSE))
                if self._is_stopped:
                    return

    async def _pause(self, seconds: float) -> None:
        # Not all servers at the same time.
        try:
            await deferLater(self._reactor, seconds * random.uniform(0.5, 1.0))  # noqa: S311  # no secret
        except Exception:
            if not self._is_stopped:
                raise

    def _set(self, connection: Connection | None, is_down: bool) -> None:
        self.connection, self.is_down = connection, is_down
        self._changed()


def _in_words(error: object) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if isinstance(error, Exception) else text
