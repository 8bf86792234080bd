"""The main job: ``twistd lmtp`` beside Postfix, and mail that ends in Maildirs which others can read."""

from __future__ import annotations

import email.policy
import mailbox
import shutil
import signal
from pathlib import Path

import pytest
import pytest_twisted
from daemons import Daemon, listening_port
from private_postfix import Postfix, domain_of
from programs import run

pytestmark = pytest.mark.peer("postfix")

CONTENT = (
    "Subject: Grüße aus dem Maildir\r\nFrom: Jörg <jorg@discard.example>\r\nMIME-Version: 1.0\r\n"
    "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    ".\r\nfrom the beginning\r\nFrom the middle, ein Gruß\r\n\r\n"
).encode()


@pytest_twisted.ensureDeferred
async def test_a_message_from_postfix_ends_in_each_recipients_maildir(
    postfix: Postfix, daemon: Daemon, where: int | Path, mail: Path
) -> None:
    """RFC 5321 §4.4: with Return-Path and Received; the line ends are LF, as Maildir readers expect."""
    if isinstance(where, Path):
        await daemon(f"--listen=unix:{where}:mode=666")
    else:
        where = listening_port(await daemon("--port=0", "--hostname=store.example.org"))
    domain = domain_of(where)
    queue_id = await postfix.submit([f"anna@{domain}", f"bert@{domain}"], CONTENT, options=["BODY=8BITMIME"])
    attempts = await postfix.attempts(queue_id, 2)
    assert {(attempt.status, attempt.dsn) for attempt in attempts} == {("sent", "2.0.0")}
    for name in ("anna", "bert"):
        (file,) = (mail / domain / name / "new").iterdir()
        stored = file.read_bytes()
        assert b"\r" not in stored
        trace, _, rest = stored.partition(b"Received: from client.example.net")
        assert trace.startswith(b"Return-Path: <sender@discard.example>\nReceived: from mta.example.net (")
        assert b" with LMTP id " in trace
        assert rest.endswith(CONTENT.replace(b"\r\n", b"\n"))

        box = mailbox.Maildir(str(mail / domain / name), create=False)
        ((_, message),) = box.items()
        assert message.get_subdir() == "new"
        box.close()
        parsed = email.message_from_bytes(stored, policy=email.policy.default)
        assert parsed["Subject"] == "Grüße aus dem Maildir"
        assert parsed.get_content().endswith("From the middle, ein Gruß\n\n")


@pytest_twisted.ensureDeferred
async def test_only_mailboxes_that_exist_get_mail_where_none_may_be_made(
    postfix: Postfix, daemon: Daemon, mail: Path
) -> None:
    """RFC 5321 §3.6.1: an unknown mailbox is refused at RCPT, and does not keep the others from their mail."""
    for part in ("cur", "new", "tmp"):
        (mail / "anna" / part).mkdir(parents=True)
    port = listening_port(await daemon("--port=0", f"--backend=maildir:{mail}/{{local}},create=no"))
    domain = domain_of(port)
    queue_id = await postfix.submit([f"anna@{domain}", f"nobody@{domain}"])
    attempts = {attempt.local: attempt for attempt in await postfix.attempts(queue_id, 2)}
    assert attempts["anna"].status == "sent"
    assert (attempts["nobody"].status, attempts["nobody"].dsn) == ("bounced", "5.1.1")
    assert attempts["nobody"].command == "RCPT TO command"
    assert [box.name for box in mail.iterdir()] == ["anna"]
    assert len(list((mail / "anna" / "new").iterdir())) == 1


@pytest_twisted.ensureDeferred
async def test_what_postfix_was_told_is_delivered_survives_a_kill(postfix: Postfix, daemon: Daemon, mail: Path) -> None:
    """RFC 5321 §4.2.5: with the 250 the responsibility has passed."""
    program = await daemon("--port=0")
    domain = domain_of(listening_port(program), kept=True)
    queue_id = await postfix.submit([f"box{index}@{domain}" for index in range(10)])
    await postfix.attempts(queue_id, 10)
    program.send_signal(signal.SIGKILL)
    assert (await program.end()).status == -signal.SIGKILL
    assert {attempt.status for attempt in postfix.attempts_so_far(queue_id)} == {"sent"}
    assert sorted(len(list((box / "new").iterdir())) for box in (mail / domain).iterdir()) == [1] * 10


@pytest.mark.peer("dovecot")
@pytest_twisted.ensureDeferred
async def test_dovecot_reads_the_maildir(postfix: Postfix, daemon: Daemon, mail: Path, tmp_path: Path) -> None:
    """The message's header and body, and the size that its name states, are as Dovecot finds them."""
    domain = domain_of(listening_port(await daemon("--port=0")))
    queue_id = await postfix.submit([f"anna@{domain}"], CONTENT, options=["BODY=8BITMIME"])
    await postfix.attempts(queue_id, 1)
    (file,) = (mail / domain / "anna" / "new").iterdir()
    stored = file.read_bytes()
    # Dovecot reads no mail as root.
    box = mail / domain / "anna"
    for path in (mail.parent, *mail.parent.rglob("*")):
        shutil.chown(path, "vmail", "vmail")
    configuration = tmp_path / "dovecot.conf"
    configuration.write_text(
        f"log_path = /dev/stderr\nssl = no\nprotocols =\nmail_uid = vmail\nmail_gid = vmail\n"
        f"first_valid_uid = 1\nfirst_valid_gid = 1\nmail_location = maildir:{box}\n"
    )
    doveadm = ("doveadm", "-f", "flow", "-c", str(configuration))
    found = await run("env", "USER=vmail", f"HOME={box}", *doveadm, "fetch", "size.physical text", "all")
    assert found.status == 0, found
    assert "Warning" not in found.errors
    assert f"size.physical={len(stored)} " in found.output
    assert stored.decode() in found.output.replace("\r\n", "\n")
