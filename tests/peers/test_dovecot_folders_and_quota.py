"""Dovecot's own tools on a mailbox of ours: its folders, and how much it holds."""

from __future__ import annotations

import shutil
import smtplib
from pathlib import Path

import attrs
import pytest
import pytest_twisted
from daemons import Daemon, listening_port
from programs import in_thread, run

pytestmark = pytest.mark.peer("dovecot")

CONTENT = "Subject: Hello\r\n\r\nHello!\r\n"


@attrs.define
class Box:
    """
    The mailbox of bob, which is to be Dovecot's as well.

    :ivar path: its directory.
    :ivar port: of our server.
    :ivar configuration: Dovecot's.
    """

    path: Path
    port: int
    configuration: Path

    async def deliver(self, *recipients: str) -> list[int]:
        """Deliver a message to each: the codes of the replies."""
        return await in_thread(self._deliver, recipients)

    def _deliver(self, recipients: tuple[str, ...]) -> list[int]:
        codes: list[int] = []
        with smtplib.LMTP("127.0.0.1", self.port) as client:
            for recipient in recipients:
                try:
                    client.sendmail("a@example.net", [f"{recipient}@x"], CONTENT, ["SMTPUTF8"])
                    codes.append(250)
                except smtplib.SMTPRecipientsRefused as error:
                    ((code, _),) = error.recipients.values()
                    codes.append(code)
        return codes

    async def doveadm(self, *arguments: str) -> str:
        """What it says."""
        # Dovecot reads no mail as root.
        for path in (self.path.parent.parent, *self.path.parent.parent.rglob("*")):
            shutil.chown(path, "vmail", "vmail")
        command = ("doveadm", "-f", "tab", "-c", str(self.configuration), *arguments)
        done = await run("env", "USER=vmail", f"HOME={self.path}", *command)
        assert done.status == 0, done
        assert "Warning" not in done.errors, done
        assert "Error" not in done.errors, done
        return done.output

    def size(self) -> tuple[str, int, int]:
        """The limits in maildirsize, and the sum of its lines."""
        first, *lines = (self.path / "maildirsize").read_text().splitlines()
        numbers = [list(map(int, line.split())) for line in lines]
        return first, sum(octets for octets, _ in numbers), sum(messages for _, messages in numbers)

    def held(self) -> tuple[int, int]:
        """The octets and the messages that are there."""
        files = [*self.path.glob("**/new/*"), *self.path.glob("**/cur/*")]
        return sum(file.stat().st_size for file in files), len(files)


@pytest_twisted.async_yield_fixture
async def box(daemon: Daemon, mail: Path, tmp_path: Path) -> Box:  # type: ignore[misc]  # a generator
    description = f"maildir:{mail}/{{local}},detail=folder,create=yes,quota=1M:8"
    port = listening_port(await daemon("--port=0", f"--backend={description}"))
    configuration = tmp_path / "dovecot.conf"
    configuration.write_text(
        f"log_path = /dev/stderr\nssl = no\nprotocols =\nmail_uid = vmail\nmail_gid = vmail\n"
        f"first_valid_uid = 1\nfirst_valid_gid = 1\nmail_location = maildir:{mail}/bob\n"
        "mail_plugins = quota\nnamespace inbox {\n  inbox = yes\n}\n"
        "plugin {\n  quota = maildir:User quota\n  quota_rule = *:bytes=1048576:messages=8\n}\n"
    )
    yield Box(mail / "bob", port, configuration)


@pytest_twisted.ensureDeferred
async def test_it_finds_our_folders_and_their_mail(box: Box) -> None:
    """RFC 3501 §5.1.3; a dot is between levels, and what is in a Maildir anyway can be the name of a folder."""
    names = ["bob", "bob+lists.python", "bob+Entwürfe", "bob+a&b", "bob+tmp", '"bob+.."', "bob+INBOX"]
    assert await box.deliver(*names) == [250] * len(names)
    found = (await box.doveadm("mailbox", "status", "messages", "*")).splitlines()
    assert sorted(found[1:]) == sorted(["INBOX\t3", "lists.python\t1", "Entwürfe\t1", "a&b\t1", "tmp\t1"])
    assert (await box.doveadm("fetch", "hdr.subject", "mailbox", "lists.python")).splitlines()[1:] == ["Hello"]


@pytest_twisted.ensureDeferred
async def test_it_reads_and_continues_our_maildirsize(box: Box) -> None:
    """Maildir++: what either of the two writes the other believes, and none of them has to count."""
    await box.deliver("bob", "bob+a", "bob+b")
    held = box.held()
    assert box.size() == ("1048576S,8C", *held)
    file = (box.path / "maildirsize").stat().st_ino
    got = await box.doveadm("quota", "get")
    rows = {line.split("\t")[1]: line.split("\t")[2:4] for line in got.splitlines()[1:]}
    assert rows == {"STORAGE": [str(-(-held[0] // 1024)), "1024"], "MESSAGE": ["3", "8"]}
    await box.doveadm("expunge", "mailbox", "a", "all")
    assert box.held()[1] == 2
    assert box.size() == ("1048576S,8C", *box.held())
    assert await box.deliver("bob", "bob+a") == [250, 250]
    assert box.size() == ("1048576S,8C", *box.held())
    assert (box.path / "maildirsize").stat().st_ino == file


@pytest_twisted.ensureDeferred
async def test_it_counts_as_we_do(box: Box) -> None:
    await box.deliver("bob", "bob+a", "bob+Trash")
    before = box.size()
    await box.doveadm("quota", "recalc")
    assert box.size() == before
    (box.path / "maildirsize").unlink()
    await box.deliver("bob")
    assert box.size() == ("1048576S,8C", *box.held())


@pytest_twisted.ensureDeferred
async def test_where_it_removed_mail_there_is_room_again(box: Box) -> None:
    assert await box.deliver(*["bob"] * 9) == [250] * 8 + [452]
    await box.doveadm("expunge", "mailbox", "INBOX", "1:3")
    assert await box.deliver(*["bob"] * 4) == [250] * 3 + [452]
    assert box.size()[1:] == box.held()
