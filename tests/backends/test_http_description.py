"""``http:URL[,key=value…]`` as an operator writes it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from backend_messages import received
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.python.threadpool import ThreadPool
from web_servers import WebServer, response

from lmtp_twisted.backends.context import BackendContext


@pytest_twisted.async_yield_fixture  # type: ignore[untyped-decorator]
async def server() -> AsyncIterator[WebServer]:
    web = WebServer()
    yield web
    await web.close()


def build(pool: ThreadPool, description: str) -> tuple[Any, BackendContext]:
    context = BackendContext(reactor, pool, "mx.example.org")
    return context.build(description), context


@pytest_twisted.ensureDeferred
async def test_all_options_take_effect(server: WebServer, pool: ThreadPool, tmp_path: Path) -> None:
    """And the backend ends with the server."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"0123456789abcdef\n")
    server.answers = [response(body=b'{"results": [{}, {}]}')]
    url = f"http://ann:pass@127.0.0.1:{server.listen()}/a,b%2Cd=e"
    backend, context = build(pool, f"http:{url},per=message,timeout=2.5,connections=3,secret_file={secret}")
    waiting = await Deferred.fromCoroutine(backend.deliver(received("a@x", "b@x")))
    assert [(await outcome).code for outcome in waiting] == [250, 250]
    (request,) = server.requests
    assert request.line == "POST /a,b%2Cd=e HTTP/1.1"
    assert request.headers["authorization"] == "Basic YW5uOnBhc3M="
    assert request.headers["lmtp-signature"].startswith("sha256=")
    await context.shut_down()
    await server.is_left()


@pytest.mark.parametrize(
    ("description", "said"),
    [
        ("http:", "http: the URL has"),
        ("http:app.example", "http: it needs a URL such as https://app.example/mail"),
        ("http:https://u:secret/x@h/", "in a password these are written %2F and %3F"),
        ("http:https://u:12/34@h/x", "in a password these are written %2F and %3F"),
        ("http:https://u:12?34@h/x", "in a password these are written %2F and %3F"),
        ("http:https://u:x@12/34@h/x", "in a password these are written %2F and %3F"),
        ("http:https://u:secret@h/,per=mail", "http: per is recipient or message, not 'mail'"),
        ("http:https://u:secret@h/,timeout=soon", "http: timeout is a number, not 'soon'"),
        ("http:https://u:secret@h/,timeout=0", "http: a time-out of 0.0 seconds makes no sense"),
        ("http:https://u:secret@h/,connections=0", "http: 0 connections are too few"),
        ("http:https://u:secret@h/,connections=1.5", "http: connections is a number, not '1.5'"),
        ("http:https://u:secret@h/,timout=3", "http: there is no option 'timout'"),
        ("http:https://u:secret@h/,secret_file=no/where", "No such file or directory: 'no/where'"),
        ("http:https://u:secret@h/,ca=no/where", "No such file or directory: 'no/where'"),
        ("http:https://u:secret@h/,ca=setup.cfg", "http: no certificate in setup.cfg"),
        ("http:https://u:secret@h/,secret_file=empty", "http: a secret has at least 16 octets"),
        ("http:https://u:secret@h/,ca=broken", "http: a certificate in broken cannot be read"),
    ],
)
def test_what_cannot_work_is_one_line_without_secrets(
    description: str, said: str, pool: ThreadPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "setup.cfg").write_text("[metadata]\n")
    (tmp_path / "empty").write_bytes(b"\n")
    (tmp_path / "broken").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    with pytest.raises(ValueError, match="http: ") as caught:
        build(pool, description)
    assert said in str(caught.value)
    assert "u:" not in str(caught.value)
    assert "\n" not in str(caught.value)
