"""The document of the status page: that it needs nothing else, and that its colours can be told apart."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import pytest
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from lmtp_twisted.daemon.web import page
from lmtp_twisted.daemon.web.channel import StatusSite
from lmtp_twisted.daemon.web.page import Page
from lmtp_twisted.daemon.web.plain import Shown

ASSETS = Path(page.__file__).parent / "assets"


def ask(*headers: str) -> tuple[dict[str, str], str]:
    """The header, its first line under ``""``, and the body."""
    root = Shown()
    root.putChild(b"", Page())
    transport = StringTransport()
    channel = StatusSite(root, reactor=Clock()).buildProtocol(None)  # type: ignore[arg-type]  # it does not look
    assert channel is not None
    channel.makeConnection(transport)
    request = ["GET / HTTP/1.1", "Host: localhost", "Connection: close", *headers, "", ""]
    channel.dataReceived("\r\n".join(request).encode())
    head, _, body = transport.value().decode().partition("\r\n\r\n")
    line, *fields = head.split("\r\n")
    return {"": line, **{name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}}, body


def test_only_its_own_script_and_style_may_run() -> None:
    """Content Security Policy, level 3, section 2.3.1: no host, no ``unsafe-inline``, the hashes of what it has."""
    headers, body = ask()
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    for name in ("script", "style"):
        (inline,) = re.findall(rf"<{name}>(.*?)</{name}>", body, re.DOTALL)
        assert policy[f"{name}-src"] == f"'sha256-{b64encode(sha256(inline.encode()).digest()).decode()}'"
    assert policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_it_loads_nothing_from_anywhere() -> None:
    _, body = ask()
    loaded = re.findall(r"""(?:src|href)=["']([^"']*)|url\(([^)]*)\)|@import""", body)
    assert {address.partition(":")[0] for address, _ in loaded} == {"data", "#failures", "metrics", "health", "inbox"}


def test_it_is_not_sent_again_to_who_has_it() -> None:
    """RFC 9110 section 13.1.2."""
    headers, _ = ask()
    again, body = ask(f"If-None-Match: {headers['etag']}")
    assert again[""] == "HTTP/1.1 304 Not Modified"
    assert body == ""
    assert again["cache-control"] == "no-cache"


def test_the_script_makes_no_element_of_text() -> None:
    """Whatever comes from the mail is put in as text, so there is no way in which it could become anything else."""
    for script in ASSETS.rglob("*.js"):
        source = script.read_text("utf-8")
        words = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\(|new Function|setHTML"
        assert re.findall(words, source) == [], script


def luminance(colour: str) -> float:
    """WCAG 2.2, "relative luminance"."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, "contrast ratio"."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def colours(scheme: str) -> dict[str, str]:
    """The named colours of a scheme."""
    light, dark = re.findall(r":root \{(.*?)\}", (ASSETS / "look.css").read_text("utf-8"), re.DOTALL)
    return dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6});", light if scheme == "light" else dark))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_its_colours_can_be_told_from_what_is_behind_them(scheme: str) -> None:
    """WCAG 2.2, 1.4.3 (text, 4.5:1) and 1.4.11 (lines, 3:1)."""
    palette = colours(scheme)
    text = [(name, "surface") for name in ("ink", "muted", "accent", "ok", "deferred", "refused")]
    text += [("ink", "ground"), ("muted", "ground"), ("accent", "ground"), ("refused", "ground"), ("surface", "accent")]
    text += [("ink", "alarm")]
    lines = [(f"line-{number}", "surface") for number in (1, 2, 3, 4)] + [("accent", "ground"), ("line-4", "ground")]
    found = {f"{front} on {back}": contrast(palette[front], palette[back]) for front, back in text}
    assert {pair: ratio for pair, ratio in found.items() if ratio < 4.5} == {}
    found = {f"{front} on {back}": contrast(palette[front], palette[back]) for front, back in lines}
    assert {pair: ratio for pair, ratio in found.items() if ratio < 3.0} == {}


def test_the_chart_library_has_its_licence_with_it() -> None:
    assert (ASSETS / "uplot" / "LICENSE").read_text("utf-8").startswith("The MIT License (MIT)")
    assert "(v1.6.32)" in (ASSETS / "uplot" / "uPlot.iife.min.js").read_text("utf-8")[:80]
