"""What docs/pipe.rst says: real programs are started as it says, and its tables are tried row by row."""

from __future__ import annotations

import os
import re
import shutil
import smtplib
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest
from docs_console import Command, Console, commands_of
from docs_pages import ROOT, blocks_of
from docs_run import Places

PAGE = ROOT / "docs" / "pipe.rst"
BLOCKS = blocks_of(PAGE)
SPAM = "Subject: Make money\r\n\r\nFast!\r\n"
HELLO = "Subject: Hello\r\n\r\nHello!\r\n"


# The programs


@contextmanager
def served_by(program: str) -> Iterator[tuple[Path, smtplib.LMTP]]:
    """The server of the page whose command has this word, with the files of the page; gives /srv/mail and a client."""
    (command,) = (
        command
        for block in BLOCKS
        if block.language == "console"
        for command in commands_of(block)
        if re.match(rf"twistd -n .*[:/]{program} ", command.text)
    )
    with tempfile.TemporaryDirectory(prefix="docs-") as name:
        directory = Path(name)
        # For users that are not us.
        directory.chmod(0o755)
        places = Places(directory)
        mail = directory / "srv/mail"
        mail.mkdir()
        for block in BLOCKS:
            if block.file is not None and block.file.startswith("/srv/"):
                file = directory / places.here(block.file)
                file.write_text(places.here(block.text) + "\n")
                file.chmod(0o600)
        console = Console(directory, places.environment)
        try:
            if ",user=vmail" in command.text:
                for path in (mail, *mail.iterdir()):
                    shutil.chown(path, "vmail", "vmail")
            console.run(command, places.here(command.text), [])
            with smtplib.LMTP("127.0.0.1", int(places.here("2524"))) as client:
                yield mail, client
            console.close()
        finally:
            console.kill()


def send(client: smtplib.LMTP, recipient: str, content: str, sender: str = "you@example.net") -> tuple[int, str]:
    """The final reply, without the recipient and the id."""
    client.ehlo_or_helo_if_needed()
    client.mail(sender)
    client.rcpt(recipient)
    code, text = client.data(content)
    enhanced, _, _, *words = text.decode().split(" ")
    return code, " ".join((enhanced, *words))


def stored(mailbox: Path) -> list[str]:
    """The messages in a Maildir."""
    return [file.read_text() for file in sorted((mailbox / "new").iterdir())]


@pytest.mark.peer("procmail")
def test_procmail_delivers_as_the_page_says() -> None:
    """A real one."""
    with served_by("procmail") as (mail, client):
        assert send(client, "alice+x@example.org", HELLO) == (250, "2.0.0 Delivered")
        assert send(client, "alice@example.org", SPAM) == (550, "5.7.1 Not permitted")
        assert send(client, "bob@example.org", HELLO, sender="") == (250, "2.0.0 Delivered")
        (message,) = stored(mail / "alice")
        assert message.startswith("Return-Path: <you@example.net>\nReceived: from ")
        assert message.endswith("\nSubject: Hello\n\nHello!\n")
        assert len(stored(mail / "bob")) == 1


@pytest.mark.peer("maildrop")
def test_maildrop_delivers_as_the_page_says() -> None:
    """A real one."""
    with served_by("maildrop") as (mail, client):
        for part in ("new", "cur", "tmp"):
            (mail / "alice" / part).mkdir(parents=True)
        assert send(client, "alice@example.org", HELLO) == (250, "2.0.0 Delivered")
        assert send(client, "alice@example.org", SPAM) == (550, "5.7.1 Not permitted")
        code, text = send(client, "bob@example.org", HELLO)
        assert (code, text[:5]) == (451, "4.3.0")
        assert "nable to" in text
        (message,) = stored(mail / "alice")
        assert message.startswith("Return-Path: <you@example.net>\nReceived: from ")


@pytest.mark.peer("dovecot")
@pytest.mark.skipif(os.geteuid() != 0, reason="dovecot-lda runs as a user of its own")
def test_dovecot_lda_delivers_as_the_page_says() -> None:
    """A real one: it has read the message and made its indexes."""
    with served_by("dovecot-lda") as (mail, client):
        assert send(client, "Alice+x@example.org", HELLO) == (250, "2.0.0 Delivered")
        assert send(client, "bob@example.org", HELLO, sender="") == (250, "2.0.0 Delivered")
        (message,) = stored(mail / "alice")
        assert message.startswith("Return-Path: <you@example.net>\nReceived: from ")
        assert (mail / "alice" / "dovecot-uidlist").exists()
        assert "saved mail to INBOX" in (mail / "dovecot.log").read_text()
        # What Dovecot cannot do is tried again.
        shutil.chown(mail / "alice" / "new", "root", "root")
        (mail / "alice" / "new").chmod(0o700)
        shutil.chown(mail / "alice" / "tmp", "root", "root")
        (mail / "alice" / "tmp").chmod(0o700)
        assert send(client, "alice@example.org", HELLO)[0] == 451


# The tables


@attrs.frozen
class Row:
    """
    :ivar what: the first cell, without the marks of a literal.
    :ivar reply: how the reply begins.
    """

    what: str
    reply: str


def rows() -> Iterator[Row]:
    """Those of the tables after a comment that says so."""
    for table in PAGE.read_text().split(".. tried by test_docs_pipe.py\n")[1:]:
        table = re.split(r"\n(?=\S)", table.partition(".. list-table::")[2])[0]
        for what, reply in re.findall(r"\n    \* - (.+)\n      - (.+)", table)[1:]:
            yield Row(what.strip("`"), reply.strip("`"))


ROWS = list(rows())


def test_every_row_is_found() -> None:
    """What the reader does not see would not be tried."""
    tables = PAGE.read_text().split(".. tried by test_docs_pipe.py\n")[1:]
    assert len(tables) == 2
    assert len(ROWS) == sum(re.split(r"\n(?=[^\s.])", table)[0].count("\n    * - ") - 1 for table in tables)
    assert len(ROWS) > 30


class Client:
    """A session over a socket."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 30)
        self._lines = self._socket.makefile("r", encoding="ascii", newline="\r\n")
        self.reply()
        self.say("LHLO client.example")

    def say(self, line: str) -> str:
        """Send a line; the last one of the reply."""
        self._socket.sendall(f"{line}\r\n".encode())
        return self.reply()

    def reply(self) -> str:
        """The last line of a reply."""
        while (line := self._lines.readline())[3:4] == "-":
            pass
        return line.removesuffix("\r\n")

    def begin(self) -> None:
        """A message to alice, complete; the reply is not waited for."""
        for line in ("MAIL FROM:<you@example.net>", "RCPT TO:<alice@example.org>", "DATA"):
            assert self.say(line)[0] in "23"
        self._socket.sendall(b"Subject: Hello\r\n\r\nHello!\r\n.\r\n")

    def final(self) -> str:
        """The reply after the dot, without the recipient and the id."""
        code, enhanced, _, _, *words = self.reply().split(" ")
        return " ".join((code, enhanced, *words))

    def reset(self) -> None:
        """The connection is lost: what is only closed could still read its replies."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Go away."""
        self._lines.close()
        self._socket.close()


class Site:
    """
    A server that gives mail to ``./program``.

    :param directory: where it runs.
    :param options: of the backend and of ``lmtp``.
    """

    def __init__(self, directory: Path, options: str) -> None:
        self.directory = directory
        places = Places(directory)
        self.console = Console(directory, places.environment)
        self.write("exit 0")
        (block, *_) = BLOCKS
        text = f"twistd -n --pidfile= lmtp --port 2524 --backend pipe:./program,{options}"
        self.console.run(Command(block, text, False, ()), places.here(text), [])
        self.port = int(places.here("2524"))

    def write(self, script: str) -> None:
        """What the program does from now on."""
        new = self.directory / "new"
        new.write_text(f"#!/bin/sh\n{script}\n")
        new.chmod(0o755)
        new.rename(self.directory / "program")

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for what another process does."""
        until = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < until, "it does not come"
            time.sleep(0.01)


@contextmanager
def site(options: str) -> Iterator[Site]:
    """A server for one row or more."""
    with tempfile.TemporaryDirectory(prefix="docs-") as name:
        started = Site(Path(name), options)
        try:
            yield started
            started.console.close()
        finally:
            started.console.kill()


@pytest.fixture(scope="module")
def ordinary_site() -> Iterator[Site]:
    with site("timeout=0.5") as started:
        yield started


def _too_many_wait() -> str:
    with site("processes=1,queue=1") as here:
        os.mkfifo(here.directory / "fifo")
        here.write("cat fifo >/dev/null")
        first, second, third = (Client(here.port) for _ in range(3))
        first.begin()
        second.begin()
        answers: list[str] = []

        def is_refused() -> bool:
            answers.append(third.say("MAIL FROM:<you@example.net>"))
            return answers[-1][0] == "4" or not third.say("RSET")

        here.until(is_refused)
        for client in (first, second):
            (here.directory / "fifo").write_bytes(b"")
            assert client.final() == "250 2.0.0 Delivered"
        assert third.say("MAIL FROM:<you@example.net>") == "250 2.1.0 Sender OK"
        for client in (first, second, third):
            client.close()
        return answers[-1]


def _the_connection_is_lost() -> str:
    with site("timeout=600") as here:
        here.write("echo $$ >pid; mv pid number; exec sleep 600")
        number = here.directory / "number"
        client = Client(here.port)
        client.begin()
        here.until(number.exists)
        client.reset()
        here.until(lambda: not Path(f"/proc/{number.read_text().strip()}").exists())
    return "none"


def _the_server_stops() -> str:
    with site("timeout=600 --drain-timeout 0.2") as here:
        here.write(": >runs; exec sleep 600")
        client = Client(here.port)
        client.begin()
        here.until((here.directory / "runs").exists)
        here.console.close()
        answer = client.final()
        client.close()
        return answer


NAMED = {
    "too many wait": _too_many_wait,
    "the connection is lost": _the_connection_is_lost,
    "the server stops": _the_server_stops,
}


@pytest.mark.parametrize("row", [pytest.param(row, id=row.what) for row in ROWS])
def test_a_row_is_what_the_client_is_told(row: Row, ordinary_site: Site) -> None:
    """A program's script, a command to the server, ``$`` a command of the shell before, or one of the named ones."""
    if row.what in NAMED:
        answer = NAMED[row.what]()
    elif row.what.startswith(("MAIL", "RCPT")):
        client = Client(ordinary_site.port)
        if row.what.startswith("RCPT"):
            client.say("MAIL FROM:<you@example.net>")
        answer = client.say(row.what)
        client.close()
    else:
        ordinary_site.write("exit 0" if row.what.startswith("$ ") else row.what)
        if row.what.startswith("$ "):
            subprocess.run(row.what[2:], shell=True, cwd=ordinary_site.directory, check=True)
        client = Client(ordinary_site.port)
        client.begin()
        answer = client.final()
        # The session goes on.
        assert client.say("NOOP") == "250 2.0.0 OK"
        client.close()
    assert answer.startswith(row.reply), f"{row.what} is answered {answer!r}"
