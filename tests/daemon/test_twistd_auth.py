"""``twistd lmtp`` with AUTH, trusted peers and users of Unix sockets, as a real process."""

from __future__ import annotations

import hmac
import os
import re
import ssl
from base64 import b64decode, b64encode
from pathlib import Path

import pytest
from certificates import CA, client_context, write_certificate
from running_twistd import Client, twistd


def b64(text: str) -> str:
    return b64encode(text.encode()).decode()


class Secure(Client):
    """A client that can change to TLS, perhaps with a certificate."""

    def secure(self, name: str | None = None) -> None:
        """Shake hands."""
        context = client_context()
        if name is not None:
            CA.issue_cert(name).configure_cert(context)
        self._socket = context.wrap_socket(self._socket, server_hostname="mx.example")
        self._lines = self._socket.makefile("r", encoding="ascii", newline="\r\n")

    def starttls(self, name: str | None = None) -> None:
        """From the greeting to LHLO under TLS."""
        self.say("LHLO c")
        assert self.say("STARTTLS").startswith("220 2.0.0 ")
        self.secure(name)

    def capabilities(self) -> list[str]:
        """What the reply to LHLO announces."""
        self.send("LHLO c\r\n")
        found = []
        while True:
            line = self._lines.readline().removesuffix("\r\n")
            found.append(line[4:])
            if line[3] == " ":
                return found


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """With a certificate, its authority, passwords and tokens."""
    write_certificate(tmp_path)
    (tmp_path / "ca.pem").write_bytes(CA.cert_pem.bytes())
    (tmp_path / "passwords").write_text("alice:s3cret\n")
    (tmp_path / "tokens").write_text("bob:t0ken\n\nempty:\n")
    return tmp_path


TLS = ("--tls-certificate", "cert.pem", "--tls-key", "key.pem", "--tls-client-ca", "ca.pem")
AUTH = ("--auth", "file:passwords", "--auth", "tokens:tokens", "--auth", "certificate:")


def test_every_mechanism_under_tls(directory: Path) -> None:
    """RFC 4954: mail comes in as LMTPSA, and no secret is in the log."""
    with twistd(directory, "--port", "0", *TLS, *AUTH, "--auth-required", "--log-level", "debug") as server:
        port = server.port

        def cram_md5(client: Client) -> str:
            challenge = b64decode(client.say("AUTH CRAM-MD5")[4:])
            return client.say(b64(f"alice {hmac.new(b's3cret', challenge, 'md5').hexdigest()}"))

        def login(client: Client) -> str:
            client.say("AUTH LOGIN")
            client.say(b64("alice"))
            return client.say(b64("s3cret"))

        for authenticate in (
            cram_md5,
            login,
            lambda client: client.say(f"AUTH PLAIN {b64(chr(0) + 'alice' + chr(0) + 's3cret')}"),
            lambda client: client.say(
                f"AUTH XOAUTH2 {b64('user=bob' + chr(1) + 'auth=Bearer t0ken' + chr(1) + chr(1))}"
            ),
            lambda client: client.say("AUTH EXTERNAL ="),
            lambda client: client.say(f"AUTH EXTERNAL {b64('carol.example')}"),
        ):
            with Secure(port) as client:
                assert [line for line in client.capabilities() if line.startswith("AUTH ")] == ["AUTH CRAM-MD5"]
                client.starttls("carol.example")
                assert "AUTH EXTERNAL CRAM-MD5 XOAUTH2 PLAIN LOGIN" in client.capabilities()
                assert client.say("MAIL FROM:<a@example.net>").startswith("530 5.7.0 ")
                assert authenticate(client).startswith("235 2.7.0 ")
                assert client.say("MAIL FROM:<a@example.net>").startswith("250 ")
                assert client.say("RCPT TO:<user@example.org>").startswith("250 ")
                assert client.say("DATA").startswith("354 ")
                client.send("Subject: x\r\n\r\nx\r\n.\r\n")
                assert client.reply().startswith("250 2.0.0 ")
        with Secure(port) as client:
            client.starttls("carol.example")
            client.say("LHLO c")
            assert client.say(f"AUTH PLAIN {b64(chr(0) + 'alice' + chr(0) + 'wr0ng')}").startswith("535 5.7.8 ")
            assert client.say(f"AUTH EXTERNAL {b64('dave.example')}").startswith("535 5.7.8 ")
        server.until("authentication failed, peer=127.0.0.1 attempt=2\n")
        for secret in ("s3cret", "t0ken", "wr0ng", b64("s3cret")):
            assert secret not in server.output
    texts = [path.read_text() for path in directory.glob("mail/example.org/user/new/*")]
    assert [" with LMTPSA id " in text for text in texts] == [True] * 6


def test_a_unix_socket_needs_no_tls_and_loopback_only_where_it_is_said(directory: Path) -> None:
    """Nobody else listens there."""
    plain = f"AUTH PLAIN {b64(chr(0) + 'alice' + chr(0) + 's3cret')}"
    with twistd(directory, "--listen", "unix:socket", "--port", "0", "--auth", "file:passwords") as server:
        port = server.port
        server.until("listening on .*socket\n")
        with Client(path=directory / "socket") as client:
            client.say("LHLO c")
            assert client.say(plain).startswith("235 ")
        with Client(port) as client:
            client.say("LHLO c")
            assert client.say(plain).startswith("504 5.5.4 ")
    with (
        twistd(directory, "--port", "0", "--auth", "file:passwords", "--auth-insecure") as server,
        Client(server.port) as client,
    ):
        client.say("LHLO c")
        assert client.say(plain).startswith("235 ")


def test_passwords_that_change_are_read_anew(directory: Path) -> None:
    """At each login; a file that is gone is no wrong password."""
    with twistd(directory, "--listen", "unix:socket", "--auth", "file:passwords", "--backend", "null:") as server:
        server.until("listening on .*socket\n")
        (directory / "passwords").write_text("alice:an0ther\n")
        with Client(path=directory / "socket") as client:
            client.say("LHLO c")
            assert client.say(f"AUTH PLAIN {b64(chr(0) + 'alice' + chr(0) + 's3cret')}").startswith("535 ")
            (directory / "passwords").unlink()
            assert client.say(f"AUTH PLAIN {b64(chr(0) + 'alice' + chr(0) + 'an0ther')}").startswith("454 4.7.0 ")
            (directory / "passwords").write_text("alice:an0ther\n")
            assert client.say(f"AUTH PLAIN {b64(chr(0) + 'alice' + chr(0) + 'an0ther')}").startswith("235 ")


def test_passwords_of_the_command_line_and_those_with_a_colon(directory: Path) -> None:
    """All that follows the first colon is the password."""
    (directory / "passwords").write_text("alice:s3:cret\n")
    for auth in ("memory:alice:s3cret", "file:passwords"):
        password = auth.rpartition("alice:")[2] if auth.startswith("memory") else "s3:cret"
        with twistd(directory, "--listen", "unix:socket", "--auth", auth, "--backend", "null:") as server:
            server.until("listening on .*socket\n")
            with Client(path=directory / "socket") as client:
                client.say("LHLO c")
                challenge = b64decode(client.say("AUTH CRAM-MD5")[4:])
                digest = hmac.new(password.encode(), challenge, "md5").hexdigest()
                assert client.say(b64(f"alice {digest}")).startswith("235 ")
            with Client(path=directory / "socket") as client:
                client.say("LHLO c")
                assert client.say(f"AUTH PLAIN {b64(chr(0) + 'alice' + chr(0) + password[:2])}").startswith("535 ")
                assert client.say(f"AUTH PLAIN {b64(chr(0) + 'alice' + chr(0) + password)}").startswith("235 ")


def test_the_policy_of_certificates_may_be_a_list(directory: Path) -> None:
    """Only the names of the file may authenticate."""
    (directory / "names").write_text("carol.example\n")
    arguments = [*TLS, "--auth", "certificate:names", "--backend", "null:"]
    with twistd(directory, "--port", "0", *arguments) as server:
        for name, code in (("carol.example", "235 "), ("mallory.example", "535 ")):
            with Secure(server.port) as client:
                client.starttls(name)
                client.say("LHLO c")
                assert client.say("AUTH EXTERNAL =").startswith(code)


def test_a_token_file_that_is_gone_is_454(directory: Path) -> None:
    """A checker that fails is no wrong password."""
    with twistd(directory, "--listen", "unix:socket", "--auth", "tokens:tokens", "--backend", "null:") as server:
        server.until("listening on .*socket\n")
        (directory / "tokens").unlink()
        with Client(path=directory / "socket") as client:
            client.say("LHLO c")
            token = b64("user=bob" + chr(1) + "auth=Bearer t0ken" + chr(1) + chr(1))
            assert client.say(f"AUTH XOAUTH2 {token}").startswith("454 4.7.0 ")


def test_trusted_peers_speak_for_others(directory: Path) -> None:
    """Postfix's XCLIENT_README: the Received line and the log name the client that was named."""
    arguments = ["--trust", "127.0.0.0/8", "--log-level", "debug"]
    with twistd(directory, "--port", "0", *arguments) as server, Client(server.port) as client:
        client.say("LHLO c")
        assert client.say("XFORWARD ADDR=203.0.113.4").startswith("250 2.0.0 ")
        assert client.say("XCLIENT ADDR=192.0.2.99 NAME=far.example").startswith("220 ")
        assert client.deliver("user@example.org")[0].startswith("250 ")
    (message,) = directory.glob("mail/example.org/user/new/*")
    assert "Received: from client ([192.0.2.99])" in message.read_text()


def test_others_do_not(directory: Path) -> None:
    with twistd(directory, "--port", "0", "--trust", "unix") as server, Client(server.port) as client:
        client.say("LHLO c")
        assert client.say("XCLIENT ADDR=192.0.2.99").startswith("550 5.7.0 ")


@pytest.mark.parametrize(
    ("options", "lets_in"),
    [
        (["--allow-uid", str(os.geteuid())], True),
        (["--allow-uid", str(os.geteuid() + 1)], False),
        (["--allow-gid", str(os.getegid())], True),
        (["--allow-uid", str(os.geteuid() + 1), "--allow-gid", str(os.getegid())], True),
        (["--allow-gid", str(os.getegid() + 1)], False),
    ],
)
def test_users_of_a_unix_socket_are_those_that_are_named(directory: Path, options: list[str], lets_in: bool) -> None:
    """SO_PEERCRED, also below TLS; TCP is another matter."""
    listen = ["--listen", "unix:socket", "--listen-tls", "unix:secure", "--port", "0"]
    with twistd(directory, *listen, *TLS, *options, "--backend", "null:") as server:
        port = server.port
        server.until("listening on .*secure\n")
        with Client(path=directory / "socket") as client:
            assert client.greeting.startswith("220 " if lets_in else "554 5.7.1 ")
        with Secure(path=directory / "secure", is_greeted=False) as secure:
            secure.secure()
            assert secure.reply().startswith("220 " if lets_in else "554 5.7.1 ")
        with Client(port) as client:
            assert client.greeting.startswith("220 ")
        if not lets_in:
            server.until(f": user {os.geteuid()}, group {os.getegid()}, process {os.getpid()} may not connect\n")


def test_tls_by_twisteds_own_descriptions(directory: Path) -> None:
    """``ssl:``, and ``tls:`` with a directory of certificates."""
    certificates = directory / "certificates"
    certificates.mkdir()
    (certificates / "mx.example.pem").write_bytes(
        (directory / "key.pem").read_bytes() + (directory / "cert.pem").read_bytes()
    )
    listen = [
        *("--listen", "ssl:0:privateKey=key.pem:certKey=cert.pem:interface=127.0.0.1"),
        *("--listen", "tls:certificates:0:interface=127.0.0.1"),
    ]
    with twistd(directory, *listen, "--backend", "null:") as server:
        server.until(r"(?s)listening on 127\.0\.0\.1:\d+.*listening on 127\.0\.0\.1:\d+\n")
        ports = [int(port) for port in re.findall(r"listening on 127\.0\.0\.1:(\d+)", server.output)]
        for port in ports:
            with Secure(port, is_greeted=False) as client:
                client.secure()
                assert isinstance(client._socket, ssl.SSLSocket)
                assert client._socket.version() in {"TLSv1.2", "TLSv1.3"}
                assert client.reply().startswith("220 ")
                assert client.deliver("user@example.org")[0].startswith("250 2.0.0 ")
