"""The configuration file: what its keys mean, and on which line it is wrong."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from configurations import NAME, configured, faults_of, parsed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmtp_twisted.daemon import Options
from lmtp_twisted.daemon.configuration import MOST_OCTETS, MOST_OF_LINE, read_configuration
from lmtp_twisted.daemon.said import MOST_FAULTS, Faults
from lmtp_twisted.daemon.values import OPTIONS, Kind

#: Options that say what the program is to do, and not how the server shall be.
NO_KEY = {"config", "check", "help", "version", "help-auth", "help-auth-type", "help-backends"}


def test_every_option_of_the_command_line_has_a_key() -> None:
    assert {name.removesuffix("=") for name in Options().longOpt} == OPTIONS.keys() | NO_KEY


# Each option as the command line says it, and the same as a line of TOML.
EXAMPLES = [
    (["--port", "2525"], "port = 2525"),
    (["--listen", "unix:/run/a", "--listen", "tcp:2524"], 'listen = ["unix:/run/a", "tcp:2524"]'),
    (["--listen-tls", "tcp:2524"], 'listen-tls = ["tcp:2524"]'),
    (["--backend", "null:"], 'backend = "null:"'),
    (["--route", "*.example.org=null:"], 'route = ["*.example.org=null:"]'),
    (["--route", "*.example.org=null:"], '[[route]]\npattern = "*.example.org"\nbackend = "null:"'),
    (["--route", "/^b=/=null:"], 'route = ["/^b=/=null:"]'),
    (["--aliases", "/etc/aliases"], 'aliases = "/etc/aliases"'),
    (["--subaddress", "drop"], 'subaddress = "drop"'),
    (["--separator", "+-"], 'separator = "+-"'),
    (["--separator", ""], 'separator = ""'),
    (["--directory", "file:/etc/recipients"], 'directory = "file:/etc/recipients"'),
    (["--directory-query", "select :address"], 'directory-query = "select :address"'),
    (["--directory-for", "example.org"], 'directory-for = ["example.org"]'),
    (["--directory-backend", "a=null:"], 'directory-backend = { a = "null:" }'),
    (["--directory-max-age", "0.5"], "directory-max-age = 0.5"),
    (["--directory-timeout", "5"], "directory-timeout = 5"),
    (["--hostname", "mx.example.org"], 'hostname = "mx.example.org"'),
    (["--banner", ""], 'banner = ""'),
    (["--size-limit", "10M"], 'size-limit = "10M"'),
    (["--size-limit", "1000"], "size-limit = 1000"),
    (["--max-recipients", "5"], "max-recipients = 5"),
    (["--max-sessions", "5"], "max-sessions = 5"),
    (["--max-sessions-per-peer", "5"], "max-sessions-per-peer = 5"),
    (["--max-commands", "5"], "max-commands = 5"),
    (["--max-bad-commands", "5"], "max-bad-commands = 5"),
    (["--max-unauthenticated-commands", "5"], "max-unauthenticated-commands = 5"),
    (["--max-auth-failures", "5"], "max-auth-failures = 5"),
    (["--idle-timeout", "1.5"], "idle-timeout = 1.5"),
    (["--session-timeout", "60"], "session-timeout = 60"),
    (["--delivery-timeout", "60"], "delivery-timeout = 60.0"),
    (["--greeting-delay", "2"], "greeting-delay = 2"),
    (["--drain-timeout", "2"], "drain-timeout = 2"),
    (["--bare-newlines", "reject"], 'bare-newlines = "reject"'),
    (["--lenient"], "lenient = true"),
    (["--disable", "VRFY", "--disable", "help"], 'disable = ["VRFY", "help"]'),
    (["--enable", "DSN"], 'enable = ["DSN"]'),
    (["--auth", "file:/etc/users"], 'auth = ["file:/etc/users"]'),
    (["--auth-required"], "auth-required = true"),
    (["--auth-insecure"], "auth-insecure = true"),
    (["--trust", "unix", "--trust", "192.0.2.0/24"], 'trust = ["unix", "192.0.2.0/24"]'),
    (["--allow-uid", "root", "--allow-uid", "7"], 'allow-uid = ["root", 7]'),
    (["--allow-gid", "0"], 'allow-gid = ["0"]'),
    (["--tls-certificate", "/c.pem"], 'tls-certificate = "/c.pem"'),
    (["--tls-key", "/k.pem"], 'tls-key = "/k.pem"'),
    (["--tls-client-ca", "/ca.pem"], 'tls-client-ca = "/ca.pem"'),
    (["--tls-require-client"], "tls-require-client = true"),
    (["--spool", "/var/spool"], 'spool = "/var/spool"'),
    (["--http", "unix:/run/http.sock"], 'http = "unix:/run/http.sock"'),
    (["--log-level", "warn"], 'log-level = "warn"'),
    (["--workers", "2"], "workers = 2"),
    (["--log-format", "json"], 'log-format = "json"'),
    (["--log-priority", "yes"], 'log-priority = "yes"'),
    (["--trace", "/srv/traces"], 'trace = "/srv/traces"'),
    (["--trace-for", "failure", "--trace-for", "peer=::1"], 'trace-for = ["failure", "peer=::1"]'),
    (["--trace-content", "4k"], 'trace-content = "4k"'),
    (["--trace-size", "10M"], 'trace-size = "10M"'),
]


@pytest.mark.parametrize(("arguments", "text"), EXAMPLES)
def test_a_key_means_what_the_option_means(arguments: list[str], text: str, tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(text)
    by_file, by_options = parsed("--config", str(tmp_path / NAME)), parsed(*arguments)
    assert {key: by_file[key] for key in OPTIONS} == {key: by_options[key] for key in OPTIONS}
    assert by_options.said.values


def test_every_key_is_among_these_examples() -> None:
    assert {arguments[0].removeprefix("--") for arguments, _ in EXAMPLES} == OPTIONS.keys()


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("")
    by_file, alone = parsed("--config", str(tmp_path / NAME)), parsed()
    assert {key: by_file[key] for key in OPTIONS} == {key: alone[key] for key in OPTIONS}


def test_the_command_line_wins(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text('size-limit = "1M"\nbanner = "file"\ndisable = ["VRFY"]\nhostname = "a"\n')
    options = parsed("--size-limit", "2M", "--config", str(tmp_path / NAME), "--disable", "HELP", "--banner", "ready")
    chosen = options.said.settings()
    assert (chosen.size_limit, chosen.banner, chosen.disabled, chosen.hostname) == (2 * 1024**2, "ready", {"HELP"}, "a")


def test_a_place_to_listen_on_the_command_line_is_instead_of_all_in_the_file(tmp_path: Path) -> None:
    """So that one can try a file beside the server that uses it."""
    (tmp_path / NAME).write_text('listen = ["unix:/run/a"]\n[listeners.x]\nport = 2524\nsize-limit = 1\n')
    options = parsed("--config", str(tmp_path / NAME))
    assert (options["listen"], list(options.listeners)) == (["unix:/run/a"], ["x"])
    options = parsed("--config", str(tmp_path / NAME), "--port", "0")
    assert (options["listen"], list(options.listeners)) == ([], [])


def test_relative_paths_are_below_the_directory_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the server is started."""
    monkeypatch.chdir("/")
    said = configured(
        'tls-certificate = "c.pem"\ntls-key = "/k.pem"\nspool = ""\naliases = "a"\n'
        'auth = ["file:users", "file:/users", "memory:a:b", "tokens:", "certificate"]\ndirectory = "sqlite:r.db"\n'
        'listen = ["unix:run/s:mode=600", "unix:address=s", "tcp:0", "haproxy:unix:s", "unix:/s", "systemd:index=0"]\n',
        tmp_path,
    ).said
    assert said["tls-certificate"] == f"{tmp_path}/c.pem"
    assert (said["tls-key"], said["spool"], said["aliases"]) == ("/k.pem", "", f"{tmp_path}/a")
    assert said["auth"] == [f"file:{tmp_path}/users", "file:/users", "memory:a:b", "tokens:", "certificate"]
    assert said["directory"] == f"sqlite:{tmp_path}/r.db"
    listen = [f"unix:{tmp_path}/run/s:mode=600", f"unix:address={tmp_path}/s", "tcp:0", f"haproxy:unix:{tmp_path}/s"]
    assert said["listen"] == [*listen, "unix:/s", "systemd:index=0"]


@pytest.mark.parametrize(
    ("description", "path"),
    [("dbapi:sqlite3:c.json", "dbapi:sqlite3:{}/c.json"), ("dbapi:x", "dbapi:x"), ("postgresql:a", "postgresql:a")],
)
def test_so_are_those_of_directories(description: str, path: str, tmp_path: Path) -> None:
    assert configured(f'directory = "{description}"', tmp_path).said["directory"] == path.format(tmp_path)


def test_a_directory_whose_name_is_special_to_endpoints_is_escaped(tmp_path: Path) -> None:
    directory = tmp_path / "a:b=c\\d"
    directory.mkdir()
    (text,) = configured('listen = ["unix:s"]', directory).said["listen"]
    assert text == "unix:" + str(directory / "s").replace("\\", "\\\\").replace(":", "\\:").replace("=", "\\=")


# Listeners


def test_a_listener_has_its_own_policies_and_the_rest_from_above(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(
        'size-limit = 1000\ntrust = ["unix"]\ntls-certificate = "a.pem"\ntls-key = "a.key"\naliases = "a"\n'
        '[listeners.mta]\nlisten = "unix:s"\nsize-limit = 5\ntrust = []\n'
        '[listeners.other]\nport = 0\ntls-certificate = "b.pem"\naliases = false\n'
        "[listeners.third]\nport = 0\ntls-certificate = false\n"
    )
    options = parsed("--config", str(tmp_path / NAME), "--max-recipients", "7")
    mta, other, third = (said.over(options.said) for said in options.listeners.values())
    chosen = mta.settings()
    assert (chosen.size_limit, chosen.max_recipients, chosen.trusted.unix) == (5, 7, False)
    assert (mta["listen"], mta["port"], mta["tls-key"]) == (f"unix:{tmp_path}/s", None, f"{tmp_path}/a.key")
    assert (other["tls-key"], other["aliases"], third["tls-certificate"]) == (None, None, None)
    assert other.settings().size_limit == 1000


def test_every_option_that_is_not_for_the_whole_server_can_be_a_listeners_own(tmp_path: Path) -> None:
    for key, option in OPTIONS.items():
        text = next(text for arguments, text in EXAMPLES if arguments[0] == f"--{key}")
        if not option.is_of_listener:
            (line,) = faults_of(f"[listeners.a]\nport = 0\n{text}", tmp_path)
            assert line.startswith(f"{NAME}:3: listeners.a.{key} is no key: it is for the whole server")
        elif key not in ("port", "listen", "listen-tls", "route"):
            assert key in configured(f"[listeners.a]\nport = 0\n{text}", tmp_path).listeners["a"].values


# What is wrong


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("size-limt = 1", ["1: size-limt is no key, did you mean size-limit?"]),
        ("size_limit = 1", ["1: size_limit is no key, did you mean size-limit?"]),
        ("\n\nfoo.bar = 1", ["3: foo is no key"]),
        ('"a b\\n" = 1', ['1: "a b\\n" is no key']),
        ('"" = 1', ['1: "" is no key']),
        ("port = true", ["1: port: a whole number is wanted, not a boolean"]),
        ('port = "2524"', ["1: port: a whole number is wanted, not a string"]),
        ("port = 25", ["1: port: port 25 is SMTP's, and LMTP must not be spoken there (RFC 2033 section 5)"]),
        ("port = -1", ["1: port: '-1' is not a whole number"]),
        ("port = 99999", ["1: port: '99999' is not a port from 0 to 65535"]),
        (
            "size-limit = 1.5",
            ['1: size-limit: a number, or a string such as "50M" is wanted, not a number with a point'],
        ),
        ('size-limit = "50MB"', ["1: size-limit: '50MB' is not a size such as 1000000, 500k, 50M or 2G"]),
        ('idle-timeout = "5"', ["1: idle-timeout: a number is wanted, not a string"]),
        ("idle-timeout = nan", ["1: idle-timeout: 'nan' is not a number of seconds from 0 to 1000000"]),
        ("idle-timeout = -inf", ["1: idle-timeout: '-inf' is not a number of seconds from 0 to 1000000"]),
        ("idle-timeout = 0", ["1: idle-timeout: 0.0 is not positive"]),
        ("lenient = 1", ["1: lenient: true or false is wanted, not a whole number"]),
        ("banner = 1979-05-27", ["1: banner: a string is wanted, not a date or a time"]),
        ('banner = "\\u0000"', ["1: banner: a NUL is in it"]),
        ("banner = {}", ["1: banner: a string is wanted, not a table"]),
        ('disable = "VRFY"', ["1: disable: an array of strings is wanted, not a string"]),
        ('disable = [\n"VRFY",\n1]', ["3: disable[2]: a string is wanted, not a whole number"]),
        ('\ndisable = ["FOO"]', ["2: disable: FOO is not among "]),
        ("allow-uid = [1.5]", ["1: allow-uid[1]: a string or a whole number is wanted, not a number with a point"]),
        ('allow-uid = ["nobody-x"]', ["1: allow-uid: there is no user 'nobody-x'"]),
        ('trust = ["x"]', ["1: trust: 'x' does not appear to be"]),
        ('route = ["x"]', ["1: route[1]: not PATTERN=BACKEND"]),
        ("route = [1]", ["1: route[1]: a string or a table is wanted, not a whole number"]),
        ("[route]", ["1: route: an array of tables, or of strings is wanted, not a table"]),
        ('[[route]]\npattern = "x"\nbakend = "y"', ["3: route[1].bakend is no key, did you mean backend?"]),
        ('[[route]]\npattern = "x"', ["1: route[1]: backend is missing"]),
        ('[[route]]\npattern = 1\nbackend = ""', ["2: route[1].pattern: a string is wanted, not a whole number"]),
        ("backends = 1", ["1: backends is a table of tables, as [backends.NAME], not a whole number"]),
        ("[backends]\nx = 1", ["2: backends.x: a string or a table is wanted, not a whole number"]),
        (
            "[backends]\nlenient = true",
            ["2: backends.lenient: a string or a table is wanted, not a boolean; options stand above the first table"],
        ),
        ('[backends]\n"a:b" = "null:"', ['2: backends."a:b": a name has letters, digits, - and _']),
        ("[backends.x]\nargument = 1", ["1: backends.x: type is missing"]),
        ('[backends.x]\ntype = "null"\nkeep = []', ["3: backends.x.keep: a string, a number or a boolean is wanted"]),
        ("listeners = []", ["1: listeners is a table of tables, as [listeners.NAME], not an array"]),
        ("[listeners]\nx = 1", ["2: listeners.x is a table, as [listeners.x], not a whole number"]),
        ("[listeners.x]", ["1: listeners.x: one of port, listen, listen-tls is wanted, not none"]),
        (
            '[listeners.x]\nport = 1\nlisten = ""',
            ["1: listeners.x: one of port, listen, listen-tls is wanted, not port"],
        ),
        ("[listeners.x]\nlisten = []", ["2: listeners.x.listen: a string is wanted, not an array"]),
        ("[listeners.x]\nport = 0\nsize-limit = true", ["3: listeners.x.size-limit: a number"]),
        ("directory-backend = 1", ["1: directory-backend: a table of strings is wanted, not a whole number"]),
        ("[directory-backend]\na = 1", ["2: directory-backend.a: a string is wanted, not a whole number"]),
        ("aliases = false\nbanner = false", ["2: banner: a string is wanted, not a boolean"]),
        (
            "size-limt = 1\nport = 25\n[listeners.x]\nport = true",
            ["1: size-limt is no key", "2: port: port 25", "4: listeners.x.port: a whole number"],
        ),
        # What is no TOML: the first fault ends the reading.
        ("a =", ["1: Invalid value"]),
        ("a = 1\na = 2\n", ["2: Cannot overwrite a value"]),
        ("[a]\n[a]\n", ["2: Cannot declare ('a',) twice"]),
        ("\na = [1,\n", ["2: "]),
        ('a = """x\n\n', ["1: "]),
        ("port = 2524\nbanner = 'x\n", ["2: "]),
        ("a = '\x00'", ["1: "]),
        ("a = " + "[" * 5000, [" too many brackets in one another"]),
        ("a = " + "9" * 5000, [" Exceeds the limit"]),
        ("a = 0x" + "f" * 8000, ["1: a is no key"]),
        ("port = 0x" + "f" * 8000, ["1: port: "]),
        (b"\xef\xbb\xbfport = 'x'", ["1: port: a whole number is wanted, not a string"]),
        (b"port = 1\nbanner = '\xff'", ["2: not UTF-8"]),
        (b"\xff\xfep\x00", ["1: not UTF-8"]),
        ("\na = '" + "x" * MOST_OF_LINE + "'", [f"2: more than {MOST_OF_LINE} characters"]),
        ("#\n" * (MOST_OCTETS // 2) + "#", [f" more than {MOST_OCTETS} octets"]),
    ],
)
def test_what_is_wrong_is_a_line_that_says_where(text: str | bytes, lines: list[str], tmp_path: Path) -> None:
    faults = faults_of(text, tmp_path)
    assert len(faults) == len(lines), faults
    for fault, line in zip(faults, lines, strict=True):
        assert fault.startswith(f"{NAME}:{line}"), faults


def test_a_file_that_is_no_configuration_at_all_is_told_to_be_so_soon(tmp_path: Path) -> None:
    faults = faults_of("".join(f"key-{number} = 1\n" for number in range(20_000)), tmp_path)
    assert len(faults) == MOST_FAULTS + 1
    assert faults[-1] == f"twistd lmtp: more than {MOST_FAULTS - 1} faults, and the rest is not looked for"


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, complaint in [
        (str(tmp_path / "nowhere"), "No such file or directory"),
        (str(tmp_path), "not a file"),
        (str(tmp_path / "pipe"), "not a file"),
        ("/dev/zero", "not a file"),
        ("a\0b", "not the name of a file"),
    ]:
        with pytest.raises(Faults) as raised:
            read_configuration(path)
        (line,) = raised.value.lines
        assert line.endswith(f": {complaint}")
        assert line.isprintable()


def test_secrets_in_the_wrong_place_are_not_repeated(tmp_path: Path) -> None:
    """A message says what kind of thing stands there, and not what it says."""
    text = (
        'auth = "memory:a:s3cret"\nport = "s3cret"\nlenient = "s3cret"\nroute = ["s3cret"]\n[backends.s]\na = "s3cret"'
    )
    assert "s3cret" not in "".join(faults_of(text, tmp_path))


# Whatever the file

_KEYS = st.sampled_from([*OPTIONS, "backends", "listeners", "x", "pattern", "type"])
_SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from(["", "null:", "tcp:0", "unix:s", "a\0b", "\u2028\n", "memory:a:b", "x=y", "maildir:{x}", "file:"]),
    st.text(max_size=5),
    st.datetimes(),
)
_DATA = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(_KEYS | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(c if c.isalnum() and c.isascii() else f"\\U{ord(c):08x}" for c in value) + '"'
    if isinstance(value, list):
        return "[\n" + ",\n".join(map(_toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(inner)}" for key, inner in value.items()) + "}"
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


_TEXTS = st.dictionaries(_KEYS, _DATA, max_size=4).map(
    lambda data: "".join(f"{key} = {_toml(value)}\n" for key, value in data.items())
)


@given(st.one_of(_TEXTS, st.text(max_size=30), st.binary(max_size=30)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_file_is_read_or_told_to_be_wrong(tmp_path: Path, text: str | bytes) -> None:
    """No exception but the one, and each of its lines names the file and can be printed."""
    try:
        data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        configuration = configured(data, tmp_path)
    except Faults as faults:
        lines = faults.lines
    else:
        for key, value in configuration.said.values.items():
            assert configuration.said.place(key).name == key
            assert OPTIONS[key].kind is not Kind.FLAG or isinstance(value, bool)
        return
    assert lines
    for line in lines:
        assert re.match(rf"{re.escape(str(tmp_path / NAME))}:(\d+:)? ", line), line
        assert line.isprintable()
        assert len(line) < 1000


@pytest.mark.parametrize("end", range(0, 300, 7))
def test_a_file_that_was_cut_off_is_read_or_told_to_be_wrong(end: int, tmp_path: Path) -> None:
    text = "\n".join(text for _, text in EXAMPLES if "route" not in text and "separator" not in text).encode()
    lines = []
    try:
        configured(text[: len(text) * end // 300], tmp_path)
    except Faults as faults:
        lines = faults.lines
    assert all(line.startswith(f"{tmp_path / NAME}:") for line in lines)
