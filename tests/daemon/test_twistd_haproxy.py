"""``twistd lmtp`` behind a real HAProxy, which says whose connections it passes on."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from certificates import client_context, write_certificate
from running_haproxy import haproxy
from running_twistd import Client, Twistd, twistd

pytestmark = pytest.mark.peer("haproxy")

#: The client's address: another one than HAProxy's, though all of loopback is this machine.
CLIENT = "127.0.0.2"
SEND = pytest.mark.parametrize("send", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,ssl"])
KINDS = pytest.mark.parametrize("kind", ["tcp", "unix"])
#: HAProxy asks the server how it is, in LMTP as far as it needs to.
CHECKS = """\
    option tcp-check
    tcp-check expect rstring ^220
    tcp-check send QUIT\\r\\n
    tcp-check expect rstring ^221
"""
CHECK_OFTEN = "check inter 100ms"


@contextmanager
def store(directory: Path, kind: str, *arguments: str, option: str = "--listen") -> Iterator[tuple[Twistd, str]]:
    """A server behind a proxy, with Maildirs. Gives what HAProxy calls its address, too."""
    where = "unix:s" if kind == "unix" else "tcp:0:interface=127.0.0.1"
    arguments = ("--backend", "maildir:mail", "--log-level", "debug", *arguments)
    with twistd(directory, option, f"haproxy:{where}", *arguments) as server:
        if kind == "unix":
            server.until(rf"listening on {directory}/s\n")
            yield server, f"unix@{directory}/s"
        else:
            yield server, f"127.0.0.1:{server.port}"


def received(directory: Path) -> str:
    """The Received line of the only message."""
    (path,) = directory.glob("mail/example.org/user/new/*")
    (line,) = re.findall(r"^Received: from .*", path.read_text(), re.MULTILINE)
    return str(line)


class Through(Client):
    """A client of HAProxy, with an address of its own."""

    SOURCE = CLIENT


class Secure(Through):
    """One that speaks TLS from the first octet."""

    def reply(self) -> str:
        if not isinstance(self._socket, ssl.SSLSocket):
            self._socket = client_context().wrap_socket(self._socket, server_hostname="mx.example")
            self._lines = self._socket.makefile("r", encoding="ascii", newline="\r\n")
        return super().reply()


@SEND
@KINDS
def test_the_message_and_the_log_name_the_client(tmp_path: Path, kind: str, send: str) -> None:
    with store(tmp_path, kind) as (server, address), haproxy(tmp_path, f"{address} {send}") as proxy:
        with Through(proxy.port) as client:
            assert client.greeting.startswith("220 ")
            assert client.deliver("user@example.org")[0].startswith("250 2.0.0 ")
            assert client.say("QUIT").startswith("221 ")
        server.until(rf"session started, peer={re.escape(CLIENT)}\n")
    assert received(tmp_path) == f"Received: from client ([{CLIENT}])"


@SEND
@KINDS
def test_tls_from_the_first_octet_passes_through_it(tmp_path: Path, kind: str, send: str) -> None:
    """HAProxy sends its header before what the client says, which is TLS."""
    write_certificate(tmp_path)
    arguments = ("--tls-certificate", "cert.pem", "--tls-key", "key.pem")
    with (
        store(tmp_path, kind, *arguments, option="--listen-tls") as (_, address),
        haproxy(tmp_path, f"{address} {send}") as proxy,
        Secure(proxy.port) as client,
    ):
        assert client.deliver("user@example.org")[0].startswith("250 2.0.0 ")
    assert received(tmp_path) == f"Received: from client ([{CLIENT}])"
    (path,) = tmp_path.glob("mail/example.org/user/new/*")
    assert " with LMTPS id " in path.read_text()


@pytest.mark.parametrize("send", ["send-proxy", "send-proxy-v2"])
@KINDS
@pytest.mark.parametrize("checks", ["", CHECKS], ids=["connecting", "talking"])
def test_its_health_checks_find_the_server_well(tmp_path: Path, kind: str, send: str, checks: str) -> None:
    """Version 2 says LOCAL with them: nobody's connection but HAProxy's own."""
    with store(tmp_path, kind) as (server, address):
        with haproxy(tmp_path, f"{address} {send} {CHECK_OFTEN}", checks) as proxy:
            proxy.until(f"Health check for server mail/store succeeded, reason: Layer{7 if checks else 4} check passed")
            server.until(rf"session started, peer={'127.0.0.1' if kind == 'tcp' else 'unix'}\n")
            with Through(proxy.port) as client:
                assert client.deliver("user@example.org")[0].startswith("250 2.0.0 ")
        server.terminate()
        server.ended()
    assert received(tmp_path) == f"Received: from client ([{CLIENT}])"
    assert "warn [lmtp] PROXY" not in server.output


@pytest.mark.parametrize("send", ["send-proxy", "send-proxy-v2"])
def test_a_client_of_its_unix_socket_is_no_other_machine(tmp_path: Path, send: str) -> None:
    """Version 1 says UNKNOWN, and version 2 what it knows of the socket."""
    path = tmp_path / "front"
    with (
        store(tmp_path, "unix") as (_, address),
        haproxy(tmp_path, f"{address} {send}", path=path),
        Client(path=path) as client,
    ):
        assert client.deliver("user@example.org")[0].startswith("250 2.0.0 ")
    assert received(tmp_path) == "Received: from client (local socket)"


def test_where_it_sends_no_header_the_client_hears_nothing_and_the_log_says_why(tmp_path: Path) -> None:
    with store(tmp_path, "tcp") as (server, address), haproxy(tmp_path, address) as proxy:
        with Through(proxy.port, is_greeted=False) as client:
            client.send("LHLO c\r\n")
            assert client.reply() == ""
        server.until(r"warn \[lmtp\] PROXY from 127\.0\.0\.1: no header, but b'LHLO c\\r\\n'; ")
