"""
A Postfix of our own: its configuration, queue and log below one directory, its only port on loopback, and no mail
leaves it but by LMTP to where the domain of a recipient says. So one instance serves all tests, and is never reloaded:

- ``anything@tcp-2524.example`` goes to port 2524 of 127.0.0.1, over a connection of its own;
- ``anything@unix-NAME.example`` goes to the socket NAME in the directory for sockets;
- with ``.kept.example`` for ``.example``, Postfix keeps the connection for the next message;
- with ``.secure.example`` it insists on TLS, whose certificate it is does not matter;
- with ``.plain.example``, ``.login.example`` or ``.cram.example`` it logs in by that mechanism as ``postfix`` with the
  password ``secret``, with ``.wrong.example`` with another one; with ``.secureplain.example`` and so on over TLS;
- with ``.forward.example`` it tells by XFORWARD what it knows of its own client;
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
from occasions import Occasions
from peer_programs import search_path
from programs import in_thread, run
from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.inotify import IN_MODIFY, IN_MOVED_TO, INotify
from twisted.internet.protocol import Factory
from twisted.protocols.basic import NetstringReceiver
from twisted.python.filepath import FilePath

_MAIN = """\
compatibility_level = 3.6
queue_directory = {directory}/spool
data_directory = {directory}/data
mail_owner = postfix
setgid_group = postdrop
maillog_file = {directory}/maillog
maillog_file_prefixes = {directory}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mta.example.net
mynetworks = 127.0.0.0/8
mydestination =
alias_maps =
local_header_rewrite_clients =
notify_classes =
smtpd_peername_lookup = no
smtpd_recipient_restrictions = permit_mynetworks, reject
virtual_mailbox_domains = static:all
virtual_mailbox_maps = static:all
virtual_transport = error:goes nowhere
default_transport = error:goes nowhere
transport_maps = socketmap:unix:{directory}/routes:transport
message_size_limit = 100000000
default_destination_recipient_limit = 50
lmtp_connection_cache_on_demand = no
lmtp_connection_cache_time_limit = 60s
connection_cache_ttl_limit = 60s
# The deferred queue is flat, so that one look shows what is in it.
hash_queue_names = defer
"""

_MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup   unix n - n 60    1 pickup
cleanup  unix n - n -     0 cleanup
qmgr     unix n - n 300   1 qmgr
rewrite  unix - - n -     - trivial-rewrite
bounce   unix - - n -     0 bounce
defer    unix - - n -     0 bounce
trace    unix - - n -     0 bounce
verify   unix - - n -     1 verify
flush    unix n - n 1000? 0 flush
proxymap unix - - n -     - proxymap
showq    unix n - n -     - showq
error    unix - - n -     - error
retry    unix - - n -     - error
discard  unix - - n -     - discard
lmtp     unix - - n -     - lmtp
kept     unix - - n -     - lmtp -o lmtp_connection_cache_destinations=static:all
secure   unix - - n -     - lmtp -o lmtp_tls_security_level=encrypt
forward  unix - - n -     - lmtp -o lmtp_send_xforward_command=yes
tlsmgr   unix - - n 1000? 1 tlsmgr
anvil    unix - - n -     1 anvil
scache   unix - - n -     1 scache
postlog  unix-dgram n - n - 1 postlogd
"""

#: By service: the mechanism and the password of an LMTP client that logs in.
_LOGINS = {
    "plain": ("plain", "secret"),
    "login": ("login", "secret"),
    "cram": ("cram-md5", "secret"),
    "wrong": ("plain", "wrong"),
}
# By default Postfix sends no password that could be read on the way.
_LOGIN = """\
{name} unix - - n - - lmtp
    -o lmtp_sasl_auth_enable=yes -o lmtp_sasl_security_options=noanonymous -o lmtp_sasl_mechanism_filter={mechanism}
    -o lmtp_sasl_password_maps=static:postfix:{password} -o lmtp_tls_security_level={security}
"""

_ROUTE = re.compile(r"(?:tcp-(?P<port>[0-9]+)|unix-(?P<socket>[0-9a-z]+))(?:\.(?P<service>[a-z]+))?\.example")
_ATTEMPT = re.compile(
    r" postfix/\w+\[\d+\]: \w+: to=<(?P<recipient>[^>]*)>, relay=(?P<relay>[^,]+), .*"
    r"dsn=(?P<dsn>[\d.]+), status=(?P<status>\w+) "
    r"\((?:host \S+ said: )?(?P<reply>.*?)(?: \(in reply to (?P<command>.*)\))?\)"
)

_COMPLAINT = re.compile(r" postfix/(?:lmtp|kept|secure|forward)\[\d+\]: (?:.*: )?(?:warning|error|fatal|panic): ")


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
    :raises AssertionError: where it does not start, with its words.
    """

    def __init__(self, directory: Path, sockets: Path) -> None:
        self._directory = directory
        self._port = _free_port()
        self.log: Occasions[str] = Occasions("Postfix's log")
        self._rest = b""
        for name in ("etc", "spool", "data"):
            (directory / name).mkdir(mode=0o755)
        logins = [
            _LOGIN.format(name=prefix + name, mechanism=mechanism, password=password, security=security)
            for name, (mechanism, password) in _LOGINS.items()
            for prefix, security in (("", "none"), ("secure", "encrypt"))
        ]
        for name, text in (("main.cf", _MAIN), ("master.cf", _MASTER + "".join(logins))):
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
    ) -> str:
        """
        Hand it a message by SMTP.

        :param recipients: all of them are accepted.
        :param content: with CRLF line ends, not dot-stuffed.
        :param options: parameters of MAIL.
        :returns: the queue id.
        """
        return await in_thread(self._submit, recipients, content, sender, options)

    def _submit(self, recipients: Sequence[str], content: bytes, sender: str, options: Sequence[str]) -> str:
        with smtplib.SMTP("127.0.0.1", self._port, "client.example.net", timeout=20) as client:
            client.ehlo()
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
