"""SIGHUP: a real process takes other rules while its sessions go on."""

from __future__ import annotations

import os
import re
import signal
import ssl
import time
from pathlib import Path

import pytest
from certificates import write_certificate
from running_twistd import PATIENCE, Client, twistd
from test_twistd_tls import Secure

FILE = """\
hostname = "one.example.org"
max-sessions = 10
backend = "maildir:one"
aliases = "aliases"
directory = "file:recipients"
[listeners.first]
listen = "unix:first"
tls-certificate = "cert.pem"
tls-key = "key.pem"
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Of the file, and of all that it names; the server runs elsewhere."""
    directory = tmp_path / "etc"
    directory.mkdir()
    write_certificate(directory)
    (directory / "aliases").write_text("info@x.example: alice@x.example\n")
    (directory / "recipients").write_text("alice@x.example\n")
    (directory / "lmtp.toml").write_text(FILE)
    return directory


def change(directory: Path, *changes: tuple[str, str], more: str = "") -> None:
    """Another file, which comes from the first."""
    text = FILE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (directory / "lmtp.toml").write_text(text + more)


def mailboxes(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory).parents[1]) for path in directory.glob("*/*/*/new/*"))


def certificate_of(path: Path) -> bytes | None:
    with Secure(path=path) as client:
        client.say("LHLO c")
        client.say("STARTTLS")
        return client.secure().getpeercert(binary_form=True)


def test_sessions_that_are_there_keep_the_old_rules_and_those_that_come_have_the_new(
    directory: Path, tmp_path: Path
) -> None:
    """No session ends, whatever it has said already; its mail goes where it went."""
    with twistd(tmp_path, "--config", "etc/lmtp.toml") as server:
        server.until(r"listening on \S+/first\n")
        with Client(path=directory / "first") as idle, Client(path=directory / "first") as busy:
            assert idle.greeting.startswith("220 one.example.org ")
            busy.begin("alice@x.example")
            busy.send("Subject: half")
            change(directory, ("one.example.org", "two.example.org"), ('"maildir:one"', '"maildir:two"'))
            server.reload(r"changed: backend, hostname\n")
            with Client(path=directory / "first") as new:
                assert new.greeting.startswith("220 two.example.org ")
                assert new.deliver("alice@x.example")[0].startswith("250 2.0.0 ")
            busy.send(" a message\r\n.\r\n")
            assert busy.reply().startswith("250 2.0.0 ")
            assert idle.deliver("alice@x.example")[0].startswith("250 2.0.0 ")
        server.terminate()
        assert server.ended() == -signal.SIGTERM
    assert mailboxes(directory) == ["one/x.example/alice", "one/x.example/alice", "two/x.example/alice"]


def test_a_backend_ends_with_the_last_session_that_has_it(directory: Path, tmp_path: Path) -> None:
    """And those of a configuration that was refused end at once."""
    (tmp_path / "own.py").write_text(
        "class Backend:\n"
        "    def __init__(self, context): context.add_shutdown(lambda: print('the backend ends', flush=True))\n"
        "    def getDelivery(self, session): raise NotImplementedError\n"
    )
    (tmp_path / "twisted/plugins").mkdir(parents=True)
    (tmp_path / "twisted/plugins/own_dropin.py").write_text(
        "from lmtp_twisted.backends.plugin import BackendPlugin\n"
        "own = BackendPlugin('own', 'Of a test.', 'own.from_description')\n"
    )
    with (tmp_path / "own.py").open("a") as file:
        file.write("def from_description(context, argument): return Backend(context)\n")
    change(directory, ('"maildir:one"', '"own:"'))
    with twistd(tmp_path, "--config", "etc/lmtp.toml", environment={"PYTHONPATH": str(tmp_path)}) as server:
        server.until(r"listening on \S+/first\n")
        change(directory, ('"maildir:one"', '"own:"'), ('"aliases"', '"nowhere"'))
        server.reload(r"the backend ends\n")
        with Client(path=directory / "first"):
            change(directory, ('"maildir:one"', '"null:"'))
            server.reload(r"changed: backend\n")
            server.reload(r"changed: nothing")
            assert "the backend ends" not in server.output
        server.until("the backend ends\n")


def test_all_that_is_in_files_is_read_anew(directory: Path, tmp_path: Path) -> None:
    """Certificates, aliases and the directory of recipients, at once and not only when somebody looks at them."""
    with twistd(tmp_path, "--config", "etc/lmtp.toml") as server:
        server.until(r"listening on \S+/first\n")
        before = certificate_of(directory / "first")
        write_certificate(directory)
        (directory / "aliases").write_text("sales@x.example: bob@x.example\n")
        (directory / "recipients").write_text("bob@x.example\n")
        server.reload(r"certificates read: 1, changed: nothing that the configuration says\n")
        assert certificate_of(directory / "first") != before
        with Client(path=directory / "first") as client:
            assert client.deliver("sales@x.example")[0].startswith("250 ")
            assert client.say("MAIL FROM:<>").startswith("250 ")
            assert client.say("RCPT TO:<alice@x.example>").startswith("550 5.1.1 ")
    assert mailboxes(directory) == ["one/x.example/bob"]


def test_listeners_come_and_go(directory: Path, tmp_path: Path) -> None:
    """A session at a place that is closed goes on."""
    with twistd(tmp_path, "--config", "etc/lmtp.toml") as server:
        server.until(r"listening on \S+/first\n")
        with Client(path=directory / "first") as client:
            change(
                directory, ("first", "second"), more='[listeners.third]\nlisten = "haproxy:unix:third"\nbanner = "3"'
            )
            server.reload(r"listening no more on unix:\S+/first\n")
            server.until(r"reloaded, .* changed: listeners\.first, listeners\.second, listeners\.third\n")
            assert not (directory / "first").exists()
            assert client.deliver("alice@x.example")[0].startswith("250 ")
        with Client(path=directory / "second") as client:
            assert client.deliver("alice@x.example")[0].startswith("250 ")
        with Client(path=directory / "third", is_greeted=False) as client:
            client.send("PROXY UNKNOWN\r\n")
            assert client.reply().endswith(" LMTP 3")
        change(directory)
        server.reload(r"listening no more on unix:\S+/third\n")
        with Client(path=directory / "first") as client:
            assert client.greeting.startswith("220 ")


def test_what_comes_before_a_session_changes_without_closing_the_port(directory: Path, tmp_path: Path) -> None:
    """A connection that waits for its PROXY header, whose session has not begun, is lost neither."""
    change(directory, ('"unix:first"', '"haproxy:unix:first"'))
    with twistd(tmp_path, "--config", "etc/lmtp.toml") as server:
        server.until(r"listening on \S+/first\n")
        number = (directory / "first").stat().st_ino
        with Client(path=directory / "first", is_greeted=False) as waiting:
            waiting.send("PROXY UNK")
            # The first has been accepted when the second is served.
            with Client(path=directory / "first", is_greeted=False) as second:
                second.send("PROXY UNKNOWN\r\n")
                assert second.reply().startswith("220 ")
            change(directory)
            server.reload("changed: listeners.first\n")
            with Client(path=directory / "first") as plain:
                assert plain.greeting.startswith("220 ")
            waiting.send("NOWN\r\n")
            assert waiting.reply().startswith("220 ")
            assert waiting.deliver("alice@x.example")[0].startswith("250 ")
        assert (directory / "first").stat().st_ino == number


@pytest.mark.parametrize(
    ("changes", "more", "faults"),
    [
        ([("max-sessions = 10", "max-sessions = 10\nbackend ")], "", [r"lmtp\.toml:3: .*"]),
        (
            [('"maildir:one"', '"nowhere:"'), ("max-sessions = 10", "max-session = 10")],
            "",
            [r"lmtp\.toml:2: max-session is no key, did you mean max-sessions\?"],
        ),
        (
            [('"maildir:one"', '"nowhere:"'), ('"aliases"', '"none"'), ('"key.pem"', '"recipients"')],
            "",
            [
                r"lmtp\.toml:3: backend: 'nowhere:' names no known backend.*",
                r"lmtp\.toml:4: aliases: \S+/none: No such file or directory",
                r"lmtp\.toml:8: listeners\.first\.tls-certificate: \S+/recipients holds no private key .*",
            ],
        ),
        (
            [],
            '[listeners.second]\nlisten = "unix:second"\n[listeners.third]\nlisten = "unix:no/where"\n',
            [r"lmtp\.toml:13: listeners\.third\.listen: No such file or directory"],
        ),
        (
            [("max-sessions = 10", 'max-sessions = 10\nlisten = ["unix:also", "unix:first"]')],
            "",
            [r"lmtp\.toml:8: listeners\.first\.listen: .*"],
        ),
    ],
    ids=["no TOML", "no such key", "what it names", "a place", "a place twice"],
)
def test_a_configuration_that_is_wrong_changes_nothing_and_every_fault_is_logged(
    directory: Path, tmp_path: Path, changes: list[tuple[str, str]], more: str, faults: list[str]
) -> None:
    """All or nothing: no place of it is listened on, and its log level does not count."""
    with twistd(tmp_path, "--config", "etc/lmtp.toml") as server:
        server.until(r"listening on \S+/first\n")
        found = sorted(os.listdir(directory))
        before = certificate_of(directory / "first")
        with Client(path=directory / "first") as client:
            change(directory, ("one.example.org", "two.example.org"), *changes, more=more)
            server.reload("all stays as it was")
            lines = "".join(rf".*error \[lmtp\] \S*{fault}\n" for fault in faults)
            server.until(rf"all stays as it was, faults={len(faults)}\n{lines}")
            assert client.deliver("alice@x.example")[0].startswith("250 ")
        with Client(path=directory / "first") as client:
            assert client.greeting.startswith("220 one.example.org ")
        assert certificate_of(directory / "first") == before
        assert sorted(os.listdir(directory)) == sorted({*found, "one"})
        change(directory, ("one.example.org", "two.example.org"))
        server.reload("changed: hostname\n")
    assert "Traceback" not in server.output
    assert "Unhandled" not in server.output


def test_without_a_file_what_the_command_line_names_is_read_anew(tmp_path: Path) -> None:
    """As the certificate and the aliases; paths begin where they began."""
    write_certificate(tmp_path)
    (tmp_path / "aliases").write_text("info@x.example: alice@x.example\n")
    (tmp_path / "run").mkdir()
    arguments = ["--tls-certificate", "../cert.pem", "--tls-key", "../key.pem", "--aliases", "../aliases"]
    arguments += ["--listen", "unix:s", "--backend", "maildir:mail"]
    with twistd(tmp_path, *arguments, options=["--rundir", "run"]) as server:
        server.until(r"listening on \S+/run/s\n")
        before = certificate_of(tmp_path / "run/s")
        write_certificate(tmp_path)
        (tmp_path / "aliases").write_text("info@x.example: bob@x.example\n")
        server.reload("certificates read: 1, changed: nothing")
        assert certificate_of(tmp_path / "run/s") != before
        with Client(path=tmp_path / "run/s") as client:
            assert client.deliver("info@x.example")[0].startswith("250 ")
        (tmp_path / "aliases").unlink()
        server.reload(r"error \[lmtp\] --aliases: \S*aliases: No such file or directory\n")
    assert mailboxes(tmp_path / "run") == ["mail/x.example/bob"]


def test_a_relative_file_is_found_where_the_server_started(directory: Path, tmp_path: Path) -> None:
    """Not in the directory that twistd has gone to since."""
    (tmp_path / "run").mkdir()
    with twistd(tmp_path, "--config", "etc/lmtp.toml", options=["--rundir", "run"]) as server:
        server.until(r"listening on \S+/first\n")
        change(directory, ('"maildir:one"', '"maildir:two"'))
        server.reload("changed: backend\n")


def test_the_log_is_reopened_and_its_level_changes(directory: Path, tmp_path: Path) -> None:
    with twistd(tmp_path, "--config", "etc/lmtp.toml", options=["--logfile", "log"]) as server:
        log = tmp_path / "log"

        def until(pattern: str) -> None:
            deadline = time.monotonic() + PATIENCE
            while not (log.exists() and re.search(pattern, log.read_text())):
                assert time.monotonic() < deadline, f"no line like {pattern!r} in {log.read_text()}"

        until(r"listening on \S+/first\n")
        log.rename(tmp_path / "log.1")
        change(directory, ("max-sessions = 10", 'max-sessions = 10\nlog-level = "debug"'))
        server.process.send_signal(signal.SIGHUP)
        until("changed: log-level\n")
        with Client(path=directory / "first"):
            until("session started, peer=unix\n")


def test_what_counts_at_the_start_only_is_said(directory: Path, tmp_path: Path) -> None:
    with twistd(tmp_path, "--config", "etc/lmtp.toml") as server:
        server.until(r"listening on \S+/first\n")
        change(directory, ("max-sessions = 10", 'max-sessions = 10\nlog-format = "json"\nhttp = "0"'))
        server.reload(r"warn \[lmtp\] log-format stays as it was until the server starts anew\n")
        server.until(r"info \[lmtp\] reloaded, .* changed: http\n")
        assert re.search(r"info \[lmtp\] status on http://127\.0\.0\.1:\d+/\n", server.output)


def test_many_reloads_at_a_time_end_with_the_last_file(directory: Path, tmp_path: Path) -> None:
    """Also while mail comes."""
    with twistd(tmp_path, "--config", "etc/lmtp.toml") as server:
        server.until(r"listening on \S+/first\n")
        for number in range(20):
            change(directory, ("one.example.org", f"n{number}.example.org"))
            server.process.send_signal(signal.SIGHUP)
            with Client(path=directory / "first") as client:
                assert client.deliver("alice@x.example")[0].startswith("250 ")
        server.reload("reloaded, ")
        with Client(path=directory / "first") as client:
            assert client.greeting.startswith("220 n19.example.org ")
        server.process.send_signal(signal.SIGHUP)
        server.terminate()
        assert server.ended() == -signal.SIGTERM
    assert "Traceback" not in server.output


def test_a_server_that_stops_is_not_reloaded(directory: Path, tmp_path: Path) -> None:
    """And what waits for its replies gets them."""
    with twistd(tmp_path, "--config", "etc/lmtp.toml") as server:
        server.until(r"listening on \S+/first\n")
        with Client(path=directory / "first") as client:
            client.begin("alice@x.example")
            server.terminate()
            server.until("stopping")
            server.reload("nothing is reloaded, since the server stops")
            assert client.reply().startswith("421 4.3.2 ")
        assert server.ended() == -signal.SIGTERM


def test_sessions_of_before_count_against_the_new_limits(directory: Path, tmp_path: Path) -> None:
    """Else each reload would let in as many again."""
    with twistd(tmp_path, "--config", "etc/lmtp.toml") as server:
        server.until(r"listening on \S+/first\n")
        with Client(path=directory / "first") as first:
            change(directory, ("max-sessions = 10", "max-sessions = 2"))
            server.reload("changed: max-sessions\n")
            server.reload("changed: nothing")
            with Client(path=directory / "first"), Client(path=directory / "first") as refused:
                assert refused.greeting.startswith("421 4.3.2 ")
            assert first.say("QUIT").startswith("221 ")
            assert first.reply() == ""
            with Client(path=directory / "first"), Client(path=directory / "first") as third:
                assert third.greeting.startswith("220 ")


def test_tls_goes_on_with_the_old_certificate(directory: Path, tmp_path: Path) -> None:
    """A session that has begun says STARTTLS to the certificate of its time."""
    with twistd(tmp_path, "--config", "etc/lmtp.toml") as server:
        server.until(r"listening on \S+/first\n")
        with Secure(path=directory / "first") as client:
            client.say("LHLO c")
            change(directory, ('tls-certificate = "cert.pem"\ntls-key = "key.pem"\n', ""))
            server.reload("certificates read: 0, changed: listeners.first\n")
            assert client.say("STARTTLS").startswith("220 ")
            assert isinstance(client.secure(), ssl.SSLSocket)
            assert client.deliver("alice@x.example")[0].startswith("250 ")
        with Secure(path=directory / "first") as client:
            client.say("LHLO c")
            assert client.say("STARTTLS").startswith("502 ")
