"""What a connection makes of what pika cannot write; all else is tried on a real cluster, in tests/amqp."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from pika.exceptions import ChannelWrongStateError
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher

from lmtp_twisted.backends.amqp.connection import Connection
from lmtp_twisted.backends.amqp.publication import Publication
from lmtp_twisted.errors import TemporaryFailure


def connection_that_raises(error: Exception, aborted: list[None]) -> Connection:
    """A connection whose channel raises at each message."""

    def publish(*_: Any, **__: Any) -> None:
        raise error

    ignore = lambda _: None  # noqa: E731  # a callback that is never called
    callbacks = SimpleNamespace(add_on_connection_blocked_callback=ignore, add_on_connection_unblocked_callback=ignore)
    channel = SimpleNamespace(
        on_closed=Deferred(), add_on_return_callback=ignore, connection=callbacks, basic_publish=publish
    )
    protocol = SimpleNamespace(transport=SimpleNamespace(abortConnection=lambda: aborted.append(None)))
    return Connection(Clock(), protocol, Deferred(), channel, "mail", 30)


@pytest.mark.parametrize(
    ("error", "enhanced", "aborts"),
    [(UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates"), "4.3.0", 0), (ChannelWrongStateError(), "4.4.2", 1)],
)
def test_a_message_that_cannot_be_written_fails_alone(error: Exception, enhanced: str, aborts: int) -> None:
    """And where the channel can take none, the connection ends, so that there is a new one."""
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    aborted: list[None] = []
    connection = connection_that_raises(error, aborted)
    publication = Publication("id.1", "key", None)
    failures: list[Any] = []
    publication.done.addErrback(failures.append)
    connection.publish(publication)
    globalLogPublisher.removeObserver(events.append)
    (failure,) = failures
    assert failure.check(TemporaryFailure)
    assert failure.value.enhanced == enhanced
    assert (connection.sent, connection.octets) == (0, 0)
    assert len(aborted) == aborts
    assert connection.is_open is not bool(aborts)
    assert [event["log_format"] for event in events] == ["{id}: cannot be published"] * (1 - aborts)
