"""Where requests go: a URL, taken apart so that nothing secret in it is ever in the way of a log."""

from __future__ import annotations

import base64
import re
from urllib.parse import unquote_to_bytes, urlsplit

import attrs

# What of RFC 3986 §2 can stand in a URL at all.
_URL = re.compile(r"[!#$%&'()*+,\-./0-9:;=?@A-Z\[\]_a-z~]+")
# An address whose colons are its own (RFC 3986 §3.2.2).
_LITERAL = re.compile(r"\[[^\]]*\]\Z")


@attrs.frozen
class Target:
    """
    :ivar origin: scheme, host and port (RFC 6454): all of it that logs and errors may tell.
    :ivar host: a name or an IP address, without brackets.
    :ivar port: as given, or that of the scheme.
    :ivar is_secure: whether it is HTTPS.
    :ivar url: what is asked for, without user and password.
    :ivar authorization: the value of the header of that name (RFC 7617) where the URL has a user.
    """

    origin: str
    host: str
    port: int
    is_secure: bool
    url: bytes = attrs.field(repr=False)
    authorization: bytes | None = attrs.field(repr=False, default=None)

    @classmethod
    def parse(cls, text: str) -> Target:
        """
        :param text: a URL, perhaps with a user and a password.
        :raises ValueError: where it is none, with a reason that repeats nothing but the host.
        """
        if not _URL.fullmatch(text):
            raise ValueError("the URL has characters that must be written as %XX, or in a host as xn--")
        try:
            parts = urlsplit(text)
        except ValueError:
            raise ValueError("the URL has no valid host and port")
        # What looks like a host and its port may be half of a password, and would be told.
        if ":" in _LITERAL.sub("", parts.netloc) and "@" in parts.path + parts.query:
            raise ValueError(
                "the URL has a : before a / or ? and an @ after it: in a password these are written %2F and %3F, "
                "and an @ in a path or query is written %40"
            )
        try:
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ValueError("the URL has no valid host and port")
        if parts.scheme not in ("http", "https") or not host or port == 0:
            raise ValueError("it needs a URL such as https://app.example/mail")
        if parts.fragment:
            raise ValueError("the URL has a fragment (#), which no server ever sees")
        user, at, place = parts.netloc.rpartition("@")
        url = parts._replace(netloc=place, path=parts.path or "/").geturl().encode("ascii")
        login = b"Basic " + base64.b64encode(unquote_to_bytes(user if ":" in user else f"{user}:")) if at else None
        is_secure = parts.scheme == "https"
        return cls(f"{parts.scheme}://{place}", host, port or (443 if is_secure else 80), is_secure, url, login)
