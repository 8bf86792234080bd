"""What deliveries of twisted.mail answer, and what the client hears of it: each recipient its own."""

from __future__ import annotations

import pytest
from letterboxes import LMTP, MAIL, LetterBoxes, LetterBoxFactory, codes
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import capturedLogs
from twisted.mail import smtp
from twisted.python.failure import Failure

from lmtp_twisted import TemporaryFailure

BOB, CARL, DORA = "bob@example.org", "carl@example.org", "dora@example.org"


def failures(events):
    """The types of the failures in the log."""
    return [event["log_failure"].type for event in events if event.get("log_failure")]


# Senders


@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (smtp.SMTPBadSender("ann@example.net"), "550 5.7.1 Sender not acceptable"),
        (smtp.SMTPBadSender("ann@example.net", 451, "Later"), "451 4.3.0 Later"),
        (smtp.SMTPServerError(553, "No"), "553 5.7.1 No"),
        (TemporaryFailure("Busy", enhanced="4.3.2"), "451 4.3.2 Busy"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda error: error, fail], ids=["raised", "deferred"])
def test_a_sender_is_refused_with_the_code_of_the_error(error, reply, wrap):
    """RFC 5321 §4.2."""
    session = LMTP(LetterBoxes(sender={"validateFrom": lambda: wrap(error)}))
    assert session.say(MAIL) == [reply]


@pytest.mark.parametrize("answer", [ValueError("bug"), None])
def test_a_bug_in_validate_from_is_temporary_and_logged(answer):
    """``None`` is no sender; no user code bounces mail by mistake."""
    session = LMTP(LetterBoxes(sender={"validateFrom": answer}))
    with capturedLogs() as events:
        assert codes(session.say(MAIL)) == ["451 4.3.0"]
    assert failures(events) == [TypeError if answer is None else ValueError]


def test_the_session_waits_for_the_deferred_of_a_sender():
    """``validateFrom`` may take its time."""
    waiting = Deferred()
    session = LMTP(LetterBoxes(sender={"validateFrom": lambda: waiting}))
    assert session.say(MAIL, f"RCPT TO:<{BOB}>") == []
    waiting.callback(smtp.Address(b"ann@example.net"))
    assert codes(session.client.read()) == ["250 2.1.0", "250 2.1.5"]


def test_a_sender_that_is_not_ascii_is_refused():
    """RFC 6531 §3.5: ``smtp.Address`` cannot carry it."""
    boxes = LetterBoxes()
    assert codes(LMTP(boxes).say("MAIL FROM:<änn@example.net> SMTPUTF8")) == ["550 5.6.7"]
    assert boxes.calls == []


# Recipients


@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (smtp.SMTPBadRcpt("bob@example.org"), "550 5.1.1 Cannot receive for specified address"),
        (smtp.SMTPServerError(452, "Full"), "452 4.3.0 Full"),
        (smtp.SMTPServerError(550, b"Bytes \xff"), "550 5.1.1 Bytes \\x{FFFD}"),
        (smtp.SMTPServerError(550, "One\r\n250 two\nthree"), "550 5.1.1 One 250 two three"),
        (smtp.SMTPServerError(550, "5.2.1 Closed"), "550 5.2.1 Closed"),
        (smtp.SMTPServerError(550, "4.2.1 Closed"), "550 5.1.1 4.2.1 Closed"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda error: error, fail], ids=["raised", "deferred"])
def test_a_recipient_is_refused_with_the_code_of_the_error(error, reply, wrap):
    """Its text is one line, and may begin with an enhanced status code (RFC 3463)."""
    session = LMTP(LetterBoxes(bob={"validateTo": lambda: wrap(error)}))
    assert session.say(MAIL, f"RCPT TO:<{BOB}>", f"RCPT TO:<{CARL}>")[1:] == [reply, "250 2.1.5 Recipient OK"]


@pytest.mark.parametrize("code", [0, 99, 250, 354, 421, 600, "550", None])
def test_a_code_that_refuses_nothing_is_temporary_and_logged(code):
    """Such a code would put the client out of step."""
    session = LMTP(LetterBoxes(bob={"validateTo": smtp.SMTPServerError(code, "?")}))
    with capturedLogs() as events:
        assert codes(session.say(MAIL, f"RCPT TO:<{BOB}>")) == ["250 2.1.0", "451 4.3.0"]
    assert [event["log_level"].name for event in events] in (["error"], ["critical"])


def test_a_recipient_that_is_not_ascii_is_refused_alone():
    """RFC 6531 §3.5: ``smtp.Address`` cannot carry it."""
    boxes = LetterBoxes()
    replies = LMTP(boxes).say(f"{MAIL} SMTPUTF8", "RCPT TO:<bøb@example.org>", f"RCPT TO:<{CARL}>")
    assert codes(replies) == ["250 2.1.0", "553 5.6.7", "250 2.1.5"]
    assert [str(user) for user in boxes.users] == [CARL]


@pytest.mark.parametrize("wrap", [lambda value: value, succeed], ids=["plain", "deferred"])
def test_what_is_not_callable_makes_no_message(wrap):
    """Known at RCPT, not after the content."""
    session = LMTP(LetterBoxes(bob={"validateTo": lambda: wrap("bob")}))
    with capturedLogs() as events:
        assert codes(session.say(MAIL, f"RCPT TO:<{BOB}>")) == ["250 2.1.0", "451 4.3.0"]
    assert failures(events) == [TypeError]


def test_validate_to_may_give_a_deferred_of_the_callable():
    """As its interface says."""
    boxes = LetterBoxes(bob={"wrap": succeed})
    assert codes(LMTP(boxes).mail(BOB)) == ["250 2.0.0"]
    assert boxes.letters["bob"].lines


def test_a_recipient_given_twice_has_two_replies_and_one_message():
    """RFC 2033 §4.2. It is the user that was given first."""
    boxes = LetterBoxes()
    assert codes(LMTP(boxes).mail(BOB, "bob@EXAMPLE.org")) == ["250 2.0.0", "250 2.0.0"]
    assert boxes.names().count(("make", "bob")) == 1
    assert [call[3] for call in boxes.calls if call[0] == "receivedHeader"] == [[BOB]]


# Deliveries from a factory


def test_a_factory_may_refuse_the_message():
    """An ``SMTPServerError`` keeps its code there too."""
    factory = LetterBoxFactory(smtp.SMTPServerError(452, "Busy"), scripted=True)
    assert LMTP(factory).say(MAIL) == ["452 4.3.0 Busy"]


@pytest.mark.parametrize(("answer", "error"), [(None, TypeError), (ValueError("bug"), ValueError)])
def test_a_factory_that_gives_no_delivery_is_temporary_and_logged(answer, error):
    """Mail is not bounced for a bug."""
    with capturedLogs() as events:
        assert codes(LMTP(LetterBoxFactory(answer, scripted=True)).say(MAIL)) == ["451 4.3.0"]
    assert failures(events) == [error]


def test_a_factory_may_give_a_deferred():
    """Ours waits for it."""
    assert codes(LMTP(LetterBoxFactory(lambda: succeed(LetterBoxes()), scripted=True)).mail(BOB)) == ["250 2.0.0"]


# Messages


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        (lambda: None, "250 2.0.0"),
        (lambda: succeed("queued"), "250 2.0.0"),
        (lambda: smtp.SMTPServerError(552, "Full"), "552 5.3.0"),
        (lambda: fail(smtp.SMTPServerError(452, "Full")), "452 4.3.0"),
        (lambda: fail(smtp.SMTPServerError(552, "5.2.2 Full")), "552 5.2.2"),
    ],
)
def test_each_recipient_has_the_outcome_of_its_own_message(answer, reply):
    """RFC 2033 §4.2: a reply for each recipient, where SMTP has one for all."""
    boxes = LetterBoxes(carl={"eomReceived": answer})
    assert codes(LMTP(boxes).mail(BOB, CARL, DORA)) == ["250 2.0.0", reply, "250 2.0.0"]


@pytest.mark.parametrize("answer", [ValueError("bug"), lambda: fail(ValueError("bug"))])
def test_a_bug_in_eom_received_is_temporary_for_that_recipient_and_logged(answer):
    """Its message heard of the end, so it does not hear of a lost connection."""
    boxes = LetterBoxes(bob={"eomReceived": answer})
    with capturedLogs() as events:
        assert codes(LMTP(boxes).mail(BOB, CARL)) == ["451 4.3.0", "250 2.0.0"]
    assert failures(events) == [ValueError]
    assert ("connectionLost", "bob") not in boxes.calls


def test_replies_leave_as_soon_as_their_turn_has_come():
    """A slow recipient does not hold back those before it."""
    waiting = Deferred()
    session = LMTP(LetterBoxes(carl={"eomReceived": lambda: waiting}))
    assert codes(session.mail(BOB, CARL, DORA)) == ["250 2.0.0"]
    waiting.callback(None)
    assert codes(session.client.read()) == ["250 2.0.0", "250 2.0.0"]


@pytest.mark.parametrize("method", ["make", "receivedHeader", "lineReceived"])
@pytest.mark.parametrize(
    ("error", "reply"), [(smtp.SMTPServerError(552, "No"), "552 5.3.0"), (ValueError("bug"), "451 4.3.0")]
)
def test_an_error_before_the_end_is_that_recipients_alone(method, error, reply):
    """Its message is told that nothing more comes, if it was made; the others go on."""
    boxes = LetterBoxes(carl={method: error})
    with capturedLogs() as events:
        assert codes(LMTP(boxes).mail(BOB, CARL, DORA)) == ["250 2.0.0", reply, "250 2.0.0"]
    assert failures(events) == ([ValueError] if isinstance(error, ValueError) else [])
    assert boxes.calls.count(("connectionLost", "carl")) == (method != "make")
    assert ("eomReceived", "carl") not in boxes.calls
    assert ("eomReceived", "dora") in boxes.calls


def test_a_line_that_failed_is_the_last_one():
    """The content is not given to a message that has refused it."""
    boxes = LetterBoxes(bob={"receivedHeader": b"", "lineReceived": smtp.SMTPServerError(552, "No")})
    LMTP(boxes).mail(BOB, content=b"a: 1\r\nb: 2\r\n")
    assert boxes.letters["bob"].lines == [b"a: 1"]


def test_an_error_in_connection_lost_changes_nothing():
    """It is logged; the client hears why the message was refused."""
    boxes = LetterBoxes(bob={"lineReceived": smtp.SMTPServerError(552, "No"), "connectionLost": ValueError("bug")})
    with capturedLogs() as events:
        assert codes(LMTP(boxes).mail(BOB, CARL)) == ["552 5.3.0", "250 2.0.0"]
    assert failures(events) == [ValueError]


# Giving up


def test_nothing_is_made_before_the_content_is_complete():
    """RSET or a lost connection leaves nothing behind."""
    boxes = LetterBoxes()
    session = LMTP(boxes)
    assert codes(session.say(MAIL, f"RCPT TO:<{BOB}>", "RSET")) == ["250 2.1.0", "250 2.1.5", "250 2.0.0"]
    session.say(MAIL, f"RCPT TO:<{BOB}>", "DATA", "a: b")
    session.client.lose()
    assert boxes.names() == []


@pytest.mark.parametrize("give_up", ["lose", "time out"])
def test_a_cancelled_delivery_cancels_what_eom_received_waits_for(give_up):
    """The message heard of the end, so it does not hear of a lost connection."""
    cancelled = []
    waiting = Deferred(cancelled.append)
    boxes = LetterBoxes(bob={"eomReceived": lambda: waiting})
    session = LMTP(boxes)
    assert session.mail(BOB, CARL) == []
    if give_up == "lose":
        session.client.lose()
    else:
        session.reactor.advance(540)
        assert codes(session.client.read()) == ["451 4.4.7", "250 2.0.0"]
    assert cancelled == [waiting]
    assert boxes.names()[-2:] == [("eomReceived", "bob"), ("eomReceived", "carl")]


def test_a_deferred_that_fires_after_it_was_given_up_does_no_harm():
    """As any Deferred of twisted.mail's users does."""
    waiting = Deferred()
    session = LMTP(LetterBoxes(bob={"eomReceived": lambda: waiting}))
    session.mail(BOB)
    session.reactor.advance(540)
    waiting.errback(Failure(ValueError("late")))
    assert codes(session.client.read()) == ["451 4.4.7"]
    assert codes(session.say("NOOP")) == ["250 2.0.0"]
