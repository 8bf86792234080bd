"""How MAIL and RCPT are answered, and what of them reaches the application, each in one line."""

from __future__ import annotations

from typing import Any

from dialogue import codes, greeted

from lmtp_twisted.testing import ScriptedDeliveries


def mail(argument: str, **settings: Any) -> str:
    """The codes with which a MAIL is answered."""
    (line,) = codes(greeted(**settings).say(f"MAIL FROM:{argument}"))
    return line


def rcpt(argument: str, sender: str = "<sender@example.net>", **settings: Any) -> str:
    """The codes with which a RCPT is answered."""
    client = greeted(**settings)
    assert codes(client.say(f"MAIL FROM:{sender}")) == ["250 2.1.0"]
    (line,) = codes(client.say(f"RCPT TO:{argument}"))
    return line


def sender_of(argument: str) -> Any:
    """The sender that the application is asked about."""
    deliveries = ScriptedDeliveries()
    assert codes(greeted(deliveries).say(f"MAIL FROM:{argument}")) == ["250 2.1.0"]
    return deliveries.calls[-1][1]


def recipient_of(argument: str, sender: str = "<sender@example.net>") -> Any:
    """The recipient that the application is asked about."""
    deliveries = ScriptedDeliveries()
    client = greeted(deliveries)
    assert codes(client.say(f"MAIL FROM:{sender}", f"RCPT TO:{argument}")) == ["250 2.1.0", "250 2.1.5"]
    return deliveries.calls[-1][1]
