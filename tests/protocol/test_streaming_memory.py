"""What a large message that is streamed costs in memory, over a real socket."""

from __future__ import annotations

import smtplib
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

#: Octets of the message, and by how many the server's memory may grow with it.
MESSAGE, MOST = 100_000_000, 4 * 1024 * 1024


@pytest.fixture
def port() -> Iterator[int]:
    """Of a server with a delivery that reads slowly."""
    script = str(Path(__file__).with_name("slow_reader.py"))
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield int(server.stdout.readline())
        finally:
            server.terminate()


def deliver(port: int, segment: bytes, count: int) -> list[int]:
    """Send a message of so many segments. What the server tells: its octets, and the growth of its memory."""
    with closing(smtplib.LMTP("127.0.0.1", port, "client.example", timeout=60)) as client:
        client.ehlo()
        client.mail("a@example.net")
        client.rcpt("b@example.org")
        assert client.docmd("DATA")[0] == 354
        assert isinstance(client.sock, socket.socket)
        for _ in range(count):
            client.sock.sendall(segment)
        client.sock.sendall(b".\r\n")
        code, reply = client.getreply()
    assert code == 250
    return [int(number) for number in reply.split()[-2:]]


def test_a_hundred_megabytes_through_a_slow_reader_are_not_kept(port: int) -> None:
    """The client is held back, over TCP too."""
    segment = b"x" * 99_998 + b"\r\n"
    assert deliver(port, segment, 10)[0] == 10 * len(segment)
    octets, growth = deliver(port, segment, MESSAGE // len(segment))
    assert octets == MESSAGE
    assert growth < MOST
