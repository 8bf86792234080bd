"""A machine as a page for operators has it: the page's servers, with a directory of this test's for the system's."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path

import attrs
from docs_console import Command, Console, commands_of
from docs_pages import INSTEAD, ROOT, blocks_of
from docs_run import Places


def commands_on(page: Path, start: str) -> list[Command]:
    """The commands of a page that begin so."""
    blocks = (block for block in blocks_of(page) if block.language == "console")
    return [command for block in blocks for command in commands_of(block) if command.text.startswith(start)]


def servers_on(page: Path) -> dict[str, Command]:
    """The commands of a page that start a server, by where it listens; they are run by whoever runs the tests."""
    return {
        kind: attrs.evolve(command, text=INSTEAD[command.text])
        for command in commands_on(page, "twistd")
        for kind in ("--port", "unix:", "tcp:")
        if kind in command.text
    }


def three_outcomes() -> str:
    """The backend of the tutorial with three outcomes."""
    (source,) = (block.text for block in blocks_of(ROOT / "docs/tutorial.rst") if 'Try again tomorrow"' in block.text)
    return source


class Machine:
    """
    :param directory: all of it is there.
    :param stack: ends what it has started.
    :param page: the page.
    """

    def __init__(self, directory: Path, stack: ExitStack, page: Path) -> None:
        self.places = Places(directory)
        self.directory = directory
        self.console = Console(directory, self.places.environment)
        self._servers = servers_on(page)
        stack.callback(self.console.kill)

    def serve(self, kind: str, backend: str | None = None, *options: str) -> None:
        """Start a server of the page; ``backend`` and ``options`` are instead of and beside what it says there."""
        command = self._servers[kind]
        text = " ".join((command.text, *options))
        if backend is not None:
            text = re.sub(r"--backend \S+", f"--backend {backend}", text)
        self.type(attrs.evolve(command, text=text))

    def type(self, command: Command) -> None:
        """Type a command of the page."""
        self.console.run(command, self.places.here(command.text), [self.places.here(line) for line in command.output])
