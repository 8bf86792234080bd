"""The client and other people's servers: Dovecot, Postfix's smtp-sink, nodemailer's smtp-server; and TLS with ours."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import pytest_twisted
import trustme
from daemons import Daemon, listening_port
from programs import Program
from test_client_to_our_server import CONTENT
from twisted.internet import reactor
from twisted.internet.task import deferLater

from benchmarks import dovecot
from lmtp_twisted.client import (
    ClientSettings,
    ClientTLS,
    External,
    LMTPClient,
    Password,
    Security,
    Token,
    deliver,
    make_envelope,
)
from lmtp_twisted.wire.parameters import MailParameters

BENCHMARKS = Path(dovecot.__file__).parent
LARGE = b"Subject: Large\r\n\r\n" + (b".x" * 40 + b"\r\n") * 20_000
CA = trustme.CA()
PEM = CA.cert_pem.bytes()


def free_port() -> int:
    """A port of 127.0.0.1 that was free just now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


async def listens(port: int, program: Program) -> None:
    """Wait until a program that says nothing listens."""
    for _ in range(1500):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        await deferLater(reactor, 0.02, lambda: None)
    raise AssertionError(f"nobody listens: {program.lines.seen}")


def certificate(directory: Path, name: str = "store.example") -> tuple[Path, Path]:
    """A new certificate of our authority, and its key."""
    issued = CA.issue_cert(name)
    cert, key = directory / "cert.pem", directory / "key.pem"
    cert.write_bytes(issued.cert_chain_pems[0].bytes())
    key.write_bytes(issued.private_key_pem.bytes())
    return cert, key


@pytest.mark.peer("dovecot")
@pytest_twisted.ensureDeferred
async def test_dovecot(open_directory: Path, tmp_path: Path, start_program: Callable[..., Program]) -> None:
    """By BDAT and DATA, with STARTTLS and without, one mailbox of which cannot be written."""
    if absence := dovecot.absence():
        pytest.skip(absence)
    directory = open_directory / tmp_path.name
    directory.mkdir(mode=0o755)
    cert, key = certificate(directory)
    port = free_port()
    more = f"ssl = yes\nssl_cert = <{cert}\nssl_key = <{key}\n"
    program = start_program("dovecot", "-F", "-c", str(dovecot.configure(directory, port, more)))
    await listens(port, program)
    (directory / "mail" / "bad@x").write_text("no directory")
    settings = [
        ClientSettings(),
        ClientSettings(uses_chunking=False),
        ClientSettings(
            security=Security.STARTTLS, tls=ClientTLS(authorities=PEM, server_name="store.example"), hostname="me"
        ),
    ]
    for number, chosen in enumerate(settings):
        client = LMTPClient(f"127.0.0.1:{port}", chosen)
        for content in (CONTENT, LARGE):
            first, bad, last = await client.deliver(make_envelope("s@y", [f"a{number}@x", "bad@x", "b@x"]), content)
            assert (first.code, first.enhanced, last.code) == (250, "2.0.0", 250), (first, bad, last)
            assert bad.code // 100 == 4, bad
        await client.close()
        files = sorted((directory / "mail" / f"a{number}@x" / "new").iterdir(), key=lambda file: file.stat().st_size)
        small, large = (file.read_bytes() for file in files)
        assert small.endswith(CONTENT.replace(b"\r\n", b"\n"))
        assert large.endswith(LARGE.replace(b"\r\n", b"\n"))
    (refused,) = await deliver(
        f"127.0.0.1:{port}",
        make_envelope("s@y", ["a@x"]),
        CONTENT,
        settings=ClientSettings(security=Security.STARTTLS, tls=ClientTLS(authorities=PEM)),
    )
    assert (refused.code, refused.enhanced) == (451, "4.7.5")
    shutil.rmtree(directory / "mail")


@pytest.mark.peer("postfix")
@pytest.mark.parametrize("options", [(), ("-p",), ("-e",)])
@pytest_twisted.ensureDeferred
async def test_smtp_sink(options: tuple[str, ...], start_program: Callable[..., Program]) -> None:
    """With and without PIPELINING."""
    port = free_port()
    users = ("-u", "nobody") if os.geteuid() == 0 else ()
    program = start_program("smtp-sink", "-L", *users, *options, f"127.0.0.1:{port}", "10")
    await listens(port, program)
    client = LMTPClient(f"127.0.0.1:{port}")
    for content in (CONTENT, LARGE, CONTENT):
        replies = await client.deliver(make_envelope("s@y", ["a@x", "b@x", "c@x"]), content)
        assert [reply.code for reply in replies] == [250] * 3, replies
    await client.close()


@pytest.mark.peer("node")
@pytest_twisted.ensureDeferred
async def test_smtp_server(start_program: Callable[..., Program]) -> None:
    """Each mechanism of AUTH, STARTTLS with a certificate of nobody, a recipient that is refused, a size limit."""
    if not (BENCHMARKS / "peers/node_modules").is_dir():
        pytest.skip("npm has not installed smtp-server: make peers does")
    port = free_port()
    program = start_program("node", str(BENCHMARKS / "peers/judged_smtp_server.js"), str(port))
    await listens(port, program)
    envelope = make_envelope("s@y", ["a@x", "unknown@example.org", "b@x"])
    logins = [None, Password("judge", "secret"), Token("judge", "token")]
    for credentials in logins:
        for tls in (Security.NONE, Security.STARTTLS):
            settings = ClientSettings(security=tls, tls=ClientTLS(verifies=False), credentials=credentials)
            replies = await deliver(f"127.0.0.1:{port}", envelope, CONTENT, settings=settings)
            assert [reply.code for reply in replies] == [250, 550, 250], replies
    verified = ClientSettings(security=Security.STARTTLS)
    (reply, *_) = await deliver(f"127.0.0.1:{port}", envelope, CONTENT, settings=verified)
    assert (reply.code, reply.enhanced) == (451, "4.7.5")
    wrong = ClientSettings(credentials=Password("judge", "wrong"))
    (reply, *_) = await deliver(f"127.0.0.1:{port}", envelope, CONTENT, settings=wrong)
    assert (reply.code, reply.enhanced) == (451, "4.7.0")
    (reply, *_) = await deliver(f"127.0.0.1:{port}", envelope, LARGE)
    assert (reply.code, reply.enhanced) == (552, "5.3.4")


@pytest_twisted.ensureDeferred
async def test_tls_and_logins_with_our_own(daemon: Daemon, tmp_path: Path) -> None:
    """RFC 3207, RFC 4954: verified names, STARTTLS and TLS from the first octet; every mechanism."""
    certificate(tmp_path)
    (tmp_path / "ca.pem").write_bytes(PEM)
    (tmp_path / "passwords").write_text("alice:s3cret\n")
    (tmp_path / "tokens").write_text("bob:t0ken\n")
    port = listening_port(
        await daemon(
            "--port=0",
            *("--tls-certificate=cert.pem", "--tls-key=key.pem", "--tls-client-ca=ca.pem", "--auth-required"),
            *("--auth=file:passwords", "--auth=tokens:tokens", "--auth=certificate:"),
        )
    )
    issued = CA.issue_cert("carol.example")
    mine = b"".join(pem.bytes() for pem in (issued.private_key_pem, *issued.cert_chain_pems))
    envelope = make_envelope("s@y", ["a@x"], MailParameters(smtputf8=True))

    async def outcome(tls: ClientTLS, credentials: Password | Token | External | None) -> tuple[int, str | None]:
        settings = ClientSettings(security=Security.STARTTLS, tls=tls, credentials=credentials)
        (reply,) = await deliver(f"127.0.0.1:{port}", envelope, CONTENT, settings=settings)
        return reply.code, reply.enhanced

    good = ClientTLS(authorities=PEM, server_name="store.example", certificate=mine)
    for credentials in (Password("alice", "s3cret"), Token("bob", "t0ken"), External(), External("carol.example")):
        assert await outcome(good, credentials) == (250, "2.0.0"), credentials
    assert await outcome(ClientTLS(verifies=False), Password("alice", "s3cret")) == (250, "2.0.0")
    assert await outcome(good, Password("alice", "wr0ng")) == (451, "4.7.0")
    assert await outcome(good, Token("bob", "wr0ng")) == (451, "4.7.0")
    assert await outcome(good, None) == (530, "5.7.0")
    assert await outcome(ClientTLS(authorities=PEM, server_name="other.example"), None) == (451, "4.7.5")
    assert await outcome(ClientTLS(server_name="store.example"), None) == (451, "4.7.5")


@pytest_twisted.ensureDeferred
async def test_tls_from_the_first_octet(daemon: Daemon, tmp_path: Path) -> None:
    """``tls:HOST:PORT``; its content waits for the server to read, too."""
    certificate(tmp_path)
    options = ("--listen-tls=tcp:0:interface=127.0.0.1", "--tls-certificate=cert.pem", "--tls-key=key.pem")
    port = listening_port(await daemon(*options, "--size-limit=50M"))
    settings = ClientSettings(tls=ClientTLS(authorities=PEM, server_name="store.example"))
    for chosen in (settings, ClientSettings(tls=settings.tls, uses_chunking=False)):
        client = LMTPClient(f"tls:127.0.0.1:{port}", chosen)
        for content in (CONTENT, LARGE * 5, CONTENT):
            (reply,) = await client.deliver(make_envelope("s@y", ["a@x"]), content)
            assert reply.code == 250, reply
        await client.close()
