"""The status page in a browser without a screen."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from peer_programs import find
from selenium.common.exceptions import TimeoutException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.support.ui import WebDriverWait

#: Seconds that something on the page may take.
PATIENCE = 30


class Browser:
    """
    A Chromium, and the page that it shows.

    :ivar driver: of Selenium.
    """

    def __init__(self) -> None:
        options = ChromeOptions()
        options.binary_location = find("chromium") or ""
        for argument in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
            options.add_argument(argument)
        if os.geteuid() == 0:
            # Chromium's sandbox does not work for root.
            options.add_argument("--no-sandbox")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = Chrome(options=options, service=ChromeService(find("chromedriver")))

    def show(self, port: int, width: int = 1360, height: int = 900, scheme: str = "light") -> None:
        """Open the page of a server in a new tab, and wait until it has been told of a second."""
        self.driver.switch_to.new_window("tab")
        self.size(width, height)
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.driver.get(f"http://127.0.0.1:{port}/")
        self.until("return document.getElementById('connection').dataset.state === 'live' && page.history.now > 0")

    def size(self, width: int, height: int) -> None:
        """What it is shown on."""
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    def command(self, name: str, **arguments: Any) -> Any:
        """Of the Chrome DevTools Protocol."""
        return self.driver.execute_cdp_cmd(name, arguments)

    def js(self, script: str, *arguments: Any) -> Any:
        """The value that a script returns."""
        return self.driver.execute_script(script, *arguments)

    def until(self, script: str, *arguments: Any) -> Any:
        """Wait until a script returns something that is true."""
        try:
            return WebDriverWait(self.driver, PATIENCE, 0.1).until(lambda driver: self.js(script, *arguments))
        except TimeoutException:
            raise AssertionError(f"not so after {PATIENCE} s: {script} {arguments}\n{self.text()}\n{self.console()}")

    def text(self) -> str:
        """All that can be read."""
        return str(self.js("return document.body.innerText"))

    def cells(self, section: str) -> list[list[str]]:
        """The text of a table's lines, cell by cell."""
        rows: list[list[str]] = self.js(
            "return [...document.querySelectorAll(`#${arguments[0]} > table tbody tr`)]"
            ".map((row) => [...row.children].map((cell) => cell.innerText))",
            section,
        )
        return rows

    def console(self) -> list[str]:
        """What was written to the console since the last call, the browser's own complaints among it."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def close(self) -> None:
        """Close the page, and leave one open for the next."""
        first, *others = self.driver.window_handles
        for handle in others:
            self.driver.switch_to.window(handle)
            self.driver.close()
        self.driver.switch_to.window(first)
        self.console()


@contextmanager
def browser() -> Iterator[Browser]:
    """One that does not outlive the block."""
    made = Browser()
    try:
        yield made
    finally:
        made.driver.quit()
