"""The server as a service: its start, and its end in order."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.application.service import IService
from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, DeferredQueue, succeed
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    UNIXServerEndpoint,
    connectProtocol,
)
from twisted.internet.error import CannotListenError, ConnectionRefusedError
from twisted.internet.task import deferLater
from twisted.logger import globalLogPublisher
from twisted.protocols.basic import LineReceiver
from twisted.python.threadpool import ThreadPool
from zope.interface.verify import verifyObject

from lmtp_twisted import LMTPFactory, Settings, Spool
from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.daemon import service as service_module
from lmtp_twisted.daemon.generation import Entrance, Generation
from lmtp_twisted.daemon.listening import ListenDescription
from lmtp_twisted.daemon.logs import Log
from lmtp_twisted.daemon.monitoring.monitor import Monitor
from lmtp_twisted.daemon.notify import Notifier
from lmtp_twisted.daemon.ports import Ports
from lmtp_twisted.daemon.said import Faults, Place
from lmtp_twisted.daemon.service import LMTPService
from lmtp_twisted.headcount import HeadCount


class Client(LineReceiver):
    """One session; its lines come one by one, and ``None`` when it is over."""

    def __init__(self) -> None:
        self.lines: DeferredQueue[str | None] = DeferredQueue()

    def lineReceived(self, line: bytes) -> None:
        self.lines.put(line.decode())

    def connectionLost(self, reason: object = None) -> None:
        self.lines.put(None)

    async def until(self, start: str) -> str:
        """The next line that begins so; lines before it are skipped."""
        while not (line := await self.lines.get() or "closed").startswith(start):
            assert line != "closed", f"the connection was closed before {start!r}"
        return line


@attrs.define
class Server:
    """A service with what it is made of."""

    service: LMTPService
    context: BackendContext
    pool: ThreadPool
    log: Log

    async def connect(self) -> Client:
        """A session that was greeted."""
        (port,) = [await listening for listening in self.service._openings.listening.values()]
        client: Client = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port), Client())
        await client.until("220 ")
        return client

    async def connect_and_send(self, *recipients: str) -> Client:
        """A session past the dot."""
        client = await self.connect()
        commands = ["LHLO c", "MAIL FROM:<a@b>", *(f"RCPT TO:<{name}>" for name in recipients), "DATA", ".", ""]
        client.transport.write("\r\n".join(commands).encode())
        await client.until("354 ")
        return client


class ReopenableLog(Log):
    """Says when it is told to reopen its file."""

    can_reopen = True

    def __init__(self) -> None:
        super().__init__("info")
        self.reopened: Deferred[None] = Deferred()

    def reopen(self) -> None:
        self.reopened.callback(None)


class FakePorts(Ports):
    """Endpoints by their numbers."""

    def __init__(self, endpoints: list[Any]) -> None:
        super().__init__(reactor)
        self.endpoints = endpoints

    def listen(self, description: ListenDescription, factory: Any) -> Deferred[Any]:
        listening: Deferred[Any] = self.endpoints[int(description.key)].listen(factory)
        return listening


def renew(before: Generation) -> Generation:
    """Nothing has changed, and nothing is made anew."""
    raise Faults("it is as it was")


def _loopback() -> Any:
    return TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")


def _server(
    deliver: Any = lambda message, recipient: None,
    endpoints: Any = None,
    *,
    drain_timeout: float = 30.0,
    log: Log | None = None,
    used_reactor: Any = reactor,
    crew: Any = None,
) -> Server:
    pool = ThreadPool(minthreads=0, maxthreads=2, name="test")
    context = BackendContext(reactor=reactor, pool=pool, hostname="localhost", plugins={})
    factory = LMTPFactory(
        deliver=deliver, settings=Settings(hostname="localhost"), reactor=reactor, spool=Spool(reactor, pool)
    )
    chosen = log or Log("info")
    ports = FakePorts([_loopback()] if endpoints is None else endpoints)
    generation = Generation(
        entrances=[
            Entrance((Place("--listen"), ListenDescription(str(index), "any", {}), False), factory)
            for index in range(len(ports.endpoints))
        ],
        factories={"": factory},
        shared_count=HeadCount(1000),
        spool=factory.spool,
        context=context,
        drain_timeout=drain_timeout,
        facts=["a fact"],
    )
    service = LMTPService(
        reactor=used_reactor,
        generation=generation,
        renew=renew,
        ports=ports,
        pool=pool,
        log=chosen,
        monitor=Monitor(lambda: service.sessions),
        notifier=Notifier(reactor, {}),
        crew=crew,
    )
    return Server(service, context, pool, chosen)


def _started(server: Server) -> Server:
    server.service.privilegedStartService()
    server.service.startService()
    return server


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """The events of this package's log, formatted."""
    texts: list[str] = []

    def observe(event: Any) -> None:
        if event.get("log_namespace") == "lmtp_twisted":
            texts.append(event["log_format"].format(**event))

    globalLogPublisher.addObserver(observe)
    yield texts
    globalLogPublisher.removeObserver(observe)


def test_it_is_a_service() -> None:
    verifyObject(IService, _server().service)


# The start


@pytest_twisted.ensureDeferred
async def test_it_listens_before_privileges_are_given_up_and_says_where(logged: list[str], tmp_path: Path) -> None:
    path = tmp_path / "lmtp"
    server = _server(endpoints=[_loopback(), UNIXServerEndpoint(reactor, str(path))])
    server.service.privilegedStartService()
    port = (await next(iter(server.service._openings.listening.values()))).getHost().port
    assert logged == ["a fact", f"listening on 127.0.0.1:{port}", f"listening on {path}"]
    server.service.startService()
    await server.service.stopService()


@pytest_twisted.ensureDeferred
async def test_an_ipv6_address_stands_in_brackets(logged: list[str]) -> None:
    server = _server(endpoints=[TCP6ServerEndpoint(reactor, 0, interface="::1")])
    try:
        server.service.privilegedStartService()
    except CannotListenError:
        pytest.skip("this machine has no IPv6")
    server.service.startService()
    assert logged[1].startswith("listening on [::1]:")
    await server.service.stopService()


@pytest_twisted.ensureDeferred
async def test_where_nobody_has_privileges_the_start_listens_too() -> None:
    server = _server()
    server.service.startService()
    client = await server.connect()
    client.transport.loseConnection()
    await server.service.stopService()


@pytest_twisted.ensureDeferred
async def test_threads_run_after_the_start_only() -> None:
    """None would survive the fork of a daemon. What was asked of them before is done then."""
    server = _server()
    done: Deferred[str] = Deferred()
    server.pool.callInThread(lambda: reactor.callFromThread(done.callback, threading.current_thread().name))  # type: ignore[attr-defined]
    server.service.privilegedStartService()
    assert server.pool.threads == []
    server.service.startService()
    assert (await done).startswith("PoolThread-test")
    await server.service.stopService()


def test_a_port_that_was_taken_meanwhile_is_an_error(taken_port: int) -> None:
    server = _server(endpoints=[TCP4ServerEndpoint(reactor, taken_port, interface="127.0.0.1")])
    with pytest.raises(CannotListenError):
        server.service.privilegedStartService()


@attrs.define
class SlowEndpoint:
    """Listens when it is told to."""

    waiting: Deferred[Any] = attrs.field(factory=Deferred)

    def listen(self, factory: object) -> Deferred[Any]:
        return self.waiting


@attrs.define(eq=False)
class FakePort:
    """A port that counts how often it was closed."""

    number: int
    closed: int = 0

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", self.number)

    def stopListening(self) -> None:
        self.closed += 1


@attrs.define
class StoppableReactor:
    """The real one, except that it does not stop."""

    stops: int = 0

    def stop(self) -> None:
        self.stops += 1

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)


@pytest_twisted.ensureDeferred
async def test_an_endpoint_may_take_its_time() -> None:
    slow, port = SlowEndpoint(), FakePort(2524)
    server = _started(_server(endpoints=[slow]))
    slow.waiting.callback(port)
    await server.service.stopService()
    assert port.closed == 1


@pytest_twisted.ensureDeferred
async def test_an_endpoint_that_fails_late_stops_the_server(logged: list[str]) -> None:
    slow, stoppable = SlowEndpoint(), StoppableReactor()
    server = _started(_server(endpoints=[slow], used_reactor=stoppable))
    slow.waiting.errback(CannotListenError(None, 2524, OSError("taken")))
    assert stoppable.stops == 1
    assert "cannot listen, so the server stops" in logged
    await server.service.stopService()


@pytest_twisted.ensureDeferred
async def test_an_endpoint_that_still_takes_its_time_at_the_end_is_cancelled() -> None:
    slow, stoppable = SlowEndpoint(), StoppableReactor()
    server = _started(_server(endpoints=[slow], used_reactor=stoppable))
    await server.service.stopService()
    assert slow.waiting.called
    assert stoppable.stops == 0


def test_port_25_is_refused_whatever_endpoint_it_came_from() -> None:
    """RFC 2033 §5. The description of an endpoint of another package may not tell."""
    slow, port = SlowEndpoint(), FakePort(25)
    slow.waiting.callback(port)
    with pytest.raises(ValueError, match="port 25 is SMTP's"):
        _server(endpoints=[slow]).service.privilegedStartService()
    assert port.closed == 1


# The end


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "LEAST_PATIENCE", 0.01)


@pytest_twisted.ensureDeferred
async def test_at_the_end_its_port_is_closed(logged: list[str]) -> None:
    server = _started(_server())
    port = (await next(iter(server.service._openings.listening.values()))).getHost().port
    await server.service.stopService()
    with pytest.raises(ConnectionRefusedError):
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), Client())
    assert logged[-2:] == ["stopping, sessions=0", "stopped"]


@pytest_twisted.ensureDeferred
async def test_at_the_end_an_idle_session_is_told() -> None:
    server = _started(_server())
    client = await server.connect()
    stopped = server.service.stopService()
    await client.until("421 4.3.2 ")
    client.transport.loseConnection()
    await stopped


@pytest_twisted.ensureDeferred
async def test_at_the_end_a_session_past_the_dot_gets_all_its_replies() -> None:
    """RFC 2033 §4.2, and RFC 5321 §3.8: the 421 answers the command after them."""
    outcomes: dict[str, Deferred[None]] = {"x@y": Deferred(), "z@y": Deferred()}
    server = _started(_server(lambda message, recipient: outcomes[str(recipient)]))
    client = await server.connect_and_send("x@y", "z@y")
    stopped = server.service.stopService()
    outcomes["x@y"].callback(None)
    await client.until("250 2.0.0 <x@y> ")
    assert not stopped.called
    outcomes["z@y"].callback(None)
    await client.until("250 2.0.0 <z@y> ")
    client.sendLine(b"NOOP")
    await client.until("421 4.3.2 ")
    client.transport.loseConnection()
    await stopped


@pytest_twisted.ensureDeferred
async def test_backends_end_after_the_sessions_and_before_the_threads() -> None:
    events: list[str] = []
    outcome: Deferred[None] = Deferred()
    server = _started(_server(lambda message, recipient: outcome))

    def shut_down() -> Deferred[None]:
        events.append(f"backend, sessions={len(server.service.factories[0].sessions)}")
        done: Deferred[None] = Deferred()
        server.pool.callInThread(lambda: reactor.callFromThread(done.callback, None))  # type: ignore[attr-defined]
        return done.addCallback(lambda _: events.append("thread"))

    server.context.add_shutdown(shut_down)
    client = await server.connect_and_send("x@y")
    stopped = server.service.stopService()
    assert events == []
    outcome.callback(None)
    client.sendLine(b"QUIT")
    await stopped
    assert events == ["backend, sessions=0", "thread"]
    assert server.pool.joined


@pytest_twisted.ensureDeferred
async def test_sessions_that_do_not_finish_in_time_get_451_for_what_is_not_delivered(logged: list[str]) -> None:
    """RFC 2033 §4.2: the replies are owed, so known ones are sent and the others are decided."""
    cancelled: list[object] = []

    def deliver(message: Any, recipient: Any) -> Any:
        return None if str(recipient) == "fast@y" else Deferred(cancelled.append)

    server = _started(_server(deliver, drain_timeout=0.01))
    client = await server.connect_and_send("slow@y", "fast@y")
    await server.service.stopService()
    replies = [await client.lines.get() for _ in range(3)]
    assert [reply and reply[:9] for reply in replies] == ["451 4.3.0", "250 2.0.0", None]
    assert len(cancelled) == 1
    assert "1 sessions did not finish in 0.01 s: what is not delivered is cancelled" in logged
    assert logged[-1] == "stopped"


@pytest.mark.usefixtures("_impatient")
@pytest_twisted.ensureDeferred
async def test_a_backend_that_does_not_end_is_not_waited_for(logged: list[str]) -> None:
    server = _started(_server(drain_timeout=0.01))
    ended: list[str] = []
    server.context.add_shutdown(lambda: ended.append("another"))
    server.context.add_shutdown(Deferred)
    await server.service.stopService()
    assert ended == ["another"]
    assert "shutting the backends down takes more than 0.01 s: not waited for" in logged
    assert server.pool.joined


@pytest.mark.usefixtures("_impatient")
@pytest_twisted.ensureDeferred
async def test_a_thread_that_does_not_end_is_not_waited_for(logged: list[str]) -> None:
    server = _started(_server(drain_timeout=0.01))
    is_held = threading.Event()
    server.pool.callInThread(is_held.wait)
    await server.service.stopService()
    assert "stopping the threads takes more than 0.01 s: not waited for" in logged
    is_held.set()
    for thread in server.pool.threads:
        thread.join()


@pytest_twisted.ensureDeferred
async def test_backends_get_some_time_even_where_sessions_get_none(logged: list[str]) -> None:
    server = _started(_server(drain_timeout=0.0))
    server.context.add_shutdown(lambda: deferLater(reactor, 0))  # type: ignore[arg-type]  # the real reactor
    await server.service.stopService()
    assert logged[-2:] == ["stopping, sessions=0", "stopped"]


class Crew:
    """Workers that end at once."""

    session_count = 0

    def __init__(self) -> None:
        self.patience: list[float] = []

    def start(self) -> Deferred[None]:
        return succeed(None)

    def stop(self, patience: float) -> Deferred[None]:
        self.patience.append(patience)
        return succeed(None)


@pytest.mark.parametrize("drain_timeout", [0.0, 30.0])
@pytest_twisted.ensureDeferred
async def test_workers_get_little_more_to_end_than_their_sessions_do(drain_timeout: float) -> None:
    """One that hangs must not keep the server for long, and one that does not hang has mail to put away."""
    crew = Crew()
    await _started(_server(endpoints=[], drain_timeout=drain_timeout, crew=crew)).service.stopService()
    (patience,) = crew.patience
    assert drain_timeout + 10 <= patience <= drain_timeout + 20


@pytest_twisted.ensureDeferred
async def test_a_port_that_cannot_be_closed_is_logged_and_the_end_goes_on(logged: list[str]) -> None:
    class StubbornPort(FakePort):
        def stopListening(self) -> None:
            raise RuntimeError

    slow = SlowEndpoint()
    slow.waiting.callback(StubbornPort(2524))
    server = _started(_server(endpoints=[slow]))
    await server.service.stopService()
    assert logged[-2:] == ["closing a port failed", "stopped"]


@pytest.mark.usefixtures("_impatient")
@pytest_twisted.ensureDeferred
async def test_even_backends_that_do_not_heed_being_cancelled_are_not_waited_for() -> None:
    server = _started(_server(drain_timeout=0.01))
    held: list[Deferred[None]] = [Deferred(), Deferred()]
    for deferred in held:
        server.context.add_shutdown(lambda deferred=deferred: deferred)
    await server.service.stopService()
    held[0].callback(None)


# Signals


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
@pytest_twisted.ensureDeferred
async def test_a_signal_reopens_the_log(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    log = ReopenableLog()
    server = _started(_server(log=log))
    os.kill(os.getpid(), number)
    await log.reopened
    await server.service.stopService()
    assert signal.getsignal(number) is before


@pytest_twisted.ensureDeferred
async def test_a_signal_to_reopen_does_no_harm_where_there_is_no_file() -> None:
    """By default it ends the process, with replies owed."""
    before = signal.getsignal(signal.SIGHUP)
    server = _started(_server())
    signal.raise_signal(signal.SIGHUP)
    await server.service.stopService()
    assert signal.getsignal(signal.SIGHUP) is before
