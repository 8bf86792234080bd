"""What the client is told of how a program ended."""

from __future__ import annotations

import pytest

from lmtp_twisted.backends.pipe.program import Cut, Ended
from lmtp_twisted.backends.pipe.statuses import outcome_of
from lmtp_twisted.wire.replies import MAX_TEXT, Reply


def reply(ended: Ended) -> str:
    """As the client sees it, but for the recipient and the id."""
    outcome = outcome_of(ended)
    assert outcome is not None
    return Reply.from_error(outcome).encoded.decode("ascii").removesuffix("\r\n")


def test_status_0_is_delivered() -> None:
    """Whatever it says on the way."""
    assert outcome_of(Ended(0)) is None
    assert outcome_of(Ended(0, b"5.1.1 a warning\n")) is None


@pytest.mark.parametrize("status", [1, 2, 63, 79, 99, 100, 111, 126, 127, 128, 255, -9, -11, -15])
def test_what_sysexits_does_not_know_is_a_defect_and_temporary(status: int) -> None:
    """An exception in a script, a command that it does not find, a crash."""
    assert reply(Ended(status)) == "451 4.3.0 Delivery program failed"


@pytest.mark.parametrize("status", [65, 67, 68, 69, 77])
def test_what_is_said_of_the_message_or_its_recipient_is_permanent(status: int) -> None:
    assert reply(Ended(status))[0] == "5"


@pytest.mark.parametrize("status", [64, 66, 70, 71, 72, 73, 74, 75, 76, 78])
def test_what_an_operator_can_mend_is_temporary(status: int) -> None:
    assert reply(Ended(status))[0] == "4"


def test_its_own_words_are_the_text() -> None:
    assert reply(Ended(67, b"\n  \n  no alice here\r\nand more\n")) == "550 5.1.1 no alice here"
    assert reply(Ended(1, b"Traceback: none")) == "451 4.3.0 Traceback: none"


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (b"5.7.1 Not wanted", "550 5.7.1 Not wanted"),
        (b"4.2.2 Mailbox full", "451 4.2.2 Mailbox full"),
        (b"5.2.2", "550 5.2.2 Try again later"),
        (b"5.7.1: Not wanted", "451 4.3.0 5.7.1: Not wanted"),
        (b"2.0.0 Fine", "451 4.3.0 2.0.0 Fine"),
        (b"5.1 no", "451 4.3.0 5.1 no"),
        (b"5.1.1234 no", "451 4.3.0 5.1.1234 no"),
        ("\u0665.\u0661.\u0661 no".encode(), "451 4.3.0 \\x{665}.\\x{661}.\\x{661} no"),
    ],
)
def test_an_enhanced_status_code_decides_over_the_status(words: bytes, answer: str) -> None:
    """As in Postfix's pipe(8), and only where it stands in front."""
    assert reply(Ended(75, words)) == answer


def test_a_code_of_the_same_class_keeps_the_reply_code() -> None:
    assert reply(Ended(65, b"5.6.1 No such media")) == "554 5.6.1 No such media"
    assert reply(Ended(67, b"4.2.1 On holiday")) == "451 4.2.1 On holiday"


@pytest.mark.parametrize(
    ("errors", "text"),
    [
        (b"no\r\n250 2.0.0 injected\r\n", "no"),
        (b"no\r250 2.0.0 injected", "no"),
        (b"no\x0b250 \x85250 \xe2\x80\xa8250", "no"),
        (b"a\x00b\x1b[31mred\x7f", "a?b?[31mred?"),
        ("kein Postfach für bob".encode(), "kein Postfach f\\x{FC}r bob"),
        (b"\xff\xfe", "\\x{FFFD}\\x{FFFD}"),
        (b"\n\r\n \t\n", "No such user"),
    ],
)
def test_its_words_cannot_break_out_of_the_reply(errors: bytes, text: str) -> None:
    """One line of printable ASCII (RFC 5321 §4.2); what is not ASCII as in RFC 6533 §3."""
    assert reply(Ended(67, errors)) == f"550 5.1.1 {text}"


def test_its_words_are_cut() -> None:
    """RFC 5321 §4.5.3.1.5."""
    assert len(reply(Ended(67, b"x" * 4096))) < 250
    assert len(reply(Ended(67, "é".encode() * 2048))) <= MAX_TEXT


@pytest.mark.parametrize("status", [0, 67, -15])
@pytest.mark.parametrize("cut", list(Cut))
def test_one_that_was_ended_has_not_delivered(status: int, cut: Cut) -> None:
    """Whatever it made of that: what was not waited for may be half done."""
    assert reply(Ended(status, b"5.1.1 no", cut))[0] == "4"
