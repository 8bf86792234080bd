"""swaks that logs in, and that says by XCLIENT for whom it speaks: no mail server's client for LMTP does."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted
from daemons import Daemon
from programs import Ended, run
from telling import LOGIN, TLS, start_telling, told

pytestmark = pytest.mark.peer("swaks")

_PASSWORD = ("--auth-user", "swaks", "--auth-password", "secret")
_FAR = ("--xclient-name", "far.example", "--xclient-addr", "192.0.2.99", "--xclient-helo", "far")


async def swaks(where: int | Path, *options: str, to: str = "a@example.org") -> Ended:
    """Send a message."""
    place = ("--socket", str(where)) if isinstance(where, Path) else ("--server", f"127.0.0.1:{where}")
    addresses = ("--from", "sender@example.net", "--to", to)
    return await run("swaks", "--protocol", "LMTP", "--helo", "client.example.net", *place, *addresses, *options)


def facts_of(ended: Ended) -> dict[str, str]:
    """What the reply for the first recipient tells: before it swaks writes ``<-``, under TLS ``<~``."""
    assert ended.status == 0, ended
    (reply,) = (line for line in ended.output.splitlines() if " 250 2.0.0 <a@example.org> " in line)
    return told(reply)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
@pytest.mark.parametrize(
    ("where", "options"), [("tcp", ("--tls",)), ("unix", ())], indirect=["where"], ids=["tls", "unix"]
)
@pytest_twisted.ensureDeferred
async def test_swaks_logs_in_by_each_mechanism(
    daemon: Daemon, tmp_path: Path, where: int | Path, options: tuple[str, ...], mechanism: str
) -> None:
    """RFC 4954 §4, RFC 3848. Each recipient has its own outcome (RFC 2033 §4.2)."""
    where = await start_telling(daemon, tmp_path, where, *LOGIN, *(TLS if options else ()))
    recipients = "a@example.org,refused@example.org,full@example.org"
    ended = await swaks(where, *options, "--auth", mechanism, *_PASSWORD, to=recipients)
    facts = facts_of(ended)
    assert (facts["with"], facts["user"]) == ("LMTPSA" if options else "LMTPA", "swaks")
    assert "* 550 5.7.1 <refused@example.org> " in ended.output
    assert "* 452 4.3.1 <full@example.org> " in ended.output


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
@pytest_twisted.ensureDeferred
async def test_a_wrong_password_is_refused(daemon: Daemon, tmp_path: Path, mechanism: str) -> None:
    """RFC 4954 §6."""
    where = await start_telling(daemon, tmp_path, 0, *LOGIN, *TLS)
    wrong = ("--auth-user", "swaks", "--auth-password", "wrong")
    ended = await swaks(where, "--tls", "--auth", mechanism, *wrong)
    # swaks: authentication failed.
    assert ended.status == 28, ended
    assert "<~* 535 5.7.8 Wrong user or password\n" in ended.output


@pytest_twisted.ensureDeferred
async def test_a_password_is_not_sent_where_others_could_read_it(daemon: Daemon, tmp_path: Path) -> None:
    """RFC 4954 §4: PLAIN is not announced in the clear, and swaks, asked for it, ends."""
    where = await start_telling(daemon, tmp_path, 0, *LOGIN, *TLS)
    ended = await swaks(where, "--auth", "PLAIN", *_PASSWORD)
    # swaks: the server has not announced the mechanism.
    assert ended.status == 28, ended
    assert "AUTH PLAIN" not in ended.output


@pytest_twisted.ensureDeferred
async def test_a_trusted_client_speaks_for_another(daemon: Daemon, tmp_path: Path, where: int | Path) -> None:
    """Postfix's XCLIENT_README: the session begins anew, LHLO and all, as that of the client that is named."""
    where = await start_telling(daemon, tmp_path, where, "--trust=127.0.0.1", "--trust=unix")
    facts = facts_of(await swaks(where, *_FAR))
    assert (facts["peer"], facts["lhlo"], facts["user"]) == ("192.0.2.99", "client.example.net", "None")


@pytest_twisted.ensureDeferred
async def test_the_user_that_xclient_names_needs_no_password(daemon: Daemon, tmp_path: Path) -> None:
    """Postfix's XCLIENT_README: LOGIN is who the client was to the trusted peer."""
    where = await start_telling(daemon, tmp_path, 0, *LOGIN, *TLS, "--trust=127.0.0.1")
    facts = facts_of(await swaks(where, "--tls", *_FAR, "--xclient-login", "alice"))
    assert (facts["peer"], facts["user"], facts["with"]) == ("192.0.2.99", "alice", "LMTPSA")


@pytest_twisted.ensureDeferred
async def test_a_client_that_was_named_logs_in_itself(daemon: Daemon, tmp_path: Path) -> None:
    """TLS outlives XCLIENT, and so does the duty to log in (RFC 4954 §6)."""
    where = await start_telling(daemon, tmp_path, 0, *LOGIN, *TLS, "--trust=127.0.0.1")
    facts = facts_of(await swaks(where, "--tls", *_FAR, "--auth", "PLAIN", *_PASSWORD))
    assert (facts["peer"], facts["user"], facts["with"]) == ("192.0.2.99", "swaks", "LMTPSA")
    ended = await swaks(where, "--tls", *_FAR)
    assert "530 5.7.0 " in ended.output


@pytest_twisted.ensureDeferred
async def test_who_a_trusted_client_speaks_for_outlives_starttls(daemon: Daemon, tmp_path: Path) -> None:
    """Postfix's XCLIENT_README: it is as if the client that was named had connected, and then changed to TLS."""
    where = await start_telling(daemon, tmp_path, 0, *TLS, "--trust=127.0.0.1")
    facts = facts_of(await swaks(where, "--tls", "--xclient-before-starttls", *_FAR))
    assert (facts["peer"], facts["with"]) == ("192.0.2.99", "LMTPS")


@pytest_twisted.ensureDeferred
async def test_xclient_is_announced_to_trusted_clients_only(daemon: Daemon, tmp_path: Path) -> None:
    """Else anybody could claim to be anybody."""
    where = await start_telling(daemon, tmp_path, 0, "--trust=192.0.2.0/24")
    ended = await swaks(where, *_FAR)
    # swaks: XCLIENT failed.
    assert ended.status == 33, ended
    assert "Host did not advertise XCLIENT" in ended.errors
