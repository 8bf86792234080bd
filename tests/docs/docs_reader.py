"""Who does what a page says, in order, on a machine with a Postfix: that of docs_postfix.py, below one directory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from docs_console import Command, Console, commands_of
from docs_pages import INSTEAD, Block
from docs_postfix import DocumentedPostfix, needs_root
from docs_run import CONFIGURATION, Places
from peer_programs import find


class Reader:
    """
    What is special to a page is in :meth:`before`.

    :param directory: where.
    :param stack: ends what was started.
    :cvar leaves_out: how the commands begin that change the machine.
    :ivar postfix: once the page has its settings.
    """

    leaves_out: tuple[str, ...] = ("postfix reload",)
    postfix: DocumentedPostfix

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory, self._stack = directory, stack
        self.places = Places(directory)
        path = f"{directory / 'bin'}{os.pathsep}{self.places.environment['PATH']}"
        self.console = Console(directory, {**self.places.environment, "PATH": path})
        stack.callback(self.console.kill)
        # What the page's commands call.
        (directory / "bin").mkdir()
        for name, option in (("sendmail", "-C"), ("postqueue", "-c")):
            self.has_program(name, f'exec {find(name)} {option} {directory}/etc "$@"')

    def has_program(self, name: str, script: str) -> None:
        """Put one in the path."""
        call = self.directory / "bin" / name
        call.write_text(f"#!/bin/sh\n{script}\n")
        call.chmod(0o755)

    def does(self, block: Block) -> None:
        """One block."""
        if block.language in CONFIGURATION:
            changes = {"maillog_file": f"{self.directory}/maillog"}
            self.postfix = DocumentedPostfix(self.directory, self.places.here(block.text), changes)
            self._stack.callback(self.postfix.stop)
        elif block.file is not None:
            file = self.directory / self.places.here(block.file)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(self.places.here(block.text) + "\n")
        else:
            for command in commands_of(block):
                if not command.text.startswith(self.leaves_out):
                    self.types(command)

    def types(self, command: Command) -> None:
        """One command."""
        self.before(command)
        text = self.places.here(INSTEAD.get(command.text, command.text))
        self.console.run(command, text, [self.places.here(line) for line in command.output])

    def before(self, command: Command) -> None:
        """What has to be waited for, or done, before a command."""


SomeReader = TypeVar("SomeReader", bound=Reader)


@contextmanager
def reading(kind: type[SomeReader]) -> Iterator[SomeReader]:
    """A reader, in a directory that Postfix can enter."""
    needs_root()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="docs-")))
        directory.chmod(0o755)
        yield kind(directory, stack)
