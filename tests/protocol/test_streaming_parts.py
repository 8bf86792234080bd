"""Streaming through routers, policies and adapters, and to several who read at once."""

from __future__ import annotations

from typing import Any

import pytest
from dialogue import codes, delivered, with_recipients
from streamed import ByHand, by_hand, result_of
from test_streaming_flow import SEGMENT, fill, is_held
from twisted.internet.defer import Deferred
from twisted.mail import smtp
from zope.interface import implementer

from lmtp_twisted import PermanentFailure, RecipientDelivery, TemporaryFailure
from lmtp_twisted.errors import ContentLost, NotStored
from lmtp_twisted.interfaces import ILMTPDeliveryFactory, IReceivedMessage, IStreamingDelivery
from lmtp_twisted.routing import Router
from lmtp_twisted.testing import ScriptedDeliveries


def test_what_is_streamed_provides_the_interfaces() -> None:
    """A message is a message."""
    client, hand = by_hand()
    assert IStreamingDelivery.providedBy(hand.deliveries)
    client.say("DATA")
    assert IReceivedMessage.providedBy(hand.message)
    hand.outcome.callback([None])


# A policy


@pytest.mark.parametrize("streams", [True, False])
def test_behind_a_policy_it_is_the_backend_that_is_asked(streams: bool) -> None:
    """What the policy is asked is no content."""
    backend = ScriptedDeliveries(streams=streams)
    client = with_recipients(backend, policy=ScriptedDeliveries(streams=not streams))
    client.say("DATA")
    assert len(backend.messages) == streams
    assert codes(client.send(b"Hello\r\n.\r\n")) == ["250 2.0.0"]


def test_a_policy_hears_nothing_of_a_content_that_is_lost() -> None:
    """As it hears nothing of one that is delivered."""
    policy = ScriptedDeliveries()
    client = with_recipients(ScriptedDeliveries(streams=True), policy=policy)
    client.say("DATA")
    client.lose()
    assert [name for name, _ in policy.calls][-1] == "validateTo"


class OldDelivery:
    """One that was written before there was streaming."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    def getDelivery(self, session: Any) -> Any:
        return self

    def validateFrom(self, sender: Any) -> None:
        pass

    def validateTo(self, recipient: Any) -> None:
        pass

    def deliver(self, message: Any) -> list[None]:
        self.messages.append(message)
        return [None] * len(message.recipients)

    def aborted(self, reason: str) -> None:
        pass


@pytest.mark.parametrize("options", [{}, {"policy": ScriptedDeliveries()}])
def test_a_delivery_without_the_method_gets_what_is_stored(options: Any) -> None:
    """Behind a policy too."""
    client = with_recipients(OldDelivery(), **options)
    assert codes(client.content("Hello\r\n")) == ["250 2.0.0"]
    assert client.factory.backend is not None


# A router


def routed(*backends: Any) -> Router:
    """Recipients of ``0.x`` to the first backend, of ``1.x`` to the second, and so on."""
    return Router([(f"{number}.x", backend) for number, backend in enumerate(backends)], backends[0])


def test_a_router_streams_where_all_that_are_needed_for_a_message_do() -> None:
    """Each sees its recipients alone, and the whole content."""
    first, second, third = (ScriptedDeliveries({"c@1.x": TemporaryFailure("no")}, streams=True) for _ in range(3))
    client = with_recipients(routed(first, second, third), "a@0.x", "b@1.x", "c@1.x", "d@0.x")
    client.say("DATA")
    client.send(b"Hello\r\nWorld")
    assert first.contents == second.contents == [b"Hello\r\nWorld"]
    assert codes(client.send(b"\r\n.\r\n")) == ["250 2.0.0", "250 2.0.0", "451 4.3.0", "250 2.0.0"]
    assert first.contents == second.contents == [b"Hello\r\nWorld\r\n"]
    assert [str(recipient) for recipient in second.messages[0].recipients] == ["b@1.x", "c@1.x"]
    assert third.messages == []


@pytest.mark.parametrize("other", [ScriptedDeliveries, OldDelivery])
def test_where_one_of_them_does_not_it_is_stored_for_all(other: Any) -> None:
    """One content is either stored or streamed."""
    first, second = ScriptedDeliveries(streams=True), other()
    client = with_recipients(routed(first, second), "a@0.x", "b@1.x")
    client.say("DATA")
    assert first.messages == []
    assert codes(client.send(b"Hello\r\n.\r\n")) == ["250 2.0.0"] * 2
    assert first.contents == [b"Hello\r\n"]
    assert second.messages[0].read() == b"Hello\r\n"


def test_one_whose_recipients_were_all_refused_is_not_asked() -> None:
    """It has nothing to deliver, and hears so."""
    first = ScriptedDeliveries(streams=True)
    second = ScriptedDeliveries(recipients={"b@1.x": PermanentFailure("no")})
    client = with_recipients(routed(first, second), "a@0.x")
    assert codes(client.say("RCPT TO:<b@1.x>", "DATA")) == ["550 5.1.1", "354"]
    assert len(first.messages) == 1
    assert second.calls[-1] == ("aborted", "none of its recipients was accepted")
    assert codes(client.send(b".\r\n")) == ["250 2.0.0"]


def test_the_slowest_holds_the_client_back() -> None:
    """The others have all of it."""
    fast, slow = ScriptedDeliveries(streams=True), ByHand()
    client = with_recipients(routed(fast, slow.deliveries), "a@0.x", "b@1.x")
    client.say("DATA")
    sent = fill(client)
    assert len(fast.contents[0]) < sent
    read = b""
    while len(read) < sent - 2:
        read += result_of(slow.read())[0]
    assert not is_held(client)
    assert fast.contents == [read]
    # And their replies at the dot.
    assert codes(client.send(b".\r\n")) == ["250 2.0.0"]
    slow.outcome.callback([None])
    assert codes(client.read()) == ["250 2.0.0"]


@pytest.mark.parametrize("failure", [TemporaryFailure("down"), ZeroDivisionError(), None])
@pytest.mark.parametrize("late", [False, True])
def test_one_that_fails_alone_holds_nobody_back(failure: Any, late: bool, logged: Any) -> None:
    """The other gets the whole content."""

    def deliver(message: Any) -> Any:
        if late:
            return down
        if failure is None:
            return [None]
        raise failure

    down: Deferred[Any] = Deferred()
    good = ScriptedDeliveries(streams=True)
    client = with_recipients(routed(ScriptedDeliveries(deliver=deliver, streams=True), good), "a@0.x", "b@1.x")
    client.say("DATA")
    if late:
        fill(client)
        down.errback(failure) if failure else down.callback([None])
    for _ in range(20):
        assert not is_held(client)
        client.send(SEGMENT)
    assert codes(client.send(b".\r\n")) == ["250 2.0.0" if failure is None else "451 4.3.0", "250 2.0.0"]
    assert len(good.contents[0]) >= 20 * len(SEGMENT)
    logged.take()


def test_a_content_that_is_lost_is_lost_for_all() -> None:
    """Each of them hears it."""
    first, second = ScriptedDeliveries(streams=True), ScriptedDeliveries(streams=True)
    client = with_recipients(routed(first, second), "a@0.x", "b@1.x", size_limit=20)
    assert codes(client.content("x" * 30 + "\r\n")) == ["552 5.3.4"] * 2
    assert [name for deliveries in (first, second) for name, _ in deliveries.calls[-1:]] == ["lost", "lost"]


# Parts


def test_a_message_is_divided_at_once_and_before_it_is_read() -> None:
    """What comes later is not kept for who comes later still."""
    client, hand = by_hand("a@x", "b@x")
    hand.deliveries._deliver = lambda message: setattr(hand, "message", message) or hand.outcome
    client.say("DATA")
    client.send(b"Hello\r\nWorld")
    message = hand.message
    parts = [message.forRecipients([recipient]) for recipient in message.recipients]
    again = message.forRecipients(message.recipients)
    with pytest.raises(NotStored):
        message.chunks()
    for part in [*parts, again]:
        assert result_of(Deferred.fromCoroutine(part.chunks().__anext__())) == [b"Hello\r\nWorld"]
    with pytest.raises(NotStored):
        again.forRecipients(again.recipients)
    client.send(b"\r\nmore")
    with pytest.raises(NotStored):
        message.forRecipients(message.recipients)
    hand.outcome.callback([None, None])
    assert codes(client.send(b"\r\n.\r\n")) == ["250 2.0.0"] * 2


def test_a_stored_message_is_divided_at_any_time() -> None:
    """As before."""
    client = with_recipients(ScriptedDeliveries(), "a@x", "b@x")
    client.content("Hello\r\n")
    (message,) = client.factory.backend.messages
    assert message.forRecipients(message.recipients[:1]).read() == delivered(client)[0]


# Adapters


@implementer(ILMTPDeliveryFactory)
class EachForItself(RecipientDelivery):
    """Reads the content for each recipient."""

    streaming = True
    parallel = 3

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.began: list[str] = []

    def getDelivery(self, session: Any) -> Any:
        return self

    async def deliverTo(self, message: Any, recipient: Any) -> str:
        self.began.append(str(recipient))
        if str(recipient) == "bad@x":
            raise PermanentFailure("no")
        assert recipient in message.recipients
        self.contents[str(recipient)] = b"".join([chunk async for chunk in message.chunks()])
        return "read"


def test_recipients_one_at_a_time_each_read_the_content() -> None:
    """One that fails holds nobody back."""
    deliveries = EachForItself()
    client = with_recipients(deliveries, "a@x", "bad@x", "b@x")
    client.say("RCPT TO:<a@X>", "DATA")
    assert deliveries.began == ["a@x", "bad@x", "b@x"]
    for _ in range(20):
        client.send(SEGMENT)
        assert not is_held(client)
    assert codes(client.send(b".\r\n")) == ["250 2.0.0", "554 5.3.0", "250 2.0.0", "250 2.0.0"]
    assert set(deliveries.contents) == {"a@x", "b@x"}
    assert set(deliveries.contents.values()) == {SEGMENT * 20}


def test_where_some_have_to_wait_for_their_turn_it_is_stored() -> None:
    """Those that wait would hold back those that read."""
    deliveries = EachForItself()
    client = with_recipients(deliveries, "a@x", "b@x", "c@x", "d@x")
    client.say("DATA")
    assert deliveries.began == []
    assert codes(client.send(b"Hello\r\n.\r\n")) == ["250 2.0.0"] * 4
    assert deliveries.contents["d@x"] == b"Hello\r\n"


@pytest.mark.parametrize("way", ["deliver", "deliverMessage", "twisted.mail"])
def test_what_knows_nothing_of_streaming_gets_what_is_stored(way: str) -> None:
    """Functions, and what was written for twisted.mail."""
    called: list[Any] = []
    options: dict[str, Any] = {way: lambda *arguments: called.append(arguments)}
    if way == "twisted.mail":
        options = {"backend": OfTwistedMail(called)}
    client = with_recipients(**options)
    client.say("DATA")
    assert called == []
    client.send(b"Hello\r\n.\r\n")
    assert len(called) == 1


@implementer(smtp.IMessageDelivery)
class OfTwistedMail:
    def __init__(self, called: list[Any]) -> None:
        self._called = called

    def receivedHeader(self, helo: Any, origin: Any, recipients: Any) -> bytes:
        return b""

    def validateFrom(self, helo: Any, origin: Any) -> Any:
        return origin

    def validateTo(self, user: Any) -> Any:
        return lambda: OneMessage(self._called)


@implementer(smtp.IMessage)
class OneMessage:
    def __init__(self, called: list[Any]) -> None:
        called.append(self)

    def lineReceived(self, line: bytes) -> None:
        pass

    def eomReceived(self) -> Any:
        return Deferred.fromCoroutine(done())

    def connectionLost(self) -> None:
        pass


async def done() -> None:
    pass


def test_a_part_that_was_read_to_its_loss_stays_lost() -> None:
    """Each time it is asked."""
    client, hand = by_hand()
    client.say("DATA")
    client.lose()
    for _ in range(2):
        (error,) = result_of(hand.read())
        assert isinstance(error, ContentLost)
    hand.outcome.callback([None])
