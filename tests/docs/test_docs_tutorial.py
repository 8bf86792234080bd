"""The last part of docs/tutorial.rst: a real Postfix feeds the application, and each step is taken as it is told."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from docs_console import Command, Console, commands_of
from docs_pages import ROOT, Block, blocks_of
from docs_postfix import DocumentedPostfix, needs_root
from docs_run import CONFIGURATION, Places
from peer_programs import find

pytestmark = pytest.mark.peer("postfix")

PAGE = ROOT / "docs" / "tutorial.rst"
BEGINS = PAGE.read_text(encoding="utf-8").split("\n").index("Real mail")
BLOCKS = blocks_of(PAGE)
#: What changes the machine.
NOT_HERE = ("apt-get", "postfix reload")


class Reader:
    """
    Who does what the page says, in order.

    :param directory: where.
    :param stack: ends what was started.
    """

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self._directory, self._stack = directory, stack
        self._places = Places(directory)
        path = f"{directory / 'bin'}{os.pathsep}{self._places.environment['PATH']}"
        self._console = Console(directory, {**self._places.environment, "PATH": path})
        stack.callback(self._console.kill)
        self._letters = 0

    def does(self, block: Block) -> None:
        """One block."""
        if block.language in CONFIGURATION:
            self._start_postfix(self._places.here(block.text))
        elif block.file is not None:
            (self._directory / block.file).write_text(self._places.here(block.text) + "\n")
        else:
            for command in commands_of(block):
                if not command.text.startswith(NOT_HERE):
                    self._types(command)

    def _start_postfix(self, settings: str) -> None:
        self._postfix = DocumentedPostfix(self._directory, settings, {"maillog_file": f"{self._directory}/maillog"})
        self._stack.callback(self._postfix.stop)
        # What the page's commands call.
        (self._directory / "bin").mkdir()
        for name, option in (("sendmail", "-C"), ("postqueue", "-c")):
            call = self._directory / "bin" / name
            call.write_text(f'#!/bin/sh\nexec {find(name)} {option} {self._directory}/etc "$@"\n')
            call.chmod(0o755)

    def _types(self, command: Command) -> None:
        if command.text.startswith("sendmail"):
            self._letters += 1
            if self._letters == 2:
                # Ctrl-C.
                self._console.close()
        elif command.text.startswith(("grep", "python")):
            self._until_postfix_is_done()
        elif command.text == "postqueue -p" and self._letters == 2:
            self._postfix.wait(lambda: ("Connection refused" in self._postfix.log()) or self._is_empty())
        self._console.run(
            command, self._places.here(command.text), [self._places.here(line) for line in command.output]
        )
        if command.text == "postqueue -f":
            self._postfix.wait(self._is_empty)

    def _until_postfix_is_done(self) -> None:
        self._postfix.statuses(3)
        lines = [line for line in self._postfix.log().split("\n") if "/lmtp[" in line and " to=<" in line]
        (self._directory / "var/log/mail.log").write_text("".join(f"{line}\n" for line in lines))

    def _is_empty(self) -> bool:
        queued = set(re.findall(r"/pickup\[\d+\]: (\w+):", self._postfix.log()))
        return all(f" {number}: removed" in self._postfix.log() for number in queued)

    def leaves(self) -> None:
        """At the end of the page."""
        self._console.close()


@pytest.fixture
def reader() -> Iterator[Reader]:
    """In a directory that Postfix can enter."""
    needs_root()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="docs-")))
        directory.chmod(0o755)
        yield Reader(directory, stack)


def test_a_reader_who_does_what_the_page_says_ends_with_an_application_that_postfix_feeds(reader: Reader) -> None:
    """Mail comes, a bounce comes back, the queue keeps what cannot be delivered, and delivers it later."""
    (application,) = (block for block in BLOCKS if block.file == "mailroom.py")
    reader.does(application)
    for block in BLOCKS:
        if block.line > BEGINS:
            reader.does(block)
    reader.leaves()
