"""STARTTLS where the client has not read what was said before it (RFC 3207 §4)."""

from __future__ import annotations

from collections.abc import Iterator
from unittest import mock

import pytest
from dialogue import server
from memory_tcp import MemoryClient, certificate
from session_model import codes_of
from twisted.protocols import tls

from lmtp_twisted.testing import FakeReactor


@pytest.fixture
def client() -> Iterator[MemoryClient]:
    """A client of a server that waits for it with more than 8000 octets of output: a handshake has fewer."""
    reactor = FakeReactor()
    with mock.patch.object(tls, "_get_default_clock", return_value=reactor):
        client = MemoryClient(server(reactor=reactor, tls=certificate()), 8000)
        yield client
        client.lose()
    assert reactor.getDelayedCalls() == []


@pytest.mark.parametrize("before", [0, 1, 500])
@pytest.mark.parametrize("ahead", [0, 15_000])
def test_the_session_goes_on_under_tls_once_the_client_has_read(client: MemoryClient, before: int, ahead: int) -> None:
    """What is sent in the clear may fill the buffers; that it has left ends the wait, TLS or not."""
    client.send(b"LHLO c\r\n")
    client.move()
    client.reads = False
    client.send(b"HELP\r\n" * before)
    client.send(b"HELP\r\n" * ahead + b"STARTTLS\r\n")
    client.move()
    client.reads = True
    client.move()
    assert codes_of(client.replies) == [220, 250, *[214] * (before + ahead), 220]
    client.start_tls()
    client.send(b"LHLO c\r\nMAIL FROM:<a@example.net>\r\nQUIT\r\n")
    client.move()
    assert codes_of(client.replies)[-3:] == [250, 250, 221]
    assert client.is_over


def test_a_client_that_does_not_read_is_waited_for_under_tls_too(client: MemoryClient) -> None:
    """RFC 2920 §3.2: no reply is lost."""
    client.send(b"LHLO c\r\nSTARTTLS\r\n")
    client.move()
    client.start_tls()
    client.reads = False
    client.send(b"LHLO c\r\n" + b"HELP\r\n" * 3000)
    client.send(b"HELP\r\n")
    client.move()
    assert client.protocol.has_input
    client.reads = True
    client.move()
    assert codes_of(client.replies) == [220, 250, 220, 250, *[214] * 3001]
