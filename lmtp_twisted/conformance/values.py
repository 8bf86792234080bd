"""The values of a run: addresses, what AUTH says, and headers of the PROXY protocol."""

from __future__ import annotations

import base64
import hashlib
import hmac

from lmtp_twisted.conformance.replies import Reply
from lmtp_twisted.conformance.settings import Settings

#: The header that begins a connection, by the version of the PROXY protocol.
PROXY_HEADERS = {
    1: b"PROXY TCP4 192.0.2.1 192.0.2.2 40000 24\r\n",
    2: b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\2\1\xc0\0\2\2\x9c\x40\0\x18",
}

_WRONG = "surely-not-this-one"


def value_of(name: str, settings: Settings, last: Reply | None) -> bytes:
    """
    :param name: one of :data:`~lmtp_twisted.conformance.placeholders.NAMES`.
    :param last: the last reply that came, which may be a challenge.
    :returns: the octets; those of something that the user has not said are empty, and no scenario needs them then.
    """
    if name.startswith("rcpt"):
        # Who named fewer has them named again: two replies are owed all the same.
        return settings.recipients[(int(name[4:]) - 1) % len(settings.recipients)].encode("utf-8")
    if name == "proxy":
        return PROXY_HEADERS[settings.proxy[0]]
    if name == "domain":
        return settings.recipients[0].rpartition("@")[2].encode("utf-8")
    if not name.startswith("auth-"):
        return {"client": settings.client, "sender": settings.sender, "unknown": settings.unknown or ""}[name].encode(
            "utf-8"
        )
    user, password, token = settings.user or "", settings.password or "", settings.token or ""
    if name.endswith("wrong"):
        password = token = _WRONG
    return {
        "auth-plain": lambda: _plain(user, password),
        "auth-plain-wrong": lambda: _plain(user, password),
        "auth-user": lambda: _encoded(user.encode()),
        "auth-password": lambda: _encoded(password.encode()),
        "auth-wrong": lambda: _encoded(password.encode()),
        "auth-cram-md5": lambda: _cram_md5(user, password, last),
        "auth-cram-md5-wrong": lambda: _cram_md5(user, password, last),
        "auth-xoauth2": lambda: _xoauth2(user, token),
        "auth-xoauth2-wrong": lambda: _xoauth2(user, token),
    }[name]()


def _encoded(octets: bytes) -> bytes:
    return base64.b64encode(octets)


def _plain(user: str, password: str) -> bytes:
    # RFC 4616 §2.
    return _encoded(f"\0{user}\0{password}".encode())


def _cram_md5(user: str, password: str, last: Reply | None) -> bytes:
    # RFC 2195 §2. A challenge that is no base64 is answered all the same: what comes then is judged.
    try:
        challenge = base64.b64decode(last.lines[0] if last else b"", validate=True)
    except ValueError:
        challenge = b""
    digest = hmac.new(password.encode(), challenge, hashlib.md5).hexdigest()
    return _encoded(f"{user} {digest}".encode())


def _xoauth2(user: str, token: str) -> bytes:
    return _encoded(f"user={user}\1auth=Bearer {token}\1\1".encode())
