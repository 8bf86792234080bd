"""What waits for a message queue is bounded before a message is taken."""

from __future__ import annotations

import pytest
from backend_messages import received
from twisted.internet.defer import CancelledError

from lmtp_twisted.backends.amqp.backend import MOST_LARGE, MOST_WAITING, AMQPBackend
from lmtp_twisted.backends.amqp.broker import read_url
from lmtp_twisted.backends.amqp.connection import Topology
from lmtp_twisted.backends.amqp.routing_key import RoutingKey
from lmtp_twisted.errors import TemporaryFailure
from lmtp_twisted.testing import FakePool, FakeReactor


def test_large_messages_that_are_still_to_be_read_count_as_waiting() -> None:
    """``451 4.3.2`` (RFC 3463 §3.4) at MAIL, as long as somebody waits for them."""
    thread = FakePool(immediate=False)
    backend = AMQPBackend(
        read_url("amqp://192.0.2.1"),
        Topology("", "mail"),
        RoutingKey("mail", "mx.example.org"),
        size_limit=2**20,
        timeout=30,
        heartbeat=0,
        reactor=FakeReactor(),
        pool=thread,  # type: ignore[arg-type]  # a pool of none
    )
    messages = MOST_LARGE + 1
    message = received(*(f"{number}@x" for number in range(MOST_WAITING // messages)), block=10)
    outcomes = [outcome for _ in range(messages) for outcome in backend.deliver(message)]
    with pytest.raises(TemporaryFailure, match="Too busy"):
        backend.getDelivery(message.session)
    # All that may be are in memory now, and wait for a connection; one is not.
    thread.run()
    with pytest.raises(TemporaryFailure, match="Too busy"):
        backend.getDelivery(message.session)
    # The last first: it would be read next.
    for outcome in reversed(outcomes):
        outcome.addErrback(lambda failure: failure.trap(CancelledError))
        outcome.cancel()
    backend.getDelivery(message.session)
