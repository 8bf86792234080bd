"""Exim takes the settings of the documentation, and does with them what the documentation says."""

from __future__ import annotations

import re
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
SETTINGS = [block for block in blocks_of(PAGE) if block.language in CONFIGURATION]
TCP, ROUTER, SOCKET, REMOTE, PASSWORD, CERTIFICATE, ASKED = SETTINGS
THREE = ["alice@example.org", "bob@example.org", "carol@example.org"]


def section_of(block: Block) -> str:
    """``acl``, ``router``, ``transport`` or ``auth``."""
    assert block.file is not None
    if "public_name" in block.text:
        return "auth"
    place = block.file.removeprefix("/etc/exim4/")
    return "acl" if place == "exim4.conf" else place.removeprefix("conf.d/").partition("/")[0]


def test_the_page_has_settings_and_servers() -> None:
    """Else the tests below would test nothing."""
    sections = [section_of(block) for block in SETTINGS]
    assert sections == ["transport", "router", "transport", "transport", "auth", "auth", "acl"]
    assert servers_on(PAGE).keys() == {"--port", "unix:"}


@pytest.mark.parametrize("block", [pytest.param(block, id=block.place) for block in SETTINGS])
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
        ("auth", "lmtp:\n  driver = cram_md5\n  public_name = CRAM-MD5\n  client_password = x"),
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


def serve_as_another(machine: EximMachine, authority: trustme.CA, *options: str) -> None:
    """The server of another machine, which is this one, with a certificate of an authority that Exim is told of."""
    lmtp = machine.directory / "etc/lmtp"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(lmtp / "cert.pem")
    authority.cert_pem.write_to_path(lmtp / "authority.pem")
    authority.cert_pem.write_to_path(machine.directory / "etc/exim4/lmtp-authority.pem")
    (lmtp / "users").write_text("exim:long-and-secret\n")
    (lmtp / "names").write_text("mta.example.net\n")
    machine.serve("--port", None, f"--tls-certificate {lmtp}/cert.pem --auth-required", *options)


def test_mail_goes_over_tls_to_another_machine_that_wants_a_password(machine: EximMachine) -> None:
    """Once the password is right."""
    users = f"{machine.directory}/etc/lmtp/users"
    serve_as_another(machine, trustme.CA(), f"--auth file:{users}")
    machine.set_up(REMOTE, ROUTER, PASSWORD)
    machine.exim.submit(["alice@example.org"])
    log = machine.exim.log()
    assert "=> alice@example.org R=lmtp T=lmtp H=127.0.0.1 [127.0.0.1] X=TLS1.3:" in log
    assert " A=lmtp_password " in log
    (file,) = (machine.directory / "srv/mail/example.org/alice/new").iterdir()
    assert b" with LMTPSA id " in file.read_bytes()
    Path(users).write_text("exim:another\n")
    machine.exim.submit(["bob@example.org"])
    assert re.search(r"== bob@example\.org .*authentication", machine.exim.log()), machine.exim.log()
    machine.console.close()


def test_a_machine_whose_certificate_is_of_another_authority_gets_no_mail(machine: EximMachine) -> None:
    """Nor the password."""
    serve_as_another(machine, trustme.CA(), f"--auth file:{machine.directory}/etc/lmtp/users")
    trustme.CA().cert_pem.write_to_path(machine.directory / "etc/exim4/lmtp-authority.pem")
    machine.set_up(REMOTE, ROUTER, PASSWORD)
    machine.exim.submit(["alice@example.org"])
    assert "== alice@example.org R=lmtp T=lmtp defer (-37) H=127.0.0.1 [127.0.0.1]: TLS session: " in machine.exim.log()
    machine.console.close()


def test_mail_goes_to_another_machine_that_wants_a_certificate(machine: EximMachine) -> None:
    """EXTERNAL, with what the page says in its text."""
    option = "tls_certificate = /etc/exim4/lmtp-client.pem"
    assert f"``{option}``" in PAGE.read_text(encoding="utf-8")
    lmtp = f"{machine.directory}/etc/lmtp"
    authority = trustme.CA()
    serve_as_another(machine, authority, f"--auth certificate:{lmtp}/names --tls-client-ca {lmtp}/authority.pem")
    client = authority.issue_cert("mta.example.net")
    client.private_key_and_cert_chain_pem.write_to_path(machine.directory / "etc/exim4/lmtp-client.pem")
    machine.set_up(attrs.evolve(REMOTE, text=f"{REMOTE.text}\n  {option}"), ROUTER, CERTIFICATE)
    machine.exim.submit(["alice@example.org"])
    assert "=> alice@example.org " in machine.exim.log(), machine.exim.log()
    assert " A=lmtp_certificate " in machine.exim.log()
    Path(lmtp, "names").write_text("other.example.net\n")
    machine.exim.submit(["bob@example.org"])
    assert re.search(r"== bob@example\.org .*authentication", machine.exim.log()), machine.exim.log()
    machine.console.close()


def test_without_hosts_require_auth_mail_bounces(machine: EximMachine) -> None:
    """As the page says."""
    serve_as_another(machine, trustme.CA(), f"--auth file:{machine.directory}/etc/lmtp/users")
    text = REMOTE.text.replace("\n  hosts_require_auth = *", "")
    assert text != REMOTE.text
    machine.set_up(attrs.evolve(REMOTE, text=text), ROUTER)
    machine.exim.submit(["alice@example.org"])
    assert re.search(r"\*\* alice@example\.org .* 530 5\.7\.0 ", machine.exim.log()), machine.exim.log()
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
