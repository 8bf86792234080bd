"""The command line of the kit: what it takes, what it prints, and how it ends."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from small_server import Session, SmallServer

from lmtp_twisted import conformance
from lmtp_twisted.conformance.command import main
from lmtp_twisted.conformance.reading import read_scenarios
from lmtp_twisted.conformance.settings import Target


def test_a_server_without_deviations_is_status_0(capsys: pytest.CaptureFixture[str]) -> None:
    """With a table, and a sum."""
    with SmallServer() as server:
        assert main([f"127.0.0.1:{server.port}", "--only", "session/noop*", "--only", "auth/plain"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "absent  MUST    auth/plain                        RFC 4954 §4, 4616 §2  (AUTH PLAIN is not announced)",
        "passed  SHOULD  session/noop-before-lhlo          RFC 5321 §4.1.4",
        "passed  SHOULD  session/noop-with-an-argument     RFC 5321 §4.1.1.9",
        "passed  MUST    session/noop-keeps-a-transaction  RFC 5321 §4.1.1.9",
        "3 passed, 0 failed, 1 absent",
    ]


class SaysNo(Session):
    """NOOP is no command of its."""

    def do_NOOP(self, argument: bytes) -> None:
        self.say("500 5.5.2 \x1b[31mNo\x07")


def test_deviations_are_status_1_and_shown_printable(capsys: pytest.CaptureFixture[str]) -> None:
    """With what was expected, what came, and the dialogue where it is wanted."""
    with SmallServer(SaysNo) as server:
        assert main([f"127.0.0.1:{server.port}", "--only", "session/noop-before-lhlo", "--verbose"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "FAILED  SHOULD  session/noop-before-lhlo  RFC 5321 §4.1.4",
        "        expected  250 (250 2.0.0)",
        "        came      500 5.5.2 \\x1b[31mNo\\x07",
        "        | C: NOOP\\r\\n",
        "        | S: 500 5.5.2 \\x1b[31mNo\\x07",
        "0 passed, 1 failed, 0 absent (failed: 1 SHOULD)",
    ]


def test_json_has_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    """For programs."""
    with SmallServer(SaysNo) as server:
        assert main([f"127.0.0.1:{server.port}", "--only", "session/noop-before-lhlo", "--json"]) == 1
        report = json.loads(capsys.readouterr().out)
        assert report == {
            "server": f"127.0.0.1:{server.port}",
            "greeting": "220 small.example LMTP",
            "capabilities": {
                **{name: [] for name in ("ENHANCEDSTATUSCODES", "8BITMIME", "CHUNKING", "PIPELINING")},
                "SIZE": ["20000"],
                "LIMITS": ["RCPTMAX=100"],
            },
            "trouble": "",
            "refusal": "",
            "summary": {"failed": 1},
            "rows": [
                {
                    "name": "session/noop-before-lhlo",
                    "rfc": "RFC 5321 §4.1.4",
                    "level": "SHOULD",
                    "verdict": "failed",
                    "expected": "250 (250 2.0.0)",
                    "came": "500 5.5.2 \\x1b[31mNo\\x07",
                    "dialogue": ["C: NOOP\\r\\n", "S: 500 5.5.2 \\x1b[31mNo\\x07"],
                }
            ],
        }


def test_one_recipient_is_enough_for_all_but_a_few(capsys: pytest.CaptureFixture[str]) -> None:
    """It stands for the others: a reply is owed each time."""
    with SmallServer() as server:
        only = ("--only", "final/an-empty-message", "--only", "final/three-recipients")
        assert main([f"127.0.0.1:{server.port}", "--recipient", "only@example.org", *only]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "absent  MUST    final/three-recipients  RFC 2033 §4.2  (--recipient was given less than 3 times)",
        "passed  MUST    final/an-empty-message  RFC 2033 §4.2, 5321 §4.1.1.4",
        "1 passed, 0 failed, 1 absent",
    ]


class SpeaksHttp(Session):
    """It is something else altogether."""

    def greet(self) -> None:
        self.say("HTTP/1.1 400 Bad Request")


def test_a_server_of_something_else_is_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    """It is there, but with it there is no session: that is said once, and not in hundreds of rows."""
    with SmallServer(SpeaksHttp) as server:
        assert main([f"127.0.0.1:{server.port}", "--only", "session/lhlo"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "No session could be begun: the greeting: no reply: HTTP/1.1 400 Bad Request",
        "Is it LMTP that is spoken there, and in the clear? See --tls, --starttls, --proxy and --authenticate.",
    ]


class KnowsNobody(Session):
    """Whoever is named, it has another name."""

    def do_RCPT(self, argument: bytes) -> None:
        self.say("550 5.1.1 No such user")


def test_addresses_that_the_server_does_not_take_are_named_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever has forgotten --recipient is not left alone with what has failed for it."""
    with SmallServer(KnowsNobody) as server:
        assert main([f"127.0.0.1:{server.port}", "--only", "final/one-recipient"]) == 1
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "0 passed, 1 failed, 0 absent (failed: 1 MUST)",
        "It refused RCPT TO:<alice@example.org>: 550 5.1.1 No such user",
        "So much of that may be no fault of its own: --sender, --recipient and --authenticate tell what it takes.",
    ]


@pytest.mark.parametrize("target", ["127.0.0.1:{port}", "unix:{directory}/nobody"])
def test_nobody_there_is_status_3(tmp_path: Path, capsys: pytest.CaptureFixture[str], target: str) -> None:
    """In one line."""
    with SmallServer() as server:
        port = server.port
    where = target.format(port=port, directory=tmp_path)
    assert main([where]) == 3
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.fullmatch(rf".*: no connection to {re.escape(where)}: \[Errno \d+\] .*\n", printed.err)


WRONG = {
    (): "HOST:PORT or unix:PATH is needed",
    ("localhost",): "'localhost' is neither HOST:PORT nor unix:PATH",
    ("localhost:0",): "'localhost:0' is neither HOST:PORT nor unix:PATH",
    ("localhost:70000",): "'localhost:70000' is neither HOST:PORT nor unix:PATH",
    ("unix:",): "'unix:' is neither HOST:PORT nor unix:PATH",
    ("localhost:24", "--level", "must"): "invalid choice: 'must'",
    ("localhost:24", "--timeout", "0"): "'0' is not a number of seconds",
    ("localhost:24", "--timeout", "nan"): "'nan' is not a number of seconds",
    ("localhost:24", "--timeout", "soon"): "'soon' is not a number of seconds",
    ("localhost:24", "--jobs", "0"): "'0' is not a number from 1 to 64",
    ("localhost:24", "--largest", "1G"): "'1G' is not a number of octets up to 268435456",
    ("localhost:24", "--recipient", "<a@b>"): "'<a@b>' is no address and no name",
    ("localhost:24", "--sender", "a@b\r\nRSET"): "is no address and no name",
    ("localhost:24", "--xclient", "ADDR=1\n"): "is not NAME=VALUE",
    ("localhost:24", "--only", "nothing/*"): "no scenario is left by --level, --only and --skip",
    ("localhost:24", "--tls", "--starttls"): "not allowed with argument",
    ("localhost:24", "--proxy", "3"): "invalid choice: 3",
    ("localhost:24", "--mechanism", "DIGEST"): "invalid choice: 'DIGEST'",
    ("localhost:24", "--authenticate"): "--authenticate needs --user, and --password or --token",
    ("localhost:24", "--authenticate", "--user", "x"): "--authenticate needs --user, and --password or --token",
    ("localhost:24", "--ca-file", "/nonexistent"): "/nonexistent: No such file or directory",
    ("localhost:24", "--certificate", "/nonexistent"): "/nonexistent: No such file or directory",
    ("localhost:24", "--scenarios", "/nonexistent"): "/nonexistent:0: No such file or directory",
}


@pytest.mark.parametrize("arguments", WRONG)
def test_a_wrong_command_line_is_status_2(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    """Said before anything is connected to."""
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert WRONG[arguments] in printed.err.replace("\\r\\n", "\r\n")


def test_a_wrong_certificate_file_is_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is there, and no PEM."""
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(SystemExit) as caught:
        main(["localhost:24", "--ca-file", str(tmp_path / "ca.pem")])
    assert caught.value.code == 2
    assert f"error: {tmp_path / 'ca.pem'}: " in capsys.readouterr().err


def test_a_file_of_ones_own_takes_the_place_of_the_kits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the kit's beginnings."""
    file = tmp_path / "mine.txt"
    file.write_text("= mine/after-a-recipient\nRFC: house rule 1\nLevel: MUST\nAfter: rcpt\nC: NOOP\nS: 250 with OK\n")
    with SmallServer() as server:
        assert main([f"127.0.0.1:{server.port}", "--scenarios", str(file)]) == 0
    assert capsys.readouterr().out == (
        "passed  MUST    mine/after-a-recipient  house rule 1\n1 passed, 0 failed, 0 absent\n"
    )


def test_the_scenarios_can_be_listed_without_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    """Those that the options choose, with what they need."""
    assert main(["--list", "--level", "beyond"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(read_scenarios())
    assert main(["--list", "--only", "starttls/*", "--skip", "*/[a-h,j-z]*"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "MUST    starttls/is-not-announced-any-more   RFC 3207 §4.2  needs STARTTLS, !tls",
        "MUST    starttls/is-not-announced-under-tls  RFC 3207 §4.2  needs tls",
    ]


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("mx.example:24", Target("mx.example", 24)),
        ("192.0.2.1:2524", Target("192.0.2.1", 2524)),
        ("[2001:db8::1]:24", Target("2001:db8::1", 24)),
        ("unix:/run/lmtp: with blanks", Target(path="/run/lmtp: with blanks")),
    ],
)
def test_a_target_is_a_host_and_a_port_or_a_path(text: str, target: Target) -> None:
    """And is written as it is read."""
    assert Target.parse(text) == target
    assert str(target) == text


def test_it_is_a_program(tmp_path: Path) -> None:
    """``python -m lmtp_twisted.conformance``"""
    with SmallServer() as server:
        done = subprocess.run(
            [sys.executable, "-m", "lmtp_twisted.conformance", f"127.0.0.1:{server.port}", "--only", "session/lhlo"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONWARNINGS": "error", "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=60,
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("1 passed, 0 failed, 0 absent\n")


def test_the_judge_knows_nothing_of_what_it_judges() -> None:
    """No module of the kit imports Twisted, or any of the package but the kit."""
    for file in Path(conformance.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.partition(".")[0] in {*sys.stdlib_module_names, "attrs", "lmtp_twisted"}, (file, name)
                assert not name.startswith("lmtp_twisted") or name.startswith("lmtp_twisted.conformance"), (file, name)
