"""What many clients together can make a server keep: recipients, replies that nobody reads, threads for slow disks."""

from __future__ import annotations

from typing import Any

import pytest
from dialogue import Client, codes, server, with_recipients
from spooled import a_content, message_of, send
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from lmtp_twisted import LMTPFactory, outbox
from lmtp_twisted.outbox import Outbox
from lmtp_twisted.receiving import FEW_RECIPIENTS
from lmtp_twisted.spool import Content, Spool
from lmtp_twisted.testing import FakePool, FakeReactor, fake_spool


def naming(factory: LMTPFactory, count: int) -> tuple[Client, list[str]]:
    """A client that names so many recipients, and the replies to them."""
    client = Client(factory)
    client.say("LHLO c", "MAIL FROM:<a@x>")
    return client, codes(client.say(*(f"RCPT TO:<r{number}@x>" for number in range(count))))


def with_room(recipients: int) -> LMTPFactory:
    """A server whose messages may have so many recipients together."""
    fake = FakeReactor()
    return server(reactor=fake, spool=fake_spool(fake, most_recipients=recipients))


def test_recipients_of_all_messages_are_bounded_together() -> None:
    """RFC 5321 §4.5.3.1.10: those that are too many are refused for now, and the earlier ones stand."""
    factory = with_room(200)
    _, first = naming(factory, 200)
    assert first == ["250 2.1.5"] * 200
    client, second = naming(factory, 100)
    assert second[:FEW_RECIPIENTS] == ["250 2.1.5"] * FEW_RECIPIENTS
    assert second[-1] == "452 4.3.1"
    client.say("DATA")
    accepted = second.count("250 2.1.5")
    assert codes(client.say("Subject: x", "", ".")) == ["250 2.0.0"] * accepted


@pytest.mark.parametrize("end", ["RSET", "LHLO", "lost", "delivered"])
def test_recipients_make_room_when_their_message_is_over(end: str) -> None:
    """However that comes."""
    factory = with_room(200)
    client, _ = naming(factory, 200)
    assert factory.spool.recipients > 0
    if end == "lost":
        client.lose()
    elif end == "delivered":
        client.say("DATA")
        client.say("Subject: x", "", ".")
    else:
        client.say("RSET" if end == "RSET" else "LHLO c")
    assert factory.spool.recipients == 0
    assert naming(factory, 200)[1] == ["250 2.1.5"] * 200


def test_few_recipients_are_always_taken() -> None:
    """A message as most are is not refused for what others send."""
    factory = with_room(0)
    for _ in range(50):
        assert naming(factory, FEW_RECIPIENTS)[1] == ["250 2.1.5"] * FEW_RECIPIENTS


def test_header_blocks_of_contents_in_files_are_within_the_budget() -> None:
    """They stay in memory."""
    fake = FakeReactor()
    spool = fake_spool(fake, threshold=1000, budget=100_000)
    factory = server(reactor=fake, spool=spool)
    for _ in range(20):
        client = Client(factory)
        client.say("LHLO c", "MAIL FROM:<a@x>", "RCPT TO:<b@x>", "DATA")
        for _ in range(100):
            client.say(*[f"X-Filler: {'x' * 60}"] * 28)
    # What is a header block and what waits to be written: the first may fill the budget, the others have a part each.
    assert spool.used < 100_000 + Content.HEAD + 20 * 2 * 16 * 1024


def test_what_waits_to_be_written_is_within_the_budget_too() -> None:
    """A content in a file gathers no block where others have used up the memory."""
    fake = FakeReactor()
    spool = fake_spool(fake, threshold=1000, budget=1)
    content = Content(spool)
    assert content.append(b"x" * 20_000)
    content.make_room()
    assert content.append(b"x" * 20_000)


def test_a_header_block_is_kept_whole_where_there_is_memory() -> None:
    """Up to its bound."""
    client = with_recipients()
    client.factory.spool.threshold = 1000
    head = b"X: " + b"y" * 60_000 + b"\r\n"
    send(client, head + a_content(5000))
    assert len(message_of(client).headers["X"]) == 60_000
    assert client.factory.spool.used == 0


def test_who_has_not_read_for_longest_is_given_up_where_too_much_is_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """All clients together may leave so much unread."""
    monkeypatch.setattr(outbox, "MOST_UNREAD", 100)
    replies, given_up = Outbox(Clock()), []
    clients = [lambda number=number: given_up.append(number) for number in range(4)]  # type: ignore[misc]
    for client in clients[:3]:
        replies.is_unread(client, 30)
    replies.is_read(clients[0])
    replies.is_unread(clients[3], 30)
    assert given_up == []
    replies.is_unread(clients[2], 60)
    assert given_up == [1, 2]
    replies.is_unread(clients[3], 60)
    assert given_up == [1, 2]


class _Parked(FakePool):
    """Threads that never end."""

    def __init__(self) -> None:
        super().__init__()
        self.busy = 0

    def callInThreadWithCallback(self, *arguments: Any, **keywords: Any) -> None:
        self.busy += 1


def test_a_slow_disk_leaves_threads_for_others() -> None:
    """However many contents wait for it."""
    pool = _Parked()
    spool = Spool(FakeReactor(), pool)  # type: ignore[arg-type]  # a pool as far as a spool needs it
    waiting: list[Deferred[Any]] = [spool.defer(print) for _ in range(100)]
    assert pool.busy == 8
    assert len(waiting) == 100
