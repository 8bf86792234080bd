"""docs/smtp-server.rst: what the real smtp-server and ours speak, and tables that name all there is."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from docs_console import commands_of
from docs_pages import Block, blocks_of
from docs_smtp_server import MODULES, OURS, PAGE, THEIRS, Example, examples, served, speak

import lmtp_twisted
from lmtp_twisted.settings import CAN_BE_DISABLED, CAN_BE_ENABLED


def _parameters() -> list[object]:
    marks = {THEIRS: [pytest.mark.peer("node")], OURS: []}
    return [pytest.param(example, id=str(example), marks=marks[example.speaker]) for example in examples()]


def _needs_modules() -> None:
    file = MODULES / "smtp-server/package.json"
    version = json.loads(file.read_text(encoding="utf-8"))["version"] if file.exists() else "0"
    if [int(part) for part in version.split(".")[:2]] < [3, 21]:
        pytest.skip("smtp-server 3.21 not found: make peers installs it")


@pytest.fixture
def directory() -> Iterator[Path]:
    """Short enough for anything."""
    with tempfile.TemporaryDirectory(prefix="docs-") as name:
        yield Path(name)


@pytest.mark.parametrize("example", _parameters())
def test_a_server_of_the_page_speaks_as_the_page_says(example: Example, directory: Path) -> None:
    """Theirs and ours, over real sockets."""
    if example.speaker == THEIRS:
        _needs_modules()
    if "TLS" not in (example.dialogue.file or ""):
        with served(example, directory) as port:
            speak(example.dialogue, port)
        return
    _make_certificates(directory)
    with served(example, directory) as port:
        for name in ("mx.example", "mail.example"):
            speak(example.dialogue, port, name=name, trusted=directory / f"{name}.crt")


def _make_certificates(directory: Path) -> None:
    (command,) = (
        command
        for block in blocks_of(PAGE)
        if block.language == "console"
        for command in commands_of(block)
        if "openssl" in command.text
    )
    subprocess.run(["bash", "-c", command.text], cwd=directory, check=True, capture_output=True)


def test_a_dialogue_that_is_wrong_is_found_out(directory: Path) -> None:
    """Another reply, one too many, and a client that says something last."""
    example = next(example for example in examples() if example.speaker == OURS)
    with served(example, directory) as port:
        for text, complaint in (
            ("S: 421 …", "but it was"),
            ("S: 220 …\nC: NOOP\nC: NOOP\nS: 250 …", "the server goes on"),
            ("S: 220 …\nC: NOOP", "what does the server say"),
            ("X: 220", "no line of a dialogue"),
        ):
            with pytest.raises(AssertionError, match=complaint):
                speak(Block(PAGE, 1, "text", text), port)


def _literals() -> set[str]:
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    return set(re.findall(r"``([^`]+)``", text))


@pytest.mark.peer("node")
@pytest.mark.parametrize("interface", ["SMTPServerOptions", "SMTPServerSession", "SMTPServerEnvelope"])
def test_whatever_smtp_server_has_stands_in_a_table(interface: str) -> None:
    """Options and callbacks, fields of sessions and envelopes, as its own types declare them."""
    _needs_modules()
    declared = (MODULES / "smtp-server/dist/cjs/types.d.ts").read_text(encoding="utf-8")
    match = re.search(rf"export interface {interface} .*?\n}}", declared, re.DOTALL)
    assert match is not None
    names = set(re.findall(r"^    (\w+)\??[:(]", match[0], re.MULTILINE))
    assert len(names) > 5
    written = {word for literal in _literals() for word in re.findall(r"\w+", literal)}
    assert names <= written, names - written


def test_the_settings_that_the_page_names_are_there() -> None:
    """And what it switches on and off can be."""
    fields = {field.name for field in attrs.fields(lmtp_twisted.Settings)}
    named = {
        *("hostname", "banner", "size_limit", "disabled", "enabled", "auth_required", "auth_insecure", "trusted"),
        *("max_sessions", "max_sessions_per_peer", "max_recipients", "max_unauthenticated_commands"),
        *("idle_timeout", "delivery_timeout"),
    }
    assert named <= fields
    assert named <= {word for literal in _literals() for word in re.findall(r"\w+", literal)}
    text = PAGE.read_text(encoding="utf-8")
    assert set(re.findall(r'disabled=\{"([^"]+)"\}', text)) <= CAN_BE_DISABLED
    assert set(re.findall(r'enabled=\{"([^"]+)"\}', text)) <= CAN_BE_ENABLED
