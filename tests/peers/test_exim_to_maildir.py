"""``twistd lmtp`` beside Exim: what Exim was told is delivered is in the Maildirs, octet for octet."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted
from daemons import Daemon, listening_port
from private_exim import Exim, domain_of

pytestmark = pytest.mark.peer("exim")

CONTENT = (
    "From: Jörg <jorg@discard.example>\nDate: Mon, 1 Jan 2024 00:00:00 +0000\nMessage-ID: <1@client.example.net>\n"
    "Subject: Grüße\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n"
    ".\nfrom the beginning\nFrom the middle, ein Gruß\n\n" + "x" * 100_000 + "\n"
).encode()


@pytest_twisted.ensureDeferred
async def test_a_message_from_exim_ends_in_each_recipients_maildir(
    exim: Exim, daemon: Daemon, where: int | Path, mail: Path
) -> None:
    """RFC 5321 §4.4: with Return-Path and Received; the line ends are LF, as Maildir readers expect."""
    if isinstance(where, Path):
        await daemon(f"--listen=unix:{where}:mode=666")
    else:
        where = listening_port(await daemon("--port=0"))
    domain = domain_of(where)
    message = await exim.submit([f"anna@{domain}", f"bert@{domain}"], CONTENT)
    attempts = exim.attempts(message)
    assert [(attempt.local, attempt.status) for attempt in attempts] == [("anna", "sent"), ("bert", "sent")]
    assert all(attempt.reply.startswith("250 2.0.0 <") for attempt in attempts)
    for name in ("anna", "bert"):
        (file,) = (mail / domain / name / "new").iterdir()
        stored = file.read_bytes()
        assert b"\r" not in stored
        trace, _, rest = stored.partition(b"Received: from root by mta.example.net with local ")
        assert trace.startswith(b"Return-Path: <sender@discard.example>\nReceived: from mta.example.net (")
        assert b" with LMTP id " in trace
        assert rest.partition(b"+0000\n")[2] == CONTENT


@pytest_twisted.ensureDeferred
async def test_only_mailboxes_that_exist_get_mail_where_none_may_be_made(
    exim: Exim, daemon: Daemon, where: int | Path, mail: Path
) -> None:
    """RFC 5321 §3.6.1: an unknown mailbox is refused at RCPT, and does not keep the others from their mail."""
    for name in ("anna", "bert"):
        (mail / name).mkdir(parents=True)
    options = (f"--backend=maildir:{mail}/{{local}},create=no",)
    if isinstance(where, Path):
        await daemon(f"--listen=unix:{where}:mode=666", *options)
    else:
        where = listening_port(await daemon("--port=0", *options))
    domain = domain_of(where)
    message = await exim.submit([f"anna@{domain}", f"nobody@{domain}", f"bert@{domain}"])
    attempts = {attempt.local: attempt for attempt in exim.attempts(message)}
    assert {name: attempt.status for name, attempt in attempts.items()} == {
        "anna": "sent",
        "nobody": "bounced",
        "bert": "sent",
    }
    assert f"after RCPT TO:<nobody@{domain}>: 550 5.1.1 " in attempts["nobody"].reply
    assert sorted(path.name for path in mail.iterdir()) == ["anna", "bert"]
    assert [len(list((mail / name / "new").iterdir())) for name in ("anna", "bert")] == [1, 1]
