"""Postfix that insists on TLS."""

from __future__ import annotations

import pytest
import pytest_twisted
import trustme
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates
from private_postfix import Postfix, domain_of
from real_servers import HOSTNAME, Serve
from twisted.internet.ssl import CertificateOptions

from lmtp_twisted import PermanentFailure, TLSInfo
from lmtp_twisted.testing import ScriptedDeliveries

pytestmark = pytest.mark.peer("postfix")


def options() -> CertificateOptions:
    """A certificate of an authority that Postfix does not know."""
    issued = trustme.CA().issue_cert(HOSTNAME)
    (certificate,) = load_pem_x509_certificates(issued.cert_chain_pems[0].bytes())
    return CertificateOptions(
        privateKey=load_pem_private_key(issued.private_key_pem.bytes(), None), certificate=certificate
    )


@pytest_twisted.ensureDeferred
async def test_mail_comes_over_tls_with_an_answer_for_each_recipient(postfix: Postfix, serve: Serve) -> None:
    """RFC 3207, RFC 2033 §4.2."""
    refusal = PermanentFailure("Not wanted", code=550, enhanced="5.7.1")
    deliveries = ScriptedDeliveries(
        deliver=lambda message: [refusal if name.address.local == "refused" else None for name in message.recipients]
    )
    server = await serve(0, deliveries, tls=options())
    domain = domain_of(server.where, secure=True)
    queue_id = await postfix.submit([f"a@{domain}", f"refused@{domain}", f"b@{domain}"], b"Subject: x\r\n\r\nHello\r\n")
    attempts = {attempt.local: attempt for attempt in await postfix.attempts(queue_id, 3)}
    assert {name: (attempt.status, attempt.dsn) for name, attempt in attempts.items()} == {
        "a": ("sent", "2.0.0"),
        "refused": ("bounced", "5.7.1"),
        "b": ("sent", "2.0.0"),
    }
    (message,) = deliveries.messages
    assert isinstance(message.session.tls, TLSInfo)
    assert message.session.tls.version == "TLSv1.3"
    assert b" with LMTPS id " in message.received or b" with UTF8LMTPS id " in message.received
    assert [event.name for event in server.sessions.events.seen][:2] == ["sessionStarted", "sessionSecured"]


@pytest_twisted.ensureDeferred
async def test_a_large_message_comes_over_tls_as_it_was_submitted(postfix: Postfix, serve: Serve) -> None:
    """More than the transport takes at once, and more than stays in memory."""
    content = b"Subject: large\r\n\r\n" + b"".join(b"line %d\r\n" % number for number in range(200_000))
    deliveries = ScriptedDeliveries()
    server = await serve(0, deliveries, tls=options())
    queue_id = await postfix.submit([f"a@{domain_of(server.where, secure=True)}"], content)
    (attempt,) = await postfix.attempts(queue_id, 1)
    assert attempt.status == "sent"
    (message,) = deliveries.messages
    assert message.session.tls is not None
    assert message.read().endswith(content)
