"""Command lines: their ends, their limits, bad ones in a row, other protocols (RFC 5321 §2.3.8, §4.5.3.1.4)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from dialogue import (
    Client,
    codes,
    connected,
    delivered,
    greeted,
    with_recipients,
    with_sender,
)

from lmtp_twisted import PermanentFailure
from lmtp_twisted.testing import ScriptedDeliveries
from lmtp_twisted.wire.commands import MAX_LINE, line_limit


@pytest.mark.parametrize("bad", ["XYZZY", "", "MAIL", "MAIL TO", "VRFY", "RSET x", "LHLO", "EHLO x"])
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


@pytest.mark.parametrize(
    "line", ["GET / HTTP/1.1", "POST /mail HTTP/1.0", "CONNECT x:25 HTTP/1.1", "OPTIONS * HTTP/1.1"]
)
@pytest.mark.parametrize("stage", [connected, with_recipients])
def test_http_is_421_and_closed(line: str, stage: Callable[..., Client]) -> None:
    """A browser can be made to say LMTP behind its own header: none of it is run."""
    client = stage()
    assert codes(client.say(line, "Host: x", "", "LHLO c", "MAIL FROM:<a@x>")) == ["421 4.7.0"]
    assert client.is_closed


def test_a_verb_of_http_without_http_is_an_unknown_verb() -> None:
    """RFC 5321 §4.2.4."""
    client = greeted()
    assert codes(client.say("GET something")) == ["500 5.5.2"]
    assert not client.is_closed


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
        for start, end in pairwise(edges):
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
