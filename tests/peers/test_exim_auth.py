"""Exim that logs in: by each mechanism, with a wrong password, and not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted
from daemons import Daemon
from private_exim import Exim, domain_of
from telling import LOGIN, TLS, start_telling, told

pytestmark = pytest.mark.peer("exim")


@pytest.mark.parametrize(
    ("mechanism", "user"), [("plain", "exim"), ("login", "exim"), ("cram", "exim"), ("external", "mta.example.net")]
)
@pytest_twisted.ensureDeferred
async def test_exim_logs_in_by_each_mechanism_over_tls(
    exim: Exim, daemon: Daemon, tmp_path: Path, mechanism: str, user: str
) -> None:
    """RFC 4954 §4, RFC 4422 appendix A, RFC 3848. Each recipient has its own outcome (RFC 2033 §4.2)."""
    certificates = ("--auth=certificate:", "--tls-client-ca=ca.pem")
    where = await start_telling(daemon, tmp_path, 0, *LOGIN, *TLS, *certificates, authority=exim.authority)
    domain = domain_of(where, mechanism)
    attempts = exim.attempts(await exim.submit([f"{name}@{domain}" for name in ("a", "refused", "full", "b")]))
    assert {attempt.local: attempt.status for attempt in attempts} == {
        "a": "sent",
        "refused": "bounced",
        "full": "deferred",
        "b": "sent",
    }
    for attempt in attempts:
        if attempt.status == "sent":
            assert " X=TLS1.3:" in attempt.told
            assert f" A={mechanism} " in attempt.told
            facts = told(attempt.reply)
            assert (facts["with"], facts["user"]) == ("LMTPSA", user)


@pytest_twisted.ensureDeferred
async def test_exim_logs_in_without_tls_only_where_the_password_is_hidden(
    exim: Exim, daemon: Daemon, tmp_path: Path
) -> None:
    """RFC 4954 §4: PLAIN and LOGIN are not announced in the clear, and Exim says nothing that is not announced."""
    where = await start_telling(daemon, tmp_path, 0, *LOGIN)
    (attempt,) = exim.attempts(await exim.submit([f"a@{domain_of(where, 'cram')}"]))
    assert attempt.status == "sent"
    facts = told(attempt.reply)
    assert (facts["with"], facts["user"]) == ("LMTPA", "exim")
    (attempt,) = exim.attempts(await exim.submit([f"a@{domain_of(where, 'plain')}"]))
    assert attempt.status == "deferred"


@pytest_twisted.ensureDeferred
async def test_a_wrong_password_keeps_the_mail_with_exim_until_it_is_right(
    exim: Exim, daemon: Daemon, tmp_path: Path
) -> None:
    """RFC 4954 §6: 535; with ``hosts_require_auth`` Exim does not go on without it."""
    where = await start_telling(daemon, tmp_path, 0, *LOGIN, *TLS)
    message = await exim.submit([f"a@{domain_of(where, 'wrong')}"])
    (attempt,) = exim.attempts(message)
    assert attempt.status == "deferred"
    assert "plain authenticator failed" in exim.log
    assert "535 5.7.8 Wrong user or password" in exim.log
    (tmp_path / "users").write_text("exim:wrong\n")
    await exim.run_queue()
    _, again = exim.attempts(message)
    assert (again.status, told(again.reply)["user"]) == ("sent", "exim")


@pytest_twisted.ensureDeferred
async def test_exim_that_requires_a_login_keeps_what_it_has_no_password_for(
    exim: Exim, daemon: Daemon, tmp_path: Path
) -> None:
    """Its ``hosts_require_auth``."""
    where = await start_telling(daemon, tmp_path, 0, *LOGIN, *TLS)
    (attempt,) = exim.attempts(await exim.submit([f"a@{domain_of(where, 'strict')}"]))
    assert attempt.status == "deferred"


@pytest_twisted.ensureDeferred
async def test_who_must_log_in_and_does_not_is_refused(
    exim: Exim, daemon: Daemon, tmp_path: Path, where: int | Path
) -> None:
    """RFC 4954 §6: 530 to MAIL, and to all that came with it; the octets of a chunk are read away."""
    where = await start_telling(daemon, tmp_path, where, *LOGIN)
    domain = domain_of(where)
    message = await exim.submit([f"a@{domain}", f"b@{domain}"])
    attempts = exim.attempts(message)
    assert [attempt.status for attempt in attempts] == ["bounced", "bounced"]
    assert all(": 530 5.7.0 " in attempt.reply for attempt in attempts), attempts
    assert exim.is_done_with(message)
