"""The log and the traces of a real ``twistd``, with what clients send who wish it harm."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from certificates import write_certificate
from peer_programs import find
from running_twistd import Client, twistd
from test_twistd_tls import Secure

#: Makes the variable with which systemd says that it has connected our standard output with the journal.
JOURNAL = [
    "sh",
    "-c",
    'exec 3>&1; JOURNAL_STREAM=$(stat -L -c %d:%i /dev/fd/3); export JOURNAL_STREAM; exec 3>&-; exec "$@"',
    "sh",
]

HOSTILE = (
    '"a\\"b\\\\c"@example.org',
    '"a b to=<x@y> reply=250"@example.org',
    "zoë@example.org",
    "x'}{}@example.org",
    '"\u202e\ufeff"@example.org',
    "l" * 60 + "@" + ".".join(["d" * 60] * 3),
)
MESSAGE = 'Message-ID: <a"b\\c\x01\x1b[31m\x7f@x> size=1\r\n \r\n\tfolded \u2028\u202e\r\nSubject: x\r\n\r\nhello\r\n'


def _hostile_session(port: int) -> None:
    with Client(port) as client:
        client.say("LHLO client")
        assert client.say("XFORWARD IDENT=a+20b+22+5Cto+3D<x>+C3+A9").startswith("250 ")
        client.say('MAIL FROM:<"s \\" from=<z@z>"@example.net> SMTPUTF8')
        for recipient in HOSTILE:
            assert client.say(f"RCPT TO:<{recipient}>").startswith("250 "), recipient
        client.say("RCPT TO:<refused\x1b[2J\u2028>")
        client.say("DATA")
        client.send(f"{MESSAGE}.\r\n")
        for _ in HOSTILE:
            assert client.reply().startswith("250 ")
        client.send("\x00\r\x1b\u2028\r\n")
        client.reply()


def _by_jq(text: str) -> list[dict[str, Any]]:
    """The objects, as jq reads them, one for each line."""
    program = find("jq")
    assert program is not None
    done = subprocess.run([program, "-c", "."], input=text.encode(), capture_output=True, check=True, timeout=30)
    objects = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(objects) == len(text.splitlines())
    return objects


@pytest.mark.parametrize("workers", ["1", "2"])
def test_each_place_is_said_once_and_as_we_say_it(workers: str, tmp_path: Path) -> None:
    arguments = ["--port", "0", "--listen", "unix:lmtp", "--http", "0", "--backend", "null:", "--workers", workers]
    with twistd(tmp_path, *arguments) as server:
        server.until("(?s)serves.*serves" if workers != "1" else "status on ")
        server.terminate()
        server.ended()
    assert len(re.findall(r"info \[lmtp\] (?:listening|status) on ", server.output)) == 3
    assert "starting on" not in server.output
    assert "factory" not in server.output


@pytest.mark.peer("jq")
def test_each_line_is_an_object_whatever_clients_send(tmp_path: Path) -> None:
    """And what they sent can be read back."""
    (tmp_path / "broken.py").write_text(
        "def deliver(message, recipient):\n    print('two\\x1b \"lines\\r\\n}{')\n    raise RuntimeError('one\\n{\"')\n"
    )
    routes = ["--route", "raise@example.org=python:broken:deliver"]
    options = ["--port", "0", "--backend", "null:", "--trust", "127.0.0.1", "--log-format", "json", *routes]
    with twistd(tmp_path, *options, "--log-level", "debug") as server:
        _hostile_session(server.port)
        with Client(server.port) as client:
            assert client.deliver("raise@example.org")[0].startswith("451 ")
        server.until('"traceback"')
        server.terminate()
        server.ended()
    records = _by_jq(server.output)
    assert all(record.keys() >= {"time", "level", "system"} for record in records)
    deliveries = [record for record in records if record.get("event") == "delivery"]
    spelled = ['a"b\\c', "a b to=<x@y> reply=250", "zoë", "x'}{}", "\u202e\ufeff", "l" * 60]
    locals_ = [re.sub(r"\\(.)", r"\1", record["recipient"].rpartition("@")[0].strip('"')) for record in deliveries]
    assert [local for local in locals_ if local != "raise"] == spelled
    first = deliveries[0]
    assert first["queue"] == 'a b"\\to=<x>é'
    assert first["message_id"] == r'<a"b\c??[31m?@x> size=1 folded \x{2028}\x{202E}'
    assert first["sender"].startswith('"s \\" from=<z@z>"@')
    assert first["id"].startswith(first["session"])
    (refused,) = [record for record in records if record.get("event") == "recipient refused"]
    assert refused["reply"].startswith("5")
    (failure,) = [record for record in records if "traceback" in record]
    assert 'RuntimeError: one\n{"' in failure["traceback"]
    assert any(record.get("text") == 'two\x1b "lines\r' for record in records)


def test_each_line_of_text_has_its_fields_whatever_clients_send(tmp_path: Path) -> None:
    """No value looks like another field, nothing is unprintable."""
    with twistd(tmp_path, "--port", "0", "--backend", "null:", "--trust", "127.0.0.1") as server:
        _hostile_session(server.port)
        server.terminate()
        server.ended()
    lines = [line for line in server.output.splitlines() if " Delivered" in line]
    assert len(lines) == len(HOSTILE)
    names = ["peer", "queue", "message-id", "from", "to", "backend", "size", "seconds", "reply"]
    for line in lines:
        assert line.isprintable()
        words = line.split(" ")
        assert [word.partition("=")[0] for word in words[4:13]] == names
        assert words[12:] == ["reply=250", "2.0.0", "Delivered"]


@pytest.mark.parametrize("form", ["text", "json"])
def test_in_the_journal_each_line_has_its_priority(tmp_path: Path, form: str) -> None:
    """sd-daemon(3); in text without a time, and those of a traceback too."""
    (tmp_path / "broken.py").write_text("def deliver(message, recipient):\n    raise RuntimeError('no')\n")
    options = ["--port", "0", "--backend", "python:broken:deliver", "--log-format", form]
    with twistd(tmp_path, *options, prefix=JOURNAL) as server:
        with Client(server.port) as client:
            client.deliver("b@example.org")
        server.until("RuntimeError: no")
        server.terminate()
        server.ended()
    lines = server.output.splitlines()
    assert all(re.match("<[3-7]>", line) for line in lines)
    assert {line[:3] for line in lines if "Error: no" in line} == {"<3>"}
    assert any(line.startswith("<6>") and "451 4.3.0" in line for line in lines)
    if form == "text":
        assert any(line.startswith("<3>    Traceback") for line in lines)
        assert any(line.startswith("<6>info [lmtp] listening on ") for line in lines)
    else:
        assert all(json.loads(line[3:]) for line in lines)


def test_the_variable_alone_does_not_make_it_the_journal(tmp_path: Path) -> None:
    """The output was sent elsewhere since."""
    options = ["--port", "0", "--backend", "null:"]
    with twistd(tmp_path, *options, environment={"JOURNAL_STREAM": "1:1"}) as server:
        assert server.port
    assert "<6>" not in server.output


def test_priorities_can_be_switched_off(tmp_path: Path) -> None:
    with twistd(tmp_path, "--port", "0", "--backend", "null:", "--log-priority", "no", prefix=JOURNAL) as server:
        assert server.port
    assert "<6>" not in server.output


def test_sessions_are_traced_with_tls_and_without_secrets(tmp_path: Path) -> None:
    write_certificate(tmp_path)
    (tmp_path / "users").write_text("alice:s3cret\n")
    (tmp_path / "traces").mkdir()
    options = ["--tls-certificate", "cert.pem", "--tls-key", "key.pem", "--auth", "file:users", "--backend", "null:"]
    options += ["--trace", "traces", "--trace-for", "recipient=*@traced.example", "--trace-for", "peer=192.0.2.1"]
    with twistd(tmp_path, "--port", "0", *options) as server:
        with Client(server.port) as other:
            other.deliver("b@example.org")
        with Secure(server.port) as client:
            client.say("LHLO c")
            client.say("STARTTLS")
            client.secure()
            client.say("LHLO c")
            assert client.say("AUTH PLAIN AGFsaWNlAHMzY3JldA==").startswith("235 ")
            client.deliver("b@traced.example")
            client.say("QUIT")
        server.terminate()
        server.ended()
    (path,) = (tmp_path / "traces").iterdir()
    text = path.read_text()
    assert re.search(r" C: STARTTLS\n.* S: 220 2\.0\.0 .*\n.* -- TLS is on: TLSv1\.\d \w+\n.* C: LHLO c\n", text)
    assert " C: AUTH PLAIN (20 octets not shown)\n" in text
    assert "AGFsaWNl" not in text
    assert text.endswith("-- the connection is closed\n")
    assert path.stem in server.output


def test_a_directory_of_traces_that_vanishes_costs_nothing_but_traces(tmp_path: Path) -> None:
    (tmp_path / "traces").mkdir()
    with twistd(tmp_path, "--port", "0", "--backend", "null:", "--trace", "traces", "--trace-for", "all") as server:
        port = server.port
        shutil.rmtree(tmp_path / "traces")
        with Client(port) as client:
            assert client.deliver("b@example.org")[0].startswith("250 ")
        server.until(r"error \[lmtp\] traces are not written: .*/traces: No such file or directory\n")
