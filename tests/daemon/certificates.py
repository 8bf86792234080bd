"""Certificates of an authority of our own, as files."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme

CA = trustme.CA()


def write_certificate(directory: Path, name: str = "mx.example") -> tuple[Path, Path]:
    """A new certificate. Returns its file and that of its key."""
    issued = CA.issue_cert(name)
    certificate, key = directory / "cert.pem", directory / "key.pem"
    certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return certificate, key


def client_context(*, least: ssl.TLSVersion | None = None, most: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """A client that trusts them."""
    context = ssl.create_default_context()
    CA.configure_trust(context)
    context.check_hostname = False
    if least is not None and most is not None:
        context.minimum_version, context.maximum_version = least, most
        context.set_ciphers("DEFAULT@SECLEVEL=0")
    return context
