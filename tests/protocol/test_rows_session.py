"""The one rule of final replies (RFC 2033 §4.2), and the session: order of commands, limits, the end."""

from __future__ import annotations

import re

import pytest
from dialogue import (
    HOSTNAME,
    Client,
    codes,
    connected,
    delivered,
    greeted,
    masked,
    server,
    with_recipients,
    with_sender,
)
from twisted.internet.defer import Deferred, succeed
from twisted.internet.testing import StringTransport

from lmtp_twisted import LMTPFactory, PermanentFailure, TemporaryFailure
from lmtp_twisted.errors import DeliveryError
from lmtp_twisted.testing import ScriptedDeliveries
from lmtp_twisted.wire.commands import MAX_LINE, line_limit

MESSAGE = ("Subject: x", "", "Hello", ".")


# The one rule


@pytest.mark.parametrize("count", [1, 2, 3, 100])
def test_each_accepted_recipient_gets_one_reply_in_rcpt_order(count: int) -> None:
    """RFC 2033 §4.2."""
    client = with_recipients(None, *(f"r{number}@example.org" for number in range(count)))
    replies = client.content()
    assert codes(replies) == ["250 2.0.0"] * count
    assert [re.search("<(.*?)>", line)[1] for line in replies] == [f"r{n}@example.org" for n in range(count)]  # type: ignore[index]


def test_each_recipient_gets_the_outcome_of_its_own() -> None:
    """RFC 2033 §4.2."""
    deliveries = ScriptedDeliveries(
        {
            "text@x": "Filed under spam",
            "temporary@x": TemporaryFailure("over quota", enhanced="4.2.2"),
            "permanent@x": PermanentFailure("too large for this mailbox", code=552, enhanced="5.2.3"),
            "default@x": PermanentFailure("no"),
        }
    )
    client = with_recipients(deliveries, "ok@x", "text@x", "temporary@x", "permanent@x", "default@x")
    assert masked(client.content()) == [
        "250 2.0.0 <ok@x> ID.1.1 Delivered",
        "250 2.0.0 <text@x> ID.1.2 Filed under spam",
        "451 4.2.2 <temporary@x> ID.1.3 over quota",
        "552 5.2.3 <permanent@x> ID.1.4 too large for this mailbox",
        "554 5.3.0 <default@x> ID.1.5 no",
    ]


def test_a_refused_recipient_gets_no_final_reply() -> None:
    """RFC 2033 §4.2: one reply for each RCPT that was accepted."""
    client = with_sender(ScriptedDeliveries(recipients={"no@x": PermanentFailure("no such user")}))
    assert codes(client.say("RCPT TO:<no@x>", "RCPT TO:<yes@x>", "RCPT TO:<no@x>")) == [
        "550 5.1.1",
        "250 2.1.5",
        "550 5.1.1",
    ]
    assert masked(client.content()) == ["250 2.0.0 <yes@x> ID.1.1 Delivered"]


def test_the_same_recipient_twice_gets_two_replies_and_one_delivery() -> None:
    """RFC 2033 §4.2."""
    deliveries = ScriptedDeliveries({"a@x": TemporaryFailure("busy")})
    client = with_sender(deliveries)
    assert codes(client.say("RCPT TO:<a@x>", "RCPT TO:<b@x>", "RCPT TO:<a@X>")) == ["250 2.1.5"] * 3
    assert masked(client.content()) == [
        "451 4.3.0 <a@x> ID.1.1 busy",
        "250 2.0.0 <b@x> ID.1.2 Delivered",
        "451 4.3.0 <a@x> ID.1.3 busy",
    ]
    assert [str(recipient) for recipient in deliveries.messages[0].recipients] == ["a@x", "b@x"]


def test_a_slow_second_recipient_does_not_hold_back_the_first() -> None:
    """RFC 2033 §4.2: replies in order, each as soon as it and all before it are known."""
    waiting: dict[str, Deferred[None]] = {f"{name}@x": Deferred() for name in "abcd"}
    client = with_recipients(ScriptedDeliveries(waiting), "a@x", "b@x", "c@x", "d@x")
    assert client.content() == []
    waiting["c@x"].callback(None)
    assert client.read() == []
    waiting["a@x"].callback(None)
    assert [line.split()[2] for line in client.read()] == ["<a@x>"]
    waiting["b@x"].callback(None)
    assert [line.split()[2] for line in client.read()] == ["<b@x>", "<c@x>"]
    assert client.say("NOOP") == []
    waiting["d@x"].callback(None)
    assert codes(client.read()) == ["250 2.0.0", "250 2.0.0"]


def test_a_duplicate_behind_a_slow_recipient_waits_for_its_turn() -> None:
    """RFC 2033 §4.2."""
    slow: Deferred[None] = Deferred()
    client = with_recipients(ScriptedDeliveries({"slow@x": slow}), "a@x", "slow@x", "a@x")
    assert [line.split()[2] for line in client.content()] == ["<a@x>"]
    slow.callback(None)
    assert [line.split()[2] for line in client.read()] == ["<slow@x>", "<a@x>"]


def test_no_250_is_sent_before_the_backend_has_committed() -> None:
    """RFC 5321 §4.5.5: a 250 takes over the responsibility."""
    committed: Deferred[None] = Deferred()
    client = with_recipients(ScriptedDeliveries({"one@example.org": committed}))
    assert client.content() == []
    committed.callback(None)
    assert codes(client.read()) == ["250 2.0.0"]


def test_an_unexpected_exception_is_451_and_logged_and_shows_nothing_of_itself(logged) -> None:  # type: ignore[no-untyped-def]
    """RFC 2033 §4.2, RFC 3463 §3.4."""

    def fail() -> None:
        raise ZeroDivisionError("/srv/secret/path")

    client = with_recipients(ScriptedDeliveries({"a@x": fail}), "a@x", "b@x")
    replies = client.content()
    assert codes(replies) == ["451 4.3.0", "451 4.3.0"]
    assert [line.split()[2] for line in replies] == ["<a@x>", "<b@x>"]
    assert "secret" not in " ".join(replies)
    assert "Zero" not in " ".join(replies)
    (event,) = logged.take()
    assert event["log_failure"].check(ZeroDivisionError)
    assert codes(client.say("NOOP")) == ["250 2.0.0"]


def test_an_exception_of_one_recipient_leaves_the_others_alone(logged) -> None:  # type: ignore[no-untyped-def]
    """RFC 2033 §4.2."""

    async def deliver(message: object, recipient: object) -> None:
        if str(recipient) == "b@x":
            raise ZeroDivisionError

    client = with_recipients(None, "a@x", "b@x", "c@x", deliver=deliver)
    assert codes(client.content()) == ["250 2.0.0", "451 4.3.0", "250 2.0.0"]
    assert len(logged.take()) == 1


def test_a_delivery_over_its_time_is_cancelled_and_answered_451() -> None:
    """Ten minutes is what a client waits (RFC 5321 §4.5.3.2.6): we answer before."""
    cancelled: list[object] = []
    slow: Deferred[None] = Deferred(cancelled.append)
    client = with_recipients(ScriptedDeliveries({"slow@x": slow}), "a@x", "slow@x", "b@x")
    assert len(client.content()) == 1
    assert client.after(539.9) == []
    assert cancelled == []
    assert masked(client.after(0.1)) == [
        "451 4.4.7 <slow@x> ID.1.2 Delivery took too long",
        "250 2.0.0 <b@x> ID.1.3 Delivered",
    ]
    assert cancelled == [slow]
    assert codes(client.say("NOOP")) == ["250 2.0.0"]


def test_what_was_answered_stays_delivered_and_the_rest_is_cancelled_when_the_connection_dies() -> None:
    """RFC 2033 §4.2, RFC 1047."""
    cancelled: list[object] = []
    done: Deferred[None] = Deferred(cancelled.append)
    slow: Deferred[None] = Deferred(cancelled.append)
    client = with_recipients(ScriptedDeliveries({"done@x": done, "slow@x": slow}), "done@x", "slow@x")
    client.content()
    done.callback(None)
    assert codes(client.read()) == ["250 2.0.0"]
    client.lose()
    assert cancelled == [slow]
    assert client.read() == []


def test_a_half_closed_client_gets_all_its_replies_and_is_closed_then() -> None:
    """RFC 9293 §3.6: who has half-closed still reads."""
    slow: Deferred[None] = Deferred()
    client = with_recipients(ScriptedDeliveries({"slow@x": slow}), "a@x", "slow@x")
    assert len(client.content()) == 1
    assert client.say("QUIT") == []
    client.half_close()
    assert not client.is_closed
    slow.callback(None)
    assert codes(client.read()) == ["250 2.0.0", "221 2.0.0"]
    assert client.is_closed


@pytest.mark.parametrize("turn", range(4))
def test_reply_ids_are_unique_and_name_the_recipient(turn: int) -> None:
    """RFC 2033 §4.2: a client that miscounts can see it."""
    client = greeted()
    seen: set[str] = set()
    for _ in range(turn + 1):
        client.say("MAIL FROM:<s@x>", "RCPT TO:<a@x>", "RCPT TO:<a@x>", "RCPT TO:<b@x>")
        replies = client.content()
        assert [line.split()[2] for line in replies] == ["<a@x>", "<a@x>", "<b@x>"]
        seen.update(line.split()[3] for line in replies)
    assert len(seen) == 3 * (turn + 1)
    assert all(reply_id.startswith(client.protocol.session.id) for reply_id in seen)


# The greeting


def test_the_greeting_names_the_host_and_lmtp() -> None:
    """RFC 2033 §4.1, RFC 5321 §4.2."""
    assert connected(banner="at your service").greeting == [f"220 {HOSTNAME} LMTP at your service"]


def test_with_a_greeting_delay_the_greeting_comes_late() -> None:
    """RFC 5321 §4.3.1: the client waits for the greeting."""
    client = connected(greeting_delay=2)
    assert client.greeting == []
    assert client.after(1.9) == []
    assert codes(client.after(0.1)) == ["220"]
    assert client.say("LHLO c")[-1].startswith("250 ")
    assert not client.is_closed


@pytest.mark.parametrize("early", ["LHLO c\r\n", "L", "\r\n"])
def test_with_a_greeting_delay_text_before_the_greeting_is_a_protocol_error(early: str) -> None:
    """RFC 5321 §4.3.1."""
    client = connected(greeting_delay=2)
    assert codes(client.send(early.encode())) == ["421 4.7.0"]
    assert client.is_closed


def test_an_early_talker_hears_one_421_and_nothing_after_it() -> None:
    """RFC 5321 §4.3.1: neither another 421 for what it goes on to say, nor the greeting when its time has come."""
    client = connected(greeting_delay=2)
    assert codes(client.send(b"LHLO")) == ["421 4.7.0"]
    assert client.send(b" c\r\n") == []
    assert client.after(3) == []


def test_with_a_greeting_delay_text_while_the_connection_policy_is_asked_is_early_too() -> None:
    """RFC 5321 §4.3.1."""

    class Policy:
        answer: Deferred[None] = Deferred()

        def validateConnection(self, session: object) -> Deferred[None]:
            return self.answer

    client = connected(greeting_delay=2, connection_policy=Policy())
    early = client.send(b"LHLO c\r\n")
    Policy.answer.callback(None)
    assert codes(early + client.after(3)) == ["421 4.7.0"]
    assert client.is_closed


def test_without_a_greeting_delay_a_client_may_speak_at_once() -> None:
    """Postfix's ``.`` + QUIT and netcat's one burst: the greeting is written first in any case."""
    client = connected()
    assert codes(client.greeting) == ["220"]
    assert codes(client.say("NOOP")) == ["250 2.0.0"]


# LHLO


@pytest.mark.parametrize("line", ["EHLO x", "HELO x", "ehlo x", "HELO", "EHLO"])
@pytest.mark.parametrize("stage", [connected, greeted, with_sender, with_recipients])
def test_ehlo_and_helo_are_500_and_change_nothing(line: str, stage) -> None:  # type: ignore[no-untyped-def]
    """RFC 2033 §4.1; the state is unchanged, also within a transaction (RFC 5321 §4.1.4)."""
    client: Client = stage()
    (reply,) = client.say(line)
    assert reply.startswith("500 ")
    assert "LMTP" in reply
    if stage is connected:
        assert codes(client.say("MAIL FROM:<a@x>")) == ["503 5.5.1"]
    if stage is greeted:
        assert codes(client.say("MAIL FROM:<a@x>")) == ["250 2.1.0"]
    if stage is with_sender:
        assert codes(client.say("RCPT TO:<a@x>")) == ["250 2.1.5"]
    if stage is with_recipients:
        assert codes(client.content()) == ["250 2.0.0"]


@pytest.mark.parametrize(
    "line", ["LHLO", "LHLO ", "LHLO a b", "LHLO a\x00", "LHLO (a)", 'LHLO "a"', "LHLO a\\b", "LHLO ü"]
)
def test_a_malformed_lhlo_is_501_and_changes_nothing(line: str) -> None:
    """RFC 2033 §4.1."""
    client = connected()
    assert codes(client.say(line)) == ["501"]
    assert codes(client.say("MAIL FROM:<a@x>")) == ["503 5.5.1"]
    assert client.protocol.session.lhlo_name == ""


def test_a_malformed_lhlo_leaves_the_transaction_and_the_name_alone() -> None:
    """RFC 5321 §4.1.4."""
    client = with_recipients()
    assert codes(client.say("LHLO other example")) == ["501"]
    assert client.protocol.session.lhlo_name == "client.example"
    assert codes(client.content()) == ["250 2.0.0"]


def test_lhlo_is_answered_with_the_host_and_the_capabilities_one_a_line() -> None:
    """RFC 2033 §4.1, RFC 5321 §4.1.1.1."""
    lines = connected().say("LHLO client.example")
    assert lines[0].split()[0] == f"250-{HOSTNAME}"
    assert all(line.startswith("250-") for line in lines[:-1])
    assert lines[-1].startswith("250 ")
    assert len(lines) > 5


def test_lhlo_again_clears_the_transaction() -> None:
    """RFC 5321 §4.1.4."""
    deliveries = ScriptedDeliveries()
    client = with_recipients(deliveries)
    assert client.say("LHLO other.example")[-1].startswith("250 ")
    assert deliveries.calls[-1][0] == "aborted"
    assert codes(client.say("RCPT TO:<a@x>", "DATA")) == ["503 5.5.1"] * 2
    assert client.protocol.session.lhlo_name == "other.example"
    assert codes(client.say("MAIL FROM:<a@x>", "RCPT TO:<a@x>")) == ["250 2.1.0", "250 2.1.5"]
    assert codes(client.content()) == ["250 2.0.0"]


def test_lhlo_between_chunks_discards_them() -> None:
    """RFC 5321 §4.1.4, RFC 3030 §2."""
    client = with_recipients()
    assert codes(client.send(b"BDAT 3\r\nabc")) == ["250 2.0.0"]
    assert client.say("LHLO c")[-1].startswith("250 ")
    assert codes(client.send(b"BDAT 3 LAST\r\nabc")) == ["503 5.5.1"]


# The order of commands


@pytest.mark.parametrize("line", ["MAIL FROM:<a@x>", "RCPT TO:<a@x>", "DATA", "mail nonsense"])
def test_before_lhlo_a_mail_command_is_503(line: str) -> None:
    """RFC 5321 §4.1.4."""
    client = connected()
    assert codes(client.say(line)) == ["503 5.5.1"]
    assert not client.is_closed


@pytest.mark.parametrize("last", [b"", b" LAST"])
def test_before_lhlo_a_chunk_is_read_away_and_503(last: bytes) -> None:
    """RFC 3030 §2, RFC 5321 §4.1.4."""
    client = connected()
    assert codes(client.send(b"BDAT 6" + last + b"\r\nQUIT\r\nNOOP\r\n")) == ["503 5.5.1", "250 2.0.0"]


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("NOOP", "250 2.0.0"),
        ("RSET", "250 2.0.0"),
        ("HELP", "214 2.0.0"),
        ("VRFY a", "252 2.1.5"),
        ("EXPN a", "502 5.5.1"),
        ("QUIT", "221 2.0.0"),
    ],
)
def test_before_lhlo_these_work(line: str, answer: str) -> None:
    """RFC 5321 §4.1.4."""
    assert codes(connected().say(line)) == [answer]


def test_rset_before_lhlo_opens_nothing() -> None:
    """RFC 5321 §4.1.1.5."""
    client = connected()
    assert codes(client.say("RSET", "MAIL FROM:<a@x>")) == ["250 2.0.0", "503 5.5.1"]


@pytest.mark.parametrize("line", ["RCPT TO:<a@x>", "DATA"])
def test_without_mail_it_is_503(line: str) -> None:
    """RFC 5321 §4.1.4."""
    assert codes(greeted().say(line)) == ["503 5.5.1"]


@pytest.mark.parametrize("stage", [with_sender, with_recipients])
def test_a_second_mail_is_503_and_the_first_transaction_stands(stage) -> None:  # type: ignore[no-untyped-def]
    """RFC 5321 §4.1.4."""
    deliveries = ScriptedDeliveries()
    client = stage(deliveries)
    assert codes(client.say("MAIL FROM:<other@x>")) == ["503 5.5.1"]
    client.say("RCPT TO:<a@x>")
    client.content()
    assert str(deliveries.messages[0].envelope.sender) == "sender@example.net"


def test_a_refused_mail_leaves_no_state() -> None:
    """RFC 5321 §4.1.1.2: no SIZE, BODY, SMTPUTF8, RET or ENVID is carried into the next."""
    deliveries = ScriptedDeliveries(senders={"no@x": PermanentFailure("no")})
    client = greeted(deliveries)
    refused = "MAIL FROM:<no@x> SIZE=99 BODY=BINARYMIME SMTPUTF8 RET=HDRS ENVID=abc"
    assert codes(client.say(refused, "RCPT TO:<a@x>", "DATA")) == ["550 5.7.1", "503 5.5.1", "503 5.5.1"]
    assert codes(client.say("MAIL FROM:<yes@x>", "RCPT TO:<ü@x>", "RCPT TO:<a@x>")) == [
        "250 2.1.0",
        "553 5.6.7",
        "250 2.1.5",
    ]
    assert codes(client.content()) == ["250 2.0.0"]
    parameters = deliveries.messages[0].envelope.sender.parameters
    assert (parameters.size, parameters.body, parameters.ret, parameters.envid) == (None, None, None, None)
    assert not parameters.smtputf8


@pytest.mark.parametrize("refused", [(), ("RCPT TO:<no@x>",), ("RCPT TO:<no@x>", "RCPT TO:<a..b@x>")])
def test_data_without_an_accepted_recipient_is_503_alone(refused: tuple[str, ...]) -> None:
    """RFC 2033 §4.2, RFC 2920 §3.1: no 354 and no reply for a recipient, pipelined too."""
    client = with_sender(ScriptedDeliveries(recipients={"no@x": PermanentFailure("no such user")}))
    replies = client.say(*refused, "DATA", "RSET")
    assert codes(replies)[len(refused) :] == ["503 5.5.1", "250 2.0.0"]


def test_the_last_chunk_without_an_accepted_recipient_is_read_away_and_has_no_reply() -> None:
    """RFC 2033 §4.3."""
    client = with_sender(ScriptedDeliveries(recipients={"no@x": PermanentFailure("no")}))
    assert codes(client.send(b"RCPT TO:<no@x>\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n")) == ["550 5.1.1", "250 2.0.0"]
    assert codes(client.say("RCPT TO:<a@x>")) == ["503 5.5.1"]
    assert codes(client.say("MAIL FROM:<a@x>")) == ["250 2.1.0"]


def test_the_delivery_hears_of_a_last_chunk_without_recipients() -> None:
    """RFC 2033 §4.3: the transaction is over."""
    deliveries = ScriptedDeliveries()
    client = with_sender(deliveries)
    assert client.send(b"BDAT 0 LAST\r\n") == []
    assert deliveries.calls[-1][0] == "aborted"


def test_a_chunk_without_an_accepted_recipient_is_read_away_and_503() -> None:
    """RFC 3030 §2."""
    client = with_sender()
    assert codes(client.send(b"BDAT 6\r\nQUIT\r\nNOOP\r\n")) == ["503 5.5.1", "250 2.0.0"]
    assert codes(client.say("RCPT TO:<a@x>")) == ["250 2.1.5"]


@pytest.mark.parametrize("last", [b"", b" LAST"])
def test_a_chunk_without_mail_is_read_away_and_503(last: bytes) -> None:
    """RFC 3030 §2, RFC 5321 §4.1.4."""
    client = greeted()
    assert codes(client.send(b"BDAT 6" + last + b"\r\nQUIT\r\nNOOP\r\n")) == ["503 5.5.1", "250 2.0.0"]


@pytest.mark.parametrize("last", [b"", b" LAST"])
def test_a_chunk_after_the_last_one_is_read_away_and_503(last: bytes) -> None:
    """RFC 3030 §2."""
    client = with_recipients()
    assert codes(client.send(b"BDAT 1 LAST\r\nxBDAT 6" + last + b"\r\nQUIT\r\nNOOP\r\n")) == [
        "250 2.0.0",
        "503 5.5.1",
        "250 2.0.0",
    ]


@pytest.mark.parametrize("line", ["MAIL FROM:<a@x>", "RCPT TO:<b@x>", "RCPT TO:<>", "DATA"])
def test_after_the_first_chunk_the_envelope_is_closed(line: str) -> None:
    """RFC 3030 §2: the number of replies is fixed."""
    client = with_recipients()
    assert codes(client.send(b"BDAT 1\r\nx")) == ["250 2.0.0"]
    assert codes(client.say(line)) == ["503 5.5.1"]
    assert codes(client.send(b"BDAT 1 LAST\r\nx")) == ["250 2.0.0"]


@pytest.mark.parametrize("line", ["DATA x", "RSET x", "QUIT x", "data 1", "DATA\tx"])
def test_an_argument_where_none_belongs_is_501(line: str) -> None:
    """RFC 5321 §4.3.2."""
    client = with_recipients()
    if "\t" in line:
        assert codes(client.say(line)) == ["500 5.5.2"]
    else:
        assert codes(client.say(line)) == ["501 5.5.4"]
    assert not client.is_closed
    assert codes(client.content()) == ["250 2.0.0"]


def test_noop_takes_anything() -> None:
    """RFC 5321 §4.1.1.9."""
    assert codes(connected().say("NOOP", "NOOP x", "noop ü y z")) == ["250 2.0.0"] * 3


def test_rset_keeps_the_lhlo_and_ends_the_transaction() -> None:
    """RFC 5321 §4.1.1.5."""
    deliveries = ScriptedDeliveries()
    client = with_recipients(deliveries)
    assert codes(client.say("RSET", "DATA", "RCPT TO:<a@x>")) == ["250 2.0.0", "503 5.5.1", "503 5.5.1"]
    assert deliveries.calls[-1][0] == "aborted"
    assert client.protocol.session.lhlo_name == "client.example"
    assert codes(client.say("MAIL FROM:<a@x>")) == ["250 2.1.0"]


def test_rset_may_be_said_again_and_again() -> None:
    """RFC 5321 §4.1.1.5: Postfix asks with it whether a connection is alive."""
    deliveries = ScriptedDeliveries()
    client = greeted(deliveries)
    assert codes(client.say(*["RSET"] * 20)) == ["250 2.0.0"] * 20
    assert deliveries.calls == []


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("VRFY postmaster", "252 2.1.5"),
        ("VRFY", "501 5.5.4"),
        ("EXPN list", "502 5.5.1"),
        ("EXPN", "502 5.5.1"),
        ("HELP", "214 2.0.0"),
        ("HELP MAIL", "214 2.0.0"),
    ],
)
def test_vrfy_expn_and_help(line: str, answer: str) -> None:
    """RFC 5321 §4.1.1.6 to §4.1.1.8, §7.3."""
    assert codes(greeted().say(line)) == [answer]


@pytest.mark.parametrize("line", ["", " ", "XYZZY", "MAILFROM:<a@x>", " QUIT", "\x00", "STARTTLS2", "250 OK", "é"])
def test_an_unknown_verb_or_an_empty_line_is_500(line: str) -> None:
    """RFC 5321 §4.2.4."""
    client = greeted()
    assert codes(client.say(line)) == ["500 5.5.2"]
    assert not client.is_closed


@pytest.mark.parametrize("line", ["MAIL", "MAIL FROM", "MAIL FROM:", "MAIL TO:<x@x>", "MAIL <x@x>", "MAIL x"])
def test_a_mail_without_a_path_is_501(line: str) -> None:
    """RFC 5321 §4.1.1.2."""
    client = greeted()
    assert codes(client.say(line)) == ["501 5.5.4"]
    assert codes(client.say("MAIL FROM:<a@x>")) == ["250 2.1.0"]


@pytest.mark.parametrize("line", ["RCPT", "RCPT TO", "RCPT TO:", "RCPT FROM:<x@x>", "RCPT <x@x>"])
def test_a_rcpt_without_a_path_is_501(line: str) -> None:
    """RFC 5321 §4.1.1.3."""
    client = with_sender()
    assert codes(client.say(line)) == ["501 5.5.4"]
    assert codes(client.say("RCPT TO:<a@x>")) == ["250 2.1.5"]


# Too many bad commands


@pytest.mark.parametrize("bad", ["XYZZY", "", "MAIL", "MAIL FROM:<a..b@x>", "VRFY", "RSET x", "LHLO", "EHLO x"])
def test_a_run_of_ten_bad_commands_is_421_and_closed(bad: str) -> None:
    """RFC 5321 §4.2.2 lets us; nothing behind them is run."""
    client = greeted()
    assert len(client.say(*[bad] * 9)) == 9
    assert not client.is_closed
    replies = client.say(bad, "NOOP", "NOOP")
    assert codes(replies)[-1] == "421 4.7.0"
    assert len(replies) <= 2
    assert client.is_closed


def test_the_length_of_the_run_is_a_setting() -> None:
    """RFC 5321 §4.2.2."""
    client = greeted(max_bad_commands=3)
    assert codes(client.say("X", "X", "NOOP", "X", "X", "X"))[-1] == "421 4.7.0"
    assert client.is_closed


@pytest.mark.parametrize("good", ["NOOP", "RSET", "LHLO c", "VRFY a", "HELP", "MAIL FROM:<a@x>"])
def test_any_success_ends_the_run(good: str) -> None:
    """RFC 5321 §4.2.2."""
    client = greeted()
    client.say(*["XYZZY"] * 9, good, *["XYZZY"] * 9)
    assert not client.is_closed


def test_an_accepted_recipient_and_a_content_end_the_run() -> None:
    """RFC 5321 §4.2.2."""
    client = with_sender()
    client.say(*["XYZZY"] * 9, "RCPT TO:<a@x>", *["XYZZY"] * 9)
    assert codes(client.content()) == ["250 2.0.0"]
    client.say(*["XYZZY"] * 9)
    assert not client.is_closed


def test_a_chunk_ends_the_run() -> None:
    """RFC 5321 §4.2.2."""
    client = with_recipients()
    client.say(*["XYZZY"] * 9)
    assert codes(client.send(b"BDAT 1\r\nx")) == ["250 2.0.0"]
    client.say(*["XYZZY"] * 9)
    assert not client.is_closed


def test_refused_senders_and_recipients_and_commands_out_of_order_do_not_count() -> None:
    """A refused MAIL with 50 RCPT and DATA in one burst gets its 52 replies (RFC 2920 §3.1)."""
    client = greeted(ScriptedDeliveries(senders={"no@x": PermanentFailure("no")}))
    replies = client.say("MAIL FROM:<no@x>", *(f"RCPT TO:<r{n}@x>" for n in range(50)), "DATA")
    assert codes(replies) == ["550 5.7.1", *["503 5.5.1"] * 51]
    assert not client.is_closed


def test_a_burst_of_refused_recipients_does_not_count() -> None:
    """RFC 2920 §3.1."""
    refused = {f"r{number}@x": PermanentFailure("no such user") for number in range(50)}
    client = with_sender(ScriptedDeliveries(recipients=refused))
    replies = client.say(*(f"RCPT TO:<{recipient}>" for recipient in refused), "DATA")
    assert codes(replies) == ["550 5.1.1"] * 50 + ["503 5.5.1"]
    assert not client.is_closed


# Other protocols


@pytest.mark.parametrize(
    "line", ["GET / HTTP/1.1", "POST /mail HTTP/1.0", "CONNECT x:25 HTTP/1.1", "OPTIONS * HTTP/1.1"]
)
@pytest.mark.parametrize("stage", [connected, with_recipients])
def test_http_is_421_and_closed(line: str, stage) -> None:  # type: ignore[no-untyped-def]
    """A browser can be made to say LMTP behind its own header: none of it is run."""
    client = stage()
    assert codes(client.say(line, "Host: x", "", "LHLO c", "MAIL FROM:<a@x>")) == ["421 4.7.0"]
    assert client.is_closed


def test_a_verb_of_http_without_http_is_an_unknown_verb() -> None:
    """RFC 5321 §4.2.4."""
    client = greeted()
    assert codes(client.say("GET something")) == ["500 5.5.2"]
    assert not client.is_closed


# QUIT


def test_quit_is_221_and_closed() -> None:
    """RFC 5321 §4.1.1.10."""
    client = greeted()
    assert codes(client.say("QUIT", "NOOP")) == ["221 2.0.0"]
    assert client.is_closed


def test_the_dot_and_quit_in_one_segment_get_all_replies_then_221() -> None:
    """Postfix sends them together."""
    waiting: dict[str, Deferred[None]] = {"a@x": Deferred(), "b@x": Deferred()}
    deliveries = ScriptedDeliveries(waiting)
    client = with_recipients(deliveries, "a@x", "b@x")
    client.say("DATA")
    assert client.say(*MESSAGE, "QUIT") == []
    assert not client.is_closed
    waiting["b@x"].callback(None)
    waiting["a@x"].callback(None)
    assert codes(client.read()) == ["250 2.0.0", "250 2.0.0", "221 2.0.0"]
    assert client.is_closed
    assert delivered(client) == [b"Subject: x\r\n\r\nHello\r\n"]


def test_quit_within_a_transaction_aborts_it() -> None:
    """RFC 5321 §4.1.1.10."""
    deliveries = ScriptedDeliveries()
    client = with_recipients(deliveries)
    client.say("QUIT")
    client.lose()
    assert [name for name, _ in deliveries.calls].count("aborted") == 1
    assert deliveries.messages == []


@pytest.mark.parametrize("last", ["QUIT", "GET / HTTP/1.1"])
def test_nothing_is_said_after_the_goodbye(last: str) -> None:
    """RFC 5321 §4.1.1.10: also where the transport takes its time to close."""
    client = greeted(idle_timeout=10, write_timeout=1000)
    assert len(client.say(last)) == 1
    assert client.after(11) == []
    assert client.say("NOOP") == []


# Lines


@pytest.mark.parametrize("line", ["noop", "NoOp", "NOOP  ", "NOOP \t ", "nOOP\t"])
def test_verbs_in_any_case_and_trailing_blanks_are_tolerated(line: str) -> None:
    """RFC 5321 §2.4, §4.1.1."""
    assert codes(greeted().say(line)) == ["250 2.0.0"]


@pytest.mark.parametrize("line", ["DATA ", "data\t", "DaTa  "])
def test_trailing_blanks_are_no_argument(line: str) -> None:
    """RFC 5321 §4.1.1."""
    assert codes(with_recipients().say(line)) == ["354"]


def test_a_mail_in_lower_case_with_blanks_is_a_mail() -> None:
    """RFC 5321 §2.4."""
    client = greeted()
    assert codes(client.say("mail from:<a@x>  ", "rcpt to:<b@x> \t")) == ["250 2.1.0", "250 2.1.5"]


@pytest.mark.parametrize(
    "data", [b"NOOP\n", b"\n", b"LHLO c\nNOOP\r\n", b"NOOP x\n\r\n", b"XYZZY\nMAIL FROM:<a@x>\r\n"]
)
def test_a_line_that_ends_in_a_bare_lf_is_answered_at_once_and_closed(data: bytes) -> None:
    """RFC 5321 §2.3.8: netcat's user hears what is wrong, and nothing behind the line is ever run."""
    client = connected()
    (reply,) = client.send(data)
    assert codes([reply]) == ["500 5.5.2"]
    assert "LF" in reply
    assert client.is_closed
    assert client.say("NOOP") == []


def test_commands_before_a_line_with_a_bare_lf_are_answered() -> None:
    """RFC 5321 §2.3.8."""
    client = connected()
    assert codes(client.send(b"NOOP\r\nRSET\r\nNOOP\nNOOP\r\n")) == ["250 2.0.0", "250 2.0.0", "500 5.5.2"]


def test_a_bare_lf_hidden_in_an_argument_ends_no_command() -> None:
    """RFC 5321 §2.3.8: smuggling by a peer that reads LF as a line end."""
    deliveries = ScriptedDeliveries()
    client = greeted(deliveries)
    assert codes(client.send(b"MAIL FROM:<a@x>\nRCPT TO:<b@x>\r\n")) == ["500 5.5.2"]
    assert deliveries.calls == []


def test_with_the_lenient_option_a_line_may_end_in_a_bare_lf() -> None:
    """For netcat."""
    client = connected(lenient_newlines=True)
    replies = client.send(b"LHLO c\nMAIL FROM:<a@x>\r\nRCPT TO:<b@x>\nDATA\nx\r\n.\r\nQUIT\n")
    assert codes(replies)[-5:] == ["250 2.1.0", "250 2.1.5", "354", "250 2.0.0", "221 2.0.0"]
    assert delivered(client) == [b"x\r\n"]


def test_with_the_lenient_option_a_bare_lf_still_ends_no_content() -> None:
    """RFC 5321 §4.1.1.4."""
    client = with_recipients(lenient_newlines=True)
    client.say("DATA")
    assert client.send(b"x\n.\nMAIL FROM:<a@x>\n") == []
    assert codes(client.send(b"\r\n.\r\n")) == ["250 2.0.0"]
    assert delivered(client) == [b"x\n.\nMAIL FROM:<a@x>\n\r\n"]


@pytest.mark.parametrize("verb", ["NOOP", "MAIL", "RCPT", "VRFY", "HELP"])
def test_a_line_of_just_the_limit_is_taken_and_one_octet_more_is_500(verb: str) -> None:
    """RFC 5321 §4.5.3.1.4: 512 octets with the CRLF, and what each extension adds (RFC 1870, 3461, 6531)."""
    client = with_sender()
    limit = line_limit(verb.encode())
    padding = limit - len(verb) - len(" \r\n")
    (reply,) = client.say(f"{verb} {'a' * padding}")
    assert codes([reply]) != ["500 5.5.2"]
    assert codes(client.say(f"{verb} {'a' * (padding + 1)}", "NOOP")) == ["500 5.5.2", "250 2.0.0"]


def test_the_limits_are_as_the_extensions_say() -> None:
    """RFC 5321 §4.5.3.1.4, RFC 3461 §5.4, RFC 1870 §3, RFC 6531 §3.1, RFC 4954 §4."""
    assert line_limit(b"NOOP") == 512
    assert line_limit(b"MAIL") >= 512 + 26 + 17 + 10 + 500
    assert line_limit(b"RCPT") >= 512 + 500
    assert line_limit(b"AUTH") == 12288


@pytest.mark.parametrize("length", [600, 2000, MAX_LINE - 1, MAX_LINE, MAX_LINE + 1, 20000, 200000])
@pytest.mark.parametrize("segment", [None, 1000, 4096])
def test_a_line_over_the_limit_is_500_once_and_resynchronised_at_the_next_crlf(
    length: int, segment: int | None
) -> None:
    """RFC 5321 §4.5.3.1.4: nothing of the line runs as a command."""
    client = with_recipients()
    data = b"NOOP " + b"QUIT " * (length // 5) + b"\r\nNOOP\r\n"
    replies = []
    for start in range(0, len(data), segment or len(data)):
        replies += client.send(data[start : start + (segment or len(data))])
    assert codes(replies) == ["500 5.5.2", "250 2.0.0"]
    assert codes(client.content()) == ["250 2.0.0"]


@pytest.mark.parametrize("middle", [b"\n", b"\r", b"\n\n", b"\r\r", b"\n\r"])
def test_only_crlf_ends_a_line_over_the_limit(middle: bytes) -> None:
    """RFC 5321 §2.3.8: whatever is behind a bare CR or LF in it is still of the line, in any segmentation."""
    data = b"X" * 13000 + middle + b"NOOP\r\nRSET x\r\n"
    for cuts in (
        [],
        [13000],
        [13000 + len(middle)],
        [13000, 13000 + len(middle)],
        [13000, 13004],
        [13001, 13005, 13006],
    ):
        client = greeted()
        edges = [0, *cuts, len(data)]
        replies = []
        for start, end in zip(edges, edges[1:], strict=False):
            replies += client.send(data[start:end])
        assert codes(replies) == ["500 5.5.2", "501 5.5.4"], cuts


@pytest.mark.parametrize("cut", range(12999, 13005))
def test_a_crlf_cut_in_two_ends_a_line_over_the_limit(cut: int) -> None:
    """RFC 5321 §4.5.3.1.4."""
    data = b"X" * 13000 + b"\r\nNOOP\r\n"
    client = greeted()
    assert codes(client.send(data[:cut]) + client.send(data[cut:])) == ["500 5.5.2", "250 2.0.0"]


def test_lines_over_the_limit_count_as_bad_commands() -> None:
    """RFC 5321 §4.2.2."""
    client = greeted()
    replies = client.say(*["X" * 600] * 5, *["X" * 13000] * 6)
    assert codes(replies) == ["500 5.5.2"] * 10 + ["421 4.7.0"]
    assert client.is_closed


def test_an_endless_line_costs_no_memory() -> None:
    """RFC 5321 §4.5.3.1.4."""
    client = greeted()
    for _ in range(200):
        assert client.send(b"X" * 50_000) == []
    assert len(client.protocol.clearLineBuffer()) < 65536
    assert codes(client.send(b"\r\nNOOP\r\n")) == ["500 5.5.2", "250 2.0.0"]


# Idle


def test_an_idle_client_is_421_after_five_minutes() -> None:
    """RFC 5321 §4.5.3.2.7."""
    client = greeted()
    assert client.after(299) == []
    assert codes(client.after(1)) == ["421 4.4.2"]
    assert client.is_closed


@pytest.mark.parametrize("stage", [connected, greeted, with_sender, with_recipients])
def test_the_idle_time_is_a_setting_and_counts_from_the_last_octets(stage) -> None:  # type: ignore[no-untyped-def]
    """RFC 5321 §4.5.3.2.7."""
    client = stage(idle_timeout=20)
    assert client.after(19) == []
    client.send(b"NO")
    assert client.after(19) == []
    assert codes(client.after(1)) == ["421 4.4.2"]
    assert client.is_closed


def test_a_client_that_stops_within_a_content_is_idle_too() -> None:
    """RFC 5321 §4.5.3.2.5."""
    deliveries = ScriptedDeliveries()
    client = with_recipients(deliveries, idle_timeout=20)
    client.say("DATA", "Subject: x")
    assert codes(client.after(20)) == ["421 4.4.2"]
    client.lose()
    assert deliveries.messages == []
    assert deliveries.calls[-1][0] == "aborted"


def test_the_idle_timer_never_fires_while_a_delivery_is_pending() -> None:
    """It is we who are slow."""
    slow: Deferred[None] = Deferred()
    client = with_recipients(ScriptedDeliveries({"one@example.org": slow}), idle_timeout=20)
    client.content()
    for _ in range(20):
        assert client.after(10) == []
    slow.callback(None)
    assert codes(client.read()) == ["250 2.0.0"]
    assert not client.is_closed


def test_the_idle_time_begins_anew_with_the_last_reply() -> None:
    """RFC 5321 §4.5.3.2.7: it is the time that the client takes for its next command."""
    slow: Deferred[None] = Deferred()
    client = with_recipients(ScriptedDeliveries({"one@example.org": slow}), idle_timeout=20)
    client.content()
    assert client.after(19) == []
    slow.callback(None)
    assert codes(client.read()) == ["250 2.0.0"]
    assert client.after(19) == []
    assert codes(client.after(1)) == ["421 4.4.2"]


@pytest.mark.parametrize("method", ["getDelivery", "validateFrom", "validateTo"])
def test_the_idle_timer_never_fires_while_the_application_is_asked(method: str) -> None:
    """It is we who are slow."""
    answer: Deferred[object] = Deferred()
    deliveries = ScriptedDeliveries(
        senders={"a@x": answer} if method == "validateFrom" else {},
        recipients={"b@x": answer} if method == "validateTo" else {},
    )
    if method == "getDelivery":
        deliveries.getDelivery = lambda session: answer  # type: ignore[method-assign, assignment, return-value]
    client = greeted(deliveries, idle_timeout=20)
    client.say("MAIL FROM:<a@x>", "RCPT TO:<b@x>")
    for _ in range(20):
        assert client.after(10) == []
    answer.callback(deliveries if method == "getDelivery" else None)
    assert codes(client.read())[-1] == "250 2.1.5"


# Shutting down


def test_idle_sessions_are_421_when_the_server_shuts_down() -> None:
    """RFC 5321 §3.8."""
    factory = server()
    clients = [Client(factory) for _ in range(3)]
    clients[1].say("LHLO c")
    clients[2].say("LHLO c", "MAIL FROM:<a@x>", "RCPT TO:<b@x>")
    done: list[None] = []
    factory.drain().addCallback(done.append)
    for client in clients:
        assert codes(client.read()) == ["421 4.3.2"]
        assert client.is_closed
    assert done == []
    for client in clients:
        client.lose()
    assert done == [None]


def test_drain_without_sessions_is_done_at_once() -> None:
    """RFC 5321 §3.8."""
    done: list[None] = []
    factory = server()
    factory.drain().addCallback(done.append)
    factory.drain().addCallback(done.append)
    assert done == [None, None]


def test_all_who_drain_hear_of_the_end() -> None:
    """RFC 5321 §3.8."""
    client = connected()
    done: list[None] = []
    client.factory.drain().addCallback(done.append)
    client.factory.drain().addCallback(done.append)
    assert codes(client.read()) == ["421 4.3.2"]
    client.lose()
    assert done == [None, None]


def test_a_new_connection_while_the_server_shuts_down_is_421() -> None:
    """RFC 5321 §3.8."""
    client = greeted()
    client.factory.drain()
    late = Client(client.factory)
    assert codes(late.greeting) == ["421 4.3.2"]
    assert late.is_closed
    assert late.say("LHLO c") == []
    client.read()


def test_a_session_past_the_dot_gets_all_its_replies_then_421_at_the_next_command() -> None:
    """RFC 5321 §3.8: never a 421 instead of a reply that is owed."""
    waiting: dict[str, Deferred[None]] = {"a@x": Deferred(), "b@x": Deferred()}
    client = with_recipients(ScriptedDeliveries(waiting), "a@x", "b@x")
    client.content()
    done: list[None] = []
    client.factory.drain().addCallback(done.append)
    assert client.read() == []
    waiting["a@x"].callback(None)
    assert codes(client.read()) == ["250 2.0.0"]
    waiting["b@x"].callback(None)
    assert codes(client.read()) == ["250 2.0.0"]
    assert not client.is_closed
    assert codes(client.say("MAIL FROM:<a@x>")) == ["421 4.3.2"]
    assert client.is_closed
    client.lose()
    assert done == [None]


def test_a_command_that_was_sent_ahead_is_421_after_the_replies() -> None:
    """RFC 5321 §3.8."""
    slow: Deferred[None] = Deferred()
    client = with_recipients(ScriptedDeliveries({"one@example.org": slow}))
    client.content()
    client.say("MAIL FROM:<a@x>", "RCPT TO:<b@x>")
    client.factory.drain()
    slow.callback(None)
    assert codes(client.read()) == ["250 2.0.0", "421 4.3.2"]
    assert client.is_closed


def test_a_client_that_says_nothing_after_its_replies_is_not_waited_for_long() -> None:
    """RFC 5321 §3.8."""
    slow: Deferred[None] = Deferred()
    client = with_recipients(ScriptedDeliveries({"one@example.org": slow}))
    client.content()
    client.factory.drain()
    slow.callback(None)
    assert codes(client.read()) == ["250 2.0.0"]
    assert codes(client.after(10)) == ["421 4.3.2"]
    assert client.is_closed


@pytest.mark.parametrize(
    "data", [b"DATA\r\nSubject: x\r\n", b"BDAT 10\r\nabc", b"BDAT 3\r\nabc", b"BDAT 10 LAST\r\nabc"]
)
def test_a_session_within_its_content_is_421_and_nothing_is_delivered(data: bytes) -> None:
    """RFC 5321 §3.8: no reply is owed yet."""
    deliveries = ScriptedDeliveries()
    client = with_recipients(deliveries)
    client.send(data)
    client.factory.drain()
    assert codes(client.read()) == ["421 4.3.2"]
    assert client.send(b"\r\n.\r\n") == []
    client.lose()
    assert deliveries.messages == []


def test_a_session_that_waits_for_the_application_is_421() -> None:
    """RFC 5321 §3.8."""
    answer: Deferred[None] = Deferred()
    client = with_sender(ScriptedDeliveries(recipients={"a@x": answer}))
    client.say("RCPT TO:<a@x>")
    client.factory.drain()
    assert codes(client.read()) == ["421 4.3.2"]
    answer.callback(None)
    assert client.read() == []


def test_a_session_that_has_not_been_greeted_yet_is_421_and_not_greeted() -> None:
    """RFC 5321 §3.8."""
    client = connected(greeting_delay=2)
    client.factory.drain()
    assert codes(client.read()) == ["421 4.3.2"]
    assert client.after(3) == []


def test_more_than_the_most_sessions_are_421() -> None:
    """RFC 5321 §3.8."""
    factory = server(max_sessions=2)
    first, second = Client(factory), Client(factory)
    third = Client(factory)
    assert codes(third.greeting) == ["421 4.3.2"]
    assert third.is_closed
    third.lose()
    first.lose()
    assert codes(Client(factory).greeting) == ["220"]
    assert codes(second.say("NOOP")) == ["250 2.0.0"]


# Connection policies


class _Connections:
    """A connection policy that answers as it is told."""

    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.sessions: list[object] = []

    def validateConnection(self, session: object) -> object:
        self.sessions.append(session)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize("answer", [None, True, "welcome"])
def test_a_connection_policy_may_accept(answer: object) -> None:
    """RFC 5321 §3.1."""
    policy = _Connections(answer)
    client = connected(connection_policy=policy)
    assert codes(client.greeting) == ["220"]
    assert policy.sessions == [client.protocol.session]


@pytest.mark.parametrize(
    ("answer", "greeting"),
    [
        (PermanentFailure("no"), "554"),
        (PermanentFailure("no", code=550, enhanced="5.7.25"), "554"),
        (TemporaryFailure("later"), "421"),
        (TemporaryFailure("later", code=450, enhanced="4.7.1"), "421"),
        (DeliveryError(421, "4.7.0", "wrong code"), "421"),
    ],
)
def test_a_connection_policy_may_refuse(answer: Exception, greeting: str, logged) -> None:  # type: ignore[no-untyped-def]
    """RFC 5321 §3.1, §3.8."""
    client = connected(connection_policy=_Connections(answer))
    assert [line[:3] for line in client.greeting] == [greeting]
    assert client.is_closed
    assert client.say("LHLO c") == []
    assert len(logged.take()) == (answer.code == 421)  # type: ignore[attr-defined]


@pytest.mark.parametrize("answer", [ZeroDivisionError(), False, 7])
def test_a_connection_policy_that_fails_is_421(answer: object, logged) -> None:  # type: ignore[no-untyped-def]
    """RFC 5321 §3.8."""
    client = connected(connection_policy=_Connections(answer))
    assert [line[:3] for line in client.greeting] == ["421"]
    assert client.is_closed
    assert len(logged.take()) == 1


def test_a_connection_policy_may_take_its_time() -> None:
    """RFC 5321 §3.1."""
    answer: Deferred[None] = Deferred()
    client = connected(connection_policy=_Connections(answer))
    assert client.greeting == []
    assert client.say("NOOP") == []
    answer.callback(None)
    assert codes(client.read()) == ["220", "250 2.0.0"]


def test_a_connection_policy_that_never_answers_is_421() -> None:
    """RFC 5321 §3.8."""
    client = connected(connection_policy=_Connections(Deferred()))
    assert [line[:3] for line in client.after(540)] == ["421"]
    assert client.is_closed


def test_a_connection_policy_may_answer_after_the_client_is_gone() -> None:
    """Nothing is written any more."""
    answer: Deferred[None] = Deferred(lambda deferred: deferred.callback(None))
    client = connected(connection_policy=_Connections(answer))
    client.lose()
    assert client.read() == []


# Bursts


def test_the_replies_of_a_burst_leave_together() -> None:
    """RFC 2920 §3.2."""
    writes: list[bytes] = []

    class Transport(StringTransport):
        def write(self, data: bytes) -> None:
            writes.append(data)

    factory: LMTPFactory = server()
    protocol = factory.buildProtocol(None)
    protocol.makeConnection(Transport())
    writes.clear()
    protocol.dataReceived(b"LHLO c\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nRCPT TO:<c@x>\r\nDATA\r\n")
    assert len(writes) == 1
    assert writes[0].endswith(b"\r\n")
    protocol.dataReceived(b"x\r\n.\r\nRSET\r\nQUIT\r\n")
    assert len(writes) == 2
    from twisted.python.failure import Failure
    from twisted.internet.error import ConnectionDone

    protocol.connectionLost(Failure(ConnectionDone()))


def test_replies_are_not_held_back_by_a_command_that_waits() -> None:
    """RFC 2920 §3.2: what has an answer is answered."""
    slow: Deferred[None] = Deferred()
    client = greeted(ScriptedDeliveries(recipients={"slow@x": slow}))
    assert codes(client.say("MAIL FROM:<a@x>", "RCPT TO:<b@x>", "RCPT TO:<slow@x>", "NOOP")) == [
        "250 2.1.0",
        "250 2.1.5",
    ]
    slow.callback(None)
    assert codes(client.read()) == ["250 2.1.5", "250 2.0.0"]


def test_a_deferred_that_has_fired_already_makes_no_difference() -> None:
    """RFC 2920 §3.2."""
    deliveries = ScriptedDeliveries(
        {"b@x": lambda: succeed("stored")},
        senders={"a@x": lambda: succeed(None)},
        recipients={"b@x": lambda: succeed(True)},
    )
    client = greeted(deliveries)
    replies = client.say("MAIL FROM:<a@x>", "RCPT TO:<b@x>", "DATA", *MESSAGE, "QUIT")
    assert codes(replies) == ["250 2.1.0", "250 2.1.5", "354", "250 2.0.0", "221 2.0.0"]
