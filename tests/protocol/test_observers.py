"""What observers of sessions hear."""

from __future__ import annotations

from typing import Any

import pytest
from dialogue import Client, LoggedErrors, codes, connected, greeted, server, with_recipients
from twisted.internet.defer import Deferred
from zope.interface import implementer
from zope.interface.verify import verifyObject

from lmtp_twisted import PermanentFailure, TemporaryFailure
from lmtp_twisted.interfaces import IContainingDelivery, ISessionObserver
from lmtp_twisted.recipients import Resolver
from lmtp_twisted.resolving import Resolving
from lmtp_twisted.routing import Router
from lmtp_twisted.testing import RecordingObserver, ScriptedDeliveries


def names(observer: RecordingObserver) -> list[str]:
    """What was heard."""
    return [event.name for event in observer.events]


def reply_of(event: Any) -> str:
    """The codes of a refusal."""
    return f"{event.reply.code} {event.reply.enhanced}"


def ended(observer: RecordingObserver) -> Any:
    """The one transaction that has ended."""
    (event,) = [event for event in observer.events if event.name == "transactionEnded"]
    return event


def test_a_recording_observer_is_an_observer() -> None:
    """It is public."""
    assert verifyObject(ISessionObserver, RecordingObserver())


def test_a_session_starts_before_its_greeting_and_ends_once() -> None:
    """Whatever happens in between."""
    observer = RecordingObserver()
    client = connected(observers=[observer])
    assert names(observer) == ["sessionStarted"]
    assert observer.events[0].session is client.protocol.session
    client.say("QUIT")
    assert names(observer) == ["sessionStarted"]
    client.lose()
    assert names(observer) == ["sessionStarted", "sessionEnded"]


def test_a_session_that_is_refused_starts_and_ends_too() -> None:
    """Metrics count it."""
    observer = RecordingObserver()
    factory = server(observers=[observer], max_sessions=1)
    Client(factory)
    refused = Client(factory)
    assert codes(refused.greeting) == ["421 4.3.2"]
    refused.lose()
    assert names(observer) == ["sessionStarted", "sessionStarted", "limitReached", "sessionEnded"]


def test_a_transaction_ends_with_an_outcome_for_each_reply() -> None:
    """RFC 2033 §4.2: in the order of the replies, a recipient that was given twice twice."""
    observer = RecordingObserver()
    slow: Deferred[None] = Deferred()
    deliveries = ScriptedDeliveries({"no@x": PermanentFailure("no"), "slow@x": slow})
    client = with_recipients(deliveries, "a@x", "no@x", "a@x", "slow@x", observers=[observer])
    replies = client.content(b"12345678\r\n")
    client.reactor.advance(3)
    assert names(observer) == ["sessionStarted"]
    slow.callback(None)
    replies += client.read()
    event = ended(observer)
    assert event.session is client.protocol.session
    assert str(event.envelope.sender) == "sender@example.net"
    assert [str(recipient) for recipient in event.envelope.recipients] == ["a@x", "no@x", "slow@x"]
    assert [str(outcome.recipient) for outcome in event.outcomes] == ["a@x", "no@x", "a@x", "slow@x"]
    assert [outcome.reply.code for outcome in event.outcomes] == [250, 554, 250, 250]
    assert [outcome.reply_id for outcome in event.outcomes] == [line.split()[3] for line in replies]
    assert [outcome.size for outcome in event.outcomes] == [10] * 4
    assert [outcome.seconds for outcome in event.outcomes] == [0.0, 0.0, 0.0, 3.0]


@pytest.mark.parametrize("at", [0, 1000])
def test_it_makes_no_difference_what_the_clock_says(at: float) -> None:
    """A clock may begin at 0."""
    observer = RecordingObserver()
    client = with_recipients(observers=[observer])
    client.reactor.advance(at)
    if client.is_closed:
        client = with_recipients(observers=[observer])
    client.content()
    assert len(ended(observer).outcomes) == 1


@pytest.mark.parametrize("how", ["RSET", "LHLO c", "lost", "QUIT"])
def test_a_transaction_that_is_given_up_ends_without_outcomes(how: str) -> None:
    """Once, and before its session does."""
    observer = RecordingObserver()
    client = with_recipients(observers=[observer])
    if how != "lost":
        client.say(how)
    client.lose()
    assert ended(observer).outcomes == ()
    assert [str(recipient) for recipient in ended(observer).envelope.recipients] == ["one@example.org"]
    assert names(observer) == ["sessionStarted", "transactionEnded", "sessionEnded"]


def test_a_transaction_given_up_within_its_content_ends_without_outcomes() -> None:
    """The content was never complete."""
    observer = RecordingObserver()
    client = with_recipients(observers=[observer])
    client.say("DATA", "Subject: x")
    client.lose()
    assert ended(observer).outcomes == ()


def test_a_mail_that_was_refused_is_no_transaction() -> None:
    """Refused at once or later, or never answered."""
    answer: Deferred[None] = Deferred()
    observer = RecordingObserver()
    senders = {"no@x": PermanentFailure("no"), "later@x": Deferred(), "lost@x": answer}
    client = greeted(ScriptedDeliveries(senders=senders), observers=[observer])
    client.say("MAIL FROM:<no@x>", "MAIL FROM:<later@x>")
    assert codes(client.after(540)) == ["451 4.4.7"]
    client.say("MAIL FROM:<lost@x>")
    client.lose()
    assert names(observer) == ["sessionStarted", "senderRefused", "senderRefused", "sessionEnded"]
    assert [str(event.sender) for event in observer.events[1:3]] == ["no@x", "later@x"]
    assert [reply_of(event) for event in observer.events[1:3]] == ["550 5.7.1", "451 4.4.7"]


@pytest.mark.parametrize(
    ("argument", "sender", "reply"),
    [
        ("FROM:<a@x> SIZE=11", "a@x", "552 5.3.4"),
        ("FROM:<a..b@x>", None, "501 5.1.7"),
        ("", None, "501 5.5.4"),
    ],
)
def test_senders_that_the_settings_or_the_grammar_refuse_are_told(
    argument: str, sender: str | None, reply: str
) -> None:
    """RFC 5321 §4.1.1.2."""
    observer = RecordingObserver()
    client = greeted(observers=[observer], size_limit=10)
    assert codes(client.say(f"MAIL {argument}")) == [reply]
    (event,) = [event for event in observer.events if event.name == "senderRefused"]
    assert (None if event.sender is None else str(event.sender)) == sender
    assert reply_of(event) == reply


def test_a_backend_that_gives_no_delivery_refuses_the_sender() -> None:
    """Where it has too much to do (RFC 3463 §3.4)."""

    class Busy(ScriptedDeliveries):
        def getDelivery(self, session: object) -> Any:
            raise TemporaryFailure("busy", enhanced="4.3.2")

    observer = RecordingObserver()
    greeted(Busy(), observers=[observer]).say("MAIL FROM:<a@x>")
    assert [reply_of(event) for event in observer.events if event.name == "senderRefused"] == ["451 4.3.2"]


def test_recipients_that_are_refused_are_told_with_who_refused_them() -> None:
    """By the backend, the settings or the grammar (RFC 5321 §4.1.1.3)."""
    observer = RecordingObserver()
    deliveries = ScriptedDeliveries(recipients={"no@x": PermanentFailure("no"), "later@x": Deferred()})
    client = greeted(deliveries, observers=[observer], max_recipients=1)
    client.say("MAIL FROM:<a@x>", "RCPT TO:<no@x>", "RCPT TO:<later@x>")
    client.after(540)
    client.say("RCPT TO:<a..b@x>", "RCPT TO:<yes@x>", "RCPT TO:<more@x>")
    events = [event for event in observer.events if event.name == "recipientRefused"]
    assert [None if event.recipient is None else str(event.recipient) for event in events] == [
        "no@x",
        "later@x",
        None,
        "more@x",
    ]
    assert [reply_of(event) for event in events] == ["550 5.1.1", "451 4.4.7", "501 5.1.3", "452 4.5.3"]
    assert [event.backend for event in events] == [deliveries, deliveries, None, deliveries]
    assert {str(event.sender) for event in events} == {"a@x"}


def test_an_outcome_names_the_backend_that_took_the_recipient() -> None:
    """Behind a policy too; where the content was refused nobody was asked."""
    observer = RecordingObserver()
    deliveries = ScriptedDeliveries()
    client = with_recipients(deliveries, policy=ScriptedDeliveries(), observers=[observer], size_limit=10)
    client.content(b"12345678\r\n")
    client.say("MAIL FROM:<a@x>", "RCPT TO:<b@x>")
    client.content(b"123456789\r\n")
    outcomes = [event.outcomes for event in observer.events if event.name == "transactionEnded"]
    assert [outcome.backend for (outcome,) in outcomes] == [deliveries, None]


def test_a_router_says_whose_a_recipient_is() -> None:
    """Also within another, and behind a resolver; the one that was not introduced counts too."""
    observer = RecordingObserver()
    first, second, refusing = (
        ScriptedDeliveries(),
        ScriptedDeliveries(),
        ScriptedDeliveries(recipients={"c@z": PermanentFailure("no")}),
    )
    inner = Router([("@y", second)], first)
    backend = Resolving(Resolver(), Router([("@z", refusing)], inner))
    client = with_recipients(backend, "a@x", "b@y", observers=[observer])
    client.say("RCPT TO:<c@z>")
    client.content()
    assert [outcome.backend for outcome in ended(observer).outcomes] == [first, second]
    assert [event.backend for event in observer.events if event.name == "recipientRefused"] == [refusing]


def test_a_delivery_that_cannot_say_whose_a_recipient_is_is_logged(logged: LoggedErrors) -> None:
    """And the outcome has the backend that gave it."""

    @implementer(IContainingDelivery)
    class Failing(ScriptedDeliveries):
        def getDelivery(self, session: object) -> Any:
            delivery: Any = super().getDelivery(session)
            delivery.backendFor = lambda recipient: 1 / 0
            return delivery

    observer, deliveries = RecordingObserver(), Failing()
    with_recipients(deliveries, observers=[observer]).content()
    assert [outcome.backend for outcome in ended(observer).outcomes] == [deliveries]
    assert len(logged.take()) == 1


def test_commands_are_counted_by_verb() -> None:
    """Whatever they are answered, but for those that observers hear of; what is no verb of the server's together."""
    counts: dict[str, int] = {}
    client = with_recipients(command_counts=counts)
    client.say("RCPT TO:<b@x>", "noop", "NOOP", "DATA x", "GRUESS GOTT", "", "MAIL FROM:<a@x>")
    client.content()
    client.say("QUIT")
    assert {verb: count for verb, count in counts.items() if count} == {
        "LHLO": 1,
        "MAIL": 1,
        "NOOP": 2,
        "DATA": 2,
        "QUIT": 1,
        "other": 2,
    }


def test_a_transaction_without_recipients_ends_too() -> None:
    """RFC 2033 §4.3."""
    observer = RecordingObserver()
    client = greeted(observers=[observer])
    client.send(b"MAIL FROM:<a@x>\r\nBDAT 1 LAST\r\nx")
    assert ended(observer).outcomes == ()
    assert ended(observer).envelope.recipients == ()


def test_a_content_that_was_refused_has_outcomes() -> None:
    """They are what the client was told."""
    observer = RecordingObserver()
    client = with_recipients(None, "a@x", "b@x", observers=[observer], size_limit=10)
    client.content(b"x" * 20 + b"\r\n")
    assert [outcome.reply.code for outcome in ended(observer).outcomes] == [552, 552]


def test_what_was_cancelled_has_the_outcome_that_the_client_would_have_been_told() -> None:
    """It does not know, and tries again."""
    observer = RecordingObserver()
    client = with_recipients(ScriptedDeliveries({"slow@x": Deferred()}), "a@x", "slow@x", observers=[observer])
    client.content()
    client.reactor.advance(2)
    client.lose()
    assert [outcome.reply.code for outcome in ended(observer).outcomes] == [250, 451]
    assert [outcome.seconds for outcome in ended(observer).outcomes] == [0.0, 2.0]
    assert names(observer)[-2:] == ["transactionEnded", "sessionEnded"]


def test_what_timed_out_has_its_outcome() -> None:
    """451 4.4.7."""
    observer = RecordingObserver()
    client = with_recipients(ScriptedDeliveries({"one@example.org": Deferred()}), observers=[observer])
    client.content()
    client.after(540)
    (outcome,) = ended(observer).outcomes
    assert (outcome.reply.code, outcome.reply.enhanced, outcome.seconds) == (451, "4.4.7", 540.0)


def test_each_message_is_a_transaction() -> None:
    """With reply ids of its own."""
    observer = RecordingObserver()
    client = greeted(observers=[observer])
    for _ in range(3):
        client.say("MAIL FROM:<a@x>", "RCPT TO:<b@x>")
        client.content()
    events = [event for event in observer.events if event.name == "transactionEnded"]
    assert len({event.outcomes[0].reply_id for event in events}) == 3


@pytest.mark.parametrize("method", ["sessionStarted", "transactionEnded", "sessionEnded"])
def test_an_observer_that_fails_is_logged_and_changes_nothing(method: str, logged: LoggedErrors) -> None:
    """Neither for the session nor for the other observers."""

    class Failing(RecordingObserver):
        def fail(self, *arguments: Any) -> None:
            raise ZeroDivisionError

    failing, other = Failing(), RecordingObserver()
    setattr(failing, method, failing.fail)
    client = with_recipients(observers=[failing, other])
    assert codes(client.content()) == ["250 2.0.0"]
    assert codes(client.say("RSET", "QUIT")) == ["250 2.0.0", "221 2.0.0"]
    client.lose()
    assert names(other) == ["sessionStarted", "transactionEnded", "sessionEnded"]
    (event,) = logged.take()
    assert event["log_failure"].check(ZeroDivisionError)
