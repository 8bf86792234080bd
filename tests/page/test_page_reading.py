"""The status page for those who read it on a phone, in the dark, without a mouse or without eyes."""

from __future__ import annotations

from pathlib import Path

import pytest
from headless import Browser
from page_checks import FAILURES_HAVE, LISTEN, TOO_LOW, TOO_WIDE, UNREADABLE
from page_server import Server, serve
from running_twistd import Client
from selenium.webdriver.common.keys import Keys

pytestmark = pytest.mark.peer("chromium")


def test_a_phone_is_wide_enough(page: Browser, tmp_path: Path) -> None:
    """360 pixels, with names that have no place to break."""
    with serve(tmp_path) as server, Client(server.port) as client:
        page.show(server.web, width=360, height=740)
        assert client.say(f"LHLO {'client' * 30}.example.net").startswith("250 ")
        for recipient in (f"never{'x' * 100}@{'y' * 60}.{'z' * 60}.example.org", "ann@example.org"):
            assert client.say(f"MAIL FROM:<{'s' * 120}@example.net>").startswith("250 ")
            assert client.say(f"RCPT TO:<{recipient}>").startswith("250 ")
            assert client.say("DATA").startswith("354 ")
            client.say("Subject: x\r\n\r\nx\r\n.")
        page.until("return page.told.failures.length === 1 && page.told.domains.length === 2")
        page.until("return page.told.sessions.sessions.length === 1")
        page.js("document.getElementById('minutes').open = true")
        page.until("return document.querySelectorAll('#minutes tbody tr').length > 0")
        assert page.js("return document.documentElement.scrollWidth") == 360
        assert page.js(TOO_WIDE, 360) == []
        # WCAG 2.2, 2.5.8: fingers are wider than a mouse's pointer.
        assert page.js(TOO_LOW, 24) == []


@pytest.mark.parametrize(("scheme", "ground"), [("light", "rgb(243, 245, 248)"), ("dark", "rgb(14, 19, 25)")])
def test_every_text_can_be_read(page: Browser, busy: Server, scheme: str, ground: str) -> None:
    """WCAG 2.2, 1.4.3: of the colours that the browser has in the end."""
    page.show(busy.web, scheme=scheme)
    page.until(FAILURES_HAVE, "127.0.0.1")
    assert page.js("return getComputedStyle(document.body).backgroundColor") == ground
    count, unreadable = page.js(UNREADABLE)
    assert count > 100
    assert unreadable == []
    assert page.console() == []


def test_it_can_be_used_without_a_mouse_and_without_eyes(page: Browser, busy: Server) -> None:
    """WCAG 2.2, 4.1.2: whatever can be used has a name. 1.3.1: tables have headings. 2.1.1: by the keyboard."""
    page.show(busy.web)
    page.until(FAILURES_HAVE, "127.0.0.1")
    nodes = [node for node in page.command("Accessibility.getFullAXTree")["nodes"] if not node.get("ignored", False)]
    named = [(node["role"]["value"], node.get("name", {}).get("value", "").strip()) for node in nodes]
    of_use = {"button", "link", "searchbox", "textbox", "radio", "table", "image", "region", "heading"}
    assert [(role, name) for role, name in named if role in of_use and not name] == []
    tables = {name for role, name in named if role == "table"}
    assert tables == {"Recent failures", "Outcomes by recipient domain", "Slowest deliveries", "Connected now"}
    assert sum(role == "columnheader" for role, _ in named) == 5 + 5 + 5 + 4
    assert ("searchbox", "Filter failures by recipient, id, sender, peer or reply") in named
    assert sum(role == "image" and name.startswith("Chart: ") for role, name in named) == 6
    reached = []
    for _ in range(12):
        page.driver.switch_to.active_element.send_keys(Keys.TAB)
        reached.append(page.js("const e = document.activeElement; return e.id || e.className || e.value || e.tagName"))
    assert [name for name in ("skip", "pause", "10", "SUMMARY", "filter", "more") if name not in reached] == []


def test_it_can_be_halted(page: Browser, busy: Server) -> None:
    """WCAG 2.2, 2.2.2: whatever goes on by itself can be paused."""
    page.show(busy.web)
    page.driver.find_element("id", "pause").send_keys(Keys.SPACE)
    page.until("return document.getElementById('connection').textContent === 'Paused'")
    now, before = page.js("return [page.history.now, document.querySelector('main').innerText]")
    page.until("return page.history.now > arguments[0] + 1", now)
    assert page.js("return document.querySelector('main').innerText") == before
    page.driver.find_element("id", "pause").click()
    assert page.js("return document.querySelector('main').innerText") != before


def test_what_is_read_aloud_does_not_chatter(page: Browser, busy: Server) -> None:
    """Seconds go by, and nothing in a live region changes."""
    page.show(busy.web)
    page.until(FAILURES_HAVE, "127.0.0.1")
    start = page.js(LISTEN)
    page.until("return page.history.now > arguments[0] + 2", start)
    assert page.js("return spoken") == []
