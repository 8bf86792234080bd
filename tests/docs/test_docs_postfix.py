"""Postfix takes the settings of the documentation, and does with them what the documentation says."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
import pytest
import trustme
from docs_machine import Machine, commands_on, servers_on, three_outcomes
from docs_pages import ROOT, Block, all_pages, blocks_of
from docs_postfix import DocumentedPostfix, environment, needs_root, write_configuration
from docs_run import CONFIGURATION

pytestmark = pytest.mark.peer("postfix")

PAGE = ROOT / "docs" / "postfix.rst"
SETTINGS = [
    block
    for page in all_pages()
    for block in blocks_of(page)
    if block.language in CONFIGURATION and not (block.file or "").startswith("/etc/exim4/")
]
TCP, SOCKET, REMOTE, USERS, VERIFIED, LIMIT = (block for block in SETTINGS if block.page == PAGE)


def test_the_page_has_settings() -> None:
    """Else the tests below would test nothing."""
    pages = {"README.md", "postfix.rst", "production.rst", "scaling.rst", "tutorial.rst"}
    assert {block.page.name for block in SETTINGS} == pages
    assert servers_on(PAGE).keys() == {"--port", "unix:", "tcp:"}


@pytest.mark.parametrize("block", [pytest.param(block, id=block.place) for block in SETTINGS])
def test_postfix_knows_the_settings(block: Block, tmp_path: Path) -> None:
    """Every name is one of Postfix's own, and it has nothing to say against their values."""
    assert block.file == "main.cf"
    assert not complaints(block.text, tmp_path)


@pytest.mark.parametrize(
    "settings", ["virtual_transports = lmtp:inet:127.0.0.1:2524", "virtual_transport lmtp:", "lmtp_nothing = 1"]
)
def test_settings_that_postfix_does_not_know_are_found_out(settings: str, tmp_path: Path) -> None:
    """The test above can fail."""
    assert complaints(settings, tmp_path)


def complaints(settings: str, directory: Path) -> str:
    """What Postfix says against settings: unknown names, and what it cannot parse."""
    write_configuration(directory, f"compatibility_level = 3.6\n{settings}\n", "lmtp unix - - n - - lmtp\n")
    command = ["postconf", "-c", str(directory), "-n"]
    return subprocess.run(command, env=environment(), capture_output=True, text=True).stderr


class PostfixMachine(Machine):
    """
    With Postfix.

    :ivar postfix: once it was started.
    """

    postfix: DocumentedPostfix

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        super().__init__(directory, stack, PAGE)
        self._stack = stack
        # As the page's command makes it, but for its owner: whoever runs the tests runs the server.
        sockets = directory / "var/spool/postfix/lmtp"
        sockets.mkdir()
        shutil.chown(sockets, group="postfix")
        sockets.chmod(0o2750)

    def start_postfix(self, block: Block, **changes: str) -> None:
        """Start Postfix with settings of the page."""
        self.postfix = DocumentedPostfix(self.directory, self.places.here(block.text), changes)
        self._stack.callback(self.postfix.stop)


@pytest.fixture
def machine() -> Iterator[PostfixMachine]:
    """A machine, switched off in the end."""
    needs_root()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="docs-")))
        # For the user of Postfix.
        directory.chmod(0o755)
        yield PostfixMachine(directory, stack)


THREE = ["alice@example.org", "bob@example.org", "carol@example.org"]


def test_mail_goes_over_tcp_into_the_maildirs_of_the_page(machine: PostfixMachine) -> None:
    """The server as the page starts it, and Postfix as it is told there."""
    machine.serve("--port")
    machine.start_postfix(TCP)
    machine.postfix.submit(["alice@example.org"])
    assert "status=sent (250 2.0.0 <alice@example.org>" in machine.postfix.statuses(1)["alice@example.org"]
    (file,) = (machine.directory / "srv/mail/example.org/alice/new").iterdir()
    header, _, body = file.read_bytes().partition(b"\n\n")
    assert header.startswith(b"Return-Path: <you@example.net>\nReceived: from mta.example.net ")
    assert body == b"Hello\n"
    machine.console.close()


def test_postfix_makes_of_replies_over_a_socket_what_the_page_says(machine: PostfixMachine) -> None:
    """Its log is the one of the page. Without DSN it reports success itself."""
    (machine.directory / "backend.py").write_text(three_outcomes())
    machine.serve("unix:", "python:backend:deliver")
    machine.start_postfix(SOCKET)
    machine.postfix.submit(THREE, options=["NOTIFY=SUCCESS"])
    machine.postfix.statuses(3)
    (command,) = commands_on(PAGE, "grep")
    log = machine.directory / "maillog"
    only_lmtp = [line for line in log.read_text().split("\n") if "/lmtp[" in line]
    (machine.directory / "var/log/mail.log").write_text("\n".join(only_lmtp) + "\n")
    machine.type(command)
    machine.postfix.wait(lambda: "sender delivery status notification" in machine.postfix.log())
    machine.console.close()


def test_users_of_the_machine_are_handed_over_one_by_one(machine: PostfixMachine) -> None:
    """By mailbox_transport. With DSN announced, Postfix leaves reports of success to the backend."""
    (machine.directory / "backend.py").write_text(three_outcomes())
    machine.serve("unix:", "python:backend:deliver", "--enable DSN")
    machine.start_postfix(USERS)
    # Not Carol: only a message that is done with is removed from the queue, after all that there is to notify of.
    machine.postfix.submit(THREE[:2], options=["NOTIFY=SUCCESS"])
    statuses = machine.postfix.statuses(2)
    assert [statuses[recipient].split()[1] for recipient in THREE[:2]] == ["status=sent", "status=bounced"]
    # The last part of a reply's id counts the recipients of the message.
    ids = [re.search(r"> \w+\.\d+\.(\d+) ", statuses[recipient]) for recipient in THREE[:2]]
    assert [found and found[1] for found in ids] == ["1", "1"]
    queued = re.search(r"/lmtp\[\d+\]: (\w+):", machine.postfix.log())
    assert queued is not None
    machine.postfix.wait(lambda: f" {queued[1]}: removed" in machine.postfix.log())
    assert "sender delivery status notification" not in machine.postfix.log()
    machine.console.close()


def test_a_recipient_who_does_not_exist_is_refused_before_the_message_comes(machine: PostfixMachine) -> None:
    """By reject_unverified_recipient, with the reply of the backend."""
    (machine.directory / "srv/mail/example.org/alice").mkdir(parents=True)
    machine.serve("--port", "maildir:/srv/mail,create=no")
    # Clients of the machine itself are not asked for; and nobody wants to wait three seconds.
    machine.start_postfix(VERIFIED, mynetworks="192.0.2.0/24", address_verify_poll_delay="1s")
    replies = machine.postfix.submit(["alice@example.org", "zoe@example.org"])
    assert replies["alice@example.org"][0] == 250
    code, text = replies["zoe@example.org"]
    assert code == 550
    assert "550 5.1.1" in text
    machine.console.close()


def test_a_limit_of_recipients_splits_a_message(machine: PostfixMachine) -> None:
    """lmtp_destination_recipient_limit, with a smaller number than the page's."""
    name, _, number = LIMIT.text.partition(" = ")
    assert (name, number) == ("lmtp_destination_recipient_limit", "500")
    machine.serve("--port")
    machine.start_postfix(TCP, lmtp_destination_recipient_limit="1")
    machine.postfix.submit(["alice@example.org", "bob@example.org"])
    found: dict[str, Any] = machine.postfix.statuses(2)
    assert all(re.search(r"> \w+\.\d+\.1 Delivered", status) for status in found.values()), found
    machine.console.close()


@pytest.mark.parametrize("port", ["2524", "2528"])
def test_of_two_servers_postfix_takes_the_one_that_is_there(machine: PostfixMachine, port: str) -> None:
    """As docs/scaling.rst says."""
    (settings,) = (block for block in SETTINGS if block.page.name == "scaling.rst")
    (command,) = commands_on(PAGE, "twistd -n --pidfile= --uid=vmail --gid=vmail lmtp --port")
    machine.type(attrs.evolve(command, text=f"twistd -n --pidfile= lmtp --port {port} --backend null:", output=()))
    machine.start_postfix(settings)
    machine.postfix.submit(["alice@example.org"])
    assert "status=sent (250 2.0.0" in machine.postfix.statuses(1)["alice@example.org"]
    machine.console.close()


def set_up_login(machine: PostfixMachine, backend: str | None = None, **changes: str) -> None:
    """What the page has for another machine, which is this one: certificate, passwords, server and Postfix."""
    (machine.directory / "etc/lmtp").chmod(0o700)
    (openssl,) = commands_on(PAGE, "openssl")
    machine.type(openssl)
    shutil.copy(machine.directory / "etc/lmtp/cert.pem", machine.directory / "etc/postfix/lmtp-authority.pem")
    for block in blocks_of(PAGE):
        if block.language == "text" and block.file is not None:
            text = block.text.replace("192.0.2.1", "127.0.0.1")
            Path(machine.places.here(block.file)).write_text(f"{text}\n")
    machine.serve("tcp:", backend)
    here = attrs.evolve(REMOTE, text=REMOTE.text.replace("192.0.2.1", "127.0.0.1"))
    machine.start_postfix(here, **changes)


def outcome(machine: PostfixMachine) -> str:
    """What Postfix's log says of one message to Alice."""
    machine.postfix.submit(["alice@example.org"])
    return machine.postfix.statuses(1)["alice@example.org"]


def on_page(status: str) -> bool:
    """Whether the page shows what the log says, with ``…`` for what is different each time."""
    shown = re.findall(r"``(dsn=.*)``", PAGE.read_text(encoding="utf-8"))
    patterns = (".*".join(map(re.escape, line.split("…"))) for line in shown)
    return any(re.fullmatch(pattern, status.strip()) for pattern in patterns)


def test_mail_goes_over_tls_to_another_machine_that_wants_a_password(machine: PostfixMachine) -> None:
    """With the certificate, the passwords and the backend of the page, which is told of the client."""
    (source,) = (block.text for block in blocks_of(PAGE) if block.language == "python")
    (machine.directory / "backend.py").write_text(source)
    set_up_login(machine, "python:backend:deliver")
    assert re.search(
        r"status=sent \(250 2\.0\.0 <alice@example\.org> \S+ Came as \w+ from 127\.0\.0\.1\)", outcome(machine)
    )
    machine.console.close()


def test_the_message_that_came_over_tls_says_so(machine: PostfixMachine) -> None:
    """RFC 3848, with the backend of the page."""
    set_up_login(machine)
    assert "status=sent" in outcome(machine)
    (file,) = (machine.directory / "srv/mail/example.org/alice/new").iterdir()
    assert b" with LMTPSA id " in file.read_bytes()
    machine.console.close()


def test_a_wrong_password_is_logged_as_the_page_says(machine: PostfixMachine) -> None:
    """And is no reason to give up."""
    set_up_login(machine, lmtp_sasl_password_maps="static:postfix:wrong")
    status = outcome(machine)
    assert "535 5.7.8" in status
    assert on_page(status), status
    machine.console.close()


@pytest.mark.parametrize(("soft", "status"), [("no", "bounced"), ("yes", "SOFTBOUNCE")])
def test_a_missing_password_bounces_mail_unless_bounces_are_soft(
    machine: PostfixMachine, soft: str, status: str
) -> None:
    """soft_bounce: the log then says SOFTBOUNCE, and the mail stays."""
    set_up_login(machine, lmtp_sasl_password_maps="inline:{192.0.2.99=somebody:else}", soft_bounce=soft)
    found = outcome(machine)
    assert f"status={status} " in found
    assert "530 5.7.0" in found
    assert on_page(found) == (soft == "no")
    machine.console.close()


def test_a_certificate_that_is_not_believed_is_logged_as_the_page_says(machine: PostfixMachine) -> None:
    """No password is sent to that server."""
    other = machine.directory / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    set_up_login(machine, lmtp_tls_CAfile=str(other))
    status = outcome(machine)
    assert "4.7.5" in status
    assert on_page(status), status
    machine.console.close()


@pytest.mark.parametrize("options", ["noanonymous", "noplaintext, noanonymous"])
def test_a_password_is_sent_as_it_is_only_where_postfix_may(machine: PostfixMachine, options: str) -> None:
    """lmtp_sasl_tls_security_options, where the server announces nothing else."""
    page = PAGE.read_text(encoding="utf-8")
    assert "``lmtp_sasl_tls_security_options = noanonymous``" in page
    assert "``lmtp_sasl_mechanism_filter = !external, static:all``" in page
    mechanisms = "!cram-md5, !external, static:all"
    set_up_login(machine, lmtp_sasl_mechanism_filter=mechanisms, lmtp_sasl_tls_security_options=options)
    assert ("status=sent" if options == "noanonymous" else "status=deferred") in outcome(machine)
    machine.console.close()
