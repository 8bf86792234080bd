"""A browser, and a server under load for it to look at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from headless import Browser, browser
from page_load import Load
from page_server import Server, serve


@pytest.fixture(scope="module")
def one_browser() -> Iterator[Browser]:
    """It takes a second or two to start."""
    with browser() as made:
        yield made


@pytest.fixture
def page(one_browser: Browser) -> Iterator[Browser]:
    """A browser that shows nothing yet."""
    yield one_browser
    one_browser.close()


# Not until the end of all tests: its mail would slow down every test after these, and be counted in their memory.
@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that gets mail all the time."""
    with serve(tmp_path_factory.mktemp("busy")) as server, Load(server.port):
        yield server
