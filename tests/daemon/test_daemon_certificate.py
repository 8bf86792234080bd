"""The certificate's files: what is wrong is said, and what is new is used."""

from __future__ import annotations

import os
import ssl
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from certificates import CA, client_context, write_certificate
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from OpenSSL import SSL
from twisted.logger import LogEvent, capturedLogs

from lmtp_twisted.daemon.certificate import CertificateFiles, ReloadedCertificate


def files(directory: Path, **more: Any) -> CertificateFiles:
    certificate, key = write_certificate(directory)
    return CertificateFiles(str(certificate), str(key), **more)


def shakes(server: ReloadedCertificate, client: ssl.SSLContext) -> ssl.SSLObject:
    """Both sides of a handshake, in memory. Raises what the client does."""
    ours = server.serverConnectionForTLS(None)
    ours.set_accept_state()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = client.wrap_bio(incoming, outgoing, server_hostname="mx.example")
    for _ in range(8):
        waiting = 2
        with suppress(ssl.SSLWantReadError):
            theirs.do_handshake()
            waiting -= 1
        if outgoing.pending:
            ours.bio_write(outgoing.read())
        # Where it ends in an error, that comes to the client as an alert.
        with suppress(SSL.Error):
            ours.do_handshake()
            waiting -= 1
        with suppress(SSL.WantReadError):
            incoming.write(ours.bio_read(65536))
        if not waiting:
            return theirs
    raise AssertionError("no end of the handshake")


def serial(server: ReloadedCertificate) -> object:
    """Which certificate a client sees."""
    found = shakes(server, client_context()).getpeercert()
    assert found is not None
    return found["serialNumber"]


def looked(certificate: ReloadedCertificate) -> list[LogEvent]:
    """What is logged of a look at the files."""
    with capturedLogs() as captured:
        certificate.look()
    return list(captured)


def later(directory: Path) -> None:
    """Files that were written in one tick of the file system's clock differ all the same."""
    for path in directory.iterdir():
        status = path.stat()
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_it_speaks_what_is_current(tmp_path: Path, version: ssl.TLSVersion) -> None:
    """RFC 9325 §3.1.1."""
    server = ReloadedCertificate(files(tmp_path))
    assert shakes(server, client_context(least=version, most=version)).version() in ("TLSv1.2", "TLSv1.3")


def test_it_does_not_speak_what_is_not(tmp_path: Path) -> None:
    """RFC 8996."""
    server = ReloadedCertificate(files(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        client = client_context(least=ssl.TLSVersion.TLSv1, most=ssl.TLSVersion.TLSv1_1)
    with pytest.raises(ssl.SSLError, match="version"):
        shakes(server, client)


def test_a_certificate_that_was_renewed_is_used(tmp_path: Path) -> None:
    server = ReloadedCertificate(files(tmp_path))
    before = serial(server)
    assert looked(server) == []
    write_certificate(tmp_path)
    later(tmp_path)
    assert serial(server) == before
    assert [event["log_level"].name for event in looked(server)] == ["info"]
    assert serial(server) != before
    assert looked(server) == []


def _break_the_key(directory: Path) -> None:
    (directory / "key.pem").write_text("no key")


def _change_the_key(directory: Path) -> None:
    (directory / "key.pem").write_bytes(CA.issue_cert("other.example").private_key_pem.bytes())


def _remove_the_key(directory: Path) -> None:
    (directory / "key.pem").unlink()


def _empty_the_certificate(directory: Path) -> None:
    (directory / "cert.pem").write_text("")


def _lock_the_key(directory: Path) -> None:
    key = load_pem_private_key((directory / "key.pem").read_bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    (directory / "key.pem").write_bytes(locked)


WRONG = pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (_break_the_key, r"/key\.pem holds no private key in PEM that needs no passphrase"),
        (_lock_the_key, r"/key\.pem holds no private key in PEM that needs no passphrase"),
        (_change_the_key, r"/key\.pem is not the key of .*/cert\.pem"),
        (_remove_the_key, r"/key\.pem: No such file or directory"),
        (_empty_the_certificate, r"/cert\.pem holds no certificate in PEM"),
    ],
)


@WRONG
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, spoil: Callable[[Path], None], complaint: str) -> None:
    found = files(tmp_path)
    spoil(tmp_path)
    with pytest.raises(ValueError, match=complaint) as refused:
        ReloadedCertificate(found)
    assert "\n" not in str(refused.value)


@WRONG
def test_where_the_new_one_is_wrong_the_old_one_stays(
    tmp_path: Path, spoil: Callable[[Path], None], complaint: str
) -> None:
    server = ReloadedCertificate(files(tmp_path))
    before = serial(server)
    spoil(tmp_path)
    later(tmp_path)
    (event,) = looked(server)
    assert event["log_level"].name == "error"
    assert looked(server) == [], "it is said once"
    assert serial(server) == before
    write_certificate(tmp_path)
    later(tmp_path)
    looked(server)
    assert serial(server) != before


@pytest.mark.parametrize("requires", [False, True])
def test_clients_may_or_must_have_a_certificate(tmp_path: Path, requires: bool) -> None:
    """RFC 8446 §4.3.2."""
    (tmp_path / "ca.pem").write_bytes(CA.cert_pem.bytes())
    server = ReloadedCertificate(files(tmp_path, client_ca=str(tmp_path / "ca.pem"), requires_client=requires))
    known, unknown = client_context(most=ssl.TLSVersion.TLSv1_2, least=ssl.TLSVersion.TLSv1_2), None
    CA.issue_cert("client.example").configure_cert(known)
    assert shakes(server, known).version() == "TLSv1.2"
    unknown = client_context(most=ssl.TLSVersion.TLSv1_2, least=ssl.TLSVersion.TLSv1_2)
    if requires:
        with pytest.raises(ssl.SSLError):
            shakes(server, unknown)
    else:
        shakes(server, unknown)
