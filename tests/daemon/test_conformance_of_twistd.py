"""Our own server, as a real process, before the judge: with all that can be switched on, and all that can be off."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from certificates import CA, write_certificate
from running_twistd import twistd

from lmtp_twisted.conformance.command import main
from lmtp_twisted.settings import CAN_BE_DISABLED, CAN_BE_ENABLED

#: Accepts mail for all but one.
BACKEND = """\
from lmtp_twisted import PermanentFailure, RecipientDelivery

class Deliveries(RecipientDelivery):
    def validateTo(self, recipient):
        if recipient.address.local == "unknown":
            raise PermanentFailure("No such user")

    def deliverTo(self, message, recipient):
        pass
"""
#: What the judge is told of it.
TOLD = ("--level", "beyond", "--jobs", "8", "--timeout", "20", "--unknown-recipient", "unknown@example.org")
#: What a server that has everything announced does not do as one that has not, and the other way round.
NOT_ANNOUNCED = "where-it-is-not-announced"
#: What is seen only where somebody waits.
BY_WAITING = ("session/silence-ends-it", "session/early-talk")
#: Extensions that the server has by options of their own.
BY_OPTION = ("auth/", "proxy/", "xclient/", "xforward/")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """With a backend and a certificate."""
    (tmp_path / "accepts_nearly_all.py").write_text(BACKEND)
    write_certificate(tmp_path)
    (tmp_path / "ca.pem").write_bytes(CA.cert_pem.bytes())
    return tmp_path


def arguments(*more: str, enabled: Iterable[str] = sorted(CAN_BE_ENABLED)) -> list[str]:
    """Limits that can be reached, TLS, and what is enabled."""
    found = ["--size-limit", "100000", "--max-recipients", "200", "--backend", "python:accepts_nearly_all:Deliveries"]
    found += ["--tls-certificate", "cert.pem", "--tls-key", "key.pem"]
    for name in enabled:
        found += ["--enable", name]
    return [*found, *more]


def verdicts(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[set[str], set[str]]:
    """
    Judge a server; nothing may have failed.

    :returns: the names of what has passed, and of what is absent.
    """
    status = main([*TOLD, "--json", *options])
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row for row in rows if row["verdict"] == "failed"] == []
    assert status == 0
    return tuple(  # type: ignore[return-value]  # of two
        {row["name"] for row in rows if row["verdict"] == verdict} for verdict in ("passed", "absent")
    )


def surprising(absent: set[str], *expected: str) -> list[str]:
    """The names of what is absent, but for those that begin or end so."""
    return sorted(name for name in absent if not name.startswith((*expected, *BY_OPTION)) and NOT_ANNOUNCED not in name)


def test_with_all_that_can_be_enabled_it_passes_everything(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the clear; TLS can be had."""
    with twistd(directory, "--port", "0", *arguments()) as server:
        passed, absent = verdicts(capsys, f"127.0.0.1:{server.port}")
    assert surprising(absent, *BY_WAITING, "requiretls/", "starttls/") == []
    assert {name for name in absent if name.startswith("starttls/")} == {
        "starttls/is-not-announced-under-tls",
        "starttls/under-tls",
        "starttls/where-it-is-not-announced",
    }
    assert len(passed) > 330


@pytest.mark.parametrize("how", ["--starttls", "--tls"])
def test_it_passes_everything_under_tls(directory: Path, capsys: pytest.CaptureFixture[str], how: str) -> None:
    """Its certificate is checked, too."""
    listen = "--listen" if how == "--starttls" else "--listen-tls"
    with twistd(directory, listen, "tcp:0:interface=127.0.0.1", *arguments()) as server:
        trust = ("--ca-file", str(directory / "ca.pem"), "--server-name", "mx.example")
        passed, absent = verdicts(capsys, f"127.0.0.1:{server.port}", how, *trust)
    not_there = (*BY_WAITING, "starttls/", "final/a-half-closed-connection")
    assert surprising(absent, *not_there, "requiretls/is-not-announced-without-tls") == []
    assert {"requiretls/on-mail", "starttls/under-tls"} <= passed


def test_it_passes_everything_on_a_unix_socket(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As Postfix speaks to it on one machine."""
    with twistd(directory, "--listen", "unix:s", *arguments()) as server:
        server.until(r"listening on \S*s\n")
        passed, absent = verdicts(capsys, f"unix:{directory / 's'}")
    assert surprising(absent, *BY_WAITING, "requiretls/", "starttls/") == []
    assert len(passed) > 330


def test_with_all_that_can_be_disabled_it_passes_what_is_left(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is not announced is not accepted."""
    off = [word for name in sorted(CAN_BE_DISABLED) for word in ("--disable", name)]
    with twistd(directory, "--port", "0", *arguments(*off, enabled=())) as server:
        # Recommended by RFC 2033 §5, and the operator's choice.
        passed, absent = verdicts(capsys, f"127.0.0.1:{server.port}", "--skip", "session/lhlo-announces-8bitmime")
    assert {name for name in absent if NOT_ANNOUNCED in name and not name.startswith("auth/")} == set()
    assert len(passed) > 180


def test_it_ends_silent_sessions(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """RFC 5321 §4.5.3.2.7"""
    with twistd(directory, "--port", "0", *arguments("--idle-timeout", "0.5")) as server:
        passed, _ = verdicts(capsys, f"127.0.0.1:{server.port}", "--idle", "0.5", "--only", "session/silence-ends-it")
    assert passed == {"session/silence-ends-it"}


def test_it_sends_away_who_speaks_first(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """RFC 5321 §3.1; and greets the others."""
    only = ("--only", "session/early-talk", "--only", "session/greeting-and-quit")
    with twistd(directory, "--port", "0", *arguments("--greeting-delay", "0.5")) as server:
        passed, _ = verdicts(capsys, f"127.0.0.1:{server.port}", "--greeting-delay", *only)
    assert passed == {"session/early-talk", "session/greeting-and-quit"}


#: A choice, for the time it takes: each octet is a session.
SPLIT = (
    *("data/lf-dot-lf-is-content", "data/crcrlf-dot-crcrlf-is-content", "data/crlf-nul-dot-crlf-is-content"),
    *("data/two-dots-are-content", "bdat/a-whole-session-in-one-segment", "bdat/without-a-recipient"),
    *("bdat/nul-and-bare-lf-are-content", "lines/bare-lf-ends-no-line", "pipelining/everything-at-once"),
    *("session/verbs-in-any-case", "rcpt/quoted-pair", "smtputf8/sender", "starttls/a-message"),
)


def test_where_octets_are_cut_means_nothing(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At every point."""
    only = [word for name in SPLIT for word in ("--only", name)]
    with twistd(directory, "--port", "0", *arguments()) as server:
        passed, _ = verdicts(capsys, f"127.0.0.1:{server.port}", "--every-split", *only)
    assert passed == set(SPLIT)


#: Who can log in, and with what.
USER = ("--user", "judge", "--password", "secret", "--token", "token")


@pytest.fixture
def with_users(directory: Path) -> Path:
    """With passwords and tokens, and a certificate for a client that is one of the users."""
    (directory / "passwords").write_text("judge:secret\n")
    (directory / "tokens").write_text("judge:token\n")
    issued = CA.issue_cert("judge@example.net", common_name="judge")
    (directory / "client.pem").write_bytes(issued.private_key_and_cert_chain_pem.bytes())
    return directory


def authenticating(*more: str) -> list[str]:
    """All kinds of AUTH."""
    kinds = ["--auth", "file:passwords", "--auth", "tokens:tokens", "--auth", "certificate:"]
    return arguments(*kinds, "--auth-insecure", "--tls-client-ca", "ca.pem", *more)


def test_it_passes_auth_xclient_and_xforward(with_users: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a peer that it trusts."""
    with twistd(with_users, "--port", "0", *authenticating("--trust", "127.0.0.0/8")) as server:
        passed, absent = verdicts(capsys, f"127.0.0.1:{server.port}", *USER)
    assert {"auth/plain", "auth/login", "auth/cram-md5", "auth/xoauth2", "auth/nobody-on-mail"} <= passed
    assert {name for name in absent if name.startswith(("xclient/", "xforward/"))} == {
        "xclient/from-whom-nobody-trusts",
        "xclient/tls-survives",
        "xforward/from-whom-nobody-trusts",
    }


def test_it_passes_auth_under_tls(with_users: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a certificate of the client's own."""
    with twistd(with_users, "--port", "0", *authenticating("--trust", "127.0.0.0/8")) as server:
        own = ("--starttls", "--certificate", str(with_users / "client.pem"))
        passed, _ = verdicts(capsys, f"127.0.0.1:{server.port}", *USER, *own)
    assert {"auth/external", "auth/external-for-somebody-else", "xclient/tls-survives"} <= passed


def test_it_passes_where_auth_is_required(with_users: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In each session."""
    with twistd(with_users, "--port", "0", *authenticating("--auth-required")) as server:
        passed, _ = verdicts(capsys, f"127.0.0.1:{server.port}", *USER, "--authenticate", "--auth-required")
    assert {"auth/required-for-mail", "auth/required-for-bdat", "final/three-recipients"} <= passed


def test_it_shows_no_password_and_trusts_nobody_by_default(
    with_users: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without TLS there is no PLAIN, and XCLIENT is refused."""
    with twistd(with_users, "--port", "0", *arguments("--auth", "file:passwords")) as server:
        passed, _ = verdicts(capsys, f"127.0.0.1:{server.port}", *USER, "--untrusted")
    assert {"auth/plain-where-it-is-not-announced", "xclient/from-whom-nobody-trusts"} <= passed


@pytest.mark.parametrize("first", ["1", "2"])
def test_it_passes_behind_a_proxy(directory: Path, capsys: pytest.CaptureFixture[str], first: str) -> None:
    """Each connection begins with a header, of either version."""
    second = "2" if first == "1" else "1"
    with twistd(directory, "--listen", "haproxy:tcp:0:interface=127.0.0.1", *arguments()) as server:
        passed, absent = verdicts(capsys, f"127.0.0.1:{server.port}", "--proxy", first, "--proxy", second)
    assert {name for name in absent if name.startswith("proxy/")} == set()
    assert len(passed) > 350
