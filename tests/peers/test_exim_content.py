"""What Exim sends is what the backend gets, octet for octet, whichever of its transports sends it."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
import pytest_twisted
from private_exim import Exim, domain_of
from real_servers import Serve

from lmtp_twisted.interfaces import IReceivedMessage
from lmtp_twisted.testing import ScriptedDeliveries

pytestmark = pytest.mark.peer("exim")

#: By BDAT, by DATA, and by the transport that knows neither PIPELINING nor CHUNKING.
WAYS = [("tcp", ""), ("tcp", "data"), ("unix", "")]

#: Without any of these Exim adds it.
_HEAD = (
    b"From: sender@discard.example\nDate: Mon, 1 Jan 2024 00:00:00 +0000\nMessage-ID: <1@client.example.net>\n"
    b"Subject: content\n"
)
#: The line that Exim puts before what it was given.
_RECEIVED = re.compile(rb"Received: from root by mta\.example\.net .*\r\n(?:[\t ].*\r\n)+")


def as_sent(content: bytes) -> bytes:
    """The content without Exim's trace, with Unix line ends."""
    received = _RECEIVED.match(content)
    assert received is not None, content[:500]
    rest = content[received.end() :]
    assert rest.count(b"\r\n") == rest.count(b"\n") == rest.count(b"\r")
    return rest.replace(b"\r\n", b"\n")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\n.\n..\n...\n.a\n..b\nc.\n.\n", id="lines that begin with dots"),
        pytest.param(b"\n", id="an empty body"),
        pytest.param(b"\n" + b"y" * 998 + b"\n", id="the longest line of RFC 5322"),
        pytest.param(b"\n" + b"y" * 100_000 + b"\n.\n" + b"." * 100_000 + b"\n", id="lines of 100,000 octets"),
        pytest.param(b"\n" + bytes(range(128, 256)) + b"\n", id="all octets of 8 bits"),
    ],
)
@pytest.mark.parametrize(("where", "kind"), WAYS, indirect=["where"])
@pytest_twisted.ensureDeferred
async def test_the_content_arrives_as_it_was_submitted(
    exim: Exim, serve: Serve, where: int | Path, kind: str, body: bytes
) -> None:
    """RFC 5321 §4.5.2: transparency; RFC 3030 §2: a chunk has none, and needs none."""
    deliveries = ScriptedDeliveries()
    server = await serve(where, deliveries)
    message = await exim.submit([f"a@{domain_of(server.where, kind)}"], _HEAD + body)
    (attempt,) = exim.attempts(message)
    assert attempt.status == "sent"
    (delivered,) = deliveries.messages
    assert as_sent(delivered.read()) == _HEAD + body


@pytest.mark.parametrize(("where", "kind"), WAYS, indirect=["where"])
@pytest_twisted.ensureDeferred
async def test_twenty_megabytes_arrive_octet_for_octet(exim: Exim, serve: Serve, where: int | Path, kind: str) -> None:
    """They lie in a file meanwhile, and are read from there a block at a time."""
    lines = [b".", b"", b"..dots", b"." * 40, b"a line of some length " * 40]
    content = _HEAD + b"\n" + b"\n".join(random.Random(20).choices(lines, k=110_000)) + b"\n"
    assert len(content) > 20_000_000
    received: list[bytes] = []

    async def deliver(message: IReceivedMessage) -> None:
        assert not message.inMemory
        received.extend([chunk async for chunk in message.chunks()])

    server = await serve(where, deliverMessage=deliver)
    message = await exim.submit([f"a@{domain_of(server.where, kind)}"], content)
    (attempt,) = exim.attempts(message)
    assert attempt.status == "sent"
    assert len(received) > 10
    # Not compared by pytest, which would look for the difference for a long time.
    is_the_same = as_sent(b"".join(received)) == content
    assert is_the_same


@pytest.mark.parametrize(("where", "kind"), WAYS, indirect=["where"])
@pytest_twisted.ensureDeferred
async def test_a_message_over_the_limit_is_refused_for_each_recipient(
    exim: Exim, serve: Serve, where: int | Path, kind: str
) -> None:
    """RFC 1870 §6.1: over TCP Exim looks at SIZE in the reply to LHLO; its other transport sends the content."""
    deliveries = ScriptedDeliveries()
    server = await serve(where, deliveries, size_limit=10_000)
    domain = domain_of(server.where, kind)
    message = await exim.submit([f"a@{domain}", f"b@{domain}"], _HEAD + b"\n" + b"y" * 60 + b"\n" * 20_000)
    attempts = exim.attempts(message)
    assert [(attempt.local, attempt.status) for attempt in attempts] == [("a", "bounced"), ("b", "bounced")]
    assert all("552 5.3.4" in attempt.reply or "message is too big" in attempt.reply for attempt in attempts)
    assert not deliveries.messages


_INTERNATIONAL = "From: <jörg@discard.example>\nSubject: Grüße\n\nüber\n".encode()


@pytest.mark.parametrize("kind", ["", "data"])
@pytest_twisted.ensureDeferred
async def test_a_recipient_in_utf8_is_delivered_and_named_in_ascii(exim: Exim, serve: Serve, kind: str) -> None:
    """RFC 6531 §3.4, RFC 6533 §3: SMTPUTF8 is announced; the reply names the recipient with escapes."""
    deliveries = ScriptedDeliveries()
    server = await serve(0, deliveries)
    domain = domain_of(server.where, kind)
    message = await exim.submit([f"почта@{domain}", f"b@{domain}"], _INTERNATIONAL, sender="jörg@discard.example")
    attempts = exim.attempts(message)
    assert [(attempt.local, attempt.status) for attempt in attempts] == [("почта", "sent"), ("b", "sent")]
    # Exim doubles the backslashes for its log.
    escaped = "".join(f"\\\\x{{{ord(letter):X}}}" for letter in "почта")
    assert attempts[0].reply.startswith(f"250 2.0.0 <{escaped}@{domain}> ")
    (delivered,) = deliveries.messages
    assert delivered.envelope.sender.parameters.smtputf8
    assert [str(recipient) for recipient in delivered.recipients] == [f"почта@{domain}", f"b@{domain}"]
    assert b" with UTF8LMTP id " in delivered.received


@pytest_twisted.ensureDeferred
async def test_the_transport_that_does_not_know_smtputf8_is_told_why_it_is_refused(
    exim: Exim, serve: Serve, sockets: Path
) -> None:
    """RFC 6531 §3.5: it sends the address without saying so."""
    deliveries = ScriptedDeliveries()
    server = await serve(sockets / "international", deliveries)
    domain = domain_of(server.where)
    message = await exim.submit([f"a@{domain}"], _INTERNATIONAL, sender="jörg@discard.example")
    (attempt,) = exim.attempts(message)
    assert attempt.status == "bounced"
    assert ": 550 5.6.7 " in attempt.reply
    assert not deliveries.messages
