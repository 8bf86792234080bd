"""When a worker's process is started, replaced and killed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from twisted.internet.error import ProcessTerminated
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure

from lmtp_twisted.daemon.workers.channel import Channel
from lmtp_twisted.daemon.workers.worker import (
    MOST_DELAY,
    RELOAD_PATIENCE,
    SILENCE,
    SOUND,
    START_PATIENCE,
    Orders,
    Worker,
)


@attrs.define
class Process:
    """What stands for one."""

    pid: int
    protocol: Any
    signals: list[str] = attrs.field(factory=list)

    def signalProcess(self, name: str) -> None:
        self.signals.append(name)

    def end(self, status: int | None = None, signal: int | None = None) -> None:
        self.protocol.processEnded(Failure(ProcessTerminated(status, signal)))


class Transport(StringTransport):
    """Has not sent any descriptor yet."""

    def sendFileDescriptor(self, descriptor: int) -> None:
        pass


class Reactor(Clock):
    """Starts processes that are none."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[Process] = []
        self.channels: list[Channel] = []
        self.has_processes = True
        self.environment: dict[str, str] = {}

    def spawnProcess(
        self, protocol: Any, executable: str, arguments: list[str], environment: dict[str, str], **_: Any
    ) -> None:
        if not self.has_processes:
            raise OSError(11, "Resource temporarily unavailable")
        self.environment = environment
        protocol.transport = Process(100 + len(self.processes), protocol)
        self.processes.append(protocol.transport)

    def adoptStreamConnection(self, descriptor: int, family: int, factory: Any) -> None:
        channel = factory.buildProtocol(None)
        channel.makeConnection(Transport())
        self.channels.append(channel)


@attrs.define
class Told:
    """What a worker has told."""

    answers: list[Any] = attrs.field(factory=list)
    begun: int = 0
    ended: list[str] = attrs.field(factory=list)

    def begin(self) -> None:
        self.begun += 1


@pytest.fixture
def memory() -> Iterator[int]:
    """A descriptor."""
    descriptor = os.open(os.devnull, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def reactor() -> Reactor:
    return Reactor()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def worker(reactor: Reactor, told: Told, memory: int) -> Worker:
    """One that was started."""
    made = Worker(
        reactor=reactor,
        number=1,
        memory=memory,
        orders=lambda: Orders({"serve": "this"}, []),
        answered=lambda key, message: told.answers.append((key, message)),
        begun=told.begin,
        ended=lambda one: told.ended.append(one.key),
    )
    made.start()
    return made


def _delays(reactor: Reactor, count: int, lived: float = 1.0) -> list[float]:
    """How long it takes until the next process starts, each having died after so many seconds."""
    delays = []
    for _ in range(count):
        reactor.advance(lived)
        reactor.processes[-1].end(status=1)
        began = reactor.seconds()
        (call,) = reactor.getDelayedCalls()
        delays.append(round(call.getTime() - began, 6))
        reactor.advance(call.getTime() - began)
    return delays


def test_each_that_dies_early_is_replaced_twice_as_late_up_to_a_minute(reactor: Reactor, worker: Worker) -> None:
    assert _delays(reactor, 12) == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, MOST_DELAY, MOST_DELAY]
    assert len(reactor.processes) == 13
    # One that has lived for a while died of something else.
    assert _delays(reactor, 3, lived=SOUND) == [0.1, 0.1, 0.1]


def test_each_process_has_a_key_of_its_own(reactor: Reactor, worker: Worker, told: Told) -> None:
    _delays(reactor, 2)
    assert told.ended == ["1.1", "1.2"]
    assert worker.key == "1.3"


def test_one_that_cannot_be_started_is_tried_again(reactor: Reactor, worker: Worker, told: Told) -> None:
    reactor.has_processes = False
    reactor.processes[-1].end(signal=9)
    reactor.advance(0.1)
    assert told.ended == ["1.1", "1.2"]
    reactor.has_processes = True
    reactor.advance(0.2)
    assert len(reactor.processes) == 2


def test_one_that_does_not_come_to_serve_is_killed(reactor: Reactor, worker: Worker) -> None:
    reactor.advance(START_PATIENCE)
    assert reactor.processes[0].signals == ["KILL"]


def test_one_that_serves_may_take_its_time(reactor: Reactor, worker: Worker, told: Told) -> None:
    reactor.channels[0].stringReceived(b'{"serving": true, "descriptors": 0}')
    assert (worker.is_serving, told.begun) == (True, 1)
    assert reactor.getDelayedCalls() == []


def test_what_is_left_unanswered_is_counted(reactor: Reactor, worker: Worker, told: Told) -> None:
    worker.unanswered = 2
    reactor.channels[0].stringReceived(b'{"answer": 7, "data": 1, "descriptors": 0}')
    assert worker.unanswered == 1
    assert told.answers == [("1.1", {"answer": 7, "data": 1})]


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What the log says."""
    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


def test_one_that_answers_nothing_for_a_minute_is_said_so_once_and_lives(
    reactor: Reactor, worker: Worker, logged: list[str]
) -> None:
    reactor.channels[0].stringReceived(b'{"serving": true, "descriptors": 0}')
    logged.clear()
    for _ in range(2):
        worker.is_behind()
        reactor.advance(SILENCE - 1)
        worker.is_behind()
        assert logged == []
        for _ in range(200):
            reactor.advance(1)
            worker.is_behind()
        assert logged == ["worker 1 (process 100) has answered nothing for more than 60.0 s: it hangs"]
        logged.clear()
        # It has come to itself, so it can be said again.
        reactor.channels[0].stringReceived(b'{"answer": 7, "data": 1, "descriptors": 0}')
    worker.is_behind()
    reactor.channels[0].stringReceived(b'{"answer": 8, "data": 1, "descriptors": 0}')
    worker.is_behind()
    reactor.processes[0].end(signal=9)
    reactor.processes[0].protocol.stop(1.0)
    assert reactor.getDelayedCalls() == []
    assert reactor.processes[0].signals == []


def test_one_that_waits_to_be_replaced_is_no_more_when_all_stop(reactor: Reactor, worker: Worker) -> None:
    reactor.processes[0].end(status=1)
    assert worker.stop(10.0).called
    assert reactor.getDelayedCalls() == []


def test_one_that_does_not_stop_in_time_is_killed(reactor: Reactor, worker: Worker) -> None:
    reactor.channels[0].stringReceived(b'{"serving": true, "descriptors": 0}')
    stopped = worker.stop(10.0)
    assert reactor.channels[0].transport.value().endswith(b'{"stop": true, "descriptors": 0}')
    reactor.advance(10.0)
    assert reactor.processes[0].signals == ["KILL"]
    assert not stopped.called
    reactor.processes[0].end(signal=9)
    assert stopped.called
    assert reactor.getDelayedCalls() == []


def test_one_that_does_not_serve_yet_is_ended_at_once(reactor: Reactor, worker: Worker) -> None:
    worker.stop(10.0)
    assert reactor.processes[0].signals == ["TERM"]
    reactor.processes[0].end(signal=15)


def test_a_reload_is_over_for_one_that_has_followed_it_or_has_ended(reactor: Reactor, worker: Worker) -> None:
    first = worker.reload()
    assert b'{"reload": {"serve": "this"}, ' in reactor.channels[0].transport.value()
    assert not first.called
    reactor.channels[0].stringReceived(b'{"reloaded": true, "descriptors": 0}')
    assert first.called
    second = worker.reload()
    reactor.channels[0].connectionLost()
    assert second.called
    assert worker.reload().called


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def test_ports_stay_open_until_the_message_has_come_that_they_go_with(reactor: Reactor, memory: int) -> None:
    """A reload can be told to one that has not said yet that it serves."""
    lent = [os.dup(memory) for _ in range(3)]
    given = iter(lent)
    worker = Worker(
        reactor=reactor,
        number=1,
        memory=memory,
        orders=lambda: Orders({}, [next(given)]),
        answered=lambda key, message: None,
        begun=lambda: None,
        ended=lambda one: None,
    )
    worker.start()
    worker.reload()
    assert [_is_open(descriptor) for descriptor in lent[:2]] == [True, True]
    reactor.channels[0].stringReceived(b'{"serving": true, "descriptors": 0}')
    assert [_is_open(descriptor) for descriptor in lent[:2]] == [False, True]
    reactor.channels[0].stringReceived(b'{"reloaded": true, "descriptors": 0}')
    assert [_is_open(descriptor) for descriptor in lent[:2]] == [False, False]
    worker.reload()
    reactor.channels[0].connectionLost()
    assert not _is_open(lent[2])
    reactor.processes[0].end(status=1)
    worker.stop(1.0)


def test_one_that_does_not_follow_a_reload_is_killed_and_not_waited_for(reactor: Reactor, worker: Worker) -> None:
    reactor.channels[0].stringReceived(b'{"serving": true, "descriptors": 0}')
    reloaded = worker.reload()
    reactor.advance(RELOAD_PATIENCE - 1)
    assert (reactor.processes[0].signals, reloaded.called) == ([], False)
    reactor.advance(1)
    assert (reactor.processes[0].signals, reloaded.called) == (["KILL"], True)
    reactor.processes[0].end(signal=9)
    reactor.advance(0.1)
    assert len(reactor.processes) == 2


def test_one_that_ends_while_it_is_to_follow_a_reload_is_waited_for_no_more(reactor: Reactor, worker: Worker) -> None:
    reactor.channels[0].stringReceived(b'{"serving": true, "descriptors": 0}')
    reloaded = worker.reload()
    reactor.processes[0].end(status=1)
    assert reloaded.called
    # Only its successor's start.
    assert [call.getTime() for call in reactor.getDelayedCalls()] == [pytest.approx(0.1)]


def test_what_systemd_says_to_its_parent_is_not_for_it(
    reactor: Reactor, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("LANG", "C.UTF-8")
    _delays(reactor, 1)
    assert reactor.environment["LANG"] == "C.UTF-8"
    assert not any(name.startswith(("LISTEN", "NOTIFY", "WATCHDOG")) for name in reactor.environment)
