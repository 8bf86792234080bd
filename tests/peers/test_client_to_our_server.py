"""The client and our own server, over real sockets."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_twisted
from real_servers import RealServer, Serve

from lmtp_twisted import PermanentFailure, Reply, TemporaryFailure
from lmtp_twisted.client import ClientSettings, LMTPClient, deliver, make_envelope
from lmtp_twisted.testing import ScriptedDeliveries

CONTENT = b"Subject: Hello\r\n\r\n.dots\r\n..\r\n.\r\nthe end\r\n"


def endpoint_of(server: RealServer) -> str:
    """What the client calls it."""
    return f"127.0.0.1:{server.where}" if isinstance(server.where, int) else f"unix:{server.where}"


def said(replies: list[Reply]) -> list[tuple[int, str | None]]:
    """The codes of replies."""
    return [(reply.code, reply.enhanced) for reply in replies]


@pytest_twisted.ensureDeferred
async def test_each_recipient_has_its_own_reply(serve: Serve, where: int | Path) -> None:
    """RFC 2033 §4.2: in the order of the recipients, whoever was refused at RCPT in its place."""
    backend = ScriptedDeliveries(
        {"b@x": TemporaryFailure("Full", enhanced="4.2.2"), "d@x": PermanentFailure("Gone", enhanced="5.2.1")},
        recipients={"c@x": PermanentFailure("Nobody")},
    )
    server = await serve(where, backend)
    replies = await deliver(endpoint_of(server), make_envelope("s@y", ["a@x", "b@x", "c@x", "d@x"]), CONTENT)
    assert said(replies) == [(250, "2.0.0"), (451, "4.2.2"), (550, "5.1.1"), (554, "5.2.1")]
    assert replies[0].text.startswith("<a@x> ")
    assert backend.messages[0].read() == CONTENT


@pytest_twisted.ensureDeferred
async def test_the_content_is_the_same_whatever_carries_it(serve: Serve) -> None:
    """Octets, a file, a stream; DATA and BDAT (RFC 5321 §4.5.2, RFC 3030)."""

    async def stream() -> AsyncIterator[bytes]:
        for at in range(0, len(CONTENT), 5):
            yield CONTENT[at : at + 5]

    for disabled in ((), ("CHUNKING",), ("CHUNKING", "SIZE")):
        backend = ScriptedDeliveries()
        server = await serve(0, backend, disabled=disabled)
        client = LMTPClient(endpoint_of(server), ClientSettings(hostname="me.example"))
        for message in (CONTENT, io.BufferedReader(io.BytesIO(CONTENT)), stream()):
            (reply,) = await client.deliver(make_envelope("", ["a@x"]), message)
            assert reply.code == 250, reply
        await client.close()
        assert [message.read() for message in backend.messages] == [CONTENT] * 3
        assert len(server.sessions.named("sessionStarted")) == 1
