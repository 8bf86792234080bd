"""The content of DATA: where it ends, what is taken away, bare newlines, limits, loops (RFC 5321 §4.1.1.4, §6.3)."""

from __future__ import annotations

import pytest
from dialogue import codes, delivered, greeted, stuffed, with_recipients

from lmtp_twisted import BareNewlines
from lmtp_twisted.testing import ScriptedDeliveries

#: What ends no content, and is not touched (RFC 5321 §4.1.1.4, §2.3.8).
FALSE_ENDS = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\r",
    b"\r\r\n.\r\r\n",
    b"\r\n\x00.\r\n",
    b"\r\n.\x00\r\n",
    b"\r\n. \r\n",
    b"\n\r.\r\n",
    b"\r\n.\n\r\n",
]


def test_data_is_354_then_one_reply_for_each_recipient() -> None:
    """RFC 5321 §4.1.1.4, RFC 2033 §4.2."""
    client = with_recipients(None, "a@x", "b@x")
    assert codes(client.say("DATA")) == ["354"]
    assert client.send(b"Subject: x\r\n\r\nHello\r\n") == []
    assert codes(client.send(b".\r\n")) == ["250 2.0.0"] * 2
    assert delivered(client) == [b"Subject: x\r\n\r\nHello\r\n"]


def test_a_dot_right_after_the_354_is_the_empty_message() -> None:
    """RFC 5321 §4.1.1.4: the line end of DATA begins the end mark."""
    client = with_recipients()
    assert codes(client.say("DATA", ".")) == ["354", "250 2.0.0"]
    assert delivered(client) == [b""]


@pytest.mark.parametrize("false_end", FALSE_ENDS)
def test_only_crlf_dot_crlf_ends_the_content(false_end: bytes) -> None:
    """RFC 5321 §4.1.1.4: all else is content, byte for byte but for a stuffed dot."""
    client = with_recipients()
    content = b"one" + false_end + b"MAIL FROM:<smuggled@x>\r\nRCPT TO:<a@x>\r\n"
    client.say("DATA")
    assert client.send(content) == []
    assert codes(client.send(b".\r\n")) == ["250 2.0.0"]
    assert delivered(client) == [content.replace(b"\r\n.", b"\r\n")]


@pytest.mark.parametrize("false_end", FALSE_ENDS)
def test_a_content_with_a_false_end_survives_dot_stuffing(false_end: bytes) -> None:
    """RFC 5321 §4.5.2."""
    client = with_recipients()
    content = false_end + b"one" + false_end + b"two" + false_end + b"\r\n"
    assert codes(client.content(content)) == ["250 2.0.0"]
    assert delivered(client) == [content]


@pytest.mark.parametrize(
    ("wire", "content"),
    [
        (b"..\r\n", b".\r\n"),
        (b"...\r\n", b"..\r\n"),
        (b".a\r\n", b"a\r\n"),
        (b"a\r\n..\r\nb\r\n", b"a\r\n.\r\nb\r\n"),
        (b"a\n..b\r\n", b"a\n..b\r\n"),
        (b"a\r..b\r\n", b"a\r..b\r\n"),
        (b"a\r\r\n..b\r\n", b"a\r\r\n.b\r\n"),
        (b"a..b\r\n", b"a..b\r\n"),
        (b"..\r\n..\r\n..\r\n", b".\r\n.\r\n.\r\n"),
        (b". \r\n", b" \r\n"),
    ],
)
def test_one_dot_is_removed_at_a_true_line_start_and_nowhere_else(wire: bytes, content: bytes) -> None:
    """RFC 5321 §4.5.2."""
    client = with_recipients()
    client.say("DATA")
    assert codes(client.send(wire + b".\r\n")) == ["250 2.0.0"]
    assert delivered(client) == [content]


def test_what_follows_the_end_in_the_same_segment_is_the_next_command() -> None:
    """RFC 2920 §3.1."""
    client = with_recipients()
    client.say("DATA")
    replies = client.send(b"x\r\n.\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nDATA\r\ny\r\n.\r\nNOOP\r\n")
    assert codes(replies) == ["250 2.0.0", "250 2.1.0", "250 2.1.5", "354", "250 2.0.0", "250 2.0.0"]
    assert delivered(client) == [b"x\r\n", b"y\r\n"]


def test_after_the_end_a_lone_dot_is_an_unknown_command() -> None:
    """RFC 5321 §4.1.1.4."""
    client = with_recipients()
    assert codes(client.say("DATA", ".", ".")) == ["354", "250 2.0.0", "500 5.5.2"]


@pytest.mark.parametrize(
    "content",
    [
        bytes(range(256)) + b"\r\n",
        b"\x00" * 1000 + b"\r\n",
        b"\xff\xfe\xfd\r\n",
        b"x" * 1_000_000 + b"\r\n",
        (b"y" * 70_000 + b"\r\n") * 3,
        b"\r\n" * 5000,
        b"\n" * 5000 + b"\r\n",
        b"\r" * 5000 + b"\r\n",
        b".\r\n" * 2000,
        "Grüße\r\n".encode("latin-1"),
    ],
    ids=["all octets", "NUL", "no UTF-8", "a long line", "long lines", "empty lines", "LF", "CR", "dots", "latin-1"],
)
def test_data_is_handed_over_byte_for_byte(content: bytes) -> None:
    """RFC 6152 §3, and beyond: a final delivery changes nothing."""
    client = with_recipients()
    assert codes(client.content(content)) == ["250 2.0.0"]
    assert delivered(client) == [content]
    assert client.factory.backend.messages[0].size == len(content)


@pytest.mark.parametrize(
    "content",
    [bytes(range(256)) * 10, b"\n.\n\r\n.\r\n..\r\n\r\n.\r\nQUIT\r\n", b".\r\n", b"\r\n.\r\n", b"no line end"],
)
@pytest.mark.parametrize("body", ["", " BODY=BINARYMIME", " BODY=8BITMIME"])
def test_a_chunk_is_handed_over_verbatim(content: bytes, body: str) -> None:
    """RFC 3030 §2: no dot is removed, nothing in it is an end."""
    client = greeted()
    client.say(f"MAIL FROM:<a@x>{body}", "RCPT TO:<b@x>")
    assert codes(client.send(b"BDAT %d LAST\r\n" % len(content) + content + b"NOOP\r\n")) == ["250 2.0.0", "250 2.0.0"]
    assert delivered(client) == [content]


def test_by_default_bare_newlines_are_kept() -> None:
    """A final delivery does not bounce what its MTA has accepted."""
    client = with_recipients()
    assert codes(client.content(b"a\nb\rc\r\n")) == ["250 2.0.0"]
    assert delivered(client) == [b"a\nb\rc\r\n"]


@pytest.mark.parametrize(
    ("content", "mended"),
    [
        (b"a\nb\r\n", b"a\r\nb\r\n"),
        (b"a\rb\r\n", b"a\r\nb\r\n"),
        (b"a\n\nb\r\r\n", b"a\r\n\r\nb\r\n\r\n"),
        (b"\n.\n\r\n", b"\r\n.\r\n\r\n"),
        (b"a\r\nb\r\n", b"a\r\nb\r\n"),
    ],
)
def test_normalise_makes_each_bare_newline_crlf(content: bytes, mended: bytes) -> None:
    """RFC 5321 §2.3.8: the next hop may read line ends less strictly."""
    client = with_recipients(bare_newlines=BareNewlines.NORMALISE)
    assert codes(client.content(content)) == ["250 2.0.0"]
    assert delivered(client) == [mended]
    assert client.factory.backend.messages[0].size == len(mended)


def test_normalise_mends_chunks_as_one_text() -> None:
    """RFC 3030 §2: a CR LF may be cut by the end of a chunk."""
    client = with_recipients(bare_newlines=BareNewlines.NORMALISE)
    client.send(b"BDAT 2\r\na\rBDAT 3\r\n\nb\rBDAT 2\r\nc\rBDAT 0 LAST\r\n")
    assert delivered(client) == [b"a\r\nb\r\nc\r\n"]


@pytest.mark.parametrize("policy", [BareNewlines.NORMALISE, BareNewlines.REJECT])
def test_a_binary_message_has_no_bare_newlines(policy: BareNewlines) -> None:
    """RFC 3030 §3: its CR and LF are what they are."""
    client = greeted(bare_newlines=policy)
    client.say("MAIL FROM:<a@x> BODY=BINARYMIME", "RCPT TO:<b@x>")
    assert codes(client.send(b"BDAT 5 LAST\r\na\nb\rc")) == ["250 2.0.0"]
    assert delivered(client) == [b"a\nb\rc"]


@pytest.mark.parametrize("content", [b"a\nb\r\n", b"a\rb\r\n", b"a\r\n\n\r\n", b"\r\r\n", b"a\r\n.\n.\r\n"])
def test_reject_refuses_bare_newlines_for_each_recipient_after_the_dot(content: bytes) -> None:
    """RFC 5321 §2.3.8."""
    deliveries = ScriptedDeliveries()
    client = with_recipients(deliveries, "a@x", "b@x", bare_newlines=BareNewlines.REJECT)
    client.say("DATA")
    assert client.send(stuffed(content)) == []
    replies = client.send(b".\r\nNOOP\r\n")
    assert codes(replies) == ["550 5.6.0", "550 5.6.0", "250 2.0.0"]
    assert [line.split()[2] for line in replies[:2]] == ["<a@x>", "<b@x>"]
    assert deliveries.messages == []
    assert deliveries.calls[-1][0] == "aborted"


def test_reject_takes_a_clean_content() -> None:
    """RFC 5321 §2.3.8."""
    client = with_recipients(bare_newlines=BareNewlines.REJECT)
    assert codes(client.content(b"a\r\n\r\n.\r\nb\r\n")) == ["250 2.0.0"]
    assert delivered(client) == [b"a\r\n\r\n.\r\nb\r\n"]


def test_reject_sees_a_bare_cr_at_the_end_of_the_last_chunk() -> None:
    """RFC 3030 §2."""
    client = with_recipients(bare_newlines=BareNewlines.REJECT)
    assert codes(client.send(b"BDAT 2 LAST\r\na\r")) == ["550 5.6.0"]


@pytest.mark.parametrize("segment", [1, 7, 1000])
def test_a_content_of_just_the_limit_is_accepted_and_one_octet_more_is_552(segment: int) -> None:
    """RFC 1870 §5: stuffed dots and the end mark do not count."""
    for size, answer in ((100, "250 2.0.0"), (101, "552 5.3.4")):
        client = with_recipients(None, "a@x", "b@x", size_limit=100)
        content = (b".\r\n" * 40)[: size - 2] + b"\r\n"
        assert len(content) == size
        client.say("DATA")
        data, replies = stuffed(content) + b".\r\nNOOP\r\n", []
        for start in range(0, len(data), segment):
            replies += client.send(data[start : start + segment])
        assert codes(replies) == [answer, answer, "250 2.0.0"]
        assert delivered(client) == ([content] if size == 100 else [])


def test_a_content_over_the_limit_is_read_to_its_end_and_nothing_of_it_runs() -> None:
    """RFC 1870 §6.3."""
    deliveries = ScriptedDeliveries()
    client = with_recipients(deliveries, "a@x", "b@x", "a@x", size_limit=1000)
    client.say("DATA")
    for _ in range(50):
        assert client.send(b"MAIL FROM:<a@x>\r\nQUIT\r\nRSET\r\n" * 5) == []
        assert client.factory.spool.used <= 1000
    replies = client.send(b".\r\nNOOP\r\n")
    assert codes(replies) == ["552 5.3.4"] * 3 + ["250 2.0.0"]
    assert [line.split()[2] for line in replies[:3]] == ["<a@x>", "<b@x>", "<a@x>"]
    assert [name for name, _ in deliveries.calls if name in ("deliver", "aborted")] == ["aborted"]


def test_beyond_ten_times_the_limit_all_recipients_are_552_and_the_session_is_closed() -> None:
    """RFC 5321 §3.8: the client will not stop."""
    client = with_recipients(None, "a@x", "b@x", size_limit=1000)
    client.say("DATA")
    sent, replies = 0, []
    while not replies:
        replies = client.send(b"x" * 498 + b"\r\n")
        sent += 500
        assert sent <= 13_000
    assert sent >= 10_000
    assert codes(replies) == ["552 5.3.4"] * 2
    assert client.is_closed
    assert client.send(b".\r\nNOOP\r\n") == []


def test_how_far_a_content_over_the_limit_is_read_is_a_setting() -> None:
    """RFC 5321 §3.8."""
    client = with_recipients(None, "a@x", "b@x", size_limit=1000, drain_factor=0)
    client.say("DATA")
    assert codes(client.send(b"x" * 1001)) == ["552 5.3.4"] * 2
    assert client.is_closed


@pytest.mark.parametrize("segment", [1, 50, 1000])
@pytest.mark.parametrize(("size", "closed"), [(100, False), (110, False), (111, True), (500, True)])
def test_whether_the_session_is_closed_does_not_depend_on_the_segments(segment: int, size: int, closed: bool) -> None:
    """RFC 1870 §6.3."""
    client = with_recipients(None, "a@x", "b@x", size_limit=10)
    client.say("DATA")
    data, replies = b"x" * (size - 2) + b"\r\n.\r\nNOOP\r\n", []
    for start in range(0, len(data), segment):
        replies += client.send(data[start : start + segment])
    assert codes(replies) == ["552 5.3.4"] * 2 + ["250 2.0.0"] * (not closed)
    assert client.is_closed is closed


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        (b"a\nb\nc\nd\r\n", "250 2.0.0"),
        (b"a\nb\nc\ndd\r\n", "552 5.3.4"),
    ],
)
def test_what_counts_is_what_was_sent_not_what_is_made_of_it(content: bytes, answer: str) -> None:
    """RFC 1870 §5: newlines that are mended on our side are not the client's."""
    client = with_recipients(size_limit=9, bare_newlines=BareNewlines.NORMALISE)
    assert codes(client.content(content)) == [answer]


def test_without_a_limit_a_content_may_have_any_size() -> None:
    """RFC 1870 §4: 0 is no limit."""
    client = with_recipients(size_limit=0)
    assert codes(client.content(b"x" * 3_000_000 + b"\r\n")) == ["250 2.0.0"]


def test_after_a_content_over_the_limit_the_next_message_goes_through() -> None:
    """RFC 1870 §6.3."""
    client = with_recipients(size_limit=100)
    assert codes(client.content(b"x" * 200 + b"\r\n")) == ["552 5.3.4"]
    client.say("MAIL FROM:<a@x>", "RCPT TO:<b@x>")
    assert codes(client.content(b"short\r\n")) == ["250 2.0.0"]
    assert delivered(client) == [b"short\r\n"]


@pytest.mark.parametrize("name", ["Received", "received", "RECEIVED", "Received "])
def test_more_than_a_hundred_received_lines_are_a_loop(name: str) -> None:
    """RFC 5321 §6.3."""
    deliveries = ScriptedDeliveries()
    client = with_recipients(deliveries, "a@x", "b@x")
    replies = client.content(f"{name}: from x\r\n\tby y\r\n" * 101 + "Subject: x\r\n\r\n")
    assert codes(replies) == ["554 5.4.6"] * 2
    assert deliveries.messages == []
    assert deliveries.calls[-1][0] == "aborted"
    assert codes(client.say("NOOP")) == ["250 2.0.0"]


@pytest.mark.parametrize(
    "content",
    [
        "Received: x\r\n" * 100 + "\r\n",
        "Received:\r\n" * 100 + "\r\n" + "Received: x\r\n" * 200,
        "Subject: x\r\n\r\n" + "Received: x\r\n" * 200,
        "\r\n" + "Received: x\r\n" * 200,
        "X-Received: x\r\n" * 200 + "\r\n",
        "Received-SPF: x\r\n" * 200 + "\r\n",
        "Subject: x\r\n Received: x\r\n" * 200 + "\r\n",
    ],
    ids=["exactly", "exactly and body", "body", "no header", "X-Received", "Received-SPF", "folded"],
)
def test_a_hundred_received_lines_or_such_lines_elsewhere_are_no_loop(content: str) -> None:
    """RFC 5321 §6.3."""
    client = with_recipients()
    assert codes(client.content(content)) == ["250 2.0.0"]


def test_the_number_of_received_lines_is_a_setting() -> None:
    """RFC 5321 §6.3."""
    for count, answer in ((3, "250 2.0.0"), (4, "554 5.4.6")):
        client = with_recipients(max_received=3)
        assert codes(client.content("Received: x\r\n" * count + "\r\nbody\r\n")) == [answer]


def test_a_loop_is_found_behind_other_header_lines() -> None:
    """RFC 5321 §6.3."""
    client = with_recipients(max_received=3)
    assert codes(client.content("X-Long: " + "x" * 5000 + "\r\n" + "Received: x\r\n" * 4 + "\r\n")) == ["554 5.4.6"]


def test_a_loop_is_found_in_a_header_that_never_ends() -> None:
    """RFC 5321 §6.3."""
    client = with_recipients(max_received=3)
    assert codes(client.content("Received: x\r\n" * 4)) == ["554 5.4.6"]


def test_a_loop_is_found_in_chunks() -> None:
    """RFC 5321 §6.3, RFC 3030 §2."""
    client = with_recipients(max_received=3)
    line = b"Received: x\r\n"
    data = b"".join(b"BDAT %d\r\n%b" % (len(line), line) for _ in range(4))
    assert codes(client.send(data + b"BDAT 2 LAST\r\n\r\n")) == ["250 2.0.0"] * 4 + ["554 5.4.6"]


def test_a_loop_is_found_however_the_header_is_cut() -> None:
    """RFC 5321 §6.3."""
    content = b"Received: x\r\n" * 4 + b"\r\nbody\r\n.\r\n"
    for cut in range(1, len(content)):
        client = with_recipients(max_received=3)
        client.say("DATA")
        assert codes(client.send(content[:cut]) + client.send(content[cut:])) == ["554 5.4.6"]
