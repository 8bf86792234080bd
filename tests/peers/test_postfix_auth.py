"""Postfix that logs in: by each mechanism, with a wrong password, and not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted
from daemons import Daemon
from private_postfix import Postfix, domain_of
from telling import LOGIN, TLS, start_telling, told

pytestmark = pytest.mark.peer("postfix")

#: Where passwords may be sent as they are, and what stands before a service's name for that.
_PRIVATELY = pytest.mark.parametrize(
    ("where", "prefix", "options"), [("tcp", "secure", TLS), ("unix", "", ())], indirect=["where"], ids=["tls", "unix"]
)


@pytest.mark.parametrize("mechanism", ["plain", "login", "cram"])
@_PRIVATELY
@pytest_twisted.ensureDeferred
async def test_postfix_logs_in_by_each_mechanism(
    postfix: Postfix,
    daemon: Daemon,
    tmp_path: Path,
    where: int | Path,
    prefix: str,
    options: tuple[str, ...],
    mechanism: str,
) -> None:
    """RFC 4954 §4, RFC 3848: over TLS and over a Unix socket. Each recipient has its own outcome (RFC 2033 §4.2)."""
    where = await start_telling(daemon, tmp_path, where, *LOGIN, *options)
    domain = domain_of(where, prefix + mechanism)
    queue_id = await postfix.submit([f"{name}@{domain}" for name in ("a", "refused", "full", "b")])
    attempts = {attempt.local: attempt for attempt in await postfix.attempts(queue_id, 4)}
    assert {name: (attempt.status, attempt.dsn) for name, attempt in attempts.items()} == {
        "a": ("sent", "2.0.0"),
        "refused": ("bounced", "5.7.1"),
        "full": ("deferred", "4.3.1"),
        "b": ("sent", "2.0.0"),
    }
    for name in ("a", "b"):
        facts = told(attempts[name].reply)
        assert (facts["with"], facts["user"]) == ("LMTPSA" if options else "LMTPA", "postfix")


@pytest_twisted.ensureDeferred
async def test_postfix_logs_in_without_tls_by_a_mechanism_that_hides_the_password(
    postfix: Postfix, daemon: Daemon, tmp_path: Path
) -> None:
    """RFC 2195: what is sent is a digest, so CRAM-MD5 is announced in the clear too."""
    where = await start_telling(daemon, tmp_path, 0, *LOGIN)
    queue_id = await postfix.submit([f"a@{domain_of(where, 'cram')}"])
    (attempt,) = await postfix.attempts(queue_id, 1)
    assert attempt.status == "sent"
    facts = told(attempt.reply)
    assert (facts["with"], facts["user"]) == ("LMTPA", "postfix")


@pytest_twisted.ensureDeferred
async def test_postfix_keeps_the_mail_where_its_mechanism_is_not_announced(
    postfix: Postfix, daemon: Daemon, tmp_path: Path
) -> None:
    """RFC 4954 §4: PLAIN is not announced in the clear. Postfix, which has a password, does not go on without it."""
    where = await start_telling(daemon, tmp_path, 0, *LOGIN)
    queue_id = await postfix.submit([f"a@{domain_of(where, 'plain')}"])
    (attempt,) = await postfix.attempts(queue_id, 1)
    assert (attempt.status, attempt.dsn) == ("deferred", "4.7.0")
    assert "offered no compatible authentication mechanisms" in attempt.reply


@_PRIVATELY
@pytest_twisted.ensureDeferred
async def test_a_wrong_password_keeps_the_mail_with_postfix_until_it_is_right(
    postfix: Postfix, daemon: Daemon, tmp_path: Path, where: int | Path, prefix: str, options: tuple[str, ...]
) -> None:
    """RFC 4954 §6: 535, which Postfix takes for an error that passes (lmtp_sasl_auth_soft_bounce)."""
    where = await start_telling(daemon, tmp_path, where, *LOGIN, *options)
    queue_id = await postfix.submit([f"a@{domain_of(where, f'{prefix}wrong')}"])
    (attempt,) = await postfix.attempts(queue_id, 1)
    assert (attempt.status, attempt.dsn) == ("deferred", "4.7.8")
    assert attempt.reply.startswith("SASL authentication failed; server ")
    assert attempt.reply.endswith(" said: 535 5.7.8 Wrong user or password")
    (tmp_path / "users").write_text("postfix:wrong\n")
    await postfix.deferred(queue_id)
    await postfix.flush()
    _, again = await postfix.attempts(queue_id, 2)
    assert (again.status, told(again.reply)["user"]) == ("sent", "postfix")


@pytest_twisted.ensureDeferred
async def test_who_must_log_in_and_does_not_is_refused(
    postfix: Postfix, daemon: Daemon, tmp_path: Path, where: int | Path
) -> None:
    """RFC 4954 §6: 530 to MAIL, and to all that came with it. A Postfix without a password bounces the mail."""
    where = await start_telling(daemon, tmp_path, where, *LOGIN)
    domain = domain_of(where)
    queue_id = await postfix.submit([f"a@{domain}", f"b@{domain}"])
    attempts = await postfix.attempts(queue_id, 2)
    assert {(attempt.status, attempt.dsn, attempt.command) for attempt in attempts} == {
        ("bounced", "5.7.0", "MAIL FROM command")
    }
    assert all(attempt.reply.startswith("530 5.7.0 ") for attempt in attempts)


@pytest.mark.parametrize("kind", ["certified", "unfiltered"])
@pytest_twisted.ensureDeferred
async def test_postfix_with_a_certificate_needs_a_password_all_the_same(
    postfix: Postfix, daemon: Daemon, tmp_path: Path, kind: str
) -> None:
    """
    RFC 4422 appendix A: EXTERNAL is announced to it. Its SASL library takes that for the best mechanism, but is not
    told of the certificate; so it logs in only where it was told to leave EXTERNAL alone.
    """
    (tmp_path / "clients.pem").write_bytes(postfix.authority.cert_pem.bytes())
    certificates = ("--auth=certificate:", "--tls-client-ca=clients.pem", "--tls-require-client")
    where = await start_telling(daemon, tmp_path, 0, *LOGIN, *TLS, *certificates)
    queue_id = await postfix.submit([f"a@{domain_of(where, kind)}"])
    (attempt,) = await postfix.attempts(queue_id, 1)
    if kind == "certified":
        assert attempt.status == "sent", attempt
        facts = told(attempt.reply)
        assert (facts["with"], facts["user"]) == ("LMTPSA", "postfix")
    else:
        assert (attempt.status, attempt.dsn) == ("deferred", "4.7.0")
        assert attempt.reply.endswith(": no mechanism available")


@pytest_twisted.ensureDeferred
async def test_postfix_without_a_certificate_is_kept_out_where_one_is_required(
    postfix: Postfix, daemon: Daemon, tmp_path: Path
) -> None:
    """RFC 8446 §4.4.2.4: the handshake fails, and Postfix keeps the mail."""
    where = await start_telling(daemon, tmp_path, 0, *TLS, "--tls-client-ca=ca.pem", "--tls-require-client")
    queue_id = await postfix.submit([f"a@{domain_of(where, 'secure')}"])
    (attempt,) = await postfix.attempts(queue_id, 1)
    assert attempt.status == "deferred"
