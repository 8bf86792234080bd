"""How Exim goes about a session: in bursts and chunks, over TLS, with several messages one after the other."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_twisted
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates
from private_exim import Exim, domain_of
from real_servers import Serve
from recording import Recorder
from trustme import CA
from twisted.internet.defer import maybeDeferred
from twisted.internet.ssl import CertificateOptions

from lmtp_twisted import PermanentFailure, TLSInfo
from lmtp_twisted.testing import ScriptedDeliveries

pytestmark = pytest.mark.peer("exim")


@pytest_twisted.async_yield_fixture
async def record() -> AsyncIterator[Callable[[int], Recorder]]:
    """Puts a recorder, which ends with the test, before a port."""
    recorders: list[Recorder] = []

    def start(port: int) -> Recorder:
        recorders.append(Recorder(port))
        return recorders[-1]

    yield start
    for recorder in recorders:
        await maybeDeferred(recorder.listening.stopListening)


def certified(authority: CA) -> CertificateOptions:
    """What a server needs that is called as Exim calls it."""
    issued = authority.issue_cert("127.0.0.1")
    (certificate,) = load_pem_x509_certificates(issued.cert_chain_pems[0].bytes())
    key: Any = load_pem_private_key(issued.private_key_pem.bytes(), None)
    return CertificateOptions(privateKey=key, certificate=certificate)


@pytest_twisted.ensureDeferred
async def test_a_whole_message_comes_in_one_burst_behind_which_exim_says_no_more(
    exim: Exim, serve: Serve, record: Callable[[int], Recorder]
) -> None:
    """
    RFC 2920, RFC 3030 §2: from MAIL to QUIT all comes at once, the content as one chunk, and then Exim closes its side
    of the connection and waits for all replies.
    """
    refusal = PermanentFailure("Not here", enhanced="5.1.1")
    server = await serve(0, ScriptedDeliveries(deliver=lambda message: [None, refusal, None]))
    recorder = record(server.port)
    domain = domain_of(recorder.where)
    message = await exim.submit([f"{name}@{domain}" for name in "abc"])
    attempts = exim.attempts(message)
    assert [(attempt.local, attempt.status) for attempt in attempts] == [
        ("a", "sent"),
        ("b", "bounced"),
        ("c", "sent"),
    ]
    # In its own words: L for PIPELINING, K for CHUNKING.
    assert attempts[0].told.endswith(" L K")
    burst = recorder.bursts[1]
    size = re.match(
        rb"MAIL FROM:<sender@discard\.example> SIZE=\d+\r\n(?:RCPT TO:<[abc]@\S+>\r\n){3}BDAT (\d+) LAST\r\n", burst
    )
    assert size is not None, burst
    assert burst[size.end() + int(size[1]) :] == b"QUIT\r\n"


@pytest_twisted.ensureDeferred
async def test_a_large_message_comes_in_several_chunks(
    exim: Exim, serve: Serve, record: Callable[[int], Recorder]
) -> None:
    """RFC 3030 §2: the first with MAIL and RCPT; only after its reply the others, if nothing was refused."""
    deliveries = ScriptedDeliveries()
    server = await serve(0, deliveries)
    recorder = record(server.port)
    content = b"Subject: large\n\n" + b"".join(b"line %d\n" % number for number in range(200_000))
    message = await exim.submit([f"a@{domain_of(recorder.where)}"], content)
    (attempt,) = exim.attempts(message)
    assert attempt.status == "sent"
    chunks = [re.findall(rb"^BDAT .*(?=\r\n)", burst, re.MULTILINE) for burst in recorder.bursts]
    assert [[chunk.endswith(b" LAST") for chunk in chunk_commands] for chunk_commands in chunks] == [
        [],
        [False],
        [True],
    ]
    (delivered,) = deliveries.messages
    assert delivered.size == sum(int(chunk.split()[1]) for commands in chunks for chunk in commands)
    assert delivered.read().endswith(content.partition(b"\n\n")[2].replace(b"\n", b"\r\n"))


@pytest_twisted.ensureDeferred
async def test_a_server_without_chunking_gets_data(exim: Exim, serve: Serve, record: Callable[[int], Recorder]) -> None:
    """RFC 3030 §2: what is not announced is not used."""
    server = await serve(0, ScriptedDeliveries(), disabled={"CHUNKING"})
    recorder = record(server.port)
    message = await exim.submit([f"a@{domain_of(recorder.where)}"])
    (attempt,) = exim.attempts(message)
    assert (attempt.status, attempt.told[-2:]) == ("sent", " L")
    assert recorder.bursts[1].endswith(b"DATA\r\n")
    assert not any(b"BDAT" in burst for burst in recorder.bursts)


@pytest.mark.parametrize("kind", ["", "data", "secure"])
@pytest_twisted.ensureDeferred
async def test_messages_that_have_waited_come_one_after_the_other_over_one_connection(
    exim: Exim, serve: Serve, kind: str
) -> None:
    """RFC 5321 §3.3: each is a transaction of its own, with its own replies."""
    server = await serve(0, ScriptedDeliveries())
    await server.stop()
    domain = domain_of(server.where, kind)
    messages = [await exim.submit([f"{name}@{domain}" for name in "abc"]) for _ in range(5)]
    assert {attempt.status for message in messages for attempt in exim.attempts(message)} == {"deferred"}
    refusal = PermanentFailure("Not wanted", code=550, enhanced="5.7.1")
    deliveries = ScriptedDeliveries(deliver=lambda message: [None, refusal, None])
    again = await serve(server.where, deliveries, tls=certified(exim.authority))
    await exim.run_queue()
    for message in messages:
        attempts = exim.attempts(message)[3:]
        assert [attempt.status for attempt in attempts] == ["sent", "bounced", "sent"]
        assert exim.is_done_with(message)
    assert len(deliveries.messages) == 5
    assert len(again.sessions.named("sessionStarted")) == 1


@pytest_twisted.ensureDeferred
async def test_more_recipients_than_exim_gives_one_transaction_come_in_several(exim: Exim, serve: Serve) -> None:
    """RFC 5321 §4.5.3.1.10: over one connection."""
    deliveries = ScriptedDeliveries()
    server = await serve(0, deliveries)
    domain = domain_of(server.where, "few")
    message = await exim.submit([f"{name}@{domain}" for name in "abcdefgh"])
    assert [attempt.status for attempt in exim.attempts(message)] == ["sent"] * 8
    assert [len(delivered.recipients) for delivered in deliveries.messages] == [3, 3, 2]
    assert len(server.sessions.named("sessionStarted")) == 1


@pytest_twisted.ensureDeferred
async def test_mail_comes_over_tls_with_an_answer_for_each_recipient(exim: Exim, serve: Serve) -> None:
    """RFC 3207, RFC 2033 §4.2."""
    refusal = PermanentFailure("Not wanted", code=550, enhanced="5.7.1")
    deliveries = ScriptedDeliveries(deliver=lambda message: [None, refusal, None])
    server = await serve(0, deliveries, tls=certified(exim.authority))
    domain = domain_of(server.where, "secure")
    content = b"Subject: large\n\n" + b"".join(b"line %d\n" % number for number in range(200_000))
    message = await exim.submit([f"{name}@{domain}" for name in "abc"], content)
    attempts = exim.attempts(message)
    assert [attempt.status for attempt in attempts] == ["sent", "bounced", "sent"]
    assert " X=TLS1.3:" in attempts[0].told
    assert attempts[0].told.endswith(" CV=yes L K")
    (delivered,) = deliveries.messages
    assert isinstance(delivered.session.tls, TLSInfo)
    assert b" with LMTPS id " in delivered.received
    assert delivered.read().endswith(content.partition(b"\n\n")[2].replace(b"\n", b"\r\n"))


@pytest_twisted.ensureDeferred
async def test_a_certificate_that_exim_does_not_believe_keeps_the_mail_with_exim(exim: Exim, serve: Serve) -> None:
    """RFC 3207 §4.1: Exim ends the session, and the server sees no more than that."""
    deliveries = ScriptedDeliveries()
    server = await serve(0, deliveries, tls=certified(CA()))
    message = await exim.submit([f"a@{domain_of(server.where, 'secure')}"])
    (attempt,) = exim.attempts(message)
    assert attempt.status == "deferred"
    assert "certificate" in attempt.reply
    await server.sessions.until("sessionEnded", 1)
    assert not deliveries.calls
