"""What the process that serves mail tells of the messages that are kept."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from lmtp_twisted.backends.memory import MemoryBackend
from lmtp_twisted.daemon.inbox import answers
from lmtp_twisted.daemon.inbox.answers import InboxAnswers
from lmtp_twisted.factory import LMTPFactory
from lmtp_twisted.testing import Conversation, FakeReactor


@attrs.define
class Context:
    """As much of it as is asked for."""

    labelled: list[tuple[str, MemoryBackend]]

    def add_shutdown(self, function: Any) -> None:
        """It does not end."""


def keep(*contents: str) -> InboxAnswers:
    """Have messages kept."""
    reactor = FakeReactor()
    backend = MemoryBackend(reactor=reactor)
    conversation = Conversation(LMTPFactory(backend, reactor=reactor))
    conversation.say("LHLO client")
    for content in contents:
        conversation.say("MAIL FROM:<a@example.net>", "RCPT TO:<b@example.org>", "DATA")
        assert conversation.say(*content.split("\n"), ".")[0].startswith("250 ")
    inbox = InboxAnswers()
    inbox.watch(Context([("memory", backend)]))  # type: ignore[arg-type]
    return inbox


@pytest.mark.parametrize(
    ("content", "subject"),
    [
        ("Subject: Hello\n\nbody", "Hello"),
        ("From: a\nsubject : over\n two lines\nTo: b\n\nbody", "over two lines"),
        ("To: b\n\nSubject: in the body", ""),
        ("Subject:\n\n", ""),
        ("Subject: last", "last"),
    ],
)
def test_the_subject_of_a_message_is_told(content: str, subject: str) -> None:
    """RFC 5322 §3.6.5."""
    assert [message["subject"] for message in keep(content).list({})["messages"]] == [subject]


def test_a_subject_is_read_once_and_no_more_of_it_than_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists are made in the thread that serves mail, so who asks for them again and again must not take its time."""
    read: list[bytes] = []
    value_of = answers.value_of
    monkeypatch.setattr(answers, "value_of", lambda octets: read.append(octets) or value_of(octets))
    inbox = keep("Subject: one\n\n", "Subject: " + "\n ".join(["=?a?q?" * 100] * 30) + "\n\n")
    for _ in range(3):
        assert inbox.list({"subject": "one"})["count"] == 1
        assert inbox.list({})["count"] == 2
    assert [octets.strip() == b"one" for octets in read] == [True, False]
    assert len(read[1]) <= 1000
