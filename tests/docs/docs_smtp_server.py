"""
The examples of docs/smtp-server.rst and docs/aiosmtpd.rst: each is a server of somebody else's, one of ours, and
dialogues that they speak. Both run for real, on a port of 127.0.0.1, each in a process of its own.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs
from docs_console import assert_shown
from docs_pages import ROOT, Block, blocks_of
from docs_run import Places
from peer_programs import find

PAGE = ROOT / "docs/smtp-server.rst"
AIOSMTPD_PAGE = ROOT / "docs/aiosmtpd.rst"
MODULES = ROOT / "benchmarks/peers/node_modules"
#: Seconds that a server may take to start, or to answer.
PATIENCE = 30.0

THEIRS, OURS = "smtp-server", "lmtp-twisted"
AIOSMTPD = "aiosmtpd"

# Its controller has a thread of its own, which does not keep the program alive.
_WAIT = "\nimport signal\nsignal.pause()\n"
_LISTEN = (
    'from twisted.internet import reactor\nreactor.listenTCP(2524, factory, interface="127.0.0.1")\nreactor.run()\n'
)


@attrs.frozen
class Example:
    """
    :ivar speaker: whose server it is.
    :ivar program: its source, with the ports of the page.
    :ivar dialogue: what it speaks.
    """

    speaker: str
    program: str
    dialogue: Block

    def __str__(self) -> str:
        return f"{self.speaker} at {self.dialogue.place}"


def examples(page: Path = PAGE, theirs: str = THEIRS) -> list[Example]:
    """All of a page. Blocks of Python without a name build on each other; those with one are whole programs."""
    found: list[Example] = []
    programs, before = {}, ""
    for block in blocks_of(page):
        if block.language == "javascript":
            programs[theirs] = block.text
        elif block.file == theirs and block.language == "python":
            programs[theirs] = block.text + _WAIT
        elif block.language == "python":
            before += "" if block.file else f"{block.text}\n"
            programs[OURS] = block.text if block.file else before + _LISTEN
        elif block.language == "text":
            caption = block.file or ""
            speakers = (theirs, OURS) if caption.startswith("Both") else (caption,)
            found += [Example(one, programs[one], block) for one in speakers]
    return found


@contextmanager
def served(example: Example, directory: Path) -> Iterator[int]:
    """
    Run the server of an example.

    :param directory: where it runs.
    :returns: its port.
    :raises AssertionError: where it does not start, or does not live until the end.
    """
    places = Places(directory)
    is_theirs = example.speaker == THEIRS
    file = directory / ("example.js" if is_theirs else "example.py")
    file.write_text(places.here(example.program), encoding="utf-8")
    program = find("node") if is_theirs else sys.executable
    assert program is not None
    environment: Mapping[str, str] = {**places.environment, "NODE_PATH": str(MODULES)}
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(
            [program, str(file)],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        port = int(places.here("2524"))
        _wait_until_it_listens(port, process, directory / "output")
        yield port
        assert process.poll() is None, (directory / "output").read_text("utf-8")
    finally:
        process.kill()
        process.wait()


def _wait_until_it_listens(port: int, process: subprocess.Popen[bytes], output: Path) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), PATIENCE):
            return
        assert process.poll() is None, output.read_text("utf-8")
        assert time.monotonic() < until, f"nobody listens: {output.read_text('utf-8')}"
        time.sleep(0.02)


class Client:
    """A client of a server that runs."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._lines = self.socket.makefile("r", encoding="utf-8", newline="\r\n")

    def send(self, lines: list[str]) -> None:
        """Send lines, in one segment."""
        self.socket.sendall("".join(f"{line}\r\n" for line in lines).encode())

    def reply(self) -> str:
        """The last line of the next reply; ``""`` where the connection has ended."""
        while True:
            line = self._lines.readline().removesuffix("\r\n")
            if line[3:4] != "-":
                return line

    def start_tls(self, name: str, trusted: Path) -> None:
        """Shake hands with a server whose certificate has this name."""
        self._lines.close()
        context = ssl.create_default_context(cafile=str(trusted))
        self.socket = context.wrap_socket(self.socket, server_hostname=name)
        self._lines = self.socket.makefile("r", encoding="utf-8", newline="\r\n")

    def close(self) -> None:
        """Hang up."""
        self._lines.close()
        self.socket.close()


def speak(dialogue: Block, port: int, *, name: str = "", trusted: Path = Path()) -> None:
    """
    Speak a dialogue: what the client says is sent in one segment up to the server's next reply. After the last the
    server has to close.

    :param name: whom TLS is to be with, after STARTTLS.
    :param trusted: its certificate.
    :raises AssertionError: where the server says something else.
    """
    client = Client(port)
    said: list[str] = []
    try:
        for line in dialogue.text.split("\n"):
            side, text = line[:2], line[3:]
            assert side in ("C:", "S:"), f"{dialogue.place}: {line!r} is no line of a dialogue"
            if side == "C:":
                said.append(text)
                continue
            begins_tls = said == ["STARTTLS"] and text.startswith("220")
            if said:
                client.send(said)
                said.clear()
            assert_shown(dialogue.place, [text], f"{client.reply()}\n", whole=True)
            if begins_tls:
                client.start_tls(name, trusted)
        assert not said, f"{dialogue.place}: what does the server say to {said}?"
        more = client.reply()
        assert not more, f"{dialogue.place}: the server goes on with {more!r}"
    finally:
        client.close()
