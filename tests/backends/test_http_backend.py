"""``http:`` over real sockets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_twisted
from backend_messages import CONTENT, received
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.python.threadpool import ThreadPool
from web_servers import WebServer, close, response, silence

from lmtp_twisted.backends.http import HTTPBackend, Per
from lmtp_twisted.backends.http import connections as connections_module
from lmtp_twisted.errors import TemporaryFailure
from lmtp_twisted.interfaces import IReceivedMessage
from lmtp_twisted.testing import FakePool

Make = Callable[..., HTTPBackend]


@pytest_twisted.async_yield_fixture  # type: ignore[untyped-decorator]
async def server() -> AsyncIterator[WebServer]:
    web = WebServer()
    yield web
    await web.close()


@pytest.fixture
def make(server: WebServer, pool: ThreadPool) -> Any:
    """Makes a backend that posts to the server."""
    made: list[HTTPBackend] = []

    def make(**options: Any) -> HTTPBackend:
        backend = HTTPBackend(f"http://127.0.0.1:{server.listen()}/mail?a=b", pool=pool, **options)
        made.append(backend)
        return backend

    yield make
    for backend in made:
        backend.shut_down()


async def outcomes(backend: HTTPBackend, message: IReceivedMessage) -> list[str]:
    """The code and the enhanced code of each recipient."""
    waiting = await Deferred.fromCoroutine(backend.deliver(message))
    return [f"{reply.code} {reply.enhanced}" for _, reply in await DeferredList(waiting)]


@pytest_twisted.ensureDeferred
async def test_a_message_is_posted_for_each_recipient(server: WebServer, make: Make) -> None:
    message = received("ann@example.org", "bob@example.org")
    assert await outcomes(make(connections=1), message) == ["250 2.0.0"] * 2
    assert [request.headers["lmtp-recipient"] for request in server.requests] == ["ann@example.org", "bob@example.org"]
    for request in server.requests:
        assert request.line == "POST /mail?a=b HTTP/1.1"
        assert request.body == message.trace() + CONTENT
        assert request.headers["content-length"] == str(len(request.body))
        assert "transfer-encoding" not in request.headers


@pytest_twisted.ensureDeferred
async def test_a_message_is_posted_once_for_all_its_recipients(server: WebServer, make: Make) -> None:
    server.answers = [response(body=b'{"results": [{}, {"code": 550, "enhanced": "5.1.1"}]}')]
    replies = await outcomes(make(per=Per.MESSAGE), received("ann@example.org", "bob@example.org"))
    assert replies == ["250 None", "550 5.1.1"]
    (request,) = server.requests
    assert request.headers["lmtp-recipient"] == "ann@example.org,bob@example.org"


@pytest_twisted.ensureDeferred
async def test_very_many_recipients_of_a_message_take_several_requests(server: WebServer, make: Make) -> None:
    """Each answer is that of its own recipients."""

    def answer(connection: Any, request: Any) -> None:
        recipients = request.headers["lmtp-recipient"].split(",")
        results = [{"code": 550 if "-7-" in recipient else 250} for recipient in recipients]
        connection.transport.write(response(body=json.dumps({"results": results}).encode()))

    server.answers = [answer]
    names = [f"recipient-{number}-{'x' * 100}@example.org" for number in range(200)]
    replies = await outcomes(make(per=Per.MESSAGE), received(*names))
    assert 1 < len(server.requests) < 10
    assert [name for name, reply in zip(names, replies, strict=True) if reply.startswith("550")] == [names[7]]


@pytest_twisted.ensureDeferred
async def test_a_connection_serves_one_request_after_the_other(server: WebServer, make: Make) -> None:
    """RFC 9112 §9.3"""
    backend = make(connections=1)
    for _ in range(3):
        await outcomes(backend, received("a@x", "b@x"))
    assert [request.connection for request in server.requests] == [1] * 6


@pytest_twisted.ensureDeferred
async def test_no_more_requests_are_under_way_than_there_may_be(server: WebServer, make: Make) -> None:
    held: list[Any] = []
    server.answers = [lambda connection, request: held.append(connection)]
    backend = make(connections=2)
    three = DeferredList([Deferred.fromCoroutine(outcomes(backend, received("a@x", "b@x", "c@x"))) for _ in range(3)])
    for answered in range(9):
        while not held:
            await soon()
        assert len(held) <= 2
        assert len(server.open) <= 2
        assert len(server.requests) <= answered + 2
        held.pop().transport.write(response())
    assert [replies for _, replies in await three] == [["250 2.0.0"] * 3] * 3


async def soon() -> None:
    """After what the reactor has to do."""
    turn: Deferred[None] = Deferred()
    reactor.callLater(0, turn.callback, None)  # type: ignore[attr-defined]  # the real reactor
    await turn


@pytest_twisted.ensureDeferred
async def test_large_messages_that_are_still_read_count_as_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no longer where nobody waits for one, or it cannot be read."""

    def fail(_: object) -> Any:
        raise OSError(5, "Input/output error")

    thread: Any = FakePool(immediate=False)
    backend = HTTPBackend("http://192.0.2.1/", connections=1, pool=thread)
    message = received("a@x", block=10)
    monkeypatch.setattr(type(message), "blocks", fail)
    reading: list[Deferred[Any]] = []

    def read(count: int) -> None:
        for _ in range(count):
            waiting = Deferred.fromCoroutine(backend.deliver(message))
            reading.append(waiting.addErrback(lambda failure: failure.trap(CancelledError, OSError)))
        with pytest.raises(TemporaryFailure, match="Too busy"):
            backend.getDelivery(message.session)

    read(10)
    reading[0].cancel()
    assert backend.getDelivery(message.session) is backend
    read(1)
    thread.run()
    await DeferredList(reading)
    assert backend.getDelivery(message.session) is backend


@pytest_twisted.ensureDeferred
async def test_overload_is_answered_at_mail_and_never_to_a_message_that_was_taken(
    server: WebServer, make: Make
) -> None:
    """``451 4.3.2`` (RFC 3463 §3.4)."""
    held: list[Any] = []
    server.answers = [lambda connection, request: held.append(connection)]
    backend = make(connections=1)
    session = received("a@x").session
    taken = []
    for _ in range(10):
        taken.append(Deferred.fromCoroutine(outcomes(backend.getDelivery(session), received("a@x", "b@x"))))
    with pytest.raises(TemporaryFailure) as caught:
        backend.getDelivery(session)
    assert str(caught.value).startswith("451 4.3.2")
    while not held:
        await soon()
    server.answers = [response()]
    held.pop().transport.write(response())
    assert [replies for _, replies in await DeferredList(taken)] == [["250 2.0.0"] * 2] * 10
    assert backend.getDelivery(session) is backend


@pytest_twisted.ensureDeferred
async def test_a_connection_that_the_server_has_closed_is_not_used_again(server: WebServer, make: Make) -> None:
    """Without saying so: the next message arrives once, and is not answered 451."""

    def answer_and_go(connection: Any, request: Any) -> None:
        connection.transport.write(response())
        connection.transport.loseConnection()

    server.answers = [answer_and_go]
    backend = make()
    for _ in range(3):
        assert await outcomes(backend, received("a@x")) == ["250 2.0.0"]
    assert [request.connection for request in server.requests] == [1, 2, 3]


@pytest_twisted.ensureDeferred
async def test_a_connection_that_was_closed_in_this_very_moment_is_not_used_again(
    server: WebServer, make: Make
) -> None:
    """The reactor has not yet been told of it, but the system knows."""
    backend = make()
    assert await outcomes(backend, received("a@x")) == ["250 2.0.0"]
    (connection,) = server.open
    connection.transport.getHandle().shutdown(1)
    assert await outcomes(backend, received("a@x")) == ["250 2.0.0"]
    assert [request.connection for request in server.requests] == [1, 2]


@pytest_twisted.ensureDeferred
async def test_a_message_that_the_server_may_have_is_not_sent_again(server: WebServer, make: Make) -> None:
    """The server had all of it, over a connection that had served before, and closed without a word."""
    server.answers = [response(), close]
    backend = make()
    assert await outcomes(backend, received("a@x")) == ["250 2.0.0"]
    assert await outcomes(backend, received("a@x")) == ["451 4.4.2"]
    assert len(server.requests) == 2


#: It lies in a file, and fills the buffers of any connection.
LARGE = CONTENT + b"x" * 20_000_000


@pytest_twisted.ensureDeferred
async def test_a_message_that_the_server_cannot_have_had_is_sent_again_over_a_new_connection(
    server: WebServer, make: Make
) -> None:
    """The connection had served before, and was lost in the midst of the body."""
    backend = make()
    assert await outcomes(backend, received("a@x")) == ["250 2.0.0"]

    def go(connection: Any, data: bytes) -> bool:
        if connection.number == 1:
            connection.transport.abortConnection()
        return bool(connection.number == 1)

    server.received = go
    assert await outcomes(backend, received("a@x", content=LARGE, block=1_000_000)) == ["250 2.0.0"]
    assert [request.connection for request in server.requests] == [1, 2]
    assert server.requests[1].body.endswith(LARGE)


@pytest_twisted.ensureDeferred
async def test_a_new_connection_that_is_lost_in_the_midst_of_the_body_is_the_end(server: WebServer, make: Make) -> None:
    """Nobody retries but the client."""
    server.received = lambda connection, data: connection.transport.abortConnection() or True
    assert await outcomes(make(), received("a@x", content=LARGE, block=1_000_000)) == ["451 4.4.2"]
    assert server.connections == 1


@pytest_twisted.ensureDeferred
async def test_a_connection_that_nobody_needs_is_closed(
    server: WebServer, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections_module, "IDLE", 0.01)
    backend = make()
    await outcomes(backend, received("a@x"))
    await server.is_left()


@pytest_twisted.ensureDeferred
async def test_an_old_server_that_closes_after_its_answer_is_understood(server: WebServer, make: Make) -> None:
    """RFC 9112 §6.3: the length of the body is where the connection ends."""

    def answer(connection: Any, request: Any) -> None:
        connection.transport.write(b"HTTP/1.0 200 OK\r\n\r\nfine")
        connection.transport.loseConnection()

    server.answers = [answer]
    assert await outcomes(make(), received("a@x")) == ["250 2.0.0"]


@pytest_twisted.ensureDeferred
async def test_a_large_message_is_read_no_faster_than_the_server_takes_it(server: WebServer, make: Make) -> None:
    """From its file, a block at a time."""
    message = received("a@x", content=LARGE, block=1_000_000)
    assert not message.inMemory
    read = 0
    blocks = message.chunks

    async def counted() -> AsyncIterator[bytes]:
        nonlocal read
        async for block in blocks():
            read += len(block)
            yield block

    class Counted:
        """It has slots, so nothing can be put in the place of a method."""

        def __getattr__(self, name: str) -> Any:
            return counted if name == "chunks" else getattr(message, name)

    paused: Deferred[Any] = Deferred()

    def pause(connection: Any, data: bytes) -> bool:
        if not paused.called:
            connection.transport.pauseProducing()
            paused.callback(connection)
        return False

    server.received = pause
    backend = make()
    waiting = Deferred.fromCoroutine(outcomes(backend, Counted()))  # type: ignore[arg-type]  # in the place of one
    connection = await paused
    before = -1
    while before < read:
        before = read
        for _ in range(50):
            await soon()
    # What the kernel's buffers of both sides take, and no more.
    assert 0 < read < len(LARGE) * 0.8
    connection.transport.resumeProducing()
    assert await waiting == ["250 2.0.0"]
    assert read == len(LARGE)
    assert server.requests[0].body.endswith(LARGE)


@pytest_twisted.ensureDeferred
async def test_a_refusal_that_comes_before_the_message_was_sent_is_heard(server: WebServer, make: Make) -> None:
    """Status 413 (RFC 9110 §15.5.14). The server reads no more, and its answer comes in two parts."""
    refused: list[Any] = []

    def refuse(connection: Any, data: bytes) -> bool:
        if not refused:
            refused.append(connection)
            connection.transport.pauseProducing()
            connection.transport.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 8\r\n\r\n")
            reactor.callLater(0.05, connection.transport.write, b"too long")  # type: ignore[attr-defined]
        return True

    server.received = refuse
    assert await outcomes(make(), received("a@x", content=LARGE, block=1_000_000)) == ["552 5.3.4"]


@pytest_twisted.ensureDeferred
async def test_a_request_that_is_cancelled_ends_its_connection(server: WebServer, make: Make) -> None:
    """Where the client of the session is gone."""
    server.answers = [silence]
    backend = make()
    (outcome,) = await Deferred.fromCoroutine(backend.deliver(received("a@x")))
    while not server.requests:
        await soon()
    outcome.cancel()
    with pytest.raises(CancelledError):
        await outcome
    await server.is_left()
    assert backend.getDelivery(received("a@x").session) is backend


@pytest_twisted.ensureDeferred
async def test_a_request_that_is_cancelled_while_it_is_sent_ends_its_connection(server: WebServer, make: Make) -> None:
    begun: Deferred[None] = Deferred()

    def begin(connection: Any, data: bytes) -> bool:
        connection.transport.pauseProducing()
        begun.callback(None)
        return True

    server.received = begin
    (outcome,) = await Deferred.fromCoroutine(make().deliver(received("a@x", content=LARGE, block=1_000_000)))
    await begun
    (connection,) = server.open
    outcome.cancel()
    with pytest.raises(CancelledError):
        await outcome
    server.received = lambda connection, data: True
    connection.transport.resumeProducing()
    await server.is_left()


@pytest_twisted.ensureDeferred
async def test_all_recipients_of_a_request_are_cancelled_together(server: WebServer, make: Make) -> None:
    server.answers = [silence]
    waiting = await Deferred.fromCoroutine(make(per=Per.MESSAGE).deliver(received("a@x", "b@x")))
    while not server.requests:
        await soon()
    for outcome in waiting:
        outcome.cancel()
    for success, failure in await DeferredList(waiting, consumeErrors=True):
        assert not success
        assert failure.check(CancelledError)


@pytest_twisted.ensureDeferred
async def test_a_redirect_is_not_followed(server: WebServer, make: Make) -> None:
    """The message is for the one server that the operator named."""
    server.answers = [response("307 Temporary Redirect", b"", "text/plain", "Location: /other")]
    assert await outcomes(make(), received("a@x")) == ["451 4.3.5"]
    assert len(server.requests) == 1


@pytest_twisted.ensureDeferred
async def test_an_answer_without_end_is_not_read_to_its_end(server: WebServer, make: Make) -> None:
    """A success is one, all the same: its body says nothing that would be asked for."""
    endless = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * 200_000
    server.answers = [endless]
    assert await outcomes(make(), received("a@x")) == ["250 2.0.0"]
    await server.is_left()


@pytest.mark.parametrize("filler", [b"X-Filler: %s\r\n" % (b"x" * 200), b"HTTP/1.1 100 Continue\r\n\r\n"])
@pytest_twisted.ensureDeferred
async def test_a_head_without_end_is_not_kept(server: WebServer, make: Make, filler: bytes) -> None:
    server.answers = [b"HTTP/1.1 200 OK\r\n" * (b"X-" in filler) + filler * 20_000]
    assert await outcomes(make(), received("a@x")) == ["451 4.4.2"]
    await server.is_left()


@pytest_twisted.ensureDeferred
async def test_what_is_no_http_while_the_message_is_sent_is_a_broken_connection(server: WebServer, make: Make) -> None:
    def talk(connection: Any, data: bytes) -> bool:
        connection.transport.pauseProducing()
        connection.transport.write(b"220 This is not the web\r\n\r\n")
        return True

    server.received = talk
    assert await outcomes(make(), received("a@x", content=LARGE, block=1_000_000)) == ["451 4.4.2"]


@pytest.mark.parametrize(
    "options",
    [{"timeout": 0}, {"timeout": float("nan")}, {"timeout": float("inf")}, {"connections": 0}, {"secret": b"short"}],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], pool: ThreadPool) -> None:
    with pytest.raises(ValueError, match=r"seconds|few|octets"):
        HTTPBackend("http://127.0.0.1/", pool=pool, **options)
