"""STARTTLS before there is any TLS: what is refused, and that nothing behind it runs (RFC 3207)."""

from __future__ import annotations

from typing import Any

import pytest
from dialogue import Client, codes, connected, greeted, server, with_recipients, with_sender

from lmtp_twisted.testing import ScriptedDeliveries


def test_it_is_announced_where_there_is_a_certificate() -> None:
    """RFC 3207 §3."""
    client = greeted(tls=object())
    assert "STARTTLS" in [line[4:] for line in client.say("LHLO client.example")]


@pytest.mark.parametrize("options", [{}, {"tls": object(), "disabled": ["starttls"]}])
def test_it_is_not_there_without_one_or_where_it_is_switched_off(options: dict[str, Any]) -> None:
    """RFC 5321 §4.2.4: 502 for a command that is not implemented."""
    client = greeted(**options)
    assert not [line for line in client.say("LHLO client.example") if "STARTTLS" in line]
    assert codes(client.say("STARTTLS")) == ["502 5.5.1"]
    assert codes(client.say("MAIL FROM:<a@example.net>")) == ["250 2.1.0"]


def test_it_comes_after_lhlo() -> None:
    """RFC 3207 §4: it is announced in the reply to it."""
    client = Client(server(tls=object()))
    assert codes(client.say("STARTTLS")) == ["503 5.5.1"]


def test_it_takes_no_argument() -> None:
    """RFC 3207 §4."""
    assert codes(greeted(tls=object()).say("STARTTLS now")) == ["501 5.5.4"]


@pytest.mark.parametrize("begun", [with_sender, with_recipients])
def test_it_cannot_come_in_a_transaction(begun: Any) -> None:
    """RFC 3207 §4.2 forgets what was said before, and a transaction is not to be forgotten like that."""
    client = begun(tls=object())
    assert codes(client.say("STARTTLS")) == ["503 5.5.1"]
    assert codes(client.say("RCPT TO:<one@example.org>")) == ["250 2.1.5"]


def test_between_chunks_neither() -> None:
    """RFC 3030 §2: only BDAT and RSET."""
    client = with_recipients(tls=object())
    assert codes(client.send(b"BDAT 2\r\nab")) == ["250 2.0.0"]
    assert codes(client.say("STARTTLS")) == ["503 5.5.1"]


def test_where_the_transport_cannot_it_is_said_and_the_session_goes_on() -> None:
    """RFC 3207 §4: 454."""
    client = greeted(tls=object())
    assert codes(client.say("STARTTLS")) == ["454 4.7.0"]
    assert codes(client.say("MAIL FROM:<a@example.net>")) == ["250 2.1.0"]


@pytest.mark.parametrize(
    "tail",
    [
        b"MAIL FROM:<evil@example.net>\r\n",
        b"LHLO again\r\nMAIL FROM:<evil@example.net>\r\nRCPT TO:<x@example.org>\r\nDATA\r\nx\r\n.\r\n",
        b"QUIT\r\n",
        b"\x16\x03\x01",
        b"M",
    ],
)
def test_what_comes_behind_it_in_the_clear_is_never_run(tail: bytes) -> None:
    """RFC 3207 §4, and what has been done to those who ran it after the handshake (CVE-2011-0411)."""
    deliveries = ScriptedDeliveries()
    client = greeted(deliveries, tls=object())
    assert codes(client.send(b"STARTTLS\r\n" + tail)) == ["503 5.5.1"]
    assert client.is_closed
    assert deliveries.messages == []


def test_requiretls_is_for_sessions_with_tls() -> None:
    """RFC 8689 §2: not announced, and so not accepted, without it."""
    client = connected(enabled=["REQUIRETLS"], tls=object())
    assert not [line for line in client.say("LHLO client.example") if "REQUIRETLS" in line]
    assert codes(client.say("MAIL FROM:<a@example.net> REQUIRETLS")) == ["555 5.5.4"]
