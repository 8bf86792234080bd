"""docs/production.rst: a reader who types what it says has a service behind Postfix."""

from __future__ import annotations

import re
import sys
from contextlib import ExitStack
from pathlib import Path
from urllib.request import urlopen

import attrs
import pytest
from docs_console import PATIENCE, Command
from docs_pages import ROOT, Block, blocks_of
from docs_reader import Reader, belongs_to_postfix, reading

from lmtp_twisted.daemon.monitoring.catalogue import BY_SAMPLE
from lmtp_twisted.limits import Limit

pytestmark = pytest.mark.peer("postfix")

BLOCKS = blocks_of(ROOT / "docs" / "production.rst")
(UNIT,) = (block for block in BLOCKS if block.language == "systemd")
(TOML,) = (block for block in BLOCKS if block.language == "toml")


class Operator(Reader):
    """Whose machine has no systemd: what the unit starts is started by hand, and the journal is two files."""

    leaves_out = (
        *("adduser", "python3 -m venv", "/opt/lmtp/bin/pip", "/opt/lmtp.new/bin/pip", "mv ", "postfix reload"),
        *("systemctl daemon-reload", "systemctl reload", "systemctl restart"),
    )

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        super().__init__(directory, stack)
        read = "import sys, urllib.request as u; print(u.urlopen(sys.argv[2], timeout=30).read().decode(), end='')"
        self.has_program("curl", f'exec {sys.executable} -c "{read}" "$@"')

    def does(self, block: Block) -> None:
        """All but what other programs read."""
        if block.language not in ("systemd", "yaml"):
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
        elif "/metrics" in command.text:
            # Once a second they are gathered.
            self.postfix.wait(lambda: ',class="2xx"} 1.0' in self._metrics())

    def _metrics(self) -> str:
        with urlopen(self.places.here("http://127.0.0.1:8025/metrics"), timeout=PATIENCE) as answer:
            text: str = answer.read().decode()
        return text


def test_prometheus_is_given_names_that_there_are() -> None:
    """In the rules of the page: figures, and the values of their labels."""
    rules = "\n".join(block.text for block in BLOCKS if block.language == "yaml")
    used = set(re.findall(r"\blmtp_\w+", rules))
    assert len(used) > 3
    assert used <= set(BY_SAMPLE)
    assert set(re.findall(r'limit="([^"]+)"', rules)) <= {limit.value for limit in Limit}
    assert re.findall(r'targets: \["127.0.0.1:(\d+)"\]', rules) == re.findall(r'http = "(\d+)"', TOML.text)


def test_a_reader_who_does_what_the_page_says_has_a_service_that_delivers() -> None:
    """From the directories to the test message."""
    with reading(Operator) as reader:
        for block in BLOCKS:
            reader.does(block)
        reader.console.close()
