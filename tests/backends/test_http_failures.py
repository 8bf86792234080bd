"""Each row of the table in docs/http.rst, over real sockets: what happens, and what the client is told."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
import trustme
from backend_messages import CONTENT, received
from OpenSSL import SSL
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.ssl import DefaultOpenSSLContextFactory
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.threadpool import ThreadPool
from web_servers import WebServer, close, response, silence

from lmtp_twisted.backends.http import HTTPBackend, Per
from lmtp_twisted.errors import DeliveryError
from lmtp_twisted.interfaces import IReceivedMessage
from lmtp_twisted.verdict import DELIVERY, OUTCOME

CA, STRANGER = trustme.CA(), trustme.CA()
PAGE = (Path(__file__).parents[2] / "docs" / "http.rst").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^    \* - (.+)\n      - (.+)$", PAGE[PAGE.index("what happens\n") :], re.MULTILINE))
LARGE = CONTENT + b"x" * 20_000_000


@attrs.define
class Case:
    """
    :ivar server: what the application does.
    :ivar pool: for the backend.
    :ivar options: of the backend.
    :ivar url: with the port to come.
    :ivar context: of the server's TLS.
    :ivar message: which message is sent.
    """

    server: WebServer
    pool: ThreadPool
    options: dict[str, Any] = attrs.field(factory=dict)
    url: str = "http://127.0.0.1:{port}/secret?key=secret"
    context: Any = None
    message: IReceivedMessage = attrs.field(factory=lambda: received("ann@example.org", "bob@example.org"))

    async def told(self) -> list[str]:
        """The replies to both recipients."""
        url = self.url.format(port=self.server.listen(self.context))
        backend = HTTPBackend(url, pool=self.pool, **self.options)
        try:
            waiting = await Deferred.fromCoroutine(backend.deliver(self.message))
            outcomes = [outcome for _, outcome in await DeferredList(waiting, consumeErrors=True)]
        finally:
            backend.shut_down()
        return [OUTCOME.verdict(outcome).encoded.decode()[:9] for outcome in outcomes]

    def answers(self, *answers: Any, **options: Any) -> Awaitable[list[str]]:
        self.server.answers = list(answers)
        self.options |= options
        return self.told()

    async def statuses(self, *statuses: int) -> list[str]:
        """One for each recipient, one after the other."""
        return await self.answers(*(response(f"{status} Said") for status in statuses), connections=1)

    def large(self) -> Case:
        """The same with a large message, and a server that reads no more than its beginning."""
        self.message = received("ann@example.org", "bob@example.org", content=LARGE, block=1_000_000)
        self.server.received = lambda connection, data: connection.transport.pauseProducing() or True
        return self

    def secure(self, issuer: trustme.CA, name: str, directory: Path) -> Case:
        """The same with TLS."""
        file = directory / "certificate.pem"
        issuer.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(str(file))
        self.context = DefaultOpenSSLContextFactory(str(file), str(file), SSL.TLS_METHOD)
        return self.trusting(directory)

    def trusting(self, directory: Path) -> Case:
        """The same by HTTPS, with our authority trusted."""
        file = directory / "ca.pem"
        file.write_bytes(b"Ours:\n" + CA.cert_pem.bytes())
        self.url = "https://127.0.0.1:{port}/secret?key=secret"
        self.options["ca_file"] = str(file)
        return self


def wait(connection: Any, request: Any) -> None:
    connection.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc")


def cut(connection: Any, request: Any) -> None:
    wait(connection, request)
    connection.transport.loseConnection()


def gibberish(connection: Any, request: Any) -> None:
    connection.transport.write(b"220 mx.example.org SMTP\r\n\r\n")


def results(text: str) -> bytes:
    return response(body=f'{{"results": {text}}}'.encode())


async def not_listening(case: Case) -> list[str]:
    port = case.server.listen()
    await case.server.close()
    case.url = f"http://127.0.0.1:{port}/secret"
    case.server = WebServer()
    return await case.told()


def no_tls(case: Case) -> Awaitable[list[str]]:
    case.server.received = lambda connection, data: connection.transport.write(response("400 Bad Request")) or True
    return case.told()


async def early(case: Case) -> list[str]:
    case.large()

    def refuse(connection: Any, data: bytes) -> bool:
        connection.transport.pauseProducing()
        connection.transport.write(response("413 Too Large"))
        return True

    case.server.received = refuse
    return await case.told()


def unreadable(case: Case) -> Awaitable[list[str]]:
    message = case.message

    class Unreadable:
        def __getattr__(self, name: str) -> Any:
            return self.broken if name == "chunks" else getattr(message, name)

        async def broken(self) -> AsyncIterator[bytes]:
            raise OSError(5, "Input/output error")
            yield b""

    case.message = Unreadable()  # type: ignore[assignment]  # in the place of one
    return case.told()


async def too_many(case: Case) -> list[str]:
    arrived: Deferred[None] = Deferred()
    case.server.answers = [lambda connection, request: arrived.callback(None)]
    backend = HTTPBackend(f"http://127.0.0.1:{case.server.listen()}/", pool=case.pool, connections=1)
    session = case.message.session
    taken = [
        outcome
        for _ in range(10)
        for outcome in await Deferred.fromCoroutine(backend.getDelivery(session).deliver(case.message))
    ]
    with pytest.raises(DeliveryError) as refused:
        backend.getDelivery(session)
    await arrived
    # The last first: one that is cancelled gives its turn to the next.
    for outcome in reversed(taken):
        outcome.cancel()
    await DeferredList(taken, consumeErrors=True)
    return [DELIVERY.verdict(refused.value).encoded.decode()[:9]]


Play = Callable[[Case, Path], Awaitable[list[str]]]
BOTH = Per.MESSAGE

#: What plays a row, and what it has to give where that is not twice what the row says.
PLAYS: dict[str, tuple[Play, list[str] | None]] = {
    "status 200, or another 2xx": (lambda case, path: case.statuses(200, 202), None),
    "status 204, also for many": (lambda case, path: case.answers(b"HTTP/1.1 204 Said\r\n\r\n", per=BOTH), None),
    "a result for each recipient": (
        lambda case, path: case.answers(results('[{}, {"code": 452, "enhanced": "4.2.2"}]'), per=BOTH),
        ["250 2.0.0", "452 4.2.2"],
    ),
    "status 404 or 410": (lambda case, path: case.statuses(404, 410), None),
    "status 413, also before all was sent": (lambda case, path: early(case), None),
    "status 429 or 503": (lambda case, path: case.statuses(429, 503), None),
    "another 5xx": (lambda case, path: case.statuses(500, 502), None),
    "status 401, 403 or another 4xx": (lambda case, path: case.statuses(401, 403), None),
    "a redirect, which is not followed": (lambda case, path: case.statuses(302, 308), None),
    "JSON that is broken": (lambda case, path: case.answers(response(body=b'{"results": [')), None),
    "JSON of more than 128 KiB": (lambda case, path: case.answers(response(body=b"[" + b" " * 140_000)), None),
    "too few results, or too many": (
        lambda case, path: case.answers(results("[]"), results("[{}, {}]"), connections=1),
        None,
    ),
    "a result that makes no sense": (
        lambda case, path: case.answers(results('[{}, {"code": "250"}]'), per=BOTH),
        ["250 2.0.0", "451 4.3.0"],
    ),
    "no results, with ``per=message``": (
        lambda case, path: case.answers(response(kind="text/html", body=b"<p>Welcome"), per=BOTH),
        None,
    ),
    "nobody listens there": (lambda case, path: not_listening(case), None),
    "no such host": (lambda case, path: attrs.evolve(case, url="http://nobody.invalid/secret").told(), None),
    "no answer within ``timeout``": (lambda case, path: case.answers(silence, timeout=0.2), None),
    "the message is not taken within ``timeout``": (
        lambda case, path: case.large().answers(silence, timeout=0.2),
        None,
    ),
    "an answer that does not end within ``timeout``": (lambda case, path: case.answers(wait, timeout=0.2), None),
    "the connection is closed without an answer": (lambda case, path: case.answers(close), None),
    "an answer that is cut": (lambda case, path: case.answers(cut), None),
    "an answer that is no HTTP": (lambda case, path: case.answers(gibberish), None),
    "a certificate that is not trusted": (lambda case, path: case.secure(STRANGER, "127.0.0.1", path).told(), None),
    "a certificate of another name": (lambda case, path: case.secure(CA, "app.example", path).told(), None),
    "no TLS there": (lambda case, path: no_tls(case.trusting(path)), None),
    "the spooled message cannot be read": (lambda case, path: unreadable(case), None),
    "too many messages wait, at MAIL": (lambda case, path: too_many(case), ["451 4.3.2"]),
}


@pytest_twisted.async_yield_fixture  # type: ignore[untyped-decorator]
async def server() -> AsyncIterator[WebServer]:
    web = WebServer()
    yield web
    await web.close()


@pytest.mark.parametrize("row", ROWS)
@pytest_twisted.ensureDeferred
async def test_what_happens_is_told_to_the_client(
    row: str, server: WebServer, pool: ThreadPool, tmp_path: Path
) -> None:
    """The log says why, and nothing that is secret."""
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    play, special = PLAYS[row]
    case = Case(server, pool)
    try:
        told = await play(case, tmp_path)
    finally:
        globalLogPublisher.removeObserver(events.append)
        if case.server is not server:
            await case.server.close()
    said = re.findall(r"``(.+?)``", ROWS[row])
    assert told == (special or said * 2)
    assert not said or set(said) <= set(told)
    logged = " ".join(str(event) for event in events if event.get("log_namespace") == "lmtp_twisted")
    is_ours = any(reply.startswith("451") for reply in told) and not row.endswith("at MAIL")
    assert ("session.1" in logged) == is_ours
    assert "secret" not in logged


def test_every_row_is_played_and_no_other() -> None:
    assert ROWS.keys() == PLAYS.keys()


@pytest_twisted.ensureDeferred
async def test_a_certificate_that_is_trusted_is_enough(server: WebServer, pool: ThreadPool, tmp_path: Path) -> None:
    """Otherwise the rows on TLS would say nothing. An IP address may stand in the URL, and connections are kept."""
    case = Case(server, pool, options={"connections": 1}).secure(CA, "127.0.0.1", tmp_path)
    assert await case.told() == ["250 2.0.0"] * 2
    assert [request.connection for request in server.requests] == [1, 1]
