"""How the content reaches the messages of twisted.mail: as lines, whatever its size, with time for other sessions."""

from __future__ import annotations

from itertools import pairwise

import attrs
import pytest
import pytest_twisted
from hypothesis import given, settings
from hypothesis import strategies as st
from letterboxes import DOMAIN, LHLO, LMTP, MAIL, LetterBoxes, codes
from reactor_turns import turn
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import capturedLogs

from lmtp_twisted.envelope import Recipient, Sender
from lmtp_twisted.session import SessionInfo
from lmtp_twisted.testing import FakePool, FakeReactor
from lmtp_twisted.twisted_mail import MAX_LINE, TURN, adapt
from lmtp_twisted.wire.addresses import Address

BOB, CARL = "bob@example.org", "carl@example.org"
BOB_ONLY = (Recipient(Address("bob", "example.org")),)


@attrs.define
class ChunkedMessage:
    """As much of a message as an adapter reads, in chunks of our choice."""

    pieces: list
    recipients: tuple = BOB_ONLY

    async def chunks(self):
        for piece in self.pieces:
            if isinstance(piece, Deferred):
                piece = await piece
            if isinstance(piece, Exception):
                raise piece
            yield piece


def delivery_for(boxes, reactor):
    """An adapted delivery that has accepted Bob."""
    session = SessionInfo(UNIXAddress(None), UNIXAddress("/run/lmtp"), lhlo_name="client.example")
    delivery = adapt(boxes, domain=DOMAIN, reactor=reactor).getDelivery(session)
    delivery.validateFrom(Sender(None))
    delivery.validateTo(BOB_ONLY[0])
    return delivery


def deliver(boxes, pieces):
    """Deliver these chunks to Bob; his outcome."""
    (outcome,) = delivery_for(boxes, FakeReactor()).deliver(ChunkedMessage(pieces))
    return outcome


def lines_of(pieces):
    """What Bob's message gets of these chunks."""
    boxes = LetterBoxes(bob={"receivedHeader": b""})
    assert deliver(boxes, pieces).result is None
    return boxes.letters["bob"].lines


@given(st.text("a:\r\n", max_size=12), st.lists(st.integers(0, 14), max_size=6).map(sorted))
@settings(max_examples=300, deadline=None)
def test_lines_end_at_cr_lf_wherever_the_chunks_do(text, cuts):
    """A bare CR or LF is part of its line, and what stands behind the last CR LF is a line too."""
    content = text.encode()
    bounds = [0, *cuts, len(content)]
    pieces = [content[start:end] for start, end in pairwise(bounds) if content[start:end]]
    expected = content.split(b"\r\n")
    if not expected[-1]:
        expected.pop()
    if expected and expected[0] and b":" not in expected[0]:
        expected.insert(0, b"")
    assert lines_of(pieces) == expected


def test_every_split_of_a_message_gives_the_same_lines():
    """Between CR and LF too."""
    content = b"a: 1\r\n\r\nb\rc\nd\r\r\n\n\r\nlast"
    whole = lines_of([content])
    assert whole == [b"a: 1", b"", b"b\rc\nd\r", b"\n", b"last"]
    for cut in range(1, len(content)):
        assert lines_of([content[:cut], content[cut:]]) == whole
    assert lines_of([content[index : index + 1] for index in range(len(content))]) == whole


@pytest.mark.parametrize("last", [b"without an end", b"half an end\r"])
def test_a_last_line_without_an_end_is_given(last):
    """The content of BDAT may end anywhere (RFC 3030 §2)."""
    assert lines_of([b"a: 1\r\n" + last]) == [b"a: 1", last]
    assert lines_of([b"a: 1\r\n", last]) == [b"a: 1", last]


@pytest.mark.parametrize("header", [b"", None])
def test_without_a_received_header_the_content_comes_first(header):
    """``receivedHeader`` may give nothing."""
    boxes = LetterBoxes(bob={"receivedHeader": header})
    LMTP(boxes).mail(BOB, content=b"a: 1\r\n")
    assert boxes.letters["bob"].lines == [b"a: 1"]


def test_over_a_unix_socket_the_peer_has_a_name_instead_of_an_address():
    """``helo`` is of bytes all the same."""
    boxes = LetterBoxes()
    delivery_for(boxes, FakeReactor())
    assert boxes.calls[0][1] == (b"client.example", b"unix")


def test_a_line_of_a_megabyte_is_given_whole():
    """RFC 5321 §4.5.3.1.6 asks for 1000 octets; real mail has longer ones."""
    line = b"x" * 1_000_000
    assert lines_of([b"a: 1\r\n", line[:400_000], line[400_000:], b"\r\nb"]) == [b"a: 1", line, b"b"]


def test_a_line_of_the_greatest_length_is_given_and_a_longer_one_refused():
    """A line has to be held in memory until its end has come. The message is told that it is over."""
    session = LMTP(boxes := LetterBoxes())
    assert codes(session.mail(BOB, CARL, content=b"x" * (MAX_LINE + 1))) == ["554 5.6.0", "554 5.6.0"]
    assert boxes.calls[-2:] == [("connectionLost", "bob"), ("connectionLost", "carl")]
    assert codes(session.mail(BOB, content=b"x" * MAX_LINE)) == ["250 2.0.0"]


def test_many_lines_of_the_greatest_length_are_no_line_that_is_too_long():
    """What counts is a line, not the content."""
    half = b"x" * (MAX_LINE // 2)
    assert len(lines_of([b"a: 1\r\n", half, half, b"\r\n", half, half])) == 3


def large_content():
    """More than a block of the spool."""
    return b"a: 1\r\n\r\n" + b"".join(b"line %06d\r\n" % number for number in range(40_000))


def test_a_message_in_a_file_is_given_line_by_line():
    """What was too large for memory is read back by the pool."""
    content, boxes = large_content(), LetterBoxes(bob={"receivedHeader": b""})
    session = LMTP(boxes, threshold=1000)
    assert codes(session.mail(BOB, content=content)) == ["250 2.0.0"]
    assert boxes.letters["bob"].lines == content.split(b"\r\n")[:-1]


def test_files_are_read_by_the_pool_only():
    """No block is read before a thread has run."""
    pool, boxes, content = FakePool(immediate=False), LetterBoxes(), large_content()
    session = LMTP(boxes, pool, threshold=1000)
    session.mail(BOB, content=content)
    blocks = []
    while pool.run():
        letter = boxes.letters.get("bob")
        blocks.append(len(letter.lines) if letter else 0)
    assert len(set(blocks)) > 2
    assert codes(session.client.read()) == ["250 2.0.0"]


def test_a_connection_lost_while_a_file_is_read_ends_the_messages():
    """``connectionLost`` once, nothing after it, and no block is read but the one under way."""
    pool, boxes = FakePool(immediate=False), LetterBoxes()
    session = LMTP(boxes, pool, threshold=1000)
    session.mail(BOB, CARL, content=large_content())
    while not boxes.names().count(("lineReceived", "carl")) > 1:
        assert pool.run()
    seen = len(boxes.calls)
    session.client.lose()
    assert [pool.run(), pool.run()] == [1, 0]
    assert boxes.calls[seen:] == [("connectionLost", "bob"), ("connectionLost", "carl")]


def test_a_file_that_cannot_be_read_is_temporary():
    """The messages are told, and the log says why."""
    boxes = LetterBoxes()
    outcome = deliver(boxes, [b"a: 1\r\n", OSError("disk")])
    assert outcome.called
    assert boxes.names()[-1] == ("connectionLost", "bob")
    caught = []
    outcome.addErrback(caught.append)
    assert caught[0].check(OSError)


def test_content_that_comes_after_a_cancellation_is_not_given():
    """Whoever waits for content looks again when it has come."""
    block, boxes = Deferred(), LetterBoxes(bob={"receivedHeader": b""})
    outcome = deliver(boxes, [b"a: 1\r\n", block, b"c: 3\r\n"])
    outcome.addErrback(lambda _: None)
    outcome.cancel()
    block.callback(b"b: 2\r\n")
    assert boxes.letters["bob"].lines == [b"a: 1"]
    assert boxes.names()[-1] == ("connectionLost", "bob")


def test_an_error_after_a_cancellation_is_no_second_end():
    """``lineReceived`` may itself be what ends the session."""

    def cancel_and_raise():
        outcome.cancel()
        raise ValueError("bug")

    block, boxes = Deferred(), LetterBoxes(bob={"receivedHeader": b"", "lineReceived": cancel_and_raise})
    outcome = deliver(boxes, [block])
    outcome.addErrback(lambda failure: failure.trap(CancelledError))
    block.callback(b"a: 1\r\n")
    assert boxes.names() == [("make", "bob"), ("lineReceived", "bob"), ("connectionLost", "bob")]


class TickingList(list):
    """The clock moves with each call that is remembered, and runs nothing meanwhile."""

    def __init__(self, reactor):
        super().__init__()
        self.reactor = reactor

    def append(self, call):
        super().append(call)
        self.reactor.rightNow += TURN / 4


def slow_session():
    """A session with deliveries of which each call takes a quarter of a turn; and these."""
    boxes = LetterBoxes()
    session = LMTP(boxes)
    boxes.calls = TickingList(session.reactor)
    return session, boxes


def test_a_long_message_lets_other_sessions_go_on():
    """No turn of the reactor takes much longer than its share, whatever is slow: making, lines or ends."""
    session, boxes = slow_session()
    seen = []

    def other_session():
        seen.append(len(boxes.calls))
        if not session.client.transport.value():
            session.reactor.callLater(0, other_session)

    names = [f"user{number}@example.org" for number in range(20)]
    assert session.mail(*names, content=b"a: 1\r\n\r\nHello\r\n") == []
    other_session()
    session.reactor.advance(0)
    assert codes(session.client.read()) == ["250 2.0.0"] * len(names)
    calls_between = [after - before for before, after in pairwise(seen)]
    # What is not divided is one line for all recipients.
    assert max(calls_between) <= 3 + len(names)
    assert 10 < len(calls_between) < 20


@pytest_twisted.ensureDeferred
async def test_the_global_reactor_is_used_where_none_is_given():
    """``LMTPFactory(backend=…)`` gives none."""
    boxes = LetterBoxes(bob={"receivedHeader": b""})
    (outcome,) = delivery_for(boxes, None).deliver(ChunkedMessage([b"a: 1\r\n" * 200_000]))
    assert not outcome.called
    await outcome
    assert len(boxes.letters["bob"].lines) == 200_000


def test_a_connection_lost_between_turns_makes_no_further_message():
    """What was not made is not told."""
    session, boxes = slow_session()
    session.mail(*(f"user{number}@example.org" for number in range(20)))
    # The session waits for its turn, too: before its deliveries do.
    while not (made := [name for call, name in boxes.names() if call == "make"]):
        turn(session.reactor)
    session.client.lose()
    session.reactor.advance(0)
    assert [name for call, name in boxes.names() if call == "make"] == made
    assert [name for call, name in boxes.names() if call == "connectionLost"] == made
    assert 0 < len(made) < 20


def test_a_delivery_that_times_out_before_the_end_ends_its_message():
    """``connectionLost`` instead of ``eomReceived``; the client hears 451."""
    pool, boxes = FakePool(immediate=False), LetterBoxes()
    session = LMTP(boxes, pool, threshold=1000)
    session.say(MAIL, f"RCPT TO:<{BOB}>")
    session.client.send(b"BDAT 1000000 LAST\r\n" + b"a: 1\r\n" + bytes(999_994))
    while "bob" not in boxes.letters:
        assert pool.run()
    session.reactor.advance(540)
    assert codes(session.client.read()) == ["451 4.4.7"]
    assert boxes.names()[-1] == ("connectionLost", "bob")


def test_the_next_message_of_the_session_is_delivered_after_an_error():
    """Nothing is carried over."""
    boxes = LetterBoxes(bob={"lineReceived": ValueError("bug")})
    session = LMTP(boxes)
    with capturedLogs():
        assert codes(session.mail(BOB)) == ["451 4.3.0"]
    assert codes(session.say(LHLO))[-1].startswith("250 ")
    assert codes(session.mail(CARL)) == ["250 2.0.0"]
