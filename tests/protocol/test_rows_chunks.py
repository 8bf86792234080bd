"""BDAT: chunks, refused ones, sizes (RFC 3030 §2)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from dialogue import Client, codes, delivered, greeted, with_recipients, with_sender
from twisted.internet.defer import Deferred

from lmtp_twisted import PermanentFailure
from lmtp_twisted.testing import ScriptedDeliveries


def test_each_chunk_is_250_and_the_last_has_a_reply_for_each_recipient() -> None:
    """RFC 3030 §2, RFC 2033 §4.2."""
    client = with_recipients(None, "a@x", "b@x")
    replies = client.send(b"BDAT 3\r\nabcBDAT 0\r\nBDAT 2\r\n\r\nBDAT 3 LAST\r\ndefNOOP\r\n")
    assert codes(replies) == ["250 2.0.0"] * 3 + ["250 2.0.0"] * 2 + ["250 2.0.0"]
    assert [line.split()[2] for line in replies[3:5]] == ["<a@x>", "<b@x>"]
    assert delivered(client) == [b"abc\r\ndef"]


@pytest.mark.parametrize("line", [b"BDAT 0 LAST", b"bdat 0 last", b"BDAT 00  Last", b"BDAT 0 LAST  "])
def test_the_last_chunk_may_be_empty(line: bytes) -> None:
    """RFC 3030 §2."""
    client = with_recipients()
    assert codes(client.send(b"BDAT 3\r\nabc" + line + b"\r\n")) == ["250 2.0.0", "250 2.0.0"]
    assert delivered(client) == [b"abc"]


def test_an_empty_message_may_come_as_a_chunk() -> None:
    """RFC 3030 §2."""
    client = with_recipients()
    assert codes(client.send(b"BDAT 0 LAST\r\n")) == ["250 2.0.0"]
    assert delivered(client) == [b""]


def test_the_last_chunk_answers_each_recipient_with_its_outcome() -> None:
    """RFC 2033 §4.2, §4.3."""
    slow: Deferred[None] = Deferred()
    outcomes = {"no@x": PermanentFailure("no"), "slow@x": slow}
    client = with_recipients(ScriptedDeliveries(outcomes), "a@x", "no@x", "slow@x", "a@x")
    assert codes(client.send(b"BDAT 1 LAST\r\nxNOOP\r\n")) == ["250 2.0.0", "554 5.3.0"]
    slow.callback(None)
    assert codes(client.read()) == ["250 2.0.0"] * 3


def test_chunks_over_the_limit_are_read_away_and_552() -> None:
    """RFC 3030 §2, RFC 1870 §6.3: an octet of a refused chunk is never a command."""
    client = with_recipients(None, "a@x", "b@x", size_limit=10)
    assert codes(client.send(b"BDAT 8\r\nQUIT\r\n\r\n")) == ["250 2.0.0"]
    assert codes(client.send(b"BDAT 12\r\nQUIT\r\nQUIT\r\n")) == ["552 5.3.4"]
    assert codes(client.send(b"BDAT 1\r\nx")) == ["552 5.3.4"]
    assert codes(client.send(b"BDAT 6 LAST\r\nQUIT\r\n")) == ["552 5.3.4"] * 2
    assert codes(client.say("NOOP")) == ["250 2.0.0"]
    assert delivered(client) == []


def test_chunks_of_just_the_limit_are_accepted() -> None:
    """RFC 1870 §5."""
    client = with_recipients(size_limit=10)
    assert codes(client.send(b"BDAT 4\r\nabcdBDAT 6 LAST\r\nefghij")) == ["250 2.0.0"] * 2
    assert delivered(client) == [b"abcdefghij"]


def test_the_last_chunk_over_the_limit_is_552_for_each_recipient() -> None:
    """RFC 3030 §2, RFC 2033 §4.2."""
    client = with_recipients(None, "a@x", "b@x", size_limit=10)
    assert codes(client.send(b"BDAT 12 LAST\r\nQUIT\r\nQUIT\r\nNOOP\r\n")) == ["552 5.3.4"] * 2 + ["250 2.0.0"]


def test_an_empty_last_chunk_after_a_failed_one_is_552_for_each_recipient() -> None:
    """RFC 3030 §2: Exim and others end with BDAT 0 LAST."""
    client = with_recipients(None, "a@x", "b@x", size_limit=3)
    assert codes(client.send(b"BDAT 4\r\nabcdBDAT 0 LAST\r\n")) == ["552 5.3.4"] * 3


@pytest.mark.parametrize("stage", [greeted, with_sender, with_recipients])
@pytest.mark.parametrize("last", [b"", b" LAST"])
def test_a_chunk_beyond_all_bounds_is_552_at_once_and_closed(stage: Callable[..., Client], last: bytes) -> None:
    """RFC 3030 §2: it is not waited for."""
    client = stage(size_limit=100)
    assert codes(client.send(b"BDAT 99999999999999999999" + last + b"\r\nNOOP\r\n")) == ["552 5.3.4"]
    assert client.is_closed


def test_a_chunk_within_the_bound_is_read_away() -> None:
    """RFC 3030 §2."""
    client = with_recipients(size_limit=10)
    assert client.send(b"BDAT 110\r\n") == []
    assert codes(client.send(b"x" * 110 + b"NOOP\r\n")) == ["552 5.3.4", "250 2.0.0"]
    assert not client.is_closed


@pytest.mark.parametrize("segment", [1, 9, 59, 61, 1000])
def test_many_refused_chunks_have_one_reply_each_however_they_are_cut(segment: int) -> None:
    """RFC 3030 §2: how the octets are cut into segments changes nothing."""
    client = with_recipients(None, "a@x", "b@x", size_limit=10)
    data = (b"BDAT 50\r\n" + b"x" * 50) * 5 + b"BDAT 0 LAST\r\nNOOP\r\n"
    replies = []
    for start in range(0, len(data), segment):
        replies += client.send(data[start : start + segment])
    assert codes(replies) == ["552 5.3.4"] * 7 + ["250 2.0.0"]


@pytest.mark.parametrize("last", [b"", b" LAST"])
def test_a_chunk_that_is_not_the_last_never_has_the_replies_of_the_recipients(last: bytes) -> None:
    """RFC 2033 §4.2: they belong to the last chunk alone."""
    client = with_recipients(None, "a@x", "b@x", size_limit=10, drain_factor=1)
    assert codes(client.send(b"BDAT 15\r\n" + b"x" * 15)) == ["552 5.3.4"]
    replies = client.send(b"BDAT 20" + last + b"\r\n" + b"x" * 19)
    if not replies:
        replies = client.send(b"x")
    assert codes(replies) == ["552 5.3.4"] * (2 if last else 1)


@pytest.mark.parametrize("last", [b"", b" LAST"])
def test_rset_between_chunks_discards_them(last: bytes) -> None:
    """RFC 3030 §2."""
    deliveries = ScriptedDeliveries()
    client = with_recipients(deliveries)
    assert codes(client.send(b"BDAT 3\r\nabcRSET\r\n")) == ["250 2.0.0"] * 2
    assert deliveries.calls[-1][0] == "aborted"
    assert client.factory.spool.used == 0
    assert codes(client.send(b"BDAT 3" + last + b"\r\nabc")) == ["503 5.5.1"]
    client.say("MAIL FROM:<a@x>", "RCPT TO:<b@x>")
    assert codes(client.send(b"BDAT 1 LAST\r\nz")) == ["250 2.0.0"]
    assert delivered(client) == [b"z"]


def test_data_after_a_chunk_is_503_and_the_chunks_stand() -> None:
    """RFC 3030 §2."""
    client = with_recipients()
    assert codes(client.send(b"BDAT 3\r\nabcDATA\r\nBDAT 3 LAST\r\ndef")) == ["250 2.0.0", "503 5.5.1", "250 2.0.0"]
    assert delivered(client) == [b"abcdef"]


@pytest.mark.parametrize("line", ["NOOP", "VRFY a", "HELP", "EXPN a", "XYZZY", "EHLO x"])
def test_other_commands_between_chunks_change_nothing(line: str) -> None:
    """RFC 3030 §2."""
    client = with_recipients()
    client.send(b"BDAT 3\r\nabc")
    assert len(client.say(line)) == 1
    assert codes(client.send(b"BDAT 3 LAST\r\ndef")) == ["250 2.0.0"]
    assert delivered(client) == [b"abcdef"]


@pytest.mark.parametrize(
    "argument",
    ["", " abc", " 10 FOO", " -1", " 1.5", " 10LAST", " LAST", " LAST 10", " 1 2", " 10 LAST x", " 0x10", " \u0661"],
)
@pytest.mark.parametrize("stage", [greeted, with_sender, with_recipients])
def test_a_malformed_bdat_is_501_and_closed(argument: str, stage: Callable[..., Client]) -> None:
    """RFC 3030 §2: of a chunk whose size is not known nothing must run as a command."""
    client = stage()
    assert codes(client.say(f"BDAT{argument}", "NOOP")) == ["501 5.5.4"]
    assert client.is_closed


def test_a_chunk_of_more_digits_than_any_size_is_refused_and_closed() -> None:
    """RFC 3030 §2."""
    client = with_recipients()
    (answer,) = codes(client.say(f"BDAT {'9' * 21}", "NOOP"))
    assert answer in ("501 5.5.4", "552 5.3.4")
    assert client.is_closed


def test_a_client_that_is_lost_within_a_chunk_delivers_nothing() -> None:
    """RFC 3030 §2."""
    deliveries = ScriptedDeliveries()
    client = with_recipients(deliveries)
    client.send(b"BDAT 10 LAST\r\nabc")
    client.lose()
    assert deliveries.messages == []
    assert deliveries.calls[-1][0] == "aborted"


@pytest.mark.parametrize("data", [b"x\r\n", b"x\r\n.", b"x\r\n.\r", b""])
def test_a_client_that_is_lost_before_the_end_delivers_nothing(data: bytes) -> None:
    """RFC 5321 §4.1.1.4."""
    for how in ("lose", "half_close"):
        deliveries = ScriptedDeliveries()
        client = with_recipients(deliveries)
        client.say("DATA")
        client.send(data)
        getattr(client, how)()
        assert client.read() == []
        if how == "half_close":
            assert client.is_closed
            client.lose()
        assert deliveries.messages == []
        assert [name for name, _ in deliveries.calls].count("aborted") == 1
