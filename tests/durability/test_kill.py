"""What was answered with 250 survives ``kill -9`` (RFC 5321 §4.2.5). More kills: ``make kill``."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from kill import kill, main
from killed_server import TWISTD, Figures, KilledServer
from sent_messages import Message

KILLS = 50
_TRACE = b"Return-Path: <sender@example.net>\nReceived: from x\n\tby y;\n\tnow\n"
#: A server that says yes to what it has only begun to file.
_HASTY = f"""\
from lmtp_twisted.backends.maildir import MaildirBackend
deliver = MaildirBackend.deliver
def hasty(self, message):
    deliver(self, message)
    return [None] * len(message.recipients)
MaildirBackend.deliver = hasty
{TWISTD}
"""


@pytest.mark.timeout(300)
def test_fifty_kills_lose_nothing_and_leave_nothing_partial_or_twice(tmp_path: Path) -> None:
    """RFC 5321 §4.2.5: with its 250 a server takes the responsibility for the message."""
    seed = str(random.randrange(10**6))
    print(f"seed {seed}")
    figures = kill(tmp_path, KILLS, seed, parallel=3)
    print(figures)
    assert figures.kills == KILLS
    # Where it was never struck under load it would prove nothing.
    assert figures.promises > KILLS
    assert figures.large
    assert figures.unanswered
    assert figures.left_in_tmp


def test_the_command_of_make_kill_says_the_seed_and_what_it_saw(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--kills", "2", "--seed", "7", "--parallel", "1"])
    assert re.match(
        r"seed 7\n2 kills: \d+ copies answered with 250, .* files left in tmp; \d+ s\n\Z", capsys.readouterr().out
    )


def test_a_server_that_answers_too_early_is_found_out(tmp_path: Path) -> None:
    server = KilledServer(tmp_path / "hasty", "hasty", Figures(), _HASTY)

    def kill_often() -> None:
        for _ in range(20):
            server.kill()

    with pytest.raises(AssertionError, match=r"after kill \d+ of seed 'hasty': answered with 250 and lost: \[\("):
        kill_often()


@pytest.fixture
def message() -> Message:
    """One for two mailboxes."""
    return Message.make("m1", ["a@example.org", "b@example.org"], 3000)


@pytest.fixture
def left(tmp_path: Path, message: Message) -> Callable[..., None]:
    """Looks at a mailbox that was left with these files, after ``message`` had been answered with 250."""
    server = KilledServer(tmp_path / "server", "none", Figures())
    server.sent[message.token] = message

    def left(*files: bytes, mailbox: str = "example.org/a") -> None:
        for folder in ("new", "cur"):
            (tmp_path / "server" / "mail" / mailbox / folder).mkdir(parents=True)
        for number, octets in enumerate(files):
            (tmp_path / "server" / "mail" / mailbox / "new" / str(number)).write_bytes(octets)
        server.look({(message.token, "example.org/a")})

    return left


def _stored(message: Message) -> bytes:
    return _TRACE + message.content.replace(b"\r\n", b"\n")


def test_a_message_that_is_whole_is_no_fault(left: Callable[..., None], message: Message) -> None:
    left(_stored(message))


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(lambda whole: whole[:-1], id="cut off"),
        pytest.param(lambda whole: b"", id="empty"),
        pytest.param(lambda whole: whole.replace(b"\n", b"\r\n"), id="other line ends"),
        pytest.param(lambda whole: whole[:2000] + bytes(100) + whole[2100:], id="a hole"),
        pytest.param(lambda whole: whole.removeprefix(_TRACE), id="no trace headers"),
        pytest.param(lambda whole: whole + b"\n", id="a line more"),
    ],
)
def test_a_file_that_is_not_the_message_is_a_fault(
    left: Callable[..., None], message: Message, octets: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(AssertionError, match="is not whole"):
        left(octets(_stored(message)))


def test_a_message_that_is_missing_is_a_fault(left: Callable[..., None], message: Message) -> None:
    with pytest.raises(AssertionError, match=re.escape("lost: [('m1', 'example.org/a')]")):
        left(_stored(message), mailbox="example.org/b")


def test_a_message_that_is_there_twice_is_a_fault(left: Callable[..., None], message: Message) -> None:
    with pytest.raises(AssertionError, match=re.escape("there twice: [('m1', 'example.org/a')]")):
        left(_stored(message), _stored(message))


def test_a_message_in_a_mailbox_that_it_is_not_for_is_a_fault(left: Callable[..., None], message: Message) -> None:
    with pytest.raises(AssertionError, match=r"is not for example\.org/c"):
        left(_stored(message), mailbox="example.org/c")
