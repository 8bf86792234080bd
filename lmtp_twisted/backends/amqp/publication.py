"""One message for one recipient, on its way into a queue."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from lmtp_twisted.errors import DeliveryError


class Publication:
    """
    Finished once, by whatever comes first: the broker's answer, a failure, or the end of who waits for it.

    :param id: its message id.
    :param routing_key: where it goes.
    :param properties: as pika takes them.
    :ivar body: the content, once it is in memory.
    :ivar done: for the session: fires when the broker has confirmed it.
    :ivar sent_at: when it was given to a connection.
    :ivar was_returned: the broker had no queue for it; its confirm follows.
    """

    __slots__ = ("body", "done", "id", "properties", "routing_key", "sent_at", "was_returned")

    def __init__(self, id: str, routing_key: str, properties: Any) -> None:
        self.id = id
        self.routing_key = routing_key
        self.properties = properties
        self.body = b""
        self.done: Deferred[None] = Deferred()
        self.sent_at = 0.0
        self.was_returned = False

    @property
    def is_wanted(self) -> bool:
        """Whether anybody still waits for it."""
        return not self.done.called

    def succeed(self) -> None:
        """The broker has it."""
        if self.is_wanted:
            self.done.callback(None)

    def fail(self, refusal: DeliveryError) -> None:
        """
        :param refusal: what the client is told.
        """
        if self.is_wanted:
            self.done.errback(refusal)
