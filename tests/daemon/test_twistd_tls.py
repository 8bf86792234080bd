"""``twistd lmtp`` with a certificate, as a real process."""

from __future__ import annotations

import signal
import ssl
from pathlib import Path

import pytest
from certificates import client_context, write_certificate
from running_twistd import Client, twistd


class Secure(Client):
    """A client that can change to TLS."""

    def secure(self) -> ssl.SSLSocket:
        """Shake hands."""
        self._socket = client_context().wrap_socket(self._socket, server_hostname="mx.example")
        self._lines = self._socket.makefile("r", encoding="ascii", newline="\r\n")
        return self._socket


class Implicit(Secure):
    """One that speaks TLS before the greeting."""

    def reply(self) -> str:
        if not isinstance(self._socket, ssl.SSLSocket):
            self.secure()
        return super().reply()


def test_mail_comes_in_over_starttls_and_tls_from_the_first_octet(tmp_path: Path) -> None:
    write_certificate(tmp_path)
    arguments = ["--tls-certificate", "cert.pem", "--tls-key", "key.pem", "--backend", "maildir:mail"]
    with twistd(tmp_path, "--port", "0", "--listen-tls", "unix:secure", *arguments) as server:
        with Secure(server.port) as client:
            assert client.say("LHLO c") == "250 STARTTLS"
            assert client.say("STARTTLS").startswith("220 2.0.0 ")
            client.secure()
            assert client.deliver("user@example.org")[0].startswith("250 2.0.0 ")
        with Implicit(path=tmp_path / "secure") as other:
            assert other.greeting.startswith("220 ")
            assert other.deliver("user@example.org")[0].startswith("250 2.0.0 ")
    texts = [path.read_text() for path in tmp_path.glob("mail/example.org/user/new/*")]
    assert [" with LMTPS id " in text for text in texts] == [True, True]


def test_a_renewed_certificate_is_served_without_a_new_start(tmp_path: Path) -> None:
    """The server looks at the files by itself."""
    certificate, _ = write_certificate(tmp_path)
    (tmp_path / "hasty.py").write_text(
        "from lmtp_twisted.daemon import service\nservice.LOOK_AFTER = 0.05\ndef deliver(message, recipient): pass\n"
    )
    arguments = ["--tls-certificate", "cert.pem", "--tls-key", "key.pem", "--backend", "python:hasty:deliver"]

    def served(port: int) -> bytes:
        with Secure(port) as client:
            client.say("LHLO c")
            client.say("STARTTLS")
            found = client.secure().getpeercert(True)
            assert found is not None
            return found

    with twistd(tmp_path, "--port", "0", *arguments) as server:
        before = served(server.port)
        write_certificate(tmp_path)
        server.until(rf"the certificate {certificate} was read anew\n")
        assert served(server.port) != before


@pytest.mark.parametrize("listen", ["--port", "--listen-tls"])
def test_a_server_that_stops_does_so_over_tls_too(tmp_path: Path, listen: str) -> None:
    """RFC 5321 §3.8."""
    write_certificate(tmp_path)
    arguments = ["--tls-certificate", "cert.pem", "--tls-key", "key.pem", "--backend", "null:"]
    where = "0" if listen == "--port" else "tcp:0:interface=127.0.0.1"
    with twistd(tmp_path, listen, where, *arguments) as server:
        with (Secure if listen == "--port" else Implicit)(server.port) as client:
            if listen == "--port":
                client.say("LHLO c")
                client.say("STARTTLS")
                client.secure()
            client.say("LHLO c")
            server.terminate()
            assert client.reply().startswith("421 4.3.2 ")
        # Twisted ends itself by the signal that it was sent, once all is done.
        assert server.ended() == -signal.SIGTERM
        server.until(r"stopped\n")
