"""Exim takes the settings of the documentation, and does with them what the documentation says."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import attrs
import pytest
import trustme
from docs_exim import DocumentedExim, complaints, needs_root
from docs_machine import Machine, commands_on, servers_on, three_outcomes
from docs_pages import ROOT, Block, blocks_of
from docs_run import CONFIGURATION

pytestmark = pytest.mark.peer("exim")

PAGE = ROOT / "docs" / "exim.rst"
TCP, ROUTER, SOCKET, REMOTE, ASKED = (block for block in blocks_of(PAGE) if block.language in CONFIGURATION)
THREE = ["alice@example.org", "bob@example.org", "carol@example.org"]


def section_of(block: Block) -> str:
    """``acl``, ``router`` or ``transport``."""
    assert block.file is not None
    place = block.file.removeprefix("/etc/exim4/")
    return "acl" if place == "exim4.conf" else place.removeprefix("conf.d/").partition("/")[0]


def test_the_page_has_settings_and_servers() -> None:
    """Else the tests below would test nothing."""
    sections = [section_of(block) for block in (TCP, ROUTER, SOCKET, REMOTE, ASKED)]
    assert sections == ["transport", "router", "transport", "transport", "acl"]
    assert servers_on(PAGE).keys() == {"--port", "unix:"}


@pytest.mark.parametrize(
    "block", [pytest.param(block, id=block.place) for block in (TCP, ROUTER, SOCKET, REMOTE, ASKED)]
)
def test_exim_knows_the_settings(block: Block, tmp_path: Path) -> None:
    """Every name is one of Exim's own, and it has nothing to say against their values."""
    needs_root()
    transport = block if section_of(block) == "transport" else TCP
    blocks = {section_of(part): part.text for part in (transport, ROUTER, block)}
    assert not complaints(blocks, tmp_path)


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ("transport", "lmtp:\n  driver = smtp\n  protocols = lmtp"),
        ("transport", "lmtp:\n  driver = lmtp\n  batch_max = many"),
        ("router", "lmtp:\n  driver = lmtp"),
        ("acl", "refuse\n  domains = example.org"),
    ],
)
def test_settings_that_exim_does_not_know_are_found_out(section: str, text: str, tmp_path: Path) -> None:
    """The test above can fail."""
    needs_root()
    assert complaints({"transport": TCP.text, "router": ROUTER.text, section: text}, tmp_path)


class EximMachine(Machine):
    """
    With Exim.

    :ivar exim: once it was set up.
    """

    exim: DocumentedExim

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        super().__init__(directory, stack, PAGE)
        # As the page's command makes it, but for its owner: whoever runs the tests runs the server.
        sockets = directory / "var/lib/lmtp"
        sockets.mkdir()
        shutil.chown(sockets, group="Debian-exim")
        sockets.chmod(0o2750)

    def set_up(self, *blocks: Block) -> None:
        """Set Exim up with settings of the page; the server of the page that is on another machine is on this one."""
        here = {
            section_of(block): self.places.here(block.text).replace("192.0.2.1\n", "127.0.0.1\n  allow_localhost\n")
            for block in blocks
        }
        self.exim = DocumentedExim(self.directory, here)

    def type_for(self, start: str) -> None:
        """Type the commands of the page that begin so, with the Exim of this machine."""
        commands = commands_on(PAGE, start)
        assert commands
        for command in commands:
            self.type(attrs.evolve(command, text=f"PATH={self.directory}/bin:$PATH; {command.text}"))


@pytest.fixture
def machine() -> Iterator[EximMachine]:
    """A machine, switched off in the end."""
    needs_root()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="docs-")))
        # For the user of Exim.
        directory.chmod(0o755)
        yield EximMachine(directory, stack)


def test_mail_goes_over_tcp_into_the_maildirs_of_the_page(machine: EximMachine) -> None:
    """The server as the page starts it, and Exim as it is told there; it says the same of itself as the page."""
    machine.serve("--port")
    machine.set_up(TCP, ROUTER)
    machine.type_for("exim4")
    machine.exim.submit(["alice@example.org"])
    assert '=> alice@example.org R=lmtp T=lmtp H=127.0.0.1 [127.0.0.1] K C="250 2.0.0 <alice' in machine.exim.log()
    (file,) = (machine.directory / "srv/mail/example.org/alice/new").iterdir()
    assert file.read_bytes().startswith(b"Return-Path: <you@example.net>\nReceived: from mta.example.net ")
    machine.console.close()


def test_exim_makes_of_replies_what_the_page_says(machine: EximMachine) -> None:
    """Its log is the one of the page."""
    (machine.directory / "backend.py").write_text(three_outcomes())
    machine.serve("--port", "python:backend:deliver")
    machine.set_up(TCP, ROUTER)
    machine.exim.submit(THREE)
    machine.type_for("grep")
    machine.console.close()


def test_mail_goes_over_a_socket_once_for_all_recipients(machine: EximMachine) -> None:
    """With the directory, the socket and the user as the page has them."""
    (machine.directory / "backend.py").write_text(three_outcomes())
    machine.serve("unix:", "python:backend:deliver")
    machine.set_up(SOCKET, ROUTER)
    machine.exim.submit(THREE)
    log = machine.exim.log()
    assert '=> alice <alice@example.org> R=lmtp T=lmtp C="250 2.0.0 ' in log
    assert "** bob@example.org R=lmtp T=lmtp: LMTP error after end of data: 552 5.2.2 " in log
    assert "== carol@example.org R=lmtp T=lmtp defer " in log
    # The last part of a reply's id counts the recipients of the message.
    assert all(f".1.{number} " in log for number in (1, 2, 3))
    machine.console.close()


def test_mail_goes_over_tls_to_another_machine(machine: EximMachine) -> None:
    """To a server with a certificate of the authority that the page names, and to no other."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(machine.directory / "cert.pem")
    authority.cert_pem.write_to_path(machine.directory / "etc/exim4/lmtp-authority.pem")
    machine.serve("--port", None, "--tls-certificate cert.pem")
    machine.set_up(REMOTE, ROUTER)
    machine.exim.submit(["alice@example.org"])
    assert "=> alice@example.org R=lmtp T=lmtp H=127.0.0.1 [127.0.0.1] X=TLS1.3:" in machine.exim.log()
    trustme.CA().cert_pem.write_to_path(machine.directory / "etc/exim4/lmtp-authority.pem")
    machine.exim.submit(["alice@example.org"])
    assert "== alice@example.org R=lmtp T=lmtp defer (-37) H=127.0.0.1 [127.0.0.1]: TLS session: " in machine.exim.log()
    machine.console.close()


def test_a_recipient_who_does_not_exist_is_refused_before_the_message_comes(machine: EximMachine) -> None:
    """By a callout; while nobody answers it, the client is to come again."""
    (machine.directory / "srv/mail/example.org/alice").mkdir(parents=True)
    machine.set_up(TCP, ROUTER, ASKED)
    assert machine.exim.ask(["alice@example.org"])["alice@example.org"].startswith("451 ")
    machine.serve("--port", "maildir:/srv/mail,create=no")
    replies = machine.exim.ask(["alice@example.org", "zoe@example.org"])
    assert replies["alice@example.org"].startswith("250 ")
    assert replies["zoe@example.org"].startswith("550 550 5.1.1 ")
    machine.console.close()
