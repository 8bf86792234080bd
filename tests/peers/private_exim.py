"""
An Exim of our own: program, configuration, queue and log below one directory. It has no daemon and no port: it is
called with a message and ends when it has tried to deliver it. No mail leaves it but by LMTP to where the domain of a
recipient says:

- ``anything@tcp-2524.example`` goes to port 2524 of 127.0.0.1 by the transport ``smtp``, which speaks LMTP there;
- with ``.data.example`` for ``.example`` the content goes by DATA, with ``.few.example`` in transactions of at most
  three recipients, with ``.secure.example`` over TLS only and to a server with a certificate of :attr:`Exim.authority`;
- with ``.plain.example``, ``.login.example`` or ``.cram.example`` it logs in by that mechanism as ``exim`` with the
  password ``secret``, over TLS where it is offered, with ``.wrong.example`` with another one, and with
  ``.external.example`` by a certificate of :attr:`Exim.authority` for ``mta.example.net``;
- with ``.strict.example`` it sends nothing before it is logged in, and knows no password;
- ``anything@unix-NAME.example`` goes to the socket NAME in the directory for sockets, by the transport ``lmtp``;
- with ``.piped.example`` it goes to a command, netcat, which is connected with that socket;
- ``anything@discard.example`` is thrown away: for senders whose bounces nobody reads.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import attrs
import trustme
from peer_programs import find
from programs import Ended, run

_CONFIGURATION = """\
exim_path = {directory}/exim4
spool_directory = {directory}/spool
log_file_path = {directory}/log/%s
log_selector = +pipelining +tls_certificate_verified
keep_environment =
primary_hostname = mta.example.net
qualify_domain = example.net
local_interfaces = 127.0.0.1
message_size_limit = 100M
# It is not installed to become root again, so what it does as its own user it does as that to the end.
deliver_drop_privilege
# So that what one connection can take is not spread over several.
remote_max_parallel = 1

begin routers
{routers}
discard:
  driver = redirect
  domains = discard.example
  data = :blackhole:

begin transports
{transports}

begin retry
* * F,1h,1m

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  client_condition = ${{if inlist{{$transport_name}}{{plain:wrong}}}}
  client_send = ^exim^${{if eq{{$transport_name}}{{wrong}}{{wrong}}{{secret}}}}
login:
  driver = plaintext
  public_name = LOGIN
  client_condition = ${{if eq{{$transport_name}}{{login}}}}
  client_send = : exim : secret
external:
  driver = external
  public_name = EXTERNAL
  client_condition = ${{if eq{{$transport_name}}{{external}}}}
  client_send = mta.example.net
cram:
  driver = cram_md5
  public_name = CRAM-MD5
  client_condition = ${{if eq{{$transport_name}}{{cram}}}}
  client_name = exim
  client_secret = secret
"""

_ROUTER = """\
{name}:
  driver = accept
  domains = \\N^{domain}\\.example$\\N
  transport = {name}
"""

_SMTP = """\
{name}:
  driver = smtp
  protocol = lmtp
  hosts = 127.0.0.1
  port = ${{extract{{2}}{{-.}}{{$domain}}}}
  allow_localhost
  message_linelength_limit = 1M
  {more}
"""

_LMTP = """\
{name}:
  driver = lmtp
  batch_max = 100
  {more}
"""

#: By name of the transport: the options that make it another one.
_OVER_TCP = {
    "tcp": "max_rcpt = 100",
    "data": "hosts_try_chunking = :",
    "few": "max_rcpt = 3",
    "secure": "hosts_require_tls = *\n  tls_verify_certificates = {directory}/authority.pem\n  tls_verify_hosts = *",
    "plain": "hosts_require_auth = *",
    "login": "hosts_require_auth = *",
    "cram": "hosts_require_auth = *",
    "wrong": "hosts_require_auth = *",
    "strict": "hosts_require_auth = *",
    # Its key is in the same file.
    "external": "hosts_require_auth = *\n  tls_certificate = {directory}/client.pem",
}
_SOCKET = "${{lookup{{${{extract{{2}}{{-.}}{{$domain}}}}}}dsearch,ret=full{{{sockets}}}}}"
_OVER_SOCKETS = {"unix": f"socket = {_SOCKET}", "piped": f"command = {{netcat}} -U {_SOCKET}"}

_ARRIVAL = re.compile(r"^\S+ \S+ (?P<id>\S+) <= ", re.MULTILINE)
_ATTEMPT = re.compile(
    r"^\S+ \S+ (?P<id>\S+) (?P<mark>=>|->|\*\*|==) (?:\S+ <)?(?P<recipient>[^\s<>]+@[^\s<>]+?)>? "
    r"R=\w+ T=(?P<transport>\w+)(?: defer \(-?\d+\))?(?P<told>.*?)(?: C=\"(?P<confirmed>.*)\"|: (?P<refused>.*))$",
    re.MULTILINE,
)
_STATUSES = {"=>": "sent", "->": "sent", "**": "bounced", "==": "deferred"}


@attrs.frozen
class Attempt:
    """
    What the log says of one attempt to deliver to one recipient.

    :ivar recipient: the address.
    :ivar status: ``sent``, ``bounced`` or ``deferred``.
    :ivar transport: by which transport.
    :ivar told: what it says of the connection: ``K`` for CHUNKING, ``L`` for PIPELINING, ``X=`` for TLS, and ``*``
        behind the address of the server where the connection had been used for a message before.
    :ivar reply: the server's reply, with Exim's words before one that is negative, or Exim's own where there was none.
    """

    recipient: str
    status: str
    transport: str
    told: str
    reply: str

    @property
    def local(self) -> str:
        """The recipient without the domain."""
        return self.recipient.rpartition("@")[0]


class Exim:
    """
    :param directory: where it lives; Exim's user must be able to reach it.
    :param sockets: where Unix sockets of servers are.
    :ivar authority: whose certificates it believes.
    """

    def __init__(self, directory: Path, sockets: Path) -> None:
        self._directory = directory
        self.authority = trustme.CA()
        self.authority.cert_pem.write_to_path(directory / "authority.pem")
        client = directory / "client.pem"
        self.authority.issue_cert("mta.example.net").private_key_and_cert_chain_pem.write_to_path(client)
        program = find("exim4")
        assert program is not None
        # A checkout may lie where Exim's user can't reach it, and a copy is not allowed to become root.
        shutil.copyfile(program, directory / "exim4")
        (directory / "exim4").chmod(0o755)
        for name in ("spool", "log"):
            (directory / name).mkdir()
            shutil.chown(directory / name, "Debian-exim", "Debian-exim")
        places = {"directory": directory, "sockets": sockets, "netcat": find("nc")}
        transports = [_SMTP.format(name=name, more=more.format(**places)) for name, more in _OVER_TCP.items()]
        transports += [_LMTP.format(name=name, more=more.format(**places)) for name, more in _OVER_SOCKETS.items()]
        domains = {name: rf"tcp-\d+\.{name}" for name in _OVER_TCP} | {
            name: rf"unix-\w+\.{name}" for name in _OVER_SOCKETS
        }
        domains |= {"tcp": r"tcp-\d+", "unix": r"unix-\w+"}
        routers = [_ROUTER.format(name=name, domain=domain) for name, domain in domains.items()]
        (directory / "exim.conf").write_text(
            _CONFIGURATION.format(routers="".join(routers), transports="".join(transports), **places)
        )

    async def _run(self, *arguments: str, given: bytes = b"") -> Ended:
        program = (str(self._directory / "exim4"), "-C", str(self._directory / "exim.conf"))
        ended = await run(*program, *arguments, given=given)
        assert ended.status == 0, f"{ended}\n{self.log}"
        return ended

    async def submit(
        self,
        recipients: Sequence[str],
        content: bytes = b"Subject: Hello\n\nHello\n",
        *,
        sender: str = "sender@discard.example",
        delivered: bool = True,
    ) -> str:
        """
        Hand it a message, and wait until it was tried to deliver it to all recipients.

        :param content: with LF line ends, not dot-stuffed. Exim adds the headers From, Date and Message-ID where they
            are missing.
        :param delivered: whether it is tried at once, and not only left in the queue.
        :returns: the id of the message.
        """
        before = len(self.log)
        await self._run("-odf" if delivered else "-odq", "-i", "-f", sender, *recipients, given=content)
        arrival = _ARRIVAL.search(self.log, before)
        assert arrival is not None, self.log
        return arrival["id"]

    async def run_queue(self) -> None:
        """Make it try again all that it has, and wait until it has done so."""
        await self._run("-qff")

    @property
    def log(self) -> str:
        """Its main log."""
        file = self._directory / "log" / "main"
        return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""

    def attempts(self, message: str) -> list[Attempt]:
        """
        All attempts to deliver a message, in the order of the log.

        :param message: its id.
        """
        return [
            Attempt(
                found["recipient"],
                _STATUSES[found["mark"]],
                found["transport"],
                found["told"],
                found["confirmed"] or found["refused"],
            )
            for found in _ATTEMPT.finditer(self.log)
            if found["id"] == message
        ]

    def is_done_with(self, message: str) -> bool:
        """Whether nothing is left to do for a message."""
        return f" {message} Completed\n" in self.log

    @property
    def complaints(self) -> list[str]:
        """What it has panicked about: nothing, but that a part of it that runs as its own user can't become root."""
        file = self._directory / "log" / "panic"
        lines = file.read_text(errors="replace").splitlines() if file.exists() else []
        return [line for line in lines if "exim user lost privilege for using -C option" not in line]


def domain_of(where: int | Path, kind: str = "") -> str:
    """
    The domain whose mail Exim hands to a server.

    :param where: its port, or its socket in the directory for sockets.
    :param kind: the word that stands before ``.example`` for another way than the usual one.
    """
    name = f"unix-{where.name}" if isinstance(where, Path) else f"tcp-{where}"
    return f"{name}{kind and f'.{kind}'}.example"
