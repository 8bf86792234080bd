"""
One of the workers: a process of its own, and when it has died, another in its place.

A process is started afresh, never forked from the one that runs: it has this program's Python and modules, and is told
the rest over its channel, so that nothing of it is seen by those who list processes.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from lmtp_twisted.daemon.lines import one_line
from lmtp_twisted.daemon.workers.channel import Channel, adopt

_log = Logger(namespace="lmtp_twisted")

#: The descriptors that a worker has besides the first three: its channel, and the memory that all share.
CHANNEL, MEMORY = 3, 4
#: Seconds before a worker that has died is replaced: at first, and at the most. They double with each that dies early.
FIRST_DELAY, MOST_DELAY = 0.1, 60.0
#: Seconds after which a worker has not died early.
SOUND = 10.0
#: Seconds that a worker may take to start.
START_PATIENCE = 60.0
#: Seconds that a worker may take to follow a reload.
RELOAD_PATIENCE = 60.0
#: Seconds that a worker may leave all questions unanswered before the log says so.
SILENCE = 60.0

_PROGRAM = "import sys; sys.path[:] = {path!r}; from lmtp_twisted.daemon.workers.child import main; main()"
# What systemd says to the process that it has started, and to no other.
_OF_SYSTEMD = ("LISTEN_", "NOTIFY_SOCKET", "WATCHDOG_")


@attrs.frozen
class Orders:
    """
    What a worker is told when it starts.

    :ivar message: JSON.
    :ivar descriptors: of the ports, in the order in which the message has them; closed here once the worker has them.
    """

    message: dict[str, Any]
    descriptors: Sequence[int]


class Worker(ProcessProtocol):
    """
    :param reactor: the reactor.
    :param number: which one it is, from 1.
    :param memory: the descriptor of what all workers share.
    :param orders: gives what it is told when it starts.
    :param answered: called with its key and an answer of it.
    :param begun: called when its process begins to serve.
    :param ended: called with this object when its process has ended.
    :ivar unanswered: questions that it has not answered.
    :ivar is_serving: whether it takes mail.
    """

    transport: Any = None

    def __init__(
        self,
        *,
        reactor: Any,
        number: int,
        memory: int,
        orders: Callable[[], Orders],
        answered: Callable[[str, dict[str, Any]], None],
        begun: Callable[[], None],
        ended: Callable[[Worker], None],
    ) -> None:
        self._reactor = reactor
        self.number = number
        self._memory = memory
        self._orders = orders
        self._answered = answered
        self._begun = begun
        self._ended = ended
        self._started = 0
        self._since = 0.0
        self._pid: int | None = None
        self._delay = FIRST_DELAY
        self._channel: Channel | None = None
        self._why = ""
        self._timer: Any = None
        # The descriptors that go with each message whose arrival it has not told.
        self._lent: list[Sequence[int]] = []
        self._reloaded: list[Deferred[None]] = []
        self._reload_timer: Any = None
        self._silence_timer: Any = None
        self._stopped: Deferred[None] | None = None
        self.unanswered = 0
        self.is_serving = False

    @property
    def key(self) -> str:
        """Names its process, and no other before or after it."""
        return f"{self.number}.{self._started}"

    @property
    def restarts(self) -> int:
        """How often a process was started in the place of one that had ended."""
        return max(0, self._started - 1)

    @property
    def _name(self) -> str:
        return f"worker {self.number}" + (f" (process {self._pid})" if self._pid else "")

    # The start

    def start(self) -> None:
        """Start a process."""
        self._started += 1
        self._since = self._reactor.seconds()
        self._why = ""
        self._timer = self._reactor.callLater(START_PATIENCE, self._kill, "it did not start in time")
        self._pid = None
        ours, theirs = socket.socketpair()
        with theirs, open(os.devnull, "rb") as nothing:
            descriptors = {0: nothing.fileno(), 1: 1, 2: 2, CHANNEL: theirs.fileno(), MEMORY: self._memory}
            try:
                self._reactor.spawnProcess(
                    self, sys.executable, _command(self.number), _environment(), childFDs=descriptors
                )
            except OSError as error:
                ours.close()
                self._has_ended(f"cannot be started: {error.strerror}")
                return
        self._pid = self.transport.pid
        orders = self._orders()
        self._channel = Channel(self._received, self._lost)
        adopt(self._reactor, ours, self._channel)
        self._lend(self._channel, orders.message, orders.descriptors)

    def say(self, message: dict[str, Any]) -> None:
        """
        :param message: for its process, where there is one.
        """
        if self._channel is not None:
            self._channel.say(message)

    def _lend(self, channel: Channel, message: dict[str, Any], descriptors: Sequence[int]) -> None:
        self._lent.append(descriptors)
        channel.say(message, descriptors)

    def _received(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if "answer" in message:
            self.unanswered -= 1
            self._is_heard()
            self._answered(self.key, message)
            return
        if "failed" in message:
            self._why = one_line(message["failed"])
            return
        # Of what it is told next, nothing may have been sent yet.
        self._take_back(1)
        if "reloaded" in message:
            self._call_reloaded()
        elif "serving" in message:
            self._timer.cancel()
            self.is_serving = True
            _log.info("{name} serves", name=self._name)
            self._begun()

    def is_behind(self) -> None:
        """It has so many questions to answer that it is asked no more. Its work may take long, so it lives."""
        if self._silence_timer is None:
            self._silence_timer = self._reactor.callLater(SILENCE, self._say_silent)

    def _say_silent(self) -> None:
        _log.warn("{name} has answered nothing for more than {seconds} s: it hangs", name=self._name, seconds=SILENCE)

    def _is_heard(self) -> None:
        if self._silence_timer is not None and self._silence_timer.active():
            self._silence_timer.cancel()
        self._silence_timer = None

    def reload(self) -> Deferred[None]:
        """
        There are other orders. Where it does not follow them in time, it is killed.

        :returns: fires when it has followed them, is killed, or has ended: the next one gets them when it starts.
        """
        reloaded: Deferred[None] = Deferred()
        self._reloaded.append(reloaded)
        if self._channel is None:
            self._call_reloaded()
        else:
            if self._reload_timer is None:
                self._reload_timer = self._reactor.callLater(RELOAD_PATIENCE, self._does_not_follow)
            orders = self._orders()
            self._lend(self._channel, {"reload": orders.message}, orders.descriptors)
        return reloaded

    def _does_not_follow(self) -> None:
        self._kill("it did not follow a reload in time")
        # Not when it has ended: what the kernel holds up does not even end for this.
        self._call_reloaded()

    def _call_reloaded(self) -> None:
        if self._reload_timer is not None and self._reload_timer.active():
            self._reload_timer.cancel()
        self._reload_timer = None
        waiting, self._reloaded = self._reloaded, []
        for deferred in waiting:
            deferred.callback(None)

    def _take_back(self, count: int) -> None:
        taken, self._lent = self._lent[:count], self._lent[count:]
        for descriptors in taken:
            for descriptor in descriptors:
                os.close(descriptor)

    # The end

    def _lost(self) -> None:
        """It does not hear us any more, so it comes to its end by itself, or has done so."""
        self._channel = None
        self._take_back(len(self._lent))
        self._call_reloaded()

    def processEnded(self, reason: Failure) -> None:
        """See :class:`~twisted.internet.interfaces.IProcessProtocol`."""
        self._has_ended(_cause(reason.value))

    def _has_ended(self, cause: str) -> None:
        name, lived = self._name, self._reactor.seconds() - self._since
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        self._call_reloaded()
        self._is_heard()
        self.transport = None
        self.is_serving = False
        self.unanswered = 0
        if self._channel is not None:
            self._channel.transport.abortConnection()
        self._ended(self)
        if self._why:
            cause += f": {self._why}"
        if self._stopped is not None:
            _log.info("{name} has ended, {cause}", name=name, cause=cause)
            self._stopped.callback(None)
            return
        if lived >= SOUND:
            self._delay = FIRST_DELAY
        _log.error(
            "{name} has ended after {lived:.1f} s, {cause}; the next one starts in {delay} s",
            name=name,
            lived=lived,
            cause=cause,
            delay=self._delay,
        )
        self._timer = self._reactor.callLater(self._delay, self.start)
        self._delay = min(2 * self._delay, MOST_DELAY)

    def stop(self, patience: float) -> Deferred[None]:
        """
        Let it finish its sessions. No other comes in its place.

        :param patience: seconds after which it is killed.
        :returns: fires when it has ended.
        """
        self._stopped = Deferred()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self.transport is None:
            self._stopped.callback(None)
        else:
            self._timer = self._reactor.callLater(patience, self._kill, "it did not end in time")
            if self.is_serving and self._channel is not None:
                self.say({"stop": True})
            else:
                # It has nothing to finish, and may not listen yet.
                self._signal("TERM")
        return self._stopped

    def _kill(self, why: str) -> None:
        self._why = why
        self._signal("KILL")

    def _signal(self, name: str) -> None:
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess(name)


def _command(number: int) -> list[str]:
    # The flags of Python's own, as -O and -W; the last words are for those who list processes.
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return [sys.executable, *flags, "-c", _PROGRAM.format(path=sys.path), "lmtp-worker", str(number)]


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(_OF_SYSTEMD)}


def _cause(ended: Any) -> str:
    number = getattr(ended, "signal", None)
    if number is None:
        return f"status {ended.exitCode}"
    try:
        return f"killed by {signal.Signals(number).name}"
    except ValueError:
        return f"killed by signal {number}"
