"""The command line of ``pipe:``: words without a shell, and placeholders that are whole arguments."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from lmtp_twisted.backends.pipe.command import Command
from lmtp_twisted.backends.pipe.values import PLACEHOLDERS

VALUES = {name: f"<{name}>" for name in PLACEHOLDERS}


def arguments(line: str, **values: str) -> list[str]:
    """The arguments of ``env``, which is everywhere, without its name."""
    name, *others = Command.parse(f"env {line}").arguments({**VALUES, **values})
    assert name == b"env"
    return [argument.decode() for argument in others]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", []),
        ("-f  a\tb", ["-f", "a", "b"]),
        ("'a b' \"c 'd'\" e\\ f ''", ["a b", "c 'd'", "e f", ""]),
        ("$HOME `id` $(id) ; | & > < * ~ #x !", ["$HOME", "`id`", "$(id)", *";|&><*~", "#x", "!"]),
        ("{} { } {a-b} x{}", ["{}", "{", "}", "{a-b}", "x{}"]),
        ("é", ["é"]),
    ],
)
def test_words_are_as_a_shell_reads_them_and_nothing_else_is(line: str, words: list[str]) -> None:
    assert arguments(line) == words


def test_a_placeholder_is_one_argument_whatever_its_value() -> None:
    value = 'a b\'; rm -rf / "$(id)" {sender} é'
    assert arguments("-d {recipient} '{user}'", recipient=value, user="") == ["-d", value, ""]


@pytest.mark.parametrize("name", sorted(PLACEHOLDERS))
def test_each_placeholder_is_known(name: str) -> None:
    assert arguments(f"{{{name}}}") == [f"<{name}>"]


def test_a_program_without_a_slash_is_found_now() -> None:
    """So a PATH that changes later changes nothing."""
    assert Command.parse("env").path == shutil.which("env")


def test_a_program_with_a_slash_is_below_the_directory_of_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "a script"
    script.touch(0o755)
    monkeypatch.chdir(tmp_path)
    command = Command.parse("'./a script' x")
    assert (command.path, command.words) == (str(script), ("./a script", "x"))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("", "it needs a command, as in pipe:/usr/local/bin/deliver {recipient}"),
        ("  ", "it needs a command"),
        ("''", "it needs a command"),
        ("env 'x", '"env \'x": no closing quotation'),
        ("env x\\", "no escaped character"),
        ("env \0", "a command cannot hold NUL"),
        ("no-such-program x", "there is no program 'no-such-program' in PATH"),
        ("/nonexistent/program", "there is no program /nonexistent/program"),
        ("/", "/ cannot be executed"),
        ("/etc/passwd", "/etc/passwd cannot be executed"),
        ("{user}", "the program cannot be a placeholder: '{user}'"),
        ("/bin/{user}", "the program cannot be a placeholder"),
        ("env {nobody}", "{nobody} is unknown, the placeholders are client_address, "),
        ("env {Recipient}", "{Recipient} is unknown"),
        ("env --to={recipient}", "{recipient} in '--to={recipient}' has to be an argument of its own"),
        ("env {user}@{domain}", "{user} in '{user}@{domain}' has to be"),
        ("env ${recipient}", "{recipient} in '${recipient}' has to be"),
        ("sh -c 'echo {user}'", "{user} in 'echo {user}' has to be"),
        ("env {recipient},timeuot=5", "',timeuot=5' are not its options"),
        ("env a,sender=b", "',sender=b' are not its options"),
    ],
)
def test_what_cannot_be_run_is_one_line(line: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=rf"\A.*{re.escape(complaint)}.*\Z"):
        Command.parse(line)


def test_what_looks_like_an_option_may_be_quoted() -> None:
    assert arguments("-o 'ro,uid=5'") == ["-o", "ro,uid=5"]
