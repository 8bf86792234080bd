"""``null:``"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from zope.interface.verify import verifyObject

from lmtp_twisted.backends.null import NullBackend, from_description
from lmtp_twisted.factory import LMTPFactory
from lmtp_twisted.interfaces import ILMTPDelivery, ILMTPDeliveryFactory
from lmtp_twisted.message import ReceivedMessage
from lmtp_twisted.testing import Conversation, FakeReactor


def test_it_provides_what_it_says() -> None:
    assert verifyObject(ILMTPDeliveryFactory, NullBackend())
    assert verifyObject(ILMTPDelivery, NullBackend())


def test_every_recipient_is_answered_and_nothing_waits(receive: Callable[..., ReceivedMessage]) -> None:
    backend: Any = NullBackend()
    message = receive("a@x", "b@x")
    delivery = backend.getDelivery(message.session)
    assert delivery.validateFrom(message.envelope.sender) is None
    assert delivery.validateTo(message.recipients[0]) is None
    assert delivery.deliver(message) == [None, None]
    assert delivery.aborted("RSET") is None


def test_it_serves_a_session() -> None:
    client = Conversation(LMTPFactory(backend=NullBackend(), reactor=FakeReactor()))
    client.say("LHLO client.example", "MAIL FROM:<a@x>", "RCPT TO:<b@x>", "RCPT TO:<c@x>", "DATA")
    assert [reply[:15] for reply in client.say("hello", ".")] == ["250 2.0.0 <b@x>", "250 2.0.0 <c@x>"]


def test_it_takes_no_argument() -> None:
    assert isinstance(from_description(None, ""), NullBackend)
    with pytest.raises(ValueError, match="takes no argument"):
        from_description(None, "x")
