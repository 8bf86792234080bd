"""Python's own client. It reads one reply after the dot, so it is used with one recipient a message."""

from __future__ import annotations

import smtplib
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path
from typing import TypeVar

import pytest
import pytest_twisted
from programs import in_thread
from real_servers import RealServer, Serve

from lmtp_twisted import PermanentFailure, TemporaryFailure
from lmtp_twisted.testing import ScriptedDeliveries

R = TypeVar("R")


async def with_client(server: RealServer, use: Callable[[smtplib.LMTP], R]) -> R:
    """Let a function use a client, in a thread; the client ends with QUIT, and must hear the reply to it."""

    def session() -> R:
        # A host that begins with a slash is a socket, whatever the port.
        host, port = ("127.0.0.1", server.where) if isinstance(server.where, int) else (server.path, 0)
        client = smtplib.LMTP(host, port, "client.example.net", timeout=20)
        try:
            result = use(client)
            assert client.quit() == (221, b"2.0.0 Bye")
        finally:
            client.close()
        return result

    return await in_thread(session)


@pytest_twisted.ensureDeferred
async def test_messages_follow_each_other_over_one_connection(serve: Serve, where: int | Path) -> None:
    """RFC 2033 §4.2: with one recipient there is one reply, as smtplib expects."""
    deliveries = ScriptedDeliveries()
    server = await serve(where, deliveries)
    content = b"Subject: x\r\n\r\n.\r\n..dots\r\n"

    def use(client: smtplib.LMTP) -> None:
        for recipient in ("one@example.org", "two@example.org"):
            assert client.sendmail("sender@example.net", recipient, content) == {}

    await with_client(server, use)
    assert [str(message.recipients[0]) for message in deliveries.messages] == ["one@example.org", "two@example.org"]
    assert {message.read() for message in deliveries.messages} == {content}
    assert len(server.sessions.named("sessionStarted")) == 1


@pytest_twisted.ensureDeferred
async def test_an_internationalised_message_is_sent_with_smtputf8(serve: Serve, where: int | Path) -> None:
    """RFC 6531: send_message asks for SMTPUTF8 and 8BITMIME by itself, since both are announced."""
    deliveries = ScriptedDeliveries()
    server = await serve(where, deliveries)
    message = EmailMessage()
    message["Subject"] = "Grüße"
    message["From"] = "jörg@example.net"
    message["To"] = "пост@example.org"
    message.set_content("Grüße\n", cte="8bit")

    def use(client: smtplib.LMTP) -> None:
        assert client.send_message(message) == {}

    await with_client(server, use)
    (received,) = deliveries.messages
    assert received.envelope.sender.parameters.smtputf8
    assert [str(recipient) for recipient in received.recipients] == ["пост@example.org"]
    assert received.headers["Subject"] == "Grüße"


@pytest_twisted.ensureDeferred
async def test_a_refused_recipient_is_reported_with_its_reply(serve: Serve) -> None:
    """RFC 5321 §4.1.1.3; the session goes on."""
    refusal = PermanentFailure("No such mailbox", enhanced="5.1.1")
    server = await serve(0, ScriptedDeliveries(recipients={"unknown@example.org": refusal}))

    def use(client: smtplib.LMTP) -> smtplib.SMTPRecipientsRefused:
        with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
            client.sendmail("sender@example.net", "unknown@example.org", b"\r\n")
        assert client.sendmail("sender@example.net", "known@example.org", b"\r\n") == {}
        return caught.value

    error = await with_client(server, use)
    assert error.recipients == {"unknown@example.org": (550, b"5.1.1 No such mailbox")}


@pytest_twisted.ensureDeferred
async def test_a_failed_delivery_is_reported_with_its_reply(serve: Serve) -> None:
    """RFC 2033 §4.2; the session goes on."""
    failure = TemporaryFailure("Disk is full", code=452, enhanced="4.3.1")
    server = await serve(0, ScriptedDeliveries({"full@example.org": failure}))

    def use(client: smtplib.LMTP) -> smtplib.SMTPDataError:
        with pytest.raises(smtplib.SMTPDataError) as caught:
            client.sendmail("sender@example.net", "full@example.org", b"\r\n")
        assert client.sendmail("sender@example.net", "empty@example.org", b"\r\n") == {}
        return caught.value

    error = await with_client(server, use)
    assert error.smtp_code == 452
    assert error.smtp_error.startswith(b"4.3.1 <full@example.org> ")  # type: ignore[arg-type]  # typeshed says str
