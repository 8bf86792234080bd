"""Postfix that tells of its client by XFORWARD: what it says is what a backend is given."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import pytest_twisted
from daemons import Daemon
from private_postfix import Postfix, domain_of
from telling import LOGIN, TLS, start_telling, told

pytestmark = pytest.mark.peer("postfix")

#: The session of a reply, and the number of its message there.
_ID = re.compile(r"> (\w+)\.(\d+)\.\d+ ")
_TRUST = ("--trust=127.0.0.1/32", "--trust=unix")


def forwarded(reply: str) -> dict[str, str]:
    """The attributes of XFORWARD that a reply tells of."""
    return {name: value for name, value in told(reply).items() if name.isupper()}


@pytest_twisted.ensureDeferred
async def test_a_backend_is_told_what_postfix_knows_of_its_client(
    postfix: Postfix, daemon: Daemon, tmp_path: Path, where: int | Path
) -> None:
    """Postfix's XFORWARD_README: two commands before MAIL, each attribute once; what is unknown becomes empty."""
    where = await start_telling(daemon, tmp_path, where, *_TRUST)
    queue_id = await postfix.submit([f"a@{domain_of(where, 'forward')}"])
    (attempt,) = await postfix.attempts(queue_id, 1)
    assert attempt.status == "sent"
    attributes = forwarded(attempt.reply)
    assert attributes.pop("PORT").isdigit()
    assert attributes == {
        "ADDR": "127.0.0.1",
        "PROTO": "ESMTP",
        "HELO": "client.example.net",
        "IDENT": queue_id,
        "SOURCE": "REMOTE",
    }


@pytest.mark.parametrize("mechanism", ["secureplain", "securelogin", "securecram"])
@pytest_twisted.ensureDeferred
async def test_postfix_tells_of_its_client_over_tls_once_it_has_logged_in(
    postfix: Postfix, daemon: Daemon, tmp_path: Path, mechanism: str
) -> None:
    """RFC 3848; all of Postfix's attributes, here of a client of which it was told itself; mixed outcomes."""
    where = await start_telling(daemon, tmp_path, 0, *LOGIN, *TLS, *_TRUST)
    domain = domain_of(where, mechanism)
    queue_id = await postfix.submit(
        [f"{name}@{domain}" for name in ("a", "refused", "full", "b")],
        forwarded="NAME=far.example ADDR=203.0.113.7 PORT=40000 PROTO=SMTP HELO=far SOURCE=LOCAL IDENT=Q1",
    )
    attempts = await postfix.attempts(queue_id, 4)
    assert {attempt.local: attempt.status for attempt in attempts} == {
        "a": "sent",
        "refused": "bounced",
        "full": "deferred",
        "b": "sent",
    }
    for attempt in attempts:
        if attempt.status == "sent":
            facts = told(attempt.reply)
            assert (facts["with"], facts["user"], facts["peer"]) == ("LMTPSA", "postfix", "127.0.0.1")
            assert forwarded(attempt.reply) == {
                "NAME": "far.example",
                "ADDR": "203.0.113.7",
                "PORT": "40000",
                "PROTO": "SMTP",
                "HELO": "far",
                "IDENT": "Q1",
                "SOURCE": "LOCAL",
            }


@pytest_twisted.ensureDeferred
async def test_each_message_of_a_connection_has_its_own_client(
    postfix: Postfix, daemon: Daemon, tmp_path: Path
) -> None:
    """Postfix's XFORWARD_README: the attributes end with the transaction."""
    where = await start_telling(daemon, tmp_path, 0, *_TRUST)
    domain = domain_of(where, "keptforward")
    replies = []
    for attributes in ("NAME=far.example ADDR=192.0.2.7", "ADDR=192.0.2.8 HELO=[UNAVAILABLE]"):
        # One that stays, so that the connection is kept once the message lies in the deferred queue.
        queue_id = await postfix.submit([f"a@{domain}", f"full@{domain}"], forwarded=attributes)
        attempts = await postfix.attempts(queue_id, 2)
        replies.append(next(attempt.reply for attempt in attempts if attempt.local == "a"))
        await postfix.deferred(queue_id)
    ids = [match.groups() for reply in replies if (match := _ID.search(reply))]
    assert ids == [(ids[0][0], "1"), (ids[0][0], "2")]
    first, second = map(forwarded, replies)
    assert (first["NAME"], first["ADDR"]) == ("far.example", "192.0.2.7")
    assert second["ADDR"] == "192.0.2.8"
    assert not second.get("NAME")


@pytest.mark.parametrize("trusted", ["192.0.2.0/24", "unix"])
@pytest_twisted.ensureDeferred
async def test_who_is_not_trusted_is_not_asked_to_tell(
    postfix: Postfix, daemon: Daemon, tmp_path: Path, trusted: str
) -> None:
    """XFORWARD is announced to trusted peers only, and Postfix says nothing that is not announced."""
    where = await start_telling(daemon, tmp_path, 0, f"--trust={trusted}")
    queue_id = await postfix.submit([f"a@{domain_of(where, 'forward')}"])
    (attempt,) = await postfix.attempts(queue_id, 1)
    assert attempt.status == "sent"
    assert not forwarded(attempt.reply)
