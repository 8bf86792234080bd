"""docs/production.rst: a reader who types what it says has a service behind Postfix."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from urllib.request import urlopen

import pytest
from docs_console import PATIENCE, Command
from docs_pages import ROOT, Block, blocks_of
from docs_reader import Reader, reading

pytestmark = pytest.mark.peer("postfix")

BLOCKS = blocks_of(ROOT / "docs" / "production.rst")


class Operator(Reader):
    """Whose machine has no systemd: this keeps the socket, starts the server as the units say, and has a journal."""

    leaves_out = (
        *("adduser", "/usr/bin/python3 -m venv", "/opt/lmtp-", "ln -sfn ", "postfix reload"),
        "systemctl daemon-reload",
    )

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        super().__init__(directory, stack)
        self._process: subprocess.Popen[bytes] | None = None
        self._socket = stack.enter_context(socket.socket(socket.AF_UNIX))
        self._log = directory / "journal"
        stack.callback(self._stop)
        (directory / "contrib").symlink_to(ROOT / "contrib")
        read = "import sys, urllib.request as u; print(u.urlopen(sys.argv[2], timeout=30).read().decode(), end='')"
        self.has_program("curl", f'exec {sys.executable} -c "{read}" "$@"')
        of_postfix = "sed -n 's|.*/lmtp.[0-9]*.: ||p' maillog | tail -n 1"
        self.has_program("journalctl", f"case $2 in lmtp) cat {self._log};; *) {of_postfix};; esac")

    def does(self, block: Block) -> None:
        """All but what Prometheus reads."""
        if block.language != "yaml":
            super().does(block)

    def types(self, command: Command) -> None:
        """What systemctl does is done here."""
        if command.text.startswith("systemctl enable"):
            self._listen()
            self._start()
        elif command.text == "systemctl reload lmtp":
            self._reload()
        elif command.text == "systemctl restart lmtp":
            self._stop()
            self._start()
        else:
            super().types(command)

    def _unit(self, name: str, setting: str) -> str:
        """A setting of a unit, as the page has put it there."""
        text = (self.directory / "etc/systemd/system" / name).read_text()
        *_, value = re.findall(rf"^{setting}=(.*)", text, re.MULTILINE)
        return str(value)

    def _listen(self) -> None:
        path = Path(self._unit("lmtp.socket", "ListenStream"))
        path.parent.mkdir()
        self._socket.bind(str(path))
        self._socket.listen()
        shutil.chown(path, group=self._unit("lmtp.socket", "SocketGroup"))
        path.chmod(int(self._unit("lmtp.socket", "SocketMode"), 8))

    def _start(self) -> None:
        command = self._unit("lmtp.service", "ExecStart").removeprefix("/opt/lmtp/bin/")
        passed = self._socket.fileno()
        names = f"LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES={self._unit('lmtp.socket', 'FileDescriptorName')}"
        with self._log.open("ab") as journal:
            self._process = subprocess.Popen(
                ["bash", "-c", f"exec 3<&{passed}; {names} exec {self.places.here(command)}"],
                cwd=self.directory,
                env=self.places.environment,
                stdin=subprocess.DEVNULL,
                stdout=journal,
                stderr=journal,
                pass_fds=[passed],
            )

    def _reload(self) -> None:
        """As ExecReload says: the check, and the signal."""
        assert self._unit("lmtp.service", "ExecReload") == "/bin/kill -HUP $MAINPID"
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)
        self.postfix.wait(lambda: " reloaded, " in self._log.read_text())

    def _stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            assert self._process.wait(PATIENCE) == -signal.SIGTERM, self._log.read_text()
            self._process = None

    def journal(self) -> str:
        """What the server has said."""
        return self._log.read_text()

    def before(self, command: Command) -> None:
        """Postfix takes its time."""
        if command.text.startswith(("ls ", "grep ", "journalctl ")):
            self.postfix.statuses(1)
            # It is written in batches.
            self.postfix.wait(lambda: " reply=" in self._log.read_text())
        elif "/metrics" in command.text:
            # Once a second they are gathered, and only what has started is asked.
            shown = "lmtp_processes 2.0" if "lmtp_processes" in command.text else ',class="2xx"} 1.0'
            self.postfix.wait(lambda: shown in self._metrics())

    def _metrics(self) -> str:
        try:
            with urlopen(self.places.here("http://127.0.0.1:8025/metrics"), timeout=PATIENCE) as answer:
                text: str = answer.read().decode()
        except OSError:
            # It does not listen yet.
            return ""
        return text


def test_prometheus_asks_where_the_server_shows_its_figures() -> None:
    """The port of the one is that of the other."""
    (scraped,) = (block for block in BLOCKS if block.language == "yaml")
    (toml,) = (block for block in BLOCKS if block.language == "toml")
    assert re.findall(r'targets: \["127.0.0.1:(\d+)"\]', scraped.text) == re.findall(r'http = "(\d+)"', toml.text)


def test_a_reader_who_does_what_the_page_says_has_a_service_that_delivers() -> None:
    """From the directories to the test message."""
    with reading(Operator) as reader:
        for block in BLOCKS:
            reader.does(block)
        # Another message, after all that has been done.
        reader.postfix.submit(["bob@example.org"])
        assert "status=sent" in reader.postfix.statuses(2)["bob@example.org"]
        (queue,) = re.findall(r" (\w+): to=<bob@example\.org>", reader.postfix.log())
        reader.postfix.wait(lambda: f" queue={queue} " in reader.journal())
        reader.console.close()
