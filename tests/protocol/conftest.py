"""What every test here is held to, whatever it is about."""

from __future__ import annotations

from collections.abc import Iterator

import dialogue
import pytest
from dialogue import LoggedErrors
from twisted.logger import globalLogPublisher


@pytest.fixture(autouse=True)
def logged() -> Iterator[LoggedErrors]:
    """No error is logged but those that the test expects and takes."""
    errors = LoggedErrors()
    globalLogPublisher.addObserver(errors)
    try:
        yield errors
    finally:
        globalLogPublisher.removeObserver(errors)
    assert not errors.take()


@pytest.fixture(autouse=True)
def _sessions_leave_nothing() -> Iterator[None]:
    """A session that is over leaves no timer, no octets in the budget, and is not among the sessions of its factory."""
    dialogue.opened.clear()
    yield
    clients, dialogue.opened[:] = list(dialogue.opened), []
    for client in clients:
        if not client.is_lost:
            client.lose()
    for client in clients:
        assert client.reactor.getDelayedCalls() == []
        assert client.factory.spool.used == 0
        assert client.protocol not in client.factory.sessions
