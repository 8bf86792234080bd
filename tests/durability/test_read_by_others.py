"""The same Maildirs, read by other programs: what we store they see, and what they store beside it stays."""

from __future__ import annotations

import contextlib
import mailbox
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from killed_server import start
from peer_programs import find
from sent_messages import PATIENCE, Message, Session, port_of

from benchmarks.dovecot import USER, configure
from benchmarks.process import Server, free_port

OURS = [Message.make(f"ours{number}", ["anna@one.example", "bert@one.example"], 3000) for number in range(5)]
THEIRS = [Message.make(f"theirs{number}", ["anna@one.example"], 3000) for number in range(5)]
LARGE = Message.make("large", ["anna@one.example"], 1_200_000)


def deliver(directory: Path, messages: list[Message], backend: str = "mail") -> None:
    """Give messages to a server of ours, which ends then."""
    process = start(directory, backend)
    try:
        assert process.stdout is not None
        with contextlib.closing(Session(port_of(process.stdout))) as session:
            session.greet()
            for message in messages:
                session.deliver(message)
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


def test_pythons_mailbox_sees_every_message(tmp_path: Path) -> None:
    """maildir(5): all of it new, whole, and with the headers of its envelope."""
    deliver(tmp_path, [*OURS, LARGE])
    for name, sent in (("anna", [*OURS, LARGE]), ("bert", OURS)):
        box = mailbox.Maildir(tmp_path / "mail" / "one.example" / name, create=False)
        assert {message["Message-ID"]: message.get_subdir() for message in box} == {
            f"<{message.token}@example.net>": "new" for message in sent
        }
        for message in sent:
            assert sum(message.is_whole(box.get_bytes(key)) for key in box.keys()) == 1  # noqa: SIM118  # no dictionary
        assert {message["Return-Path"] for message in box} == {"<sender@example.net>"}


@attrs.frozen
class Dovecot:
    """
    :ivar directory: where all of it is.
    :ivar port: of its LMTP.
    """

    directory: Path
    port: int

    def doveadm(self, *arguments: str) -> str:
        """What this command of doveadm's says."""
        command = [str(find("doveadm")), "-c", str(self.directory / "dovecot.conf"), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout


@pytest.fixture
def dovecot() -> Iterator[Dovecot]:
    """A Dovecot whose users have their mail at ``mail/USER@DOMAIN``. Names of its sockets have to be short."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    port = free_port()
    configuration = configure(directory, port)
    try:
        with Server([str(find("dovecot")), "-F", "-c", str(configuration)], port, directory):
            yield Dovecot(directory, port)
    finally:
        shutil.rmtree(directory)


@pytest.mark.peer("dovecot")
def test_dovecot_sees_what_we_stored_and_what_it_stored_beside_it_is_intact(dovecot: Dovecot) -> None:
    """Its LMTP delivers, then ours into the same mailbox, and then its own once more; its doveadm reads them all."""
    mail = dovecot.directory / "mail"
    _give(dovecot, THEIRS[:3])
    deliver(dovecot.directory, [*OURS, LARGE], f"{mail}/{{local}}@{{domain}}")
    # Whoever delivers into a mailbox is its owner, or root as here, and then the files are not its owner's.
    for path in mail.rglob("*"):
        shutil.chown(path, USER, USER)
    before = {path: path.read_bytes() for path in (mail / "anna@one.example" / "new").iterdir()}
    _give(dovecot, THEIRS[3:])
    everything = [*THEIRS, *OURS, LARGE]
    for name, sent in (("anna", everything), ("bert", OURS)):
        fetched = dovecot.doveadm("-f", "tab", "fetch", "-u", f"{name}@one.example", "hdr.message-id", "ALL")
        assert sorted(fetched.splitlines()[1:]) == sorted(f"<{message.token}@example.net>" for message in sent)
    for message in [*OURS, LARGE]:
        query = ("-u", "anna@one.example", "header", "message-id", f"<{message.token}@example.net>")
        text = dovecot.doveadm("-f", "pager", "fetch", query[0], query[1], "text", *query[2:])
        assert message.content.replace(b"\r\n", b"\n").decode() in text.replace("\r\n", "\n")
    # Reading it has moved what was new, and changed nothing of it.
    after = {path.name.partition(":")[0]: path.read_bytes() for path in (mail / "anna@one.example").glob("*/*,S=*")}
    for path, octets in before.items():
        assert after[path.name.partition(":")[0]] == octets
    assert len(after) == len(everything)


def _give(dovecot: Dovecot, messages: list[Message]) -> None:
    """By Dovecot's LMTP."""
    with (
        socket.create_connection(("127.0.0.1", dovecot.port), PATIENCE) as connection,
        connection.makefile("rb") as lines,
    ):
        commands = [b"LHLO load.example.net\r\n"]
        for message in messages:
            mail, recipient, data, _ = message.burst.split(b"\r\n")
            commands += [mail + b"\r\n", recipient + b"\r\n", data + b"\r\n", message.wire]
        for command in [b"", *commands]:
            connection.sendall(command)
            while (reply := lines.readline())[3:4] == b"-":
                pass
            assert reply[:1] in (b"2", b"3"), reply
