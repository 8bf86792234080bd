"""The status page of a real server under load, in a real browser."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest
from headless import Browser
from page_checks import FAILURES_HAVE
from page_load import Load
from page_server import Server, serve
from running_twistd import Client
from selenium.webdriver.common.keys import Keys

from lmtp_twisted.daemon.web.events import MOST_READERS

pytestmark = pytest.mark.peer("chromium")

#: What it takes to be recognised as an attempt at more than text.
HOSTILE = [
    '"<img src=x onerror=alert(1)>"@example.org',
    '"\'><script>alert(2)</script>"@example.org',
    "<b>bold</b>@example.org",
    '"\N{HEBREW LETTER ALEF}<svg/onload=alert(3)>"@example.org',
]


def test_failures_are_found_by_recipient_id_reply_and_peer_as_one_types(page: Browser, busy: Server) -> None:
    page.show(busy.web)
    page.until(FAILURES_HAVE, "127.0.0.1")
    page.until(
        "const rows = page.told.failures.map((row) => row.recipient);"
        "return rows.some((name) => name.startsWith('never')) && rows.some((name) => name.startsWith('later'))"
    )
    box = page.driver.find_element("id", "filter")
    for typed, found in (("NEVER", "never"), ("full", "452 4.2.2"), ("127.0.0.1", "127.0.0.1")):
        for letter in typed:
            box.send_keys(letter)
        page.until(FAILURES_HAVE, found)
        box.send_keys(Keys.CONTROL, "a")
        box.send_keys(Keys.DELETE)
    (id_,) = page.js("return [page.told.failures[0].id]")
    box.send_keys(id_.upper())
    page.until(FAILURES_HAVE, id_)
    assert len(page.cells("failures")) == 1
    assert page.js("return document.getElementById('found').textContent").startswith("1 of ")
    # It stays so while others come.
    last = page.js("return page.history.now")
    page.until("return page.history.now > arguments[0] + 1", last)
    assert len(page.cells("failures")) == 1
    box.send_keys("x")
    page.until("return document.querySelector('#failures .empty').innerText.includes('None')")
    assert page.console() == []


def test_whatever_comes_from_the_mail_stays_text(page: Browser, tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        page.show(server.web)
        elements = "return ['script', 'img', 'svg', 'iframe', 'b', 'a'].map((n) => document.querySelectorAll(n).length)"
        before = page.js(elements)
        with Client(server.port) as client:
            assert client.say("XCLIENT LOGIN=<script>alert(7)</script>").startswith("220 ")
            # No such name is taken; the name that a trusted peer gives may be more.
            assert client.say("LHLO <script>alert(4)</script>").startswith("501 ")
            assert client.say("LHLO client").startswith("250 ")
            for sender in ('"<img src=x onerror=alert(6)>"@example.net', ""):
                for recipient in HOSTILE:
                    assert client.say(f"MAIL FROM:<{sender}> SMTPUTF8").startswith("250 ")
                    if client.say(f"RCPT TO:<{recipient}>").startswith("250 "):
                        assert client.say("DATA").startswith("354 ")
                        assert client.say("Subject: <script>alert(8)</script>\r\n\r\nx\r\n.")[:1] == "5"
                    client.say("RSET")
            page.until("return page.told.failures.length >= 8")
            page.until("return document.querySelectorAll('#sessions tbody tr').length === 1")
            text = page.text()
            for recipient in (HOSTILE[0], HOSTILE[1], HOSTILE[3]):
                assert recipient in text
            for string in (
                "<script>alert(7)</script>",
                "<img src=x onerror=alert(5)> <script>alert(8)</script>",
                '"<img src=x onerror=alert(6)>"@example.net',
            ):
                assert string in text
            assert page.js(elements) == before
            assert page.console() == []


def test_two_pages_show_the_same(page: Browser, busy: Server) -> None:
    page.show(busy.web)
    one = page.driver.current_window_handle
    page.show(busy.web)
    start = page.js("return page.history.now")
    ticks = "page.history.ticks.filter((tick) => tick.time > arguments[0] && tick.time <= arguments[0] + 3)"
    page.until(f"return {ticks}.length === 3", start)
    second = page.js(f"return {ticks}", start)
    page.driver.switch_to.window(one)
    page.until(f"return {ticks}.length === 3", start)
    assert page.js(f"return {ticks}", start) == second
    assert page.console() == []


def test_after_a_restart_the_page_goes_on(page: Browser, tmp_path: Path) -> None:
    with serve(tmp_path) as server, Load(server.port):
        port, web = server.port, server.web
        page.show(web)
        page.until("return page.history.ticks.length > 2 && page.told.failures.length > 0")
        before = page.js("return page.history.ticks.map((tick) => tick.time)")
    page.until("return document.getElementById('connection').textContent === 'Not connected'")
    assert "The connection is lost: what stands here is of " in page.text()
    assert page.js("return document.querySelectorAll('#failures tbody tr').length") > 0
    # A second or two of which nobody tells, however soon the next server is there.
    last = page.js("return page.history.ticks.at(-1).time")
    page.until("return Date.now() / 1000 > arguments[0] + 3", last)
    with serve(tmp_path, port, web):
        page.until("return document.getElementById('connection').dataset.state === 'live'")
        assert "The connection is lost" not in page.text()
        assert page.js("return page.told.failures") == []
        page.until("return page.history.now > arguments[0] + 1", before[-1])
        page.js("document.querySelector('input[name=step][value=\"1\"]').click()")
        times, drawn = page.js("return [page.history.ticks.map((tick) => tick.time), page.charts[0].plot.data]")
        assert times[: len(before)] == before
        # Nothing is drawn across the time of which nothing is known.
        gaps = [later - earlier > 1 for earlier, later in pairwise(times)].count(True)
        assert gaps >= 1
        assert drawn[1].count(None) == gaps
    assert all("net::ERR_" in message for message in page.console())


def test_a_page_that_was_told_to_come_later_does(page: Browser, tmp_path: Path) -> None:
    """RFC 9110 section 10.2.3."""
    with serve(tmp_path) as server, ExitStack() as others:
        for _ in range(MOST_READERS):
            other = others.enter_context(socket.create_connection(("127.0.0.1", server.web), 30))
            other.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert other.recv(12) == b"HTTP/1.1 200"
        page.driver.switch_to.new_window("tab")
        page.driver.get(f"http://127.0.0.1:{server.web}/")
        page.until("return document.body.innerText.includes('The server does not answer. Trying again.')")
        # Whether anything has failed it cannot know yet.
        text = page.text()
        assert not any(sentence in text for sentence in ("Nothing has failed", "Nobody is connected", "No message has"))
        others.close()
        page.until("return document.getElementById('connection').dataset.state === 'live'")
        assert all("503" in message for message in page.console())


def test_where_nothing_has_happened_that_is_said(page: Browser, tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        page.show(server.web)
        text = page.text()
        # Here is no backend that keeps messages.
        links = page.js("return [...document.links].filter((one) => one.checkVisibility()).map((one) => one.text)")
        assert links == ["Skip to recent failures", "Metrics", "Health"]
    for sentence in (
        "Nothing has failed.",
        "Nobody is connected.",
        "No message has been delivered in the last 15 minutes.",
        "0 sessions.",
    ):
        assert sentence in text
    assert page.js("return [...document.querySelectorAll('section > table')].every((table) => table.hidden)")
