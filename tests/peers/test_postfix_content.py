"""What Postfix sends is what the backend gets, octet for octet, with the parameters that Postfix gave."""

from __future__ import annotations

import random
import re

import pytest
import pytest_twisted
from private_postfix import Postfix, domain_of
from real_servers import Serve

from lmtp_twisted.interfaces import IReceivedMessage
from lmtp_twisted.testing import ScriptedDeliveries
from lmtp_twisted.wire.parameters import Body

pytestmark = pytest.mark.peer("postfix")

#: The line that Postfix puts before what it was given.
_RECEIVED = re.compile(rb"Received: from client\.example\.net .*\r\n(?:[\t ].*\r\n)+")


def as_submitted(message: IReceivedMessage) -> bytes:
    """The content without Postfix's trace."""
    content: bytes = message.read()
    received = _RECEIVED.match(content)
    assert received is not None, content[:500]
    return content[received.end() :]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(
            b"Subject: dots\r\n\r\n.\r\n..\r\n...\r\n.a\r\n..b\r\nc.\r\n.\r\n", id="lines that begin with dots"
        ),
        pytest.param(b"Subject: no body\r\n\r\n", id="an empty body"),
        pytest.param(b"Subject: a header alone\r\n", id="a header alone"),
        pytest.param(b"", id="nothing at all"),
        pytest.param(b"Subject: " + b"x" * 989 + b"\r\n\r\n" + b"y" * 998 + b"\r\n", id="the longest lines"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_content_arrives_as_it_was_submitted(postfix: Postfix, serve: Serve, content: bytes) -> None:
    """RFC 5321 §4.5.2: transparency."""
    deliveries = ScriptedDeliveries()
    server = await serve(0, deliveries)
    queue_id = await postfix.submit([f"a@{domain_of(server.where)}"], content)
    (attempt,) = await postfix.attempts(queue_id, 1)
    assert attempt.status == "sent"
    (message,) = deliveries.messages
    assert as_submitted(message) == content


@pytest_twisted.ensureDeferred
async def test_eight_bit_content_arrives_declared_and_unchanged(postfix: Postfix, serve: Serve) -> None:
    """RFC 6152 §2: 8BITMIME is announced, so Postfix sends the octets as they are and says BODY=8BITMIME."""
    content = (
        b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        + bytes(range(128, 256))
        + b"\r\n"
    )
    deliveries = ScriptedDeliveries()
    server = await serve(0, deliveries)
    queue_id = await postfix.submit([f"a@{domain_of(server.where)}"], content, options=["BODY=8BITMIME"])
    (attempt,) = await postfix.attempts(queue_id, 1)
    assert attempt.status == "sent"
    (message,) = deliveries.messages
    assert message.envelope.sender.parameters.body is Body.EIGHT_BIT_MIME
    assert as_submitted(message) == content


@pytest_twisted.ensureDeferred
async def test_a_recipient_in_utf8_is_delivered_and_named_in_ascii(postfix: Postfix, serve: Serve) -> None:
    """RFC 6531 §3.4, RFC 6533 §3: SMTPUTF8 is announced; the reply names the recipient with escapes."""
    content = "Subject: Grüße\r\nFrom: <jörg@discard.example>\r\n\r\nüber\r\n".encode()
    deliveries = ScriptedDeliveries()
    server = await serve(0, deliveries)
    recipient = f"почта@{domain_of(server.where)}"
    queue_id = await postfix.submit(
        [recipient, f"plain@{domain_of(server.where)}"],
        content,
        sender="jörg@discard.example",
        options=["SMTPUTF8", "BODY=8BITMIME"],
    )
    attempts = {attempt.recipient: attempt for attempt in await postfix.attempts(queue_id, 2)}
    (message,) = deliveries.messages
    assert message.envelope.sender.parameters.smtputf8
    assert str(message.envelope.sender) == "jörg@discard.example"
    assert {str(each) for each in message.recipients} == attempts.keys()
    assert {attempt.status for attempt in attempts.values()} == {"sent"}
    escaped = "".join(f"\\x{{{ord(letter):X}}}" for letter in "почта")
    assert f"<{escaped}@{domain_of(server.where)}>" in attempts[recipient].reply
    assert as_submitted(message) == content
    assert b" with UTF8LMTP id " in message.received


@pytest_twisted.ensureDeferred
async def test_twenty_megabytes_arrive_octet_for_octet(postfix: Postfix, serve: Serve) -> None:
    """They lie in a file meanwhile, and are read from there a block at a time."""
    lines = [b".", b"", b"..dots", b"." * 40, b"a line of some length " * 40]
    body = b"\r\n".join(random.Random(20).choices(lines, k=110_000)) + b"\r\n"
    assert len(body) > 20_000_000
    received: list[bytes] = []

    async def deliver(message: IReceivedMessage) -> None:
        assert not message.inMemory
        received.extend([chunk async for chunk in message.chunks()])

    server = await serve(0, deliverMessage=deliver)
    queue_id = await postfix.submit([f"a@{domain_of(server.where)}"], b"Subject: large\r\n\r\n" + body)
    (attempt,) = await postfix.attempts(queue_id, 1)
    assert attempt.status == "sent"
    content = b"".join(received)
    assert len(received) > 10
    assert content.endswith(b"\r\nSubject: large\r\n\r\n" + body)
    assert _RECEIVED.sub(b"", content, 1) == b"Subject: large\r\n\r\n" + body


@pytest_twisted.ensureDeferred
async def test_a_message_over_the_limit_is_refused_for_each_recipient(postfix: Postfix, serve: Serve) -> None:
    """RFC 1870 §6.1: Postfix looks at SIZE in the reply to LHLO and at the reply to MAIL; neither lets it through."""
    deliveries = ScriptedDeliveries()
    server = await serve(0, deliveries, size_limit=10_000)
    domain = domain_of(server.where)
    queue_id = await postfix.submit(
        [f"a@{domain}", f"b@{domain}"], b"Subject: x\r\n\r\n" + b"y" * 60 + b"\r\n" * 10_000
    )
    attempts = await postfix.attempts(queue_id, 2)
    assert {(attempt.dsn, attempt.status) for attempt in attempts} == {("5.3.4", "bounced")}
    assert not deliveries.messages
