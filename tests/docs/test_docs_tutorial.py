"""The last part of docs/tutorial.rst: a real Postfix feeds the application, and each step is taken as it is told."""

from __future__ import annotations

import re

import pytest
from docs_console import Command
from docs_pages import ROOT, blocks_of
from docs_reader import Reader, reading

pytestmark = pytest.mark.peer("postfix")

PAGE = ROOT / "docs" / "tutorial.rst"
BEGINS = PAGE.read_text(encoding="utf-8").split("\n").index("Real mail")
BLOCKS = blocks_of(PAGE)


class Learner(Reader):
    """Who stops the application before the second letter."""

    leaves_out = ("apt-get", "postfix reload")
    letters = 0

    def before(self, command: Command) -> None:
        """Postfix takes its time."""
        if command.text.startswith("sendmail"):
            self.letters += 1
            if self.letters == 2:
                # Ctrl-C.
                self.console.close()
        elif command.text.startswith(("grep", "python")):
            self.postfix.statuses(3)
            lines = [line for line in self.postfix.log().split("\n") if "/lmtp[" in line and " to=<" in line]
            (self.directory / "var/log/mail.log").write_text("".join(f"{line}\n" for line in lines))
        elif command.text == "postqueue -p":
            self.postfix.wait(lambda: "Connection refused" in self.postfix.log())

    def types(self, command: Command) -> None:
        """Postfix takes its time."""
        super().types(command)
        if command.text == "postqueue -f":
            self.postfix.wait(self._queue_is_empty)

    def _queue_is_empty(self) -> bool:
        queued = set(re.findall(r"/pickup\[\d+\]: (\w+):", self.postfix.log()))
        return all(f" {number}: removed" in self.postfix.log() for number in queued)


def test_a_reader_who_does_what_the_page_says_ends_with_an_application_that_postfix_feeds() -> None:
    """Mail comes, a bounce comes back, the queue keeps what cannot be delivered, and delivers it later."""
    (application,) = (block for block in BLOCKS if block.file == "mailroom.py")
    with reading(Learner) as reader:
        reader.does(application)
        for block in BLOCKS:
            if block.line > BEGINS:
                reader.does(block)
        reader.console.close()
