"""OpenSMTPD takes the settings of the documentation, and does with them what the documentation says."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from docs_machine import Machine, commands_on, servers_on, three_outcomes
from docs_opensmtpd import VMAIL, DocumentedOpenSMTPD, needs_root
from docs_pages import ROOT, blocks_of

pytestmark = pytest.mark.peer("opensmtpd")

PAGE = ROOT / "docs" / "opensmtpd.rst"
TCP, SOCKET, NAMED = (block.text for block in blocks_of(PAGE) if block.language == "cfg")
THREE = ["alice@example.org", "bob@example.org", "carol@example.org"]
#: What the page warns of.
RELAY = 'action "lmtp" relay host "lmtp://127.0.0.1:2524"\nmatch from any for domain "example.org" action "lmtp"'


class OpenSMTPDMachine(Machine):
    """
    With OpenSMTPD, whose root is the machine's.

    :ivar smtpd: once it was started.
    """

    smtpd: DocumentedOpenSMTPD

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        super().__init__(directory, stack, PAGE)
        self._stack = stack

    def start_smtpd(self, settings: str) -> None:
        """Start it with settings of the page; its root is this directory, so only ports are others."""
        settings = settings.replace("2524", self.places.here("2524"))
        self.smtpd = DocumentedOpenSMTPD(self.directory, settings)
        self._stack.callback(self.smtpd.stop)
        assert self.smtpd.complaints() == "configuration OK\n"
        self.smtpd.start()


@pytest.fixture
def machine() -> Iterator[OpenSMTPDMachine]:
    """A machine, switched off in the end."""
    needs_root()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="docs-")))
        # For the users of OpenSMTPD.
        directory.chmod(0o755)
        yield OpenSMTPDMachine(directory, stack)


def test_the_page_has_servers_and_shows_what_the_check_says() -> None:
    """Else the tests below would test something else."""
    assert servers_on(PAGE).keys() == {"--port", "unix:"}
    (check,) = commands_on(PAGE, "smtpd -n")
    assert check.output == ("configuration OK",)


def test_settings_that_opensmtpd_does_not_know_are_found_out(machine: OpenSMTPDMachine) -> None:
    """The tests below can fail."""
    smtpd = DocumentedOpenSMTPD(machine.directory, TCP.replace("rcpt-to", "rcptto"))
    assert "syntax error" in smtpd.complaints(status=1)
    smtpd.stop()


def test_mail_goes_over_tcp_into_the_maildirs_of_the_page(machine: OpenSMTPDMachine) -> None:
    """The server as the page starts it; OpenSMTPD's limit is smaller than the server's."""
    machine.serve("--port")
    machine.start_smtpd(TCP)
    machine.smtpd.submit(["alice@example.org"])
    assert machine.smtpd.results(1)["alice@example.org"] == "result=Ok stat=Delivered"
    (file,) = (machine.directory / "srv/mail/example.org/alice/new").iterdir()
    header, _, body = file.read_bytes().partition(b"\n\n")
    assert header.startswith(b"Return-Path: <you@example.net>\n")
    assert body == b"Hello\n"
    assert machine.smtpd.size_limit == 35 * 1024 * 1024
    machine.console.close()


def test_opensmtpd_makes_of_replies_over_a_socket_what_the_page_says(machine: OpenSMTPDMachine) -> None:
    """Its log is the one of the page."""
    (machine.directory / "backend.py").write_text(three_outcomes())
    sockets = machine.directory / "var/lib/lmtp"
    sockets.mkdir(mode=0o700)
    machine.serve("unix:", "python:backend:deliver")
    for place in (sockets, sockets / "socket"):
        os.chown(place, VMAIL, VMAIL)
    machine.start_smtpd(SOCKET)
    machine.smtpd.submit(THREE)
    machine.smtpd.results(3)
    lines = [line for line in machine.smtpd.log().split("\n") if " delivery " in line]
    (machine.directory / "var/log/mail.log").write_text("".join(f"{line}\n" for line in sorted(lines, key=_recipient)))
    (command,) = commands_on(PAGE, "grep")
    machine.type(command)
    machine.console.close()


def _recipient(line: str) -> str:
    return line.partition(" to=")[2]


def test_recipients_whom_the_table_does_not_name_are_refused(machine: OpenSMTPDMachine) -> None:
    """By OpenSMTPD itself."""
    machine.serve("--port")
    machine.start_smtpd(NAMED)
    replies = machine.smtpd.submit(["alice@example.org", "zoe@example.org"])
    assert [code for code, _ in replies.values()] == [250, 524]
    machine.console.close()


def test_the_relay_of_the_warning_takes_the_second_reply_for_an_error(machine: OpenSMTPDMachine) -> None:
    """So it sends again what was delivered. Where this fails, OpenSMTPD has mended it, and the page is out of date."""
    machine.serve("--port")
    machine.start_smtpd(RELAY)
    machine.smtpd.submit(THREE)
    results = machine.smtpd.results(3)
    assert sum(result.startswith('result="Ok"') for result in results.values()) == 1
    assert sum("Remote host sent too much data" in result for result in results.values()) == 2
    # And yet all three have it.
    for name in ("alice", "bob", "carol"):
        assert len(list((machine.directory / f"srv/mail/example.org/{name}/new").iterdir())) == 1
    machine.console.close()
