"""The command line of ``twistd lmtp``, before anything is done with it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from typing import Any

import pytest

from lmtp_twisted import Settings
from lmtp_twisted.daemon import Options
from lmtp_twisted.daemon.options import installed_version
from lmtp_twisted.wire.content import BareNewlines


def _parsed(*arguments: str) -> Options:
    options = Options()
    options.parseOptions(arguments)
    return options


def _complaint(*arguments: str) -> str:
    """The one line that a wrong command line is answered with; the interpreter adds exit status 1."""
    with pytest.raises(SystemExit) as raised:
        _parsed(*arguments)
    line = raised.value.code
    assert isinstance(line, str)
    assert len(line.splitlines()) == 1
    assert line.startswith("twistd lmtp: ")
    return line.removeprefix("twistd lmtp: ")


def test_without_options_all_is_as_the_library_has_it() -> None:
    options = _parsed()
    assert options.said.settings() == Settings()
    assert {key: options[key] for key in ("port", "listen", "backend", "route", "spool")} == {
        "port": None,
        "listen": [],
        "backend": None,
        "route": [],
        "spool": None,
    }
    assert (options["log-level"], options["drain-timeout"]) == ("info", 30.0)


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        (["--hostname", "mx.example.org"], "hostname", "mx.example.org"),
        (["--banner", "speaks to MTAs only"], "banner", "speaks to MTAs only"),
        (["--banner", ""], "banner", ""),
        (["--size-limit", "10M"], "size_limit", 10 * 1024 * 1024),
        (["--size-limit", "0"], "size_limit", 0),
        (["--max-recipients", "5"], "max_recipients", 5),
        (["--max-sessions", "7"], "max_sessions", 7),
        (["--idle-timeout", "1.5"], "idle_timeout", 1.5),
        (["--delivery-timeout", "60"], "delivery_timeout", 60.0),
        (["--bare-newlines", "keep"], "bare_newlines", BareNewlines.KEEP),
        (["--bare-newlines", "normalise"], "bare_newlines", BareNewlines.NORMALISE),
        (["--bare-newlines", "reject"], "bare_newlines", BareNewlines.REJECT),
        (["--greeting-delay", "2"], "greeting_delay", 2.0),
        (["--lenient"], "lenient_newlines", True),
        (["--disable", "VRFY"], "disabled", {"VRFY"}),
        (["--disable", "vrfy", "--disable=8bitmime"], "disabled", {"VRFY", "8BITMIME", "SMTPUTF8"}),
        (["--enable", "DSN", "--enable", "mt-priority"], "enabled", {"DSN", "MT-PRIORITY"}),
        (["--max-sessions", "7", "--max-sessions", "8"], "max_sessions", 8),
    ],
)
def test_an_option_of_the_protocol_becomes_a_setting(arguments: list[str], field: str, value: Any) -> None:
    assert getattr(_parsed(*arguments).said.settings(), field) == value


@pytest.mark.parametrize(
    ("arguments", "key", "value"),
    [
        (["--port", "2525"], "port", 2525),
        (["--port", "0"], "port", 0),
        (["--listen", "unix:/run/a", "--listen", "tcp:2524"], "listen", ["unix:/run/a", "tcp:2524"]),
        (["--backend", "null:"], "backend", "null:"),
        (
            ["--route", "*.example.org=null:", "--route", "x@y=maildir:/srv/m,create=no"],
            "route",
            [("*.example.org", "null:"), ("x@y", "maildir:/srv/m,create=no")],
        ),
        (["--spool", "/var/spool"], "spool", "/var/spool"),
        (["--log-level", "debug"], "log-level", "debug"),
        (["--log-level", "error"], "log-level", "error"),
        (["--drain-timeout", "0.5"], "drain-timeout", 0.5),
    ],
)
def test_an_option_of_the_daemon_is_kept(arguments: list[str], key: str, value: Any) -> None:
    assert _parsed(*arguments)[key] == value


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--port", "x"], "--port: 'x' is not a whole number"),
        (["--port", "-1"], "--port: '-1' is not a whole number"),
        (["--port", "65536"], "--port: '65536' is not a port from 0 to 65535"),
        (["--port"], "option --port requires argument"),
        (["--hostname", ""], "--hostname: a name is needed"),
        (["--hostname", "a b"], "--hostname: 'a b' is not printable ASCII"),
        (["--hostname", "a\r\nb"], r"--hostname: 'a\r\nb' is not printable ASCII"),
        (["--hostname", "a" * 256], "--hostname: longer than 255 characters"),
        (["--banner", "ü"], "--banner: 'ü' is not printable ASCII"),
        (["--size-limit", "50MB"], "--size-limit: '50MB' is not a size such as 1000000, 500k, 50M or 2G"),
        (["--size-limit", "-1"], "--size-limit: '-1' is not a size such as 1000000, 500k, 50M or 2G"),
        (["--max-recipients", "0"], "--max-recipients: 0 is not positive"),
        (["--max-recipients", "many"], "--max-recipients: 'many' is not a whole number"),
        (["--max-sessions", "0"], "--max-sessions: 0 is not positive"),
        (["--max-sessions", "1.5"], "--max-sessions: '1.5' is not a whole number"),
        (["--idle-timeout", "0"], "--idle-timeout: 0.0 is not positive"),
        (["--idle-timeout", "nan"], "--idle-timeout: 'nan' is not a number of seconds from 0 to 1000000"),
        (["--delivery-timeout", "0"], "--delivery-timeout: 0.0 is not positive"),
        (["--delivery-timeout", "9m"], "--delivery-timeout: '9m' is not a number of seconds from 0 to 1000000"),
        (["--greeting-delay", "-1"], "--greeting-delay: '-1' is not a number of seconds from 0 to 1000000"),
        (["--drain-timeout", "inf"], "--drain-timeout: 'inf' is not a number of seconds from 0 to 1000000"),
        (["--bare-newlines", "lf"], "--bare-newlines: 'lf' is not one of keep, normalise, reject"),
        (["--log-level", "loud"], "--log-level: 'loud' is not one of debug, info, warn, error"),
        (["--lenient=yes"], "option --lenient must not have an argument"),
        (["--route", "nowhere"], "--route 'nowhere' is not PATTERN=BACKEND"),
        (["--backned", "null:"], "option --backned not recognized"),
        (["-p", "1"], "option -p not recognized"),
        (["null:"], "'null:' is no option"),
        (["--lenient", "more", "words"], "'more' is no option"),
        (["\n"], r"'\n' is no option"),
    ],
)
def test_a_wrong_option_is_one_line(arguments: list[str], complaint: str) -> None:
    assert _complaint(*arguments) == complaint


@pytest.mark.parametrize("port", ["25", "025"])
def test_port_25_is_refused(port: str) -> None:
    """RFC 2033 §5."""
    assert _complaint("--port", port).startswith("--port: port 25 is SMTP's, and LMTP must not be spoken there")


@pytest.mark.parametrize(
    "name", ["PIPELINING", "ENHANCEDSTATUSCODES", "LHLO", "MAIL", "RCPT", "DATA", "QUIT", "FOO", ""]
)
def test_what_a_session_cannot_do_without_cannot_be_disabled(name: str) -> None:
    complaint = _complaint("--disable", name)
    assert complaint.startswith(f"--disable: {name} is not among 8BITMIME, ")


def test_only_what_is_off_by_default_can_be_enabled() -> None:
    assert _complaint("--enable", "CHUNKING") == "--enable: CHUNKING is not among DSN, MT-PRIORITY, REQUIRETLS"


def test_every_option_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        _parsed("--help")
    assert raised.value.code == 0
    text = capsys.readouterr().out
    options = Options()
    for option in options.longOpt:
        assert f"--{option}" in text
        assert options.docs[option.rstrip("=")], f"{option} has no help"
    assert "For example: twistd -n lmtp" in " ".join(text.split())


def test_the_backends_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        _parsed("--help-backends")
    assert raised.value.code == 0
    assert "maildir:DIRECTORY" in capsys.readouterr().out


def test_the_version_is_ours(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        _parsed("--version")
    assert raised.value.code == 0
    assert capsys.readouterr().out.startswith("lmtp-twisted ")


def test_a_checkout_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("lmtp_twisted.daemon.options.version", version)
    assert installed_version() == "of a checkout that is not installed"
