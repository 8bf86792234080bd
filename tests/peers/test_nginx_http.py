"""nginx in front of an application, with TLS and as Debian has it: what the ``http:`` backend makes of the two."""

from __future__ import annotations

import smtplib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_twisted
import trustme
from programs import Program, in_thread
from real_servers import Serve
from web_servers import WebServer, response

from lmtp_twisted.backends.http import HTTPBackend

pytestmark = pytest.mark.peer("nginx")

_CONFIGURATION = """\
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr notice;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    client_max_body_size 1m;
    upstream application {{
        server 127.0.0.1:{application};
        keepalive 4;
    }}
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {directory}/certificate.pem;
        ssl_certificate_key {directory}/certificate.pem;
        location / {{
            proxy_pass http://application;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
"""


@pytest_twisted.async_yield_fixture
async def application() -> AsyncIterator[WebServer]:
    web = WebServer()
    yield web
    await web.close()


Send = Callable[..., Awaitable[str]]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest_twisted.async_yield_fixture
async def send(
    application: WebServer, serve: Serve, start_program: Callable[..., Program], tmp_path: Path
) -> AsyncIterator[Send]:
    """Sends a message to a server whose mail goes to nginx, and gives the reply after the dot."""
    authority, port = trustme.CA(), _free_port()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "certificate.pem"))
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(_CONFIGURATION.format(directory=tmp_path, application=application.listen(), port=port))
    nginx = start_program("nginx", "-e", "stderr", "-c", str(configuration))
    await nginx.says("nginx/")
    backend = HTTPBackend(f"https://127.0.0.1:{port}/mail", ca_file=str(tmp_path / "ca.pem"))
    server = await serve(0, backend)

    def session(sender: str, recipient: str, content: bytes) -> str:
        with smtplib.LMTP("127.0.0.1", server.where, "client.example.net", timeout=20) as client:
            client.ehlo_or_helo_if_needed()
            client.mail(sender, ["SMTPUTF8"])
            client.rcpt(recipient)
            code, text = client.data(content)
            return f"{code} {text.decode()}"

    async def send(
        recipient: str = "ann@example.org", *, sender: str = "you@example.net", content: bytes = b"Hello\r\n"
    ) -> str:
        return await in_thread(session, sender, recipient, content)

    yield send
    backend.shut_down()


@pytest_twisted.ensureDeferred
async def test_a_message_comes_through_with_its_envelope(application: WebServer, send: Send) -> None:
    """By TLS, which is verified; addresses in UTF-8 (RFC 6531) are escaped."""
    assert (await send("grüße@example.org")).startswith("250 2.0.0 ")
    (request,) = application.requests
    assert request.headers["lmtp-recipient"] == "gr%C3%BC%C3%9Fe@example.org"
    assert request.headers["lmtp-sender"] == "you@example.net"
    assert request.body.endswith(b"\r\nHello\r\n")


@pytest_twisted.ensureDeferred
async def test_a_bounce_comes_through(application: WebServer, send: Send) -> None:
    """Its header has no value, and some proxies take away such ones."""
    assert (await send(sender="")).startswith("250 2.0.0 ")
    assert application.requests[0].headers["lmtp-sender"] == ""


@pytest_twisted.ensureDeferred
async def test_what_nginx_finds_too_large_bounces(application: WebServer, send: Send) -> None:
    """It says 413 as soon as it has seen the length; the message lies in a file by then."""
    assert (await send(content=b"Hello\r\n" * 1_000_000)).startswith("552 5.3.4 ")
    assert (await send(content=b"Hello\r\n" * 160_000)).startswith("552 5.3.4 ")
    assert (await send(content=b"Hello\r\n" * 140_000)).startswith("250 2.0.0 ")
    assert len(application.requests) == 1


@pytest_twisted.ensureDeferred
async def test_an_application_that_is_down_bounces_nothing(application: WebServer, send: Send) -> None:
    """nginx says 502."""
    await application.close()
    assert (await send()).startswith("451 4.3.0 ")


@pytest_twisted.ensureDeferred
async def test_an_application_may_refuse(application: WebServer, send: Send) -> None:
    application.answers = [response("404 Not Found", b'{"detail": "Ann left in May"}')]
    reply = await send()
    assert reply.startswith("550 5.1.1 ")
    assert reply.endswith(" Ann left in May")
