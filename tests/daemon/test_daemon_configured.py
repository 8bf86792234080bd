"""A server that is put together from a configuration file, and what ``--check`` says of one."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest
from certificates import CA, write_certificate
from configurations import NAME
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.scripts.twistd import ServerOptions

from lmtp_twisted.daemon import makeService
from lmtp_twisted.daemon.service import LMTPService
from lmtp_twisted.daemon.values import OPTIONS, Kind
from lmtp_twisted.factory import LMTPFactory
from lmtp_twisted.routing import Router


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths of a file have nothing to do with where the server is started."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)


def _made(text: str, directory: Path, *arguments: str) -> LMTPService:
    (directory / NAME).write_text(text)
    config = ServerOptions()
    config.parseOptions(["-n", "--logfile", "log", "lmtp", "--config", str(directory / NAME), *arguments])
    service = makeService(config.subOptions)  # type: ignore[attr-defined]  # parseOptions sets it
    assert isinstance(service, LMTPService)
    return service


def _factories(service: LMTPService) -> dict[str, LMTPFactory]:
    """By their banners."""
    return {factory.settings.banner: factory for factory in service.factories}


def _complaints(text: str, directory: Path, *arguments: str) -> list[str]:
    with pytest.raises(SystemExit) as raised:
        _made(text, directory, *arguments)
    assert isinstance(raised.value.code, str)
    return [line.removeprefix(f"{directory}/") for line in raised.value.code.split("\n")]


def _checked(text: str, directory: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str]]:
    """The exit status that ``--check`` has, and the lines that it says."""
    with pytest.raises(SystemExit) as raised:
        _made(text, directory, "--check", *arguments)
    if isinstance(raised.value.code, str):
        return 1, raised.value.code.replace(f"{directory}/", "").split("\n")
    assert raised.value.code == 0
    out, err = capsys.readouterr()
    assert err == ""
    return 0, out.replace(f"{directory}/", "").splitlines()


# What a server is made of


def test_listeners_without_policies_of_their_own_share_one_factory(tmp_path: Path) -> None:
    service = _made(
        'backend = "null:"\nlisten = ["unix:a"]\n[listeners.b]\nlisten = "unix:b"\n'
        '[listeners.c]\nlisten = "unix:c"\nbanner = "c"\n',
        tmp_path,
    )
    fronts = [entrance.front.settings.banner for entrance in service.generation.entrances]
    assert (fronts, len(service.factories)) == (["ready", "ready", "c"], 2)


def test_where_every_listener_has_its_own_policies_nothing_else_is_served(tmp_path: Path) -> None:
    """And the default backend is not made, which would make a directory."""
    service = _made('[listeners.a]\nport = 0\nbackend = "null:"\nbanner = "a"\n', tmp_path)
    assert list(_factories(service)) == ["a"]
    assert os.listdir() == ["log"]


def test_a_backend_is_made_once_however_many_name_it(tmp_path: Path) -> None:
    made = _factories(
        _made(
            'backend = "store"\n[backends]\nstore = "memory:"\n'
            '[listeners.a]\nport = 0\nbanner = "a"\n'
            '[listeners.b]\nport = 0\nbanner = "b"\n[[listeners.b.route]]\npattern = "x"\nbackend = "store"\n'
            '[listeners.c]\nport = 0\nbanner = "c"\nbackend = "memory:"\n',
            tmp_path,
        )
    )
    assert isinstance(made["b"].backend, Router)
    assert made["a"].backend is made["b"].backend._default is made["b"].backend._routes[0][1]
    assert made["c"].backend is not made["a"].backend


def test_the_command_line_can_name_backends_of_the_file(tmp_path: Path) -> None:
    text = 'port = 0\n[backends]\nstore = "memory:"\nother = "null:"\n'
    (factory,) = _made(text, tmp_path, "--backend", "store").factories
    assert type(factory.backend).__name__ == "MemoryBackend"
    complaint = "twistd lmtp: --backend: no backend is called 'stoer', did you mean store?"
    assert _complaints(text, tmp_path, "--backend", "stoer") == [complaint]


def test_backends_may_hold_others_by_their_names_whatever_their_order(tmp_path: Path) -> None:
    text = 'port = 0\nbackend = "both"\n[backends]\nboth = "all:one,and=two"\none = "memory:"\ntwo = "null:"\n'
    (factory,) = _made(text, tmp_path).factories
    assert type(factory.backend).__name__ == "AllOf"
    circle = '[backends]\na = "first:b,then=null:"\nb = "all:a,and=null:"\n'
    (complaint,) = _complaints(f'port = 0\nbackend = "null:"\n{circle}', tmp_path)
    assert complaint == f"{NAME}:5: backends.b: all: a → b → a leads back to where it began"


def test_a_backend_in_parts_needs_no_thought_for_commas(tmp_path: Path) -> None:
    _made('port = 0\nbackend = "x"\n[backends.x]\ntype = "maildir"\nargument = "a,b=c/"\ncreate = true\n', tmp_path)
    assert (tmp_path / "a,b=c").is_dir()


def test_modules_are_found_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [*sys.path])
    (tmp_path / "beside_the_file.py").write_text("def deliver(message, recipient): ...\n")
    _made('port = 0\nbackend = "python:beside_the_file:deliver"\n', tmp_path)


def test_relative_paths_of_the_command_line_are_not_those_of_the_file(tmp_path: Path) -> None:
    _made('port = 0\nbackend = "x"\n[backends]\nx = "maildir:by-file"\n', tmp_path, "--route", "a=maildir:by-option")
    assert (tmp_path / "by-file").is_dir()
    assert (tmp_path / "elsewhere/by-option").is_dir()


def test_limits_of_the_top_hold_for_all_listeners_together(tmp_path: Path) -> None:
    service = _made(
        'max-sessions = 7\nbackend = "null:"\n[listeners.a]\nport = 0\nbanner = "a"\n'
        '[listeners.b]\nport = 0\nbanner = "b"\nmax-sessions = 3\n',
        tmp_path,
    )
    counts = {banner: factory.counts for banner, factory in _factories(service).items()}
    assert counts["a"][-1] is counts["b"][-1]
    assert {banner: [count._most for count in found] for banner, found in counts.items()} == {"a": [7, 7], "b": [3, 7]}


def test_each_certificate_is_read_once_and_a_listener_can_have_its_own(tmp_path: Path) -> None:
    write_certificate(tmp_path)
    (tmp_path / "own").mkdir()
    write_certificate(tmp_path / "own")
    service = _made(
        'backend = "null:"\nport = 0\ntls-certificate = "cert.pem"\ntls-key = "key.pem"\n'
        '[listeners.a]\nport = 0\nbanner = "a"\n'
        '[listeners.b]\nport = 0\nbanner = "b"\ntls-certificate = "own/cert.pem"\ntls-key = "own/key.pem"\n'
        '[listeners.c]\nport = 0\nbanner = "c"\ntls-certificate = false\n',
        tmp_path,
    )
    made = _factories(service)
    assert made["ready"].tls is made["a"].tls is not made["b"].tls
    assert made["c"].tls is None
    assert service.generation.certificates == [made["a"].tls, made["b"].tls]


def test_the_log_says_which_file_it_was_and_nothing_that_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "aliases").write_text("")
    (tmp_path / "recipients").write_text("alice@example.org\n")
    service = _made(
        'hostname = "mx"\nport = 0\nbackend = "s3cret"\nroute = ["s3cret.example=null:"]\naliases = "aliases"\n'
        'directory = "file:recipients"\n[backends]\ns3cret = "null:"\n',
        tmp_path,
    )
    version, *facts = service.facts
    assert version.endswith(" as mx")
    assert facts == [f"configuration {tmp_path / NAME} (backends: 1, routes: 1)"]
    service = _made('port = 0\nbackend = "null:"\n', tmp_path)
    assert service.facts[1:] == [f"configuration {tmp_path / NAME}"]


# What is wrong


def test_all_that_cannot_work_is_told_at_once(tmp_path: Path, taken_port: int) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "tokens").write_text("no-colon-s3cret\n")
    text = f"""\
port = {taken_port}
backend = "stroe"
spool = "nowhere"
listen = ["unix:nowhere/socket", "unix:file", "carrier:pigeon"]
route = ["a=null:", " =null:", "b=nothing:"]
auth = ["tokens:tokens"]
tls-key = "key.pem"
allow-uid = [0]
[backends]
store = "maildir:store,quota=much"
[backends.typo]
type = "mialdir"
[backends.options]
type = "maildir"
argument = "x"
qouta = 1
[backends.value]
type = "maildir"
argument = "x"
overquota = "bounces"
[listeners.a]
port = 0
allow-gid = [0]
auth = []
auth-required = true
"""
    lines = _complaints(text, tmp_path)
    assert [line.partition(": ")[0] for line in lines] == [
        f"{NAME}:{n}" for n in (1, 2, 3, 4, 4, 4, 5, 5, 6, 7, 10, 12, 16, 20, 23, 25)
    ]
    assert "s3cret" not in "".join(lines)
    assert lines[0] == f"{NAME}:1: port: Address already in use"
    assert lines[1] == f"{NAME}:2: backend: no backend is called 'stroe', did you mean store?"
    assert lines[2] == f"{NAME}:3: spool: No such file or directory"
    assert lines[3] == f"{NAME}:4: listen[1]: No such file or directory"
    assert lines[8] == f"{NAME}:6: auth[1]: {tmp_path}/tokens:1: not a user, a colon and a secret"
    assert lines[9] == f"{NAME}:7: tls-key needs tls-certificate"
    assert lines[13] == f"{NAME}:20: backends.value.overquota: maildir: overquota is defer or bounce, not 'bounces'"
    assert lines[14] == f"{NAME}:23: listeners.a.allow-gid is for Unix sockets, and there is none to listen on"
    assert lines[15] == f"{NAME}:25: listeners.a.auth-required needs auth"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('route = ["x =null:"]', "3: route[1]: not a pattern of recipients: 'x '"),
        ('route = ["x=null:", "y=nothing:"]', "3: route[2]: 'nothing:' names no known backend"),
        ("tls-require-client = true", "3: tls-require-client needs tls-certificate"),
        ('listen-tls = ["tcp:0"]', "3: listen-tls needs tls-certificate"),
        ('auth = ["file:users", "file:users"]\n', "3: auth[2]: another auth checks the same already"),
        ('auth = ["certificate:"]', "3: auth[1] needs tls-client-ca"),
        ('auth = ["file:users"]\ndisable = ["auth"]', "3: auth and disable AUTH: one of them only"),
        ('directory = "sqlite:nowhere"\ndirectory-query = "select :address"', "3: directory: sqlite: there is no file"),
        ('directory-for = ["x"]', "3: directory-for needs directory"),
        ('aliases = "nowhere"', "3: aliases: "),
        (
            'directory = "file:recipients"\n[directory-backend]\na = "x:"',
            "5: directory-backend.a: 'x:' names no known backend",
        ),
        ("allow-uid = [0]", "3: allow-uid is for Unix sockets, and there is none to listen on"),
        ('[listeners.x]\nlisten-tls = "tcp:0"\nbanner = "x"', "4: listeners.x.listen-tls needs tls-certificate"),
        ('[listeners.x]\nlisten = "tcp:25"', "4: listeners.x.listen: port 25 is SMTP's"),
        (
            '[listeners.x]\nlisten = "unix:s"\n[listeners.y]\nlisten = "unix:s"',
            "6: listeners.y.listen: in use by process",
        ),
    ],
)
def test_what_does_not_go_together_is_told_where_it_stands(text: str, line: str, tmp_path: Path) -> None:
    (tmp_path / "users").write_text("alice:s3cret\n")
    (tmp_path / "recipients").write_text("alice@example.org\n")
    (complaint,) = _complaints(f'port = 0\nbackend = "null:"\n{text}\n', tmp_path)
    assert complaint.startswith(f"{NAME}:{line}"), complaint
    assert "s3cret" not in complaint


# --check


def _everything_below(directory: Path) -> dict[str, tuple[int, int, bytes | str]]:
    found: dict[str, tuple[int, int, bytes | str]] = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else str(path.readlink()) if path.is_symlink() else ""
        found[str(path)] = status.st_ino, status.st_mode, content
    return found


@pytest.fixture
def _full_directory(tmp_path: Path) -> None:
    write_certificate(tmp_path)
    (tmp_path / "ca.pem").write_bytes(CA.cert_pem.bytes())
    for name in ("users", "aliases"):
        (tmp_path / name).write_text("")
    (tmp_path / "recipients").write_text("alice@example.org\n")
    (tmp_path / "module_to_check.py").write_text("def deliver(message, recipient): ...\n")
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(tmp_path / "stale"))


FULL = """\
spool = "."
aliases = "aliases"
directory = "file:recipients"
backend = "new"
listen = ["unix:stale", "tcp:0"]
tls-certificate = "cert.pem"
tls-key = "key.pem"
tls-client-ca = "ca.pem"
auth = ["file:users"]
[backends]
new = "maildir:new/one/{domain}/{local}"
code = "python:module_to_check:deliver"
[listeners.a]
listen = "unix:fresh"
banner = "a"
"""


@pytest.mark.usefixtures("_full_directory")
def test_what_is_checked_leaves_no_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No directory, no socket, no lock, no log, no compiled module; what was left behind by others stays."""
    (tmp_path / NAME).write_text(FULL)
    before = _everything_below(tmp_path)
    assert _checked(FULL, tmp_path, capsys) == (0, ["twistd lmtp: the server can start"])
    assert _everything_below(tmp_path) == before


@pytest.mark.usefixtures("_full_directory")
def test_what_is_checked_and_wrong_leaves_no_trace_either(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = FULL.replace('key = "key', 'key = "ca')
    (tmp_path / NAME).write_text(text)
    before = _everything_below(tmp_path)
    status, (line,) = _checked(text, tmp_path, capsys)
    assert status == 1
    assert line.startswith(f"{NAME}:6: tls-certificate: ")
    assert _everything_below(tmp_path) == before


@pytest.mark.usefixtures("_full_directory")
def test_a_start_does_all_that_a_check_did_not(tmp_path: Path) -> None:
    """The same file, so that the tests above are about something."""
    service = _made(FULL, tmp_path)
    assert len(service.factories) == 2
    assert (tmp_path / "new/one").is_dir()
    assert (tmp_path / "elsewhere/log").exists()
    assert not (tmp_path / "stale").exists()


def test_places_that_are_in_use_are_told_and_are_no_fault(
    tmp_path: Path, taken_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server that is to start anew has them."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        text = f'backend = "null:"\nport = {taken_port}\n[listeners.x]\nlisten = "unix:s"\n'
        assert _checked(text, tmp_path, capsys) == (
            0,
            [
                f"{NAME}:2: port: in use, as it is where this server runs already",
                f"{NAME}:4: listeners.x.listen: in use, as it is where this server runs already",
                "twistd lmtp: the server can start",
            ],
        )


@pytest.fixture
def free_port() -> int:
    """A port of 127.0.0.1 that was free just now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def test_two_listeners_at_one_place_are_a_fault(
    tmp_path: Path, free_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f'backend = "null:"\nport = {free_port}\n[listeners.x]\nlisten = "tcp:{free_port}"\n'
    assert _checked(text, tmp_path, capsys) == (1, [f"{NAME}:4: listeners.x.listen: Address already in use"])


def test_a_command_line_can_be_checked_without_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = ServerOptions()
    for arguments, code in [(["--backend", "maildir:mail"], 0), (["--backend", "x:"], "twistd lmtp: --backend: 'x:' ")]:
        with pytest.raises(SystemExit) as raised:
            config.parseOptions(["lmtp", "--port", "0", *arguments, "--check"])
        assert raised.value.code == code or str(raised.value.code).startswith(str(code))
    assert os.listdir() == []


@pytest.mark.parametrize(("logfile", "is_writable"), [("new", True), ("no/where", False), (".", False)])
def test_the_log_is_not_opened_but_looked_at(logfile: str, is_writable: bool, tmp_path: Path) -> None:
    config = ServerOptions()
    with pytest.raises(SystemExit) as raised:
        config.parseOptions(["--logfile", logfile, "lmtp", "--port", "0", "--backend", "null:", "--check"])
    assert raised.value.code == (0 if is_writable else f"twistd lmtp: --logfile {logfile}: cannot write to it")
    assert os.listdir() == []


def test_a_log_that_nobody_has_named_is_not_looked_at(tmp_path: Path) -> None:
    """It will be where the server is started, which need not be here."""
    os.mkdir("twistd.log")
    with pytest.raises(SystemExit) as raised:
        ServerOptions().parseOptions(["lmtp", "--port", "0", "--backend", "null:", "--check"])
    assert raised.value.code == 0


# Whatever stands in the file

_TEXTS = st.sampled_from(
    [
        *["", "null:", "store", "maildir:", "maildir:{x}", "maildir:a", "tcp:0", "tcp:x", "unix:", "unix:s"],
        *["file:", "file:users", "x=null:", "*=store", "[a=null:", "/(/=null:", "first:null:,then=store", "all:"],
        *["unix:a\\u0000b", "\\u2028", "unix:" + "x" * 200, "systemd:index=0", "fd:x", "haproxy:", "haproxy:tls:x"],
        *[
            "ssl:0",
            "tls:x:0",
            "amqp:amqp://u:s3cret@h/x",
            "sqlite:users",
            "dbapi:os:users",
            "postgresql:postgresql://u:s3cret@h/d",
        ],
    ]
)
_VALUES = st.one_of(
    _TEXTS.map(lambda text: f'"{text}"'), st.lists(_TEXTS, max_size=2).map(lambda t: str(t).replace("'", '"'))
)
_OPTIONS = ["backend", "route", "listen", "listen-tls", "auth", "directory", "directory-query", "aliases", "trust"]
_OPTIONS += ["tls-certificate", "tls-client-ca", "tls-key", "directory-for", "hostname", "separator"]
_LINES = st.dictionaries(st.sampled_from(_OPTIONS), _VALUES, max_size=4).map(
    # The name of a file is no place for a secret, and is shown.
    lambda table: "".join(
        f"{key} = {value.replace('s3cret', 'x') if OPTIONS[key].kind is Kind.PATH else value}\n"
        for key, value in table.items()
    )
)


@given(top=_LINES, store=_VALUES, listener=_LINES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_file_can_start_or_is_told_to_be_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], top: str, store: str, listener: str
) -> None:
    """Never a traceback, and never a line that shows a password."""
    (tmp_path / "users").write_text("alice:s3cret\n")
    text = f"port = 0\n{top}[backends]\nstore = {store}\n[listeners.x]\nport = 0\n{listener}"
    status, lines = _checked(text, tmp_path, capsys)
    assert lines
    for line in lines:
        assert line.isprintable()
        assert "s3cret" not in line
        assert status == 0 or line.startswith((f"{NAME}:", "twistd lmtp: ")), line
