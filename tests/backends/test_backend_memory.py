"""``memory:``"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.threadpool import ThreadPool
from zope.interface.verify import verifyObject

from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.backends.memory import MOST_OCTETS, MemoryBackend
from lmtp_twisted.errors import PermanentFailure
from lmtp_twisted.factory import LMTPFactory
from lmtp_twisted.interfaces import ILMTPDelivery, ILMTPDeliveryFactory
from lmtp_twisted.message import ReceivedMessage
from lmtp_twisted.testing import Conversation, FakePool, FakeReactor

Receive = Callable[..., ReceivedMessage]


def memory(keep: int = 100, pool: FakePool | None = None, **options: Any) -> MemoryBackend:
    return MemoryBackend(keep, reactor=FakeReactor(), pool=pool or FakePool(), **options)  # type: ignore[arg-type]


def test_it_provides_what_it_says() -> None:
    assert verifyObject(ILMTPDeliveryFactory, memory())
    assert verifyObject(ILMTPDelivery, memory())


def test_it_keeps_what_a_session_sends() -> None:
    backend = memory()
    client = Conversation(LMTPFactory(backend=backend, reactor=FakeReactor()))
    client.say("LHLO client.example", "MAIL FROM:<a@x>", "RCPT TO:<b@x>", "RCPT TO:<C@x>", "DATA")
    replies = client.say("Subject: hi", "", "..", ".")
    assert [reply[:9] for reply in replies] == ["250 2.0.0"] * 2
    (message,) = backend.messages
    assert (message.sender, message.recipients) == ("a@x", ("b@x", "C@x"))
    assert message.content == b"Subject: hi\r\n\r\n.\r\n"
    assert message.trace.startswith(b"Return-Path: <a@x>\r\nReceived: from client.example ")
    assert [reply.split()[3] for reply in replies] == [f"{message.id}.1", f"{message.id}.2"]


def test_the_null_sender_is_empty(receive: Receive) -> None:
    backend = memory()
    backend.deliver(receive("b@x", sender=""))
    assert backend.messages[0].sender == ""


def test_a_kept_message_cannot_be_changed(receive: Receive) -> None:
    backend = memory()
    backend.deliver(receive("b@x"))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        backend.messages[0].content = b""  # type: ignore[misc]  # that is the point


def test_older_messages_go(receive: Receive) -> None:
    backend = memory(keep=2)
    for content in (b"1", b"2", b"3"):
        assert backend.deliver(receive("b@x", content=content)) == [None]
    assert [message.content for message in backend.messages] == [b"2", b"3"]


def test_all_together_have_a_bound(receive: Receive) -> None:
    backend = memory(most_octets=10)
    for content in (b"1234", b"5678", b"90123"):
        backend.deliver(receive("b@x", content=content))
    assert [message.content for message in backend.messages] == [b"5678", b"90123"]
    backend.deliver(receive("b@x", content=b"1234567890"))
    assert [message.content for message in backend.messages] == [b"1234567890"]


def test_a_message_beyond_the_bound_is_refused_and_others_stay(receive: Receive) -> None:
    """RFC 3463 §3.3: X.2.3 the message exceeds an administrative limit."""
    backend = memory(most_octets=10)
    backend.deliver(receive("b@x", content=b"1"))
    with pytest.raises(PermanentFailure) as refused:
        backend.deliver(receive("b@x", content=b"12345678901"))
    assert (refused.value.code, refused.value.enhanced) == (552, "5.2.3")
    assert len(backend.messages) == 1


def test_clear_forgets_all(receive: Receive) -> None:
    backend = memory(most_octets=50)
    backend.deliver(receive("b@x", content=b"1" * 50))
    backend.clear()
    assert backend.messages == ()
    for _ in range(2):
        backend.deliver(receive("b@x", content=b"1" * 25))
    assert len(backend.messages) == 2


def test_what_lies_in_a_file_is_read_by_a_thread(receive: Receive) -> None:
    pool = FakePool(immediate=False)
    backend = memory(pool=pool)
    done = backend.deliver(receive("a@x", "b@x", content=b"0123456789", block=3))
    assert isinstance(done, Deferred)
    assert backend.messages == ()
    pool.run()
    outcomes: list[Any] = []
    done.addCallback(outcomes.append)
    assert outcomes == [[None, None]]
    assert backend.messages[0].content == b"0123456789"


def test_what_is_cancelled_is_not_kept(receive: Receive) -> None:
    pool = FakePool(immediate=False)
    backend = memory(pool=pool)
    done = backend.deliver(receive("a@x", block=3))
    assert isinstance(done, Deferred)
    done.addErrback(lambda failure: failure.trap(CancelledError))
    done.cancel()
    pool.run()
    assert backend.messages == ()


@pytest_twisted.ensureDeferred
async def test_it_reads_in_real_threads(receive: Receive, pool: ThreadPool) -> None:
    backend = MemoryBackend(reactor=reactor, pool=pool)
    done = backend.deliver(receive("a@x", block=3))
    assert isinstance(done, Deferred)
    assert await done == [None]


def test_it_can_be_made_without_anything() -> None:
    assert MemoryBackend().messages == ()


def build(description: str) -> Any:
    return BackendContext(FakeReactor(), FakePool(), "mx.example.org").build(description)  # type: ignore[arg-type]


def test_a_description_says_how_many(receive: Receive) -> None:
    backend = build("memory:,keep=1")
    for content in (b"1", b"2"):
        backend.deliver(receive("b@x", content=content))
    assert [message.content for message in backend.messages] == [b"2"]
    assert MOST_OCTETS == 64 * 1024 * 1024


@pytest.mark.parametrize(
    ("description", "reason"),
    [
        ("memory:x", "takes no argument"),
        ("memory:keep=5", "memory: it takes no argument, but was given 'keep=5'; options follow a comma"),
        ("memory:,keep=0", "keep is a number of messages, not '0'"),
        ("memory:,keep=-1", "not '-1'"),
        ("memory:,keep=many", "not 'many'"),
        ("memory:,keep=", "not ''"),
        ("memory:,keep=\u0663", "not '\u0663'"),
    ],
)
def test_what_is_wrong_is_said(description: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        build(description)
