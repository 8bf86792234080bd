"""
However the octets of a session are cut into segments, the replies are the same and so are the contents: one long
session is cut at every place into two, and into segments of every small size.
"""

from __future__ import annotations

from typing import Any

import pytest
from dialogue import Client, masked, server, stuffed
from twisted.internet.defer import Deferred

from lmtp_twisted import BareNewlines, LMTPFactory, PermanentFailure, TemporaryFailure
from lmtp_twisted.testing import FakeReactor, ScriptedDeliveries, fake_spool
from lmtp_twisted.wire.commands import MAX_LINE

FIRST = (
    b"Subject: one\r\n\r\n.a line that begins with a dot\r\n..\r\n.\n.\r.\r\r\n.\r\n"
    b"LF.LF:\n.\nLF.CRLF:\n.\r\nCRLF.LF:\r\n.\nQUIT\nCR.CR:\r.\rCRLF NUL:\r\n\x00.\r\nCRCRLF:\r\r\n.\r\r\n"
    b"\xff\xfe\x00 eight bits\r\n\r\n"
)
SECOND = b".\r\nQUIT\r\n.\r\n\x00\r\n.\r\n\n\n\r\r"
THIRD = b"\r\n.\r\n"


def _chunk(data: bytes, last: bool = False) -> bytes:
    return b"BDAT %d%b\r\n%b" % (len(data), b" LAST" if last else b"", data)


DIALOGUE = b"".join(
    [
        b"NOOP\r\nMAIL FROM:<early@x>\r\nBDAT 6\r\nQUIT\r\n",
        b"EHLO c\r\nLHLO\r\nlhlo client.example\r\n",
        b"MAIL FROM:<no@x>\r\nRCPT TO:<yes@x>\r\nDATA\r\n",
        b"MAIL FROM:<a@x> SIZE=350 BODY=8BITMIME\r\nRCPT TO:<no@x>\r\nDATA\r\n",
        b"RCPT TO:<yes@x>\r\nRCPT TO:<broken..@x>\r\nRCPT TO:<fails@x>\r\nRCPT TO:<yes@X>\r\n",
        b"DATA\r\n" + stuffed(FIRST) + b".\r\n",
        b"RSET\r\n\r\nXYZZY \t\r\nMAIL\r\n",
        b"NOOP " + b"x" * 510 + b"\r\n",
        b"MAIL FROM:<>  \r\nRCPT TO:<yes@x>\r\nRCPT TO:<later@x>\r\n",
        _chunk(SECOND[:7]) + _chunk(b"") + b"NOOP\r\nDATA\r\n" + _chunk(SECOND[7:]) + _chunk(b"", last=True),
        b"MAIL FROM:<a@x>\r\nRCPT TO:<yes@x>\r\n" + _chunk(b"abc") + b"RSET\r\n" + _chunk(b"QUIT\r\n", last=True),
        b"MAIL FROM:<a@x>\r\nRCPT TO:<yes@x>\r\n"
        + _chunk(b"x" * 300)
        + _chunk(b"QUIT\r\n" * 20)
        + _chunk(b"y", last=True),
        b"MAIL FROM:<a@x>\r\n" + _chunk(b"QUIT\r\n", last=True) + b"RCPT TO:<yes@x>\r\n",
        b"MAIL FROM:<a@x>\r\nRCPT TO:<yes@x>\r\nRCPT TO:<yes@x>\r\nDATA\r\n" + b"x" * 400 + b"\r\nQUIT\r\n.\r\n",
        b"MAIL FROM:<a@x>\r\nRCPT TO:<later@x>\r\nRCPT TO:<yes@x>\r\nDATA\r\n" + stuffed(THIRD) + b".\r\n",
        b"MAIL FROM:<a@x>\r\nRCPT TO:<yes@x>\r\nDATA\r\n.\r\n",
        b"QUIT\r\nNOOP\r\n",
    ]
)
#: A session that has a line beyond all limits: too long for every place, so some places of its own.
OVERLONG = (
    b"LHLO c\r\nNOOP\r\nMAIL FROM:<"
    + b"QUIT\r" * 50
    + b"x" * MAX_LINE
    + b"\nQUIT\r\r\nMAIL FROM:<a@x>\r\nRCPT TO:<yes@x>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n"
)


class Scripted:
    """A server whose answers are partly late, and what it was given."""

    def __init__(self, late: bool, streams: bool = False, **settings: Any) -> None:
        self.late = late
        self.streams = streams
        self.waiting: list[tuple[Deferred[Any], Any]] = []
        deliveries = ScriptedDeliveries(
            {"fails@x": lambda: TemporaryFailure("busy"), "later@x": lambda: self._later("later")},
            senders={"no@x": PermanentFailure("no"), "": lambda: self._later(None)},
            recipients={
                "no@x": PermanentFailure("no such user"),
                "later@x": lambda: self._later(None),
                "fails@x": lambda: self._later("fails later"),
            },
            streams=streams,
        )
        reactor = FakeReactor()
        spool = fake_spool(reactor, threshold=150)
        self.deliveries = deliveries
        self.factory: LMTPFactory = server(deliveries, reactor=reactor, spool=spool, size_limit=350, **settings)

    def _later(self, value: Any) -> Any:
        if not self.late:
            return value
        self.waiting.append((Deferred(), value))
        return self.waiting[-1][0]

    def run(self, segments: list[bytes]) -> tuple[list[str], list[bytes]]:
        """The replies of a session, and the contents that were delivered."""
        client = Client(self.factory)
        replies = list(client.greeting)
        for segment in segments:
            replies += client.send(segment)
        while self.waiting:
            deferred, value = self.waiting.pop(0)
            deferred.callback(value)
            replies += client.read()
        assert client.is_closed
        client.lose()
        return masked(replies), self._contents()

    def _contents(self) -> list[bytes]:
        """What was delivered: of messages that were lost while they were read there is an end, and no content."""
        deliveries = self.deliveries
        if not self.streams:
            return [message.read() for message in deliveries.messages]
        ends = [name for name, _ in deliveries.calls if name in ("deliver", "lost")]
        is_lost = [after == "lost" for name, after in zip(ends, [*ends[1:], ""], strict=True) if name == "deliver"]
        return [content for content, lost in zip(deliveries.contents, is_lost, strict=True) if not lost]


def _run(segments: list[bytes], late: bool = False, **settings: Any) -> tuple[list[str], list[bytes]]:
    return Scripted(late, **settings).run(segments)


EXPECTED_CONTENTS = [FIRST, SECOND, THIRD, b""]


def test_the_session_in_one_segment_is_as_it_should_be() -> None:
    """What all others are held against."""
    replies, contents = _run([DIALOGUE])
    assert contents == EXPECTED_CONTENTS
    codes = [line[:3] for line in replies if line[3] == " "]
    expected = (
        "220 250 503 503 500 501 250 550 503 503 250 550 503 250 501 250 250 354 250 451 250"
        " 250 500 500 501 500 250 250 250 250 250 250 503 250 250 250"
        " 250 250 250 250 503 250 250 250 552 552"
        " 250 503 250 250 250 354 552 552 250 250 250 354 250 250 250 250 354 250 221"
    )
    assert codes == expected.split()


def test_cut_in_two_at_every_place() -> None:
    """RFC 5321 §4.1.1.4, RFC 2920 §3.2, RFC 3030 §2: TCP knows no segments."""
    whole = _run([DIALOGUE])
    assert _run([DIALOGUE], late=True) == whole
    for cut in range(1, len(DIALOGUE)):
        # Answers that come at once and late ones take turns.
        assert _run([DIALOGUE[:cut], DIALOGUE[cut:]], late=cut % 2 == 0) == whole, cut


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 11, 64, 100, 511, 1000])
def test_in_segments_of_one_size(size: int, late: bool) -> None:
    """Octet by octet too."""
    segments = [DIALOGUE[start : start + size] for start in range(0, len(DIALOGUE), size)]
    assert _run(segments, late) == _run([DIALOGUE])


@pytest.mark.parametrize("policy", BareNewlines)
def test_streamed_and_cut_in_two_at_every_place(policy: BareNewlines) -> None:
    """RFC 2033 §4.2: the replies and the contents of a delivery that streams are those of one that does not."""
    whole = _run([DIALOGUE], bare_newlines=policy)
    assert _run([DIALOGUE], streams=True, bare_newlines=policy) == whole
    step = 1 if policy is BareNewlines.KEEP else 5
    for cut in range(1, len(DIALOGUE), step):
        segments = [DIALOGUE[:cut], DIALOGUE[cut:]]
        assert _run(segments, late=cut % 2 == 0, streams=True, bare_newlines=policy) == whole, cut
    for size in (1, 2, 3, 7, 100):
        segments = [DIALOGUE[start : start + size] for start in range(0, len(DIALOGUE), size)]
        assert _run(segments, late=True, streams=True, bare_newlines=policy) == whole, size


@pytest.mark.parametrize("policy", BareNewlines)
def test_octet_by_octet_with_every_policy_for_bare_newlines(policy: BareNewlines) -> None:
    """RFC 5321 §2.3.8: a CR and its LF in two segments are no bare ones."""
    whole = _run([DIALOGUE], bare_newlines=policy)
    for size in (1, 2, 3):
        segments = [DIALOGUE[start : start + size] for start in range(0, len(DIALOGUE), size)]
        assert _run(segments, bare_newlines=policy) == whole


@pytest.mark.parametrize("policy", [BareNewlines.NORMALISE, BareNewlines.REJECT])
def test_cut_in_two_within_the_contents_with_every_policy_for_bare_newlines(policy: BareNewlines) -> None:
    """RFC 5321 §2.3.8."""
    whole = _run([DIALOGUE], bare_newlines=policy)
    begin, end = DIALOGUE.index(b"DATA\r\n.") - 10, DIALOGUE.index(b"RSET")
    for cut in range(begin, end):
        assert _run([DIALOGUE[:cut], DIALOGUE[cut:]], bare_newlines=policy) == whole, cut


def test_a_session_with_a_line_beyond_all_limits() -> None:
    """RFC 5321 §4.5.3.1.4: cut in two around each of its line ends, and in segments of some sizes."""
    whole = _run([OVERLONG])
    assert whole[1] == [b"x\r\n"]
    assert [line[:3] for line in whole[0]][-7:] == ["250", "500", "250", "250", "354", "250", "221"]
    edges = [place for place, octet in enumerate(OVERLONG) if octet in b"\r\n"]
    edges += [MAX_LINE + 16, MAX_LINE + 17, MAX_LINE + 18]
    for edge in edges:
        for cut in (edge - 1, edge, edge + 1, edge + 2):
            assert _run([OVERLONG[:cut], OVERLONG[cut:]]) == whole, cut
            assert _run([OVERLONG[: cut - 1], OVERLONG[cut - 1 : cut], OVERLONG[cut:]]) == whole, cut
    for size in (1, 7, 1000, 4096):
        assert _run([OVERLONG[start : start + size] for start in range(0, len(OVERLONG), size)]) == whole
