"""The session: greeting, LHLO, the order of commands, QUIT (RFC 2033 §4.1, RFC 5321 §4.1)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from dialogue import (
    HOSTNAME,
    Client,
    codes,
    connected,
    delivered,
    greeted,
    with_recipients,
    with_sender,
)
from twisted.internet.defer import Deferred

from lmtp_twisted import PermanentFailure
from lmtp_twisted.testing import ScriptedDeliveries

MESSAGE = ("Subject: x", "", "Hello", ".")


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


def test_a_client_that_is_lost_before_its_greeting_leaves_nothing() -> None:
    """The fixtures look after the timers."""
    client = connected(greeting_delay=2)
    client.lose()
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


@pytest.mark.parametrize("line", ["EHLO x", "HELO x", "ehlo x", "HELO", "EHLO"])
@pytest.mark.parametrize("stage", [connected, greeted, with_sender, with_recipients])
def test_ehlo_and_helo_are_500_and_change_nothing(line: str, stage: Callable[..., Client]) -> None:
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
def test_a_second_mail_is_503_and_the_first_transaction_stands(stage: Callable[..., Client]) -> None:
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


@pytest.mark.parametrize("octets", [b"6\r\nQUIT\r\n", b"0\r\n"])
def test_no_recipient_can_join_after_a_chunk_was_refused_for_want_of_one(octets: bytes) -> None:
    """RFC 3030 §2: it would get what is left as if it were the whole."""
    client = with_sender()
    client.send(b"BDAT " + octets)
    assert codes(client.say("RCPT TO:<a@x>", "DATA", "MAIL FROM:<b@x>")) == ["503 5.5.1"] * 3
    assert codes(client.send(b"BDAT 4\r\nNOOP")) == ["503 5.5.1"]
    assert client.send(b"BDAT 4 LAST\r\nNOOP") == []
    assert codes(client.say("MAIL FROM:<b@x>", "RCPT TO:<a@x>")) == ["250 2.1.0", "250 2.1.5"]


def test_a_reset_ends_a_transaction_whose_chunk_was_refused() -> None:
    """RFC 5321 §4.1.1.5."""
    client = with_sender()
    assert codes(client.send(b"BDAT 1\r\nxRSET\r\n")) == ["503 5.5.1", "250 2.0.0"]
    assert codes(client.say("MAIL FROM:<b@x>")) == ["250 2.1.0"]


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
