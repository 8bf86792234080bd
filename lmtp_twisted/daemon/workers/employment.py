"""A worker's side of the channel: it serves as it is told, answers what it is asked, and stops when its parent does."""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import Any

from twisted.application.service import Application, Service
from twisted.logger import Logger
from twisted.scripts._twistd_unix import ServerOptions, UnixApplicationRunner

from lmtp_twisted.daemon.assembly import Workplace, assemble
from lmtp_twisted.daemon.given import Given
from lmtp_twisted.daemon.members import Answers
from lmtp_twisted.daemon.options import Options
from lmtp_twisted.daemon.service import LMTPService
from lmtp_twisted.daemon.workers.channel import Channel, adopt
from lmtp_twisted.daemon.workers.orders import fill, ports_of
from lmtp_twisted.daemon.workers.ports import GivenPorts
from lmtp_twisted.daemon.workers.tally import SharedTally
from lmtp_twisted.daemon.workers.worker import MEMORY

_log = Logger(namespace="lmtp_twisted")


class Employment(Service):
    """
    :param reactor: the reactor.
    :param given: what the server goes by.
    :param ports: its ports.
    :param server: the server.
    :param answers: what can be asked.
    :param end: our end of the channel.
    :param early: see :class:`~lmtp_twisted.daemon.workers.channel.Channel`.
    """

    def __init__(
        self,
        reactor: Any,
        given: Given,
        ports: GivenPorts,
        server: LMTPService,
        answers: Answers,
        end: socket.socket,
        early: list[int],
    ) -> None:
        self._reactor = reactor
        self._given = given
        self._ports = ports
        self._server = server
        self._answers = answers
        self._end = end
        self._channel = Channel(self._received, self._stop, early)

    def startService(self) -> None:
        """Listen to the parent. The server has started."""
        super().startService()
        # It is the parent's to say when all is to be read anew.
        signal.signal(signal.SIGHUP, lambda *_: None)
        adopt(self._reactor, self._end, self._channel)
        self._channel.say({"serving": True})

    def _received(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if "ask" in message:
            self._answer(message)
        elif "reopen" in message:
            self._server.reopen()
        elif "reload" in message:
            self._ports.give(ports_of(message["reload"], descriptors))
            fill(self._given, message["reload"])
            self._server.reload()
            self._channel.say({"reloaded": True})
        elif "stop" in message:
            self._stop()

    def _answer(self, message: dict[str, Any]) -> None:
        answer = self._answers.get(message["question"])
        if answer is not None:
            try:
                self._channel.say({"answer": message["ask"], "data": answer(message["argument"])})
                return
            except Exception:
                _log.failure("the question {question!r} was not answered", question=message["question"])
        self._channel.say({"answer": message["ask"]})

    def _stop(self) -> None:
        """The parent stops, or is gone."""
        self._ports.give([])
        self._server.end()


class _Runner(UnixApplicationRunner):
    """
    twistd without a command line.

    :param config: its options.
    :param first: what :func:`run` was given.
    """

    def __init__(
        self, config: ServerOptions, first: tuple[socket.socket, dict[str, Any], list[int], list[int]]
    ) -> None:
        super().__init__(config)
        self._first = first

    def createOrGetApplication(self) -> Any:
        """The server, and its employment."""
        from twisted.internet import reactor

        end, orders, descriptors, early = self._first
        options = Options()
        options.parent = self.config
        options.given = Given()
        fill(options.given, orders)
        options.parseOptions(orders["arguments"])
        ports = GivenPorts(reactor)
        ports.give(ports_of(orders, descriptors))
        tally = SharedTally(MEMORY, orders["size"], int(sys.argv[-1]) - 1)
        os.close(MEMORY)
        server = assemble(options, Workplace(ports, tally, orders["size"]))
        application = Application("lmtp")
        server.setServiceParent(application)
        Employment(reactor, options.given, ports, server, server.answers, end, early).setServiceParent(application)
        return application


def run(end: socket.socket, orders: dict[str, Any], descriptors: list[int], early: list[int]) -> None:
    """
    Serve until told to stop.

    :param end: our end of the channel.
    :param orders: the first message on it.
    :param descriptors: those that came with it.
    :param early: those of the next one.
    """
    config = ServerOptions()
    config.parseOptions(["--nodaemon", "--pidfile=", "--no_save", *orders["twistd"]])
    _Runner(config, (end, orders, descriptors, early)).run()
