"""docs/production.rst: a reader who types what it says has a service behind Postfix."""

from __future__ import annotations

import attrs
import pytest
from docs_console import Command
from docs_pages import ROOT, Block, blocks_of
from docs_reader import Reader, belongs_to_postfix, reading

pytestmark = pytest.mark.peer("postfix")

BLOCKS = blocks_of(ROOT / "docs" / "production.rst")
(UNIT,) = (block for block in BLOCKS if block.language == "systemd")


class Operator(Reader):
    """Whose machine has no systemd: what the unit starts is started by hand, and the journal is two files."""

    leaves_out = ("adduser", "python3 -m venv", "/opt/lmtp/bin/pip", "postfix reload", "systemctl daemon-reload")

    def does(self, block: Block) -> None:
        """All but the unit."""
        if block is not UNIT:
            super().does(block)

    def types(self, command: Command) -> None:
        """Commands of systemd are other ones here."""
        if command.text == "systemctl enable --now lmtp":
            belongs_to_postfix(self.directory / "var/spool/postfix/lmtp")
            (started,) = (line for line in UNIT.text.split("\n") if line.startswith("ExecStart="))
            text = started.removeprefix("ExecStart=").replace("/opt/lmtp/bin/", "")
            command = attrs.evolve(command, text=text)
            self._log = self.directory / f".output-of-line-{command.block.line}"
            of_postfix = "sed -n 's|.*/lmtp.[0-9]*.: ||p' maillog | tail -n 1"
            self.has_program("journalctl", f"case $2 in lmtp) tail -n 1 {self._log};; *) {of_postfix};; esac")
        super().types(command)

    def before(self, command: Command) -> None:
        """Postfix takes its time."""
        if command.text.startswith(("ls ", "grep ", "journalctl ")):
            self.postfix.statuses(1)
            # It is written in batches.
            self.postfix.wait(lambda: " reply=" in self._log.read_text())


def test_a_reader_who_does_what_the_page_says_has_a_service_that_delivers() -> None:
    """From the directories to the test message."""
    with reading(Operator) as reader:
        for block in BLOCKS:
            reader.does(block)
        reader.console.close()
