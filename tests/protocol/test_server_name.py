"""The name that a client of TLS asks for: real TLS, in memory."""

from __future__ import annotations

from contextlib import suppress

import attrs
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates
from OpenSSL import SSL

from lmtp_twisted.extensions.starttls import facts_of

CA = trustme.CA()
SERVER = CA.issue_cert("mx.example")


@attrs.frozen
class Secured:
    """As much of a transport as there is to ask."""

    connection: SSL.Connection

    def getHandle(self) -> SSL.Connection:
        """See :class:`~twisted.internet.interfaces.ISSLTransport`."""
        return self.connection


def secured(name: bytes | None) -> Secured:
    """The server's side after a handshake with a client that asks for a name."""
    of_server = SSL.Context(SSL.TLS_METHOD)
    of_server.use_privatekey(load_pem_private_key(SERVER.private_key_pem.bytes(), None))
    (certificate,) = load_pem_x509_certificates(SERVER.cert_chain_pems[0].bytes())
    of_server.use_certificate(certificate)
    server, client = SSL.Connection(of_server, None), SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
    if name is not None:
        client.set_tlsext_host_name(name)
    server.set_accept_state()
    client.set_connect_state()
    undone = {server: client, client: server}
    for _ in range(10):
        for side, other in list(undone.items()):
            try:
                side.do_handshake()
            except SSL.WantReadError:
                pass
            else:
                del undone[side]
            with suppress(SSL.WantReadError):
                other.bio_write(side.bio_read(65536))
    assert not undone
    return Secured(server)


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        (None, None),
        (b"mx.example", "mx.example"),
        (b"MX.Example", "mx.example"),
        (b"xn--mx-eka.example", "xn--mx-eka.example"),
        (b"_lmtp.a-b.example", "_lmtp.a-b.example"),
        (b"localhost", "localhost"),
        (b".".join([b"x" * 63] * 3 + [b"x" * 61]), ".".join(["x" * 63] * 3 + ["x" * 61])),
        (b".".join([b"x" * 63] * 3 + [b"x" * 62]), None),
        (b"x" * 64, None),
        (b"x" * 200 + b"!", None),
        (b"mx.example.", None),
        (b"mx..example", None),
        (b"-mx.example", None),
        (b"../../etc/passwd", None),
        (b"mx.example\r\nX: y", None),
        (b"mx.example\n", None),
        (b"m\xc3\xa4x.example", None),
        (b"\x1b[31m", None),
    ],
)
def test_the_name_that_a_client_asks_for_is_that_of_a_host_or_none(asked: bytes | None, name: str | None) -> None:
    """RFC 6066 §3. It may end in a log or a path, so nothing else of what is sent there is handed on."""
    facts = facts_of(secured(asked))
    assert facts.version.startswith("TLSv1")
    assert facts.server_name == name
