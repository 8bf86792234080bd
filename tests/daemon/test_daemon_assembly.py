"""What is checked before ``twistd`` becomes a daemon, and what the server is made of."""

from __future__ import annotations

import os
import resource
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import CA, write_certificate
from twisted.application.service import Application, MultiService
from twisted.logger import ILogObserver
from twisted.scripts.twistd import ServerOptions

from lmtp_twisted import Settings
from lmtp_twisted.daemon import Options, makeService, making, said, servers
from lmtp_twisted.daemon.logs import WrittenLog
from lmtp_twisted.daemon.service import LMTPService
from lmtp_twisted.envelope import parse_recipient
from lmtp_twisted.routing import Router


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a directory of its own to work in."""
    monkeypatch.chdir(tmp_path)


def _made(*arguments: str, twistd: tuple[str, ...] = ("-n", "--logfile", "log")) -> LMTPService:
    config = ServerOptions()
    config.parseOptions([*twistd, "lmtp", *(["--port", "0"] if "--listen" not in arguments else []), *arguments])
    service = makeService(config.subOptions)  # type: ignore[attr-defined]  # parseOptions sets it
    assert isinstance(service, LMTPService)
    return service


def _complaint(*arguments: str, twistd: tuple[str, ...] = ("-n", "--logfile", "log")) -> str:
    with pytest.raises(SystemExit) as raised:
        _made(*arguments, twistd=twistd)
    line = raised.value.code
    assert isinstance(line, str)
    assert len(line.splitlines()) == 1
    assert line.startswith("twistd lmtp: ")
    return line.removeprefix("twistd lmtp: ")


def test_settings_reach_the_sessions() -> None:
    settings = (
        _made("--backend", "null:", "--hostname", "mx.example.org", "--max-recipients", "5").factories[0].settings
    )
    assert (settings.hostname, settings.max_recipients) == ("mx.example.org", 5)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--backend", "nowhere:"], "--backend: 'nowhere:' names no known backend"),
        (["--backend", "null"], "--backend: 'null' lacks a colon"),
        (["--backend", ""], "--backend: '' names no known backend"),
        (["--backend", "maildir:/proc/mail"], "--backend: maildir: "),
        (["--backend", "python:nowhere:f"], "--backend: python: cannot import nowhere"),
        (["--backend", "null:", "--route", "x=nowhere:"], "--route x: 'nowhere:' names no known backend"),
        (["--backend", "null:", "--route", "=null:"], "--route: not a pattern of recipients: ''"),
        (["--backend", "null:", "--listen", "tcp:25"], "--listen tcp:25: port 25 is SMTP's"),
        (["--backend", "null:", "--listen", "carrier\npigeon"], r"--listen carrier\npigeon: Unknown endpoint type"),
        (["--backend", "null:", "--listen", "unix:no/where"], "--listen unix:no/where: No such file or directory"),
        (["--backend", "null:", "--tls-key", "k"], "--tls-key needs --tls-certificate"),
        (["--backend", "null:", "--tls-client-ca", "k"], "--tls-client-ca needs --tls-certificate"),
        (["--backend", "null:", "--tls-require-client"], "--tls-require-client needs --tls-certificate"),
        (["--backend", "null:", "--listen-tls", "tcp:0"], "--listen-tls needs --tls-certificate"),
        (["--backend", "null:", "--tls-certificate", "c"], "/c: No such file or directory"),
        (
            ["--backend", "null:", "--tls-certificate", "c", "--tls-require-client"],
            "--tls-require-client needs --tls-client-ca",
        ),
        (["--backend", "null:", "--spool", "no/where"], "/no/where: No such file or directory"),
        (["--backend", "null:", "--spool", "/proc"], "--spool /proc: "),
        (["--backend", "null:", "--spool", ""], "--spool: a directory is needed"),
    ],
)
def test_what_cannot_work_is_one_line(arguments: list[str], complaint: str) -> None:
    assert complaint in _complaint(*arguments)


def test_a_port_in_use_is_one_line(taken_port: int) -> None:
    assert _complaint("--backend", "null:", "--port", str(taken_port)) == f"--port {taken_port}: Address already in use"


def test_without_an_address_the_port_is_2524(taken_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert servers.DEFAULT_PORT == 2524
    # The machine that runs the test may have a server there.
    monkeypatch.setattr(servers, "DEFAULT_PORT", taken_port)
    options = Options()
    options.parseOptions(["--backend", "null:"])
    with pytest.raises(SystemExit, match=f"--port {taken_port}: Address already in use"):
        makeService(options)


@pytest.mark.parametrize(
    ("twistd", "complaint"),
    [
        (("--logfile", "-"), "a daemon cannot log to standard output: give --logfile FILE, or -n"),
        (("-n", "--logfile", "no/where"), "--logfile no/where: No such file or directory"),
        (("-n", "--rundir", "no/where"), "no/where: No such file or directory"),
    ],
)
def test_what_twistd_was_told_is_tried_too(twistd: tuple[str, ...], complaint: str) -> None:
    assert _complaint("--backend", "null:", twistd=twistd).endswith(complaint)


def test_a_machine_whose_name_cannot_be_said_is_told_to_have_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(said, "Settings", lambda **chosen: Settings(**{"hostname": "mün chen", **chosen}))
    complaint = _complaint("--backend", "null:")
    assert (
        complaint
        == "the name of this machine will not do: give --hostname (hostname: 'mün chen' is not printable ASCII)"
    )
    _made("--backend", "null:", "--hostname", "munich")


def test_two_backends_of_one_name_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_plugins() -> None:
        raise ValueError("two backends are called 'null'")

    monkeypatch.setattr("lmtp_twisted.daemon.options.find_plugins", find_plugins)
    assert _complaint("--help-backends") == "two backends are called 'null'"


# Directories


def test_relative_paths_are_below_the_directory_that_twistd_runs_in(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    _made("--backend", "maildir:mail", "--spool", ".", twistd=("-n", "--logfile", "log", "--rundir", "run"))
    assert os.getcwd() == str(tmp_path / "run")
    # That of the log is twistd's exception: it is opened before the directory is changed.
    assert (tmp_path / "log").exists()


def test_the_directory_of_twistd_is_not_entered_twice(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    config = ServerOptions()
    config.parseOptions(["-n", "--logfile", "log", "--rundir", "run", "lmtp", "--port", "0", "--backend", "null:"])
    makeService(config.subOptions)  # type: ignore[attr-defined]  # parseOptions sets it
    assert config["rundir"] == str(tmp_path / "run")


def test_chroot_is_refused() -> None:
    """What is opened before it and after it would not be the same."""
    complaint = _complaint("--backend", "null:", twistd=("-n", "--logfile", "log", "--chroot", "/nonexistent"))
    assert complaint.startswith("--chroot cannot be had: ")


@pytest.mark.parametrize(
    ("environment", "directories", "chosen"),
    [
        ({"TMPDIR": "/some/where"}, {"/var/tmp"}, "/some/where"),
        ({}, {"/var/tmp"}, "/var/tmp"),
        ({}, set(), "/tmp"),
    ],
)
def test_large_messages_lie_on_a_disk_rather_than_in_tmp_which_may_be_memory(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], directories: set[str], chosen: str
) -> None:
    tried: list[str] = []

    class FakeTemporaryFile:
        def __init__(self, dir: str) -> None:
            tried.append(dir)

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.delenv("TMPDIR", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(making.os.path, "isdir", directories.__contains__)
    monkeypatch.setattr(making.tempfile, "gettempdir", lambda: "/tmp")
    monkeypatch.setattr(making.tempfile, "TemporaryFile", FakeTemporaryFile)
    assert _made("--backend", "null:").factories[0].spool.directory == chosen
    assert tried == [chosen]


def test_the_spool_directory_is_absolute(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    assert _made("--backend", "null:", "--spool", "spool").factories[0].spool.directory == str(tmp_path / "spool")


# The log


def test_the_log_is_ours_where_twistd_was_not_told_otherwise() -> None:
    application = Application("lmtp")
    _made("--backend", "null:").setServiceParent(application)
    assert isinstance(application.getComponent(ILogObserver), WrittenLog)


@pytest.mark.parametrize("twistd", [("-n", "--syslog"), ("-n", "--logger", "twisted.logger.globalLogPublisher")])
def test_the_log_is_twistds_where_it_was_told_so(twistd: tuple[str, ...]) -> None:
    application = Application("lmtp")
    _made("--backend", "null:", twistd=twistd).setServiceParent(application)
    assert application.getComponent(ILogObserver, None) is None


def test_without_twistd_the_log_is_for_others_to_choose() -> None:
    """As in a file that holds an application and parses the options itself."""
    application = Application("lmtp")
    options = Options()
    options.parseOptions(["--port", "0", "--backend", "null:"])
    makeService(options).setServiceParent(application)
    assert application.getComponent(ILogObserver, None) is None


def test_a_service_can_be_part_of_another() -> None:
    parent = MultiService()
    service = _made("--backend", "null:")
    service.setServiceParent(parent)
    assert list(parent) == [service]


@pytest.mark.parametrize(("twistd", "name"), [(("--logfile", "mine"), "mine"), ((), "twistd.log")])
def test_a_daemon_logs_to_the_file_that_twistd_names(twistd: tuple[str, ...], name: str, tmp_path: Path) -> None:
    _made("--backend", "null:", twistd=twistd)
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("twistd", [("-n",), ("-n", "--logfile", "-")])
def test_in_the_foreground_the_log_goes_to_standard_output(twistd: tuple[str, ...], tmp_path: Path) -> None:
    _made("--backend", "null:", twistd=twistd)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("level", "observers"), [("debug", 1), ("info", 1), ("warn", 0), ("error", 0)])
def test_where_no_delivery_is_logged_nothing_is_made_for_it(level: str, observers: int) -> None:
    assert len(_made("--backend", "null:", "--log-level", level).factories[0].observers) == observers


# Routes


def test_the_first_route_that_matches_decides_and_the_backend_has_the_rest() -> None:
    service = _made("--route", "*@a.example=memory:", "--route", "a.example=null:", "--backend", "null:")
    assert isinstance(service.factories[0].backend, Router)
    for address, kind in (("x@a.example", "MemoryBackend"), ("x@b.example", "NullBackend")):
        recipient = parse_recipient(f"TO:<{address}>".encode())
        assert type(service.factories[0].backend.backend_for(recipient)).__name__ == kind


# What the log says at the start


def test_the_log_says_where_mail_goes() -> None:
    service = _made("--backend", "null:", "--route", "a.example=memory:")
    version, *places = service.facts
    assert version.startswith("lmtp-twisted ")
    assert places == ["backend null:", "route a.example=memory:"]


def test_the_log_says_that_the_backend_is_the_default(tmp_path: Path) -> None:
    assert _made().facts[1:] == [f"backend maildir:mail (the default) in {tmp_path}"]


def test_as_many_files_may_be_open_as_the_system_allows() -> None:
    """Each session is one, and the soft limit is often that of 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        _made("--backend", "null:")
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


NOBODY = 65534


@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_a_directory_that_the_user_of_the_server_cannot_use_is_found_at_the_start(
    mode: int, open_directory: Path, as_root: None
) -> None:
    """``--uid`` takes effect later, but what it means for the disk is known now."""
    mail = open_directory / "mail"
    mail.mkdir(mode=mode)
    complaint = _complaint("--backend", f"maildir:{mail}", "--spool", "/var/tmp", twistd=_NOBODY)
    assert complaint.startswith("--backend: maildir: [Errno 13] ")
    assert str(mail) in complaint
    assert os.geteuid() == 0


def test_a_directory_that_is_made_belongs_to_the_user_of_the_server(open_directory: Path, as_root: None) -> None:
    open_directory.chmod(0o777)
    mail = open_directory / "mail"
    _made("--backend", f"maildir:{mail}", "--spool", "/var/tmp", twistd=_NOBODY)
    assert (mail.stat().st_uid, mail.stat().st_gid) == (NOBODY, NOBODY)
    assert (os.geteuid(), os.getegid()) == (0, 0)


_NOBODY = ("-n", "--logfile", "log", "--uid", str(NOBODY), "--gid", str(NOBODY))


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that all users can enter, as pytest's are not."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@pytest.fixture
def as_root() -> None:
    """Only root can become somebody else."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--auth", "file:nowhere"], "--auth file: nowhere: No such file or directory"),
        (["--auth", "file:."], "--auth file: .: Is a directory"),
        (["--auth", "file:"], "--auth file: a file is needed"),
        (["--auth", "tokens:nowhere"], "--auth tokens: nowhere: No such file or directory"),
        (["--auth", "tokens:"], "--auth tokens: a file is needed"),
        (["--auth", "secrets:s3cret"], "--auth secrets: there is no such type, see --help-auth"),
        (["--auth", "memory:alice:s3cret:b"], "--auth memory: "),
        (["--auth", "anonymous"], "--auth anonymous: "),
        (
            ["--auth", "memory:a:s3cret", "--auth", "memory:b:s3cret"],
            "--auth memory: another --auth checks the same already",
        ),
        (["--auth", "memory:a:s3cret", "--disable", "AUTH"], "--auth and --disable AUTH: one of them only"),
        (["--auth-required"], "--auth-required needs --auth"),
        (["--auth", "certificate:"], "--auth certificate needs --tls-client-ca"),
        (["--allow-uid", "root"], "--allow-uid is for Unix sockets, and there is none to listen on"),
        (["--allow-gid", "0", "--listen", "tcp:0"], "--allow-gid is for Unix sockets, and there is none to listen on"),
        (["--auth-insecure"], "--auth-insecure needs --auth"),
        (["--disable", "DIGEST-MD5"], "--disable: DIGEST-MD5 is not among "),
        (["--trust", "192.0.2.1/24"], "--trust: 192.0.2.1/24 has host bits set"),
        (["--trust", "example.org"], "--trust: 'example.org' does not appear to be an IPv4 or IPv6 network"),
        (["--allow-uid", "nobody-like-that"], "--allow-uid: there is no user 'nobody-like-that'"),
        (["--allow-gid", "nobody-like-that"], "--allow-gid: there is no group 'nobody-like-that'"),
        (["--max-auth-failures", "0"], "--max-auth-failures: 0 is not positive"),
        (["--session-timeout", "-1"], "--session-timeout: '-1' is not a number of seconds"),
        (["--help-auth-type", "nothing"], "Invalid auth type: nothing"),
    ],
)
def test_who_may_talk_is_checked_too(arguments: list[str], complaint: str, capfd: pytest.CaptureFixture[str]) -> None:
    """No line that may hold a password is repeated, and nothing is said besides."""
    line = _complaint("--backend", "null:", *arguments)
    assert line.startswith(complaint)
    assert "s3cret" not in line
    assert capfd.readouterr() == ("", "")


def test_where_python_has_no_crypt_accounts_of_the_system_cannot_be_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Since Python 3.13: better now than at each login."""
    monkeypatch.setattr("lmtp_twisted.daemon.checkers.find_spec", lambda name: None)
    assert _complaint("--backend", "null:", "--auth", "unix") == (
        "--auth unix: it needs the module crypt, which Python has no more since 3.13"
    )


def test_a_portal_is_made_of_all_checkers() -> None:
    """Each interface has its own."""
    Path("tokens").write_text("alice:t0ken\n")
    write_certificate(Path())
    Path("ca.pem").write_bytes(CA.cert_pem.bytes())
    auth = ["--auth", "memory:a:b", "--auth", "tokens:tokens", "--auth", "certificate:"]
    tls = ["--tls-certificate", "cert.pem", "--tls-key", "key.pem", "--tls-client-ca", "ca.pem"]
    assert len(_made("--backend", "null:", *auth, *tls).factories[0].portal.checkers) == 4
    names = ["--auth", "certificate:nowhere"]
    assert _complaint("--backend", "null:", *names, *tls) == "--auth certificate: nowhere: No such file or directory"
    Path("tokens").write_text("alice:t0ken\n\nbob s3cret\n")
    wrong = _complaint("--backend", "null:", *auth, *tls)
    assert wrong == "--auth tokens: tokens:3: not a user, a colon and a secret"
    Path("tokens").write_text("alice:t0ken\n")
    Path("ca.pem").write_text("nothing")
    wrong = _complaint("--backend", "null:", *auth, *tls)
    assert wrong.startswith("--tls-client-ca: ")
    assert wrong.endswith("ca.pem holds no certificate in PEM")


def test_names_and_numbers_of_users_will_do() -> None:
    """As the system has them."""
    arguments = [
        "--allow-uid",
        "root",
        "--allow-uid",
        "1234",
        "--allow-gid",
        "root",
        "--trust",
        "unix",
        "--trust",
        "::1",
    ]
    settings = _made("--backend", "null:", "--listen", "unix:s", *arguments).factories[0].settings
    assert (settings.allowed_uids, settings.allowed_gids) == ({0, 1234}, {0})
    assert settings.trusted.unix
    assert [str(network) for network in settings.trusted.networks] == ["::1/128"]


def test_the_help_of_auth_names_our_types(capsys: pytest.CaptureFixture[str]) -> None:
    """Those whose credentials a mechanism can make."""
    options = Options()
    options.authOutput = sys.stdout
    with pytest.raises(SystemExit):
        options.parseOptions(["--help-auth"])
    text = capsys.readouterr().out
    assert {"file", "memory", "tokens", "certificate"} <= set(text.split())
    assert "sshkey" not in text
