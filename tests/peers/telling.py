"""A ``twistd lmtp`` whose replies, and so the mail server's log, tell what the server was told of its client."""

from __future__ import annotations

from pathlib import Path

from daemons import Daemon, listening_port
from trustme import CA

#: Users who may log in, as ``--auth file:`` takes them.
USERS = "postfix:secret\nexim:secret\nswaks:secret\n"
#: The options for that.
LOGIN = ("--auth=file:users", "--auth-required")
#: The options with which TLS is offered.
TLS = ("--tls-certificate=cert.pem",)

_BACKEND = """\
import re

from lmtp_twisted import PermanentFailure, TemporaryFailure

FAILURES = {
    "refused": PermanentFailure("Not wanted", code=550, enhanced="5.7.1"),
    "full": TemporaryFailure("Disk is full", code=452, enhanced="4.3.1"),
}


def deliver(message, recipient):
    if recipient.address.local in FAILURES:
        raise FAILURES[recipient.address.local]
    session = message.session
    way = re.search(rb" with (\\S+) id ", message.received)[1].decode()
    told = {"with": way, "user": session.user, "peer": session.peer_name, "lhlo": session.lhlo_name}
    told |= session.xforward
    return " ".join(f"{name}={value}" for name, value in told.items())
"""


async def start_telling(
    daemon: Daemon, directory: Path, where: int | Path, *options: str, authority: CA | None = None
) -> int | Path:
    """
    :param directory: where the daemon runs; its users are in ``users`` there, and a certificate in ``cert.pem``.
    :param where: a port or a socket.
    :param authority: who issues the certificate, and stands in ``ca.pem``; any by default.
    :returns: where it listens.
    """
    (directory / "telling.py").write_text(_BACKEND)
    (directory / "users").write_text(USERS)
    authority = authority or CA()
    authority.cert_pem.write_to_path(directory / "ca.pem")
    issued = authority.issue_cert("127.0.0.1", "store.example.org")
    issued.private_key_and_cert_chain_pem.write_to_path(directory / "cert.pem")
    options = ("--backend=python:telling:deliver", *options)
    if isinstance(where, Path):
        await daemon(f"--listen=unix:{where}:mode=666", *options)
        return where
    return listening_port(await daemon("--port=0", *options))


def told(reply: str) -> dict[str, str]:
    """What a positive reply tells, by name."""
    return dict(word.split("=", 1) for word in reply.split("> ", 1)[1].split()[1:])
