"""
A Postfix of our own: its configuration, queue and log below one directory, its only port on loopback, and no mail
leaves it but by LMTP to where the domain of a recipient says. So one instance serves all tests, and is never reloaded:

- ``anything@tcp-2524.example`` goes to port 2524 of 127.0.0.1, over a connection of its own;
- ``anything@unix-NAME.example`` goes to the socket NAME in the directory for sockets;
- with ``.kept.example`` for ``.example``, Postfix keeps the connection for the next message;
- with ``.secure.example`` it insists on TLS, whose certificate it is does not matter;
- with ``.plain.example``, ``.login.example`` or ``.cram.example`` it logs in by that mechanism as ``postfix`` with the
  password ``secret``, with ``.wrong.example`` with another one; with ``.secureplain.example`` and so on over TLS;
- with ``.certified.example`` it shows a certificate over TLS and logs in by any mechanism but EXTERNAL, with
  ``.unfiltered.example`` by any;
- with ``.forward.example`` it tells by XFORWARD what it knows of its own client, with ``.keptforward.example`` it also
  keeps the connection; where it logs in by a mechanism that was named it tells as well;
- ``anything@discard.example`` is thrown away: for senders whose bounces nobody reads.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import smtplib
import socket
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trustme
from occasions import Occasions
from peer_programs import search_path
from postfix_settings import MAIN, master
from programs import in_thread, run
from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.inotify import IN_MODIFY, IN_MOVED_TO, INotify
from twisted.internet.protocol import Factory
from twisted.protocols.basic import NetstringReceiver
from twisted.python.filepath import FilePath

_ROUTE = re.compile(r"(?:tcp-(?P<port>[0-9]+)|unix-(?P<socket>[0-9a-z]+))(?:\.(?P<service>[a-z]+))?\.example")
_ATTEMPT = re.compile(
    r" postfix/\w+\[\d+\]: \w+: to=<(?P<recipient>[^>]*)>, relay=(?P<relay>[^,]+), .*"
    r"dsn=(?P<dsn>[\d.]+), status=(?P<status>\w+) "
    r"\((?:host \S+ said: )?(?P<reply>.*?)(?: \(in reply to (?P<command>.*)\))?\)"
)

_COMPLAINT = re.compile(
    r" postfix/lmtp\[\d+\]: (?:.*: )?(?:warning|error|fatal|panic): "
    # Before TLS only CRAM-MD5 is announced, and Postfix says so where it was told to take another mechanism.
    r"(?!\S+ offered no supported AUTH mechanisms: "
    # What a server says that wants a certificate: there is a test of it.
    r"|TLS library problem: .*alert certificate required:)"
)


@attrs.frozen
class Attempt:
    """
    What the log says of one attempt to deliver to one recipient.

    :ivar recipient: the address.
    :ivar relay: the server.
    :ivar dsn: the enhanced status code.
    :ivar status: ``sent``, ``bounced`` or ``deferred``.
    :ivar reply: the server's reply, or Postfix's own words where there was none.
    :ivar command: what it was the reply to, where the log says so: it does where the reply is negative.
    """

    recipient: str
    relay: str
    dsn: str
    status: str
    reply: str
    command: str | None

    @property
    def local(self) -> str:
        """The recipient without the domain."""
        return self.recipient.rpartition("@")[0]


class Postfix:
    """
    :param directory: where it lives; Postfix's user must be able to reach it.
    :param sockets: where Unix sockets of servers are.
    :ivar authority: who has issued its certificate, for ``mta.example.net``.
    :raises AssertionError: where it does not start, with its words.
    """

    def __init__(self, directory: Path, sockets: Path) -> None:
        self._directory = directory
        self._port = _free_port()
        self.log: Occasions[str] = Occasions("Postfix's log")
        self._rest = b""
        for name in ("etc", "spool", "data"):
            (directory / name).mkdir(mode=0o755)
        self.authority = trustme.CA()
        issued = self.authority.issue_cert("mta.example.net")
        issued.private_key_and_cert_chain_pem.write_to_path(directory / "client.pem")
        for name, text in (("main.cf", MAIN), ("master.cf", master())):
            (directory / "etc" / name).write_text(text.format(directory=directory, port=self._port))
        shutil.chown(directory / "data", "postfix")
        maillog = directory / "maillog"
        maillog.touch()
        routes = Factory.forProtocol(partial(_Routes, sockets))
        self._routes = reactor.listenUNIX(str(directory / "routes"), routes, mode=0o666)  # type: ignore[attr-defined]
        self._command("start")
        self._file = maillog.open("rb")
        self._notify = INotify()
        self._notify.startReading()
        self._notify.watch(FilePath(str(maillog)), IN_MODIFY, callbacks=[self._read])
        self._notify.watch(FilePath(str(directory / "spool" / "deferred")), IN_MOVED_TO, callbacks=[self._read])
        self._read()

    def _command(self, verb: str) -> None:
        done = subprocess.run(
            ["postfix", "-c", str(self._directory / "etc"), verb],
            env={**os.environ, "PATH": search_path()},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        if done.returncode:
            log = (self._directory / "maillog").read_text(errors="replace")
            raise AssertionError(f"postfix {verb}: status {done.returncode}\n{done.stdout}{done.stderr}{log}")

    async def stop(self) -> None:
        """Stop it, with all its processes."""
        self._notify.loseConnection()
        self._file.close()
        self._command("stop")
        await maybeDeferred(self._routes.stopListening)

    def _read(self, *_event: Any) -> None:
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        for line in lines or [b""]:
            self.log.add(line.decode("utf-8", "replace"))

    async def submit(
        self,
        recipients: Sequence[str],
        content: bytes = b"Subject: Hello\r\n\r\nHello\r\n",
        *,
        sender: str = "sender@discard.example",
        options: Sequence[str] = (),
        forwarded: str = "",
    ) -> str:
        """
        Hand it a message by SMTP.

        :param recipients: all of them are accepted.
        :param content: with CRLF line ends, not dot-stuffed.
        :param options: parameters of MAIL.
        :param forwarded: for whom it is handed over: attributes of XFORWARD.
        :returns: the queue id.
        """
        return await in_thread(self._submit, recipients, content, sender, options, forwarded)

    def _submit(
        self, recipients: Sequence[str], content: bytes, sender: str, options: Sequence[str], forwarded: str
    ) -> str:
        with smtplib.SMTP("127.0.0.1", self._port, "client.example.net", timeout=20) as client:
            client.ehlo()
            if forwarded:
                code, text = client.docmd("XFORWARD", forwarded)
                assert code == 250, text
            replies = [client.mail(sender, options), *(client.rcpt(recipient) for recipient in recipients)]
            assert {code for code, _ in replies} == {250}, replies
            replies.append(client.docmd("DATA"))
            assert replies[-1][0] == 354, replies
            # Not its data(), which sends an empty content as an empty line.
            client.send(re.sub(rb"^\.", b"..", content, flags=re.MULTILINE) + b".\r\n")
            code, text = client.getreply()
            assert code == 250, text
        return text.decode("ascii").rpartition(" ")[2]

    async def attempts(self, queue_id: str, number: int) -> list[Attempt]:
        """
        Wait until the log tells of so many attempts for a message.

        :returns: all attempts, in the order of the log.
        """
        await self.log.until(lambda _: len(self.attempts_so_far(queue_id)) >= number)
        return self.attempts_so_far(queue_id)

    def attempts_so_far(self, queue_id: str) -> list[Attempt]:
        """The attempts for a message that the log tells of."""
        found = (_ATTEMPT.search(line) for line in self.log.seen if f": {queue_id}: to=<" in line)
        return [Attempt(**match.groupdict()) for match in found if match is not None]

    async def removed(self, queue_id: str) -> None:
        """Wait until nothing is left to do for a message."""
        await self.log.until(lambda seen: any(line.endswith(f": {queue_id}: removed") for line in seen))

    async def deferred(self, queue_id: str) -> None:
        """Wait until a message lies in the deferred queue: only then a flush finds it."""
        await self.log.until(lambda _: (self._directory / "spool" / "deferred" / queue_id).exists())

    @property
    def complaints(self) -> list[str]:
        """What its LMTP client had to say of the protocol, and not of a message."""
        return [line for line in self.log.seen if _COMPLAINT.search(line)]

    async def flush(self) -> None:
        """Make it try again what is deferred."""
        ended = await run("postqueue", "-c", str(self._directory / "etc"), "-f")
        assert ended.status == 0, ended


def domain_of(where: int | Path, service: str = "", *, kept: bool = False, secure: bool = False) -> str:
    """
    The domain whose mail Postfix hands to a server.

    :param where: its port, or its socket in the directory for sockets.
    :param service: the word that stands before ``.example`` for another way than the usual one.
    :param kept: the same as the service ``kept``.
    :param secure: the same as the service ``secure``.
    """
    name = f"unix-{where.name}" if isinstance(where, Path) else f"tcp-{where}"
    service = "kept" if kept else "secure" if secure else service
    return f"{name}{service and f'.{service}'}.example"


class _Routes(NetstringReceiver):
    """Tells Postfix where a recipient's mail goes (socketmap_table(5))."""

    def __init__(self, sockets: Path) -> None:
        super().__init__()
        self._sockets = sockets

    def stringReceived(self, string: bytes) -> None:
        """A look-up: the name of the table and a key, an address or a part of one."""
        domain = string.decode("utf-8").rpartition("@")[2]
        route = _ROUTE.fullmatch(domain)
        if domain == "discard.example":
            self.sendString(b"OK discard:")
        elif route is None:
            self.sendString(b"NOTFOUND ")
        else:
            service = route["service"] or "lmtp"
            place = f"inet:127.0.0.1:{route['port']}" if route["port"] else f"unix:{self._sockets}/{route['socket']}"
            self.sendString(f"OK {service}:{place}".encode())


def _free_port() -> int:
    # Not one of those that the kernel gives to clients: it could do so before Postfix listens.
    for _ in range(100):
        port = random.randint(10000, 30000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")
