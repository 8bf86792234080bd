"""The status page of a real server under load, in a real browser."""

from __future__ import annotations

import pytest
from conftest import Server
from headless import Browser

pytestmark = pytest.mark.peer("chromium")


def test_what_fails_is_shown_with_its_reply_and_found_as_one_types(page: Browser, busy: Server) -> None:
    page.show(busy.web)
    page.until("return document.querySelectorAll('#failures tbody tr').length > 3")
    row = page.cells("failures")[0]
    assert row
    box = page.driver.find_element("id", "filter")
    for letters in ("NE", "ver1"):
        box.send_keys(letters)
    page.until("return page.tables.failures.drawn[0].every((row) => row.recipient.startsWith('never1'))")
    assert all("never1@1.example.org" in cells[1] and "550 5.1.1" in cells[2] for cells in page.cells("failures"))
    assert page.console() == []
