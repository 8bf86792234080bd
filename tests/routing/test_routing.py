"""Recipient → backend: which one, and that each message's parts go their own ways and come back as one."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from lmtp_twisted import LMTPFactory, PermanentFailure, Settings, TemporaryFailure
from lmtp_twisted.routing import Router
from lmtp_twisted.testing import Conversation, FakeReactor, ScriptedDeliveries


def session(routes: list[tuple[str, Any]], default: Any) -> Conversation:
    reactor = FakeReactor()
    client = Conversation(
        LMTPFactory(backend=Router(routes, default), reactor=reactor, settings=Settings(hostname="mx.example.org"))
    )
    client.say("LHLO client.example", "MAIL FROM:<sender@example.net>")
    return client


def content(client: Conversation) -> list[str]:
    """The final replies, as far as they came: code and recipient."""
    client.say("DATA")
    return [finals(line) for line in client.say("Subject: x", "", "Hello", ".")]


def finals(line: str) -> str:
    code, _, recipient, *_ = line.split(" ")
    return f"{code} {recipient}"


def to(client: Conversation, *recipients: str) -> list[str]:
    return [line[:9] for line in client.say(*(f"RCPT TO:<{recipient}>" for recipient in recipients))]


def names(deliveries: ScriptedDeliveries) -> list[list[str]]:
    """The recipients of each message that it got."""
    return [[str(recipient) for recipient in message.recipients] for message in deliveries.messages]


@pytest.mark.parametrize(
    ("pattern", "recipient"),
    [
        ("example.org", "a@example.org"),
        ("example.org", "a@EXAMPLE.org"),
        ("*.example.org", "a@mail.example.org"),
        ("a@example.org", "A@example.org"),
        ("a?@*", "ab@example.org"),
        ("[ab]*@example.org", "beta@example.org"),
        ("postmaster@", "Postmaster"),
        ("*", "a@example.org"),
    ],
)
def test_a_pattern_matches_the_address_whatever_its_case(pattern: str, recipient: str) -> None:
    matched, default = ScriptedDeliveries(), ScriptedDeliveries()
    client = session([(pattern, matched)], default)
    to(client, recipient)
    content(client)
    assert (len(matched.messages), len(default.messages)) == (1, 0)


@pytest.mark.parametrize(
    ("pattern", "recipient"),
    [
        ("example.org", "a@mail.example.org"),
        ("example.org", "example.org@example.net"),
        ("example.org", "a@exampleXorg"),
        ("*.example.org", "a@example.org"),
        ("a@example.org", "aa@example.org"),
        ("postmaster@", "postmaster@example.org"),
    ],
)
def test_what_no_pattern_matches_goes_to_the_default(pattern: str, recipient: str) -> None:
    matched, default = ScriptedDeliveries(), ScriptedDeliveries()
    client = session([(pattern, matched)], default)
    to(client, recipient)
    content(client)
    assert (len(matched.messages), len(default.messages)) == (0, 1)


def test_the_first_pattern_that_matches_decides() -> None:
    first, second = ScriptedDeliveries(), ScriptedDeliveries()
    client = session([("a@*", first), ("*@example.org", second)], ScriptedDeliveries())
    to(client, "a@example.org", "b@example.org")
    content(client)
    assert (names(first), names(second)) == ([["a@example.org"]], [["b@example.org"]])


@pytest.mark.parametrize("pattern", ["", "a b", "a@example.org\n"])
def test_a_pattern_that_can_match_nobody_is_refused_when_the_router_is_made(pattern: str) -> None:
    with pytest.raises(ValueError, match="not a pattern"):
        Router([(pattern, ScriptedDeliveries())], ScriptedDeliveries())


def test_each_backend_gets_the_message_once_with_its_own_recipients_and_replies_keep_their_order() -> None:
    """RFC 2033 §4.2."""
    one = ScriptedDeliveries({"c@one": PermanentFailure("no")})
    two = ScriptedDeliveries({"b@two": TemporaryFailure("later")})
    client = session([("one", one)], two)
    to(client, "a@one", "b@two", "c@one", "d@two")
    assert content(client) == ["250 <a@one>", "451 <b@two>", "554 <c@one>", "250 <d@two>"]
    assert names(one) == [["a@one", "c@one"]]
    assert names(two) == [["b@two", "d@two"]]
    assert one.messages[0].read() == two.messages[0].read() == b"Subject: x\r\n\r\nHello\r\n"
    assert one.messages[0].id == two.messages[0].id


def test_a_message_for_one_backend_is_handed_on_as_it_is() -> None:
    one, other = ScriptedDeliveries(), ScriptedDeliveries()
    client = session([("one", one)], other)
    to(client, "a@one", "b@one")
    assert content(client) == ["250 <a@one>", "250 <b@one>"]
    assert other.calls == []


def test_a_backend_that_fails_as_a_whole_fails_alone() -> None:
    def broken(message: Any) -> Any:
        raise PermanentFailure("broken")

    client = session([("one", ScriptedDeliveries(deliver=broken))], ScriptedDeliveries())
    to(client, "a@one", "b@two", "c@one")
    assert content(client) == ["554 <a@one>", "250 <b@two>", "554 <c@one>"]


def test_a_backend_that_gives_a_wrong_list_fails_alone() -> None:
    client = session([("one", ScriptedDeliveries(deliver=lambda message: [None]))], ScriptedDeliveries())
    to(client, "a@one", "b@two", "c@one")
    assert content(client) == ["451 <a@one>", "250 <b@two>", "451 <c@one>"]


def test_a_slow_backend_does_not_hold_back_the_replies_before_its_own() -> None:
    slow: Deferred[Any] = Deferred()
    client = session([("slow", ScriptedDeliveries(deliver=lambda message: slow))], ScriptedDeliveries())
    to(client, "a@fast", "b@slow", "c@fast", "d@slow")
    assert content(client) == ["250 <a@fast>"]
    inner: Deferred[Any] = Deferred()
    slow.callback([None, inner])
    assert [finals(line) for line in client.read()] == ["250 <b@slow>", "250 <c@fast>"]
    inner.errback(TemporaryFailure("late"))
    assert [finals(line) for line in client.read()] == ["451 <d@slow>"]


def test_a_failure_that_comes_later_is_that_of_its_own_recipients() -> None:
    client = session(
        [("one", ScriptedDeliveries(deliver=lambda message: fail(PermanentFailure("no"))))], ScriptedDeliveries()
    )
    to(client, "a@one", "b@two")
    assert content(client) == ["554 <a@one>", "250 <b@two>"]


def test_a_lost_connection_cancels_what_every_backend_has_under_way() -> None:
    cancelled: list[str] = []
    waiting: Deferred[Any] = Deferred(lambda _: cancelled.append("one"))
    single: Deferred[Any] = Deferred(lambda _: cancelled.append("two"))
    client = session(
        [("one", ScriptedDeliveries(deliver=lambda message: waiting))],
        ScriptedDeliveries(deliver=lambda message: [single]),
    )
    to(client, "a@one", "b@two", "c@one")
    content(client)
    client.lose()
    assert sorted(cancelled) == ["one", "two"]


def test_a_backend_is_asked_about_the_sender_when_its_first_recipient_comes() -> None:
    one, two = ScriptedDeliveries(), ScriptedDeliveries()
    client = session([("one", one)], two)
    assert one.calls == []
    to(client, "a@one", "b@one")
    assert [name for name, _ in one.calls] == ["getDelivery", "validateFrom", "validateTo", "validateTo"]
    assert two.calls == []


@pytest.mark.parametrize(
    "answer", [PermanentFailure("not you"), lambda: fail(PermanentFailure("not you")), lambda: succeed(5)]
)
def test_a_sender_that_a_backend_refuses_is_a_refusal_of_that_recipient(answer: Any) -> None:
    one = ScriptedDeliveries(senders={"sender@example.net": answer})
    client = session([("one", one)], ScriptedDeliveries())
    (refused, accepted) = to(client, "a@one", "b@two")
    assert refused[0] in "45"
    assert accepted == "250 2.1.5"
    assert one.calls[-1] == ("aborted", "sender refused")
    assert content(client) == ["250 <b@two>"]


def test_answers_may_come_later() -> None:
    one = ScriptedDeliveries(
        senders={"sender@example.net": lambda: succeed(None)}, recipients={"a@one": lambda: succeed("welcome")}
    )
    client = session([("one", one)], ScriptedDeliveries())
    assert client.say("RCPT TO:<a@one>") == ["250 2.1.5 welcome"]
    assert content(client) == ["250 <a@one>"]


def test_a_delivery_none_of_whose_recipients_was_accepted_hears_so() -> None:
    one = ScriptedDeliveries(recipients={"a@one": PermanentFailure("no")})
    client = session([("one", one)], ScriptedDeliveries())
    to(client, "a@one", "b@two")
    content(client)
    assert one.calls[-1] == ("aborted", "none of its recipients was accepted")


def test_every_delivery_hears_of_a_reset() -> None:
    one, two = ScriptedDeliveries(), ScriptedDeliveries()
    client = session([("one", one)], two)
    to(client, "a@one", "b@two")
    client.say("RSET")
    assert (one.calls[-1], two.calls[-1]) == (("aborted", "RSET"), ("aborted", "RSET"))


def test_a_backend_that_gives_no_delivery_refuses_its_recipients() -> None:
    class Busy(ScriptedDeliveries):
        def getDelivery(self, session: Any) -> Any:
            raise TemporaryFailure("busy", enhanced="4.3.2")

    client = session([("one", Busy())], ScriptedDeliveries())
    assert to(client, "a@one", "b@two") == ["451 4.3.2", "250 2.1.5"]
