"""Servers that do not keep to the protocol: an error for each recipient that says what is wrong, and never a hang."""

from __future__ import annotations

from typing import Any

import pytest
from scripted_server import LOST, TIMES, Play, replies

GOOD = ["250 2.0.0 Number 0", "250 2.0.0 Number 1", "250 2.0.0 Number 2"]
UNASKED = "451 4.5.0 The server gave a reply that it was not asked for"
DEAD = "451 4.4.2 The connection to the server was lost"


def test_a_server_that_does_as_it_should() -> None:
    """RFC 2033 §4.2: what the others here are held against."""
    play = Play()
    assert play.deliver() == GOOD
    assert play.line.commands == [
        "LHLO client.example",
        "MAIL FROM:<s@y>",
        "RCPT TO:<a@x>",
        "RCPT TO:<b@x>",
        "RCPT TO:<c@x>",
        "DATA",
    ]
    play.close()


def test_too_few_final_replies_leave_the_others_without_one() -> None:
    """RFC 2033 §4.2: what was said counts, and for the rest there is a time-out."""
    play = Play({".": "250 2.0.0 Yes\n452 4.2.2 Full"}, timeouts=TIMES)
    started = play.start()
    play.after(TIMES.final)
    assert replies(started) == [
        "250 2.0.0 Yes",
        "452 4.2.2 Full",
        "451 4.4.2 The server did not answer within 6 s",
    ]
    play.close()


def test_a_server_of_smtp_that_gives_one_reply_for_all() -> None:
    """RFC 2033 §4.2: the one reply is nobody's but the first recipient's; the connection ends."""
    play = Play({".": ("250 2.0.0 All of them", LOST)})
    assert play.deliver() == ["250 2.0.0 All of them", DEAD, DEAD]
    play.close()


@pytest.mark.parametrize("more", ["250 2.0.0 More", "550 5.1.1 More", "2", "250-More"])
def test_too_many_final_replies_count_for_nothing(more: str) -> None:
    """Whose they are cannot be known, so nobody has been delivered to."""
    octets = "".join(f"{line}\r\n" for line in (*GOOD, more)).encode()
    play = Play({".": octets[: -2 if more == "2" else None]})
    found = play.deliver()
    assert [reply[: len(UNASKED)] for reply in found] == [UNASKED] * 3
    play.close()


def test_a_final_reply_too_many_that_comes_late_ends_the_connection_only() -> None:
    """The recipients have their replies; the next message has a connection that is in step."""
    play = Play()
    assert play.deliver() == GOOD
    play.line.say("250 2.0.0 One more")
    play.settle()
    assert play.line.is_lost
    assert play.deliver() == GOOD
    assert len(play.server.lines) == 2
    play.close()


@pytest.mark.parametrize(
    ("answers", "commands"),
    [
        ({"greeting": "220 a\n250 b"}, 0),
        ({"LHLO": "250 a\n250 b"}, 1),
        ({"DATA": "354 Go on\n250 2.0.0 Delivered\n250 2.0.0 Delivered\n250 2.0.0 Delivered"}, 6),
        ({"LHLO": "250 no pipelining", "MAIL": "250 2.1.0 OK\n250 2.1.5 OK"}, 2),
    ],
)
def test_a_reply_to_what_was_not_said_is_not_taken_for_one_to_what_will_be(
    answers: dict[str, Any], commands: int
) -> None:
    """Replies that somebody put into the stream: for the content that has not been sent, too."""
    play = Play(answers)
    assert all(UNASKED in reply or "not asked for" in reply for reply in play.deliver())
    assert len(play.line.commands) == commands
    assert play.line.aborting
    play.close()


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b"x" * 100_000, id="a line without end"),
        pytest.param(b"250-more\r\n" * 1000, id="a reply without end"),
        pytest.param(b"250-a\r\n550 b\r\n", id="two codes in one reply"),
        pytest.param(b"hello\r\n", id="no code"),
        pytest.param(b"\r\n", id="an empty line"),
        pytest.param(b"150 a\r\n", id="a code of no class"),
        pytest.param(b"2500 a\r\n", id="four digits"),
        pytest.param(b"250 a\n250 b\r\n", id="a bare LF"),
        pytest.param(b"250 a\r250 b\r\n", id="a bare CR"),
        pytest.param(b"250 a\0\r\n", id="NUL"),
        pytest.param(b"\xff\xfe\r\n", id="octets"),
    ],
)
@pytest.mark.parametrize("where", ["greeting", "LHLO", "MAIL", "RCPT", "DATA", "."])
def test_what_is_no_reply_ends_the_connection(where: str, octets: bytes) -> None:
    """RFC 5321 §4.2: at whatever place. Buffers stay small."""
    play = Play({where: octets})
    found = play.deliver()
    assert len(found) == 3
    assert {reply[:9] for reply in found} == {"451 4.5.0"}
    assert play.line.aborting
    play.close()


@pytest.mark.parametrize(
    ("where", "seconds"), [("greeting", 2), ("LHLO", 3), ("MAIL", 3), ("RCPT", 3), ("DATA", 4), (".", 6)]
)
def test_silence_ends_with_a_time_out(where: str, seconds: float) -> None:
    """RFC 5321 §4.5.3.2: each command has its own time."""
    play = Play({"LHLO": "250 one at a time", where: None}, timeouts=TIMES)
    started = play.start()
    play.after(seconds - 0.01)
    assert not any(one.called for one in started)
    play.after(0.01)
    assert all(f"within {seconds} s" in reply and reply.startswith("451 4.4.2") for reply in replies(started))
    play.close()


def test_a_server_that_says_a_little_all_the_time_has_no_more_time() -> None:
    """A time-out is for the whole reply."""
    play = Play({"LHLO": None}, timeouts=TIMES)
    started = play.start()
    for _ in range(6):
        play.line.say(b"250-x\r\n")
        play.after(0.5)
    assert {reply[:9] for reply in replies(started)} == {"451 4.4.2"}
    play.close()


@pytest.mark.parametrize("where", ["greeting", "LHLO", "MAIL", "RCPT", "DATA", "."])
def test_a_connection_that_is_lost(where: str) -> None:
    """Whatever was not answered can be tried again."""
    play = Play({where: LOST})
    found = play.deliver()
    assert [reply[:9] for reply in found] == ["451 4.4.2"] * 3
    play.close()


def test_replies_that_came_before_the_connection_died_survive_it() -> None:
    """RFC 2033 §4.2: also one at RCPT."""
    play = Play(
        {
            "RCPT": lambda line: "550 5.1.1 Nobody" if "b@x" in line else "250 2.1.5 OK",
            ".": ("250 2.0.0 Yes\n554 5.6.0 No", LOST),
        }
    )
    assert play.deliver(b"x", "a@x", "b@x", "c@x", "d@x") == [
        "250 2.0.0 Yes",
        "550 5.1.1 Nobody",
        "554 5.6.0 No",
        DEAD,
    ]
    play.close()


@pytest.mark.parametrize("where", ["MAIL", "RCPT", "DATA", "."])
def test_421_is_never_what_became_of_a_recipient(where: str) -> None:
    """RFC 5321 §3.8: it ends the session, and the message can be tried again."""
    play = Play({where: ("421 4.3.2 Shutting down", LOST)})
    assert play.deliver() == ["451 4.3.2 Shutting down"] * 3
    play.close()


def test_421_in_the_midst_of_the_content() -> None:
    """RFC 5321 §3.8: it may come at any time."""
    play = Play({"DATA": ("354 Go on", "421 4.3.2 Shutting down")})
    assert play.deliver() == ["451 4.3.2 Shutting down"] * 3
    play.close()


@pytest.mark.parametrize("goodbye", ["421 4.3.2 Shutting down", "421-4.3.2 Shutting\n421 4.3.2 down"])
def test_421_behind_the_final_replies_takes_none_of_them_back(goodbye: str) -> None:
    """RFC 5321 §3.8: in their segment, too. The server has the message: a second one would be one too many."""
    play = Play({".": "\n".join((*GOOD, goodbye))})
    assert play.deliver() == GOOD
    assert play.line.aborting
    play.server.answers["."] = "\n".join(GOOD)
    assert play.deliver() == GOOD
    assert len(play.server.lines) == 2
    play.close()


def test_421_behind_the_word_to_go_on_ends_the_session() -> None:
    """RFC 5321 §3.8: none of the content is sent."""
    play = Play({"DATA": "354 Go on\n421 4.3.2 Shutting down"})
    assert play.deliver() == ["451 4.3.2 Shutting down"] * 3
    assert play.line.content == b""
    play.close()


@pytest.mark.parametrize("more", ["250 2.0.0 More\n421 4.3.2 Bye", "421 4.3.2 Bye\n250 2.0.0 More", "421 Bye\n2"])
def test_421_among_other_replies_too_many_saves_nothing(more: str) -> None:
    """Whose those before it are cannot be known."""
    octets = "\n".join((*GOOD, more)).replace("\n", "\r\n").encode()
    play = Play({".": octets if more.endswith("\n2") else octets + b"\r\n"})
    assert [reply[: len(UNASKED)] for reply in play.deliver()] == [UNASKED] * 3
    play.close()


@pytest.mark.parametrize("where", ["MAIL", "RCPT", "DATA", "."])
@pytest.mark.parametrize("code", [334, 399])
def test_a_code_that_makes_no_sense_is_a_failure_that_passes(where: str, code: int) -> None:
    """RFC 5321 §4.3.2: whether it delivered cannot be known."""
    play = Play({where: f"{code} What?"})
    assert {reply[:9] for reply in play.deliver()} == {"451 4.5.0"}
    play.close()


def test_the_content_goes_to_nobody_where_nobody_was_accepted() -> None:
    """RFC 2033 §4.2: a server that asks for it all the same is left."""
    play = Play({"RCPT": "550 5.1.1 Nobody"})
    assert play.deliver() == ["550 5.1.1 Nobody"] * 3
    assert play.line.aborting
    play.close()


def test_text_of_a_reply_cannot_become_a_reply_of_ours() -> None:
    """What it holds beyond printable ASCII is escaped where it is written."""
    play = Play({".": "250 2.0.0 caf\u00e9 \x1b[31m\n250 2.0.0 b\n250 2.0.0 c"})
    started = play.start()
    got: list[Any] = []
    started[0].addCallback(got.append)
    assert got[0].encoded == b"250 2.0.0 caf\\x{E9} ?[31m\r\n"
    play.close()
