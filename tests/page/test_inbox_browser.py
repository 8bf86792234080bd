"""The inbox in Chromium: it follows what comes, and nothing that came by mail runs or is fetched."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from headless import Browser
from hostile_mail import SCRIPTS, harmful
from selenium.webdriver.common.by import By

from lmtp_twisted.testing import InboxServer

pytestmark = pytest.mark.peer("chromium")


class Lure:
    """
    A web server that mail wants to have asked.

    :ivar asked: the paths that it was asked for.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        lure = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                lure.asked.append(self.path)
                self.send_error(404)

            do_POST = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def lure() -> Iterator[Lure]:
    made = Lure()
    yield made
    made.close()


@pytest.fixture(scope="module")
def server() -> Iterator[InboxServer]:
    with InboxServer() as running:
        yield running


def send(server: InboxServer, content: bytes) -> None:
    with smtplib.LMTP(server.host, server.port) as client:
        client.sendmail("a@example.net", ["b@example.org"], content)


def show(page: Browser, server: InboxServer, path: str) -> None:
    page.driver.switch_to.new_window("tab")
    page.driver.get(f"http://127.0.0.1:{server.web}/{path}")


def complaints(page: Browser) -> list[str]:
    return [line for line in page.console() if "Content Security Policy" not in line and "sandboxed" not in line]


def test_the_status_page_leads_to_the_inbox_and_this_follows_what_comes(page: Browser, server: InboxServer) -> None:
    server.clear()
    page.show(server.web)
    page.until("return !document.getElementById('inbox').hidden")
    page.driver.find_element(By.ID, "inbox").click()
    page.until("return document.getElementById('state').dataset.state === 'live'")
    for number in (1, 2):
        send(server, f"Subject: <b>Message</b> {number}\r\n\r\nHello\r\n".encode())
        page.until("return document.querySelectorAll('tbody tr').length === arguments[0]", number)
    assert page.driver.title == "Inbox (2)"
    page.driver.find_element(By.LINK_TEXT, "<b>Message</b> 2").click()
    page.until("return document.querySelector('h1').innerText === '<b>Message</b> 2'")
    assert page.js("return document.querySelector('pre').innerText") == "Hello\n"
    assert page.console() == []


def test_nothing_of_a_hostile_message_runs_or_is_fetched(page: Browser, server: InboxServer, lure: Lure) -> None:
    server.clear()
    for script in SCRIPTS:
        send(server, harmful(lure.port, script))
    show(page, server, "inbox")
    page.until("return document.querySelectorAll('tbody tr').length === arguments[0]", len(SCRIPTS))
    assert page.driver.title == f"Inbox ({len(SCRIPTS)})"
    for message in server.messages:
        show(page, server, f"inbox/{message['key']}")
        frame = page.driver.find_element(By.TAG_NAME, "iframe")
        page.driver.execute_script("arguments[0].scrollIntoView()", frame)
        assert page.driver.title == message["subject"]
        page.driver.switch_to.frame(frame)
        assert page.driver.find_element(By.ID, "shown").text == "It is shown"
        page.driver.switch_to.default_content()
        assert page.driver.title == message["subject"]
        assert page.js("return document.querySelectorAll('script, svg, img, form').length") == 0
    assert lure.asked == []


def test_a_click_in_a_hostile_message_leads_nowhere(page: Browser, server: InboxServer, lure: Lure) -> None:
    """No window, no form, no script, no other document in our page, not even in its frame."""
    server.clear()
    send(server, harmful(lure.port))
    (message,) = server.messages
    for link in ("js", "out", "in", "blank", "data", "submit"):
        show(page, server, f"inbox/{message['key']}")
        address, windows = page.driver.current_url, len(page.driver.window_handles)
        page.driver.switch_to.frame(page.driver.find_element(By.TAG_NAME, "iframe"))
        page.driver.execute_script("arguments[0].click()", page.driver.find_element(By.ID, link))
        page.driver.switch_to.default_content()
        page.until("return document.readyState === 'complete'")
        assert (page.driver.current_url, len(page.driver.window_handles)) == (address, windows), link
        assert page.driver.title == message["subject"]
    assert lure.asked == []


def test_the_document_itself_is_in_a_sandbox_too(page: Browser, server: InboxServer, lure: Lure) -> None:
    """Opened without our page around it, it has an origin of its own and still runs and loads nothing."""
    server.clear()
    send(server, harmful(lure.port))
    (message,) = server.messages
    show(page, server, f"inbox/{message['key']}/html/{server.read(message)['html_part']}")
    assert page.driver.find_element(By.ID, "shown").text == "It is shown"
    assert page.driver.title == "mail"
    assert page.js("return self.origin") == "null"
    assert lure.asked == []
