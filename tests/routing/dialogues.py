"""What the tests of routes and recipients have in common: a client in memory."""

from __future__ import annotations

from typing import Any

from lmtp_twisted import LMTPFactory, Settings
from lmtp_twisted.testing import Conversation, FakeReactor, ScriptedDeliveries


def session(backend: Any, reactor: FakeReactor | None = None, **options: Any) -> Conversation:
    """A session that has said MAIL."""
    settings = Settings(hostname="mx.example.org")
    factory = LMTPFactory(backend=backend, reactor=reactor or FakeReactor(), settings=settings, **options)
    client = Conversation(factory)
    client.say("LHLO client.example", "MAIL FROM:<sender@example.net>")
    return client


def rcpt(client: Conversation, *recipients: str) -> list[str]:
    """The codes of their RCPT."""
    return [line[:9] for line in client.say(*(f"RCPT TO:<{recipient}>" for recipient in recipients))]


def content(client: Conversation) -> list[str]:
    """The final replies, as far as they came."""
    client.say("DATA")
    return finals(client.say("Subject: x", "", "Hello", "."))


def finals(lines: list[str]) -> list[str]:
    """Code, enhanced code and recipient of each."""
    return [" ".join(line.split(" ")[:3]) for line in lines]


def names(deliveries: ScriptedDeliveries) -> list[list[str]]:
    """The recipients of each message that it got."""
    return [[str(recipient) for recipient in message.recipients] for message in deliveries.messages]
