"""``/``: the status page, one document with all that it needs."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from typing import Any

from twisted.web.http import CACHED

from lmtp_twisted.daemon.web.plain import Shown
from lmtp_twisted.daemon.web.shipped import shipped

_STYLES = ("uplot/uPlot.min.css", "look.css", "page.css")
_SCRIPTS = ("uplot/uPlot.iife.min.js", "format.js", "history.js", "charts.js", "tables.js", "page.js")


def _source(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


class Page(Shown):
    """
    The document, and the policy that lets nothing run or load in it but its own script and style, known by their hashes
    (Content Security Policy, level 3), and ``/events``.
    """

    def __init__(self) -> None:
        super().__init__()
        style, script = shipped(*_STYLES), shipped(*_SCRIPTS)
        document = shipped("index.html")
        self._document = document.replace("/*STYLE*/", style).replace("/*SCRIPT*/", script).encode()
        self._etag = f'"{sha256(self._document).hexdigest()[:32]}"'.encode()
        policy = (
            "default-src 'none'",
            f"script-src {_source(script)}",
            f"style-src {_source(style)}",
            "img-src data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            # The script never makes elements of text, so it needs no right to.
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
        self._headers = {
            b"content-type": b"text/html; charset=utf-8",
            b"content-security-policy": "; ".join(policy).encode(),
            # Kept, but asked for anew each time: a server of another version has another page.
            b"cache-control": b"no-cache",
        }

    def render_GET(self, request: Any) -> bytes:
        """The document."""
        for name, value in self._headers.items():
            request.setHeader(name, value)
        if request.setETag(self._etag) is CACHED:
            return b""
        return self._document
