"""What Postfix does where a server goes wrong, with ``faults:`` for the server. docs/faults.rst tells it."""

from __future__ import annotations

from collections import Counter

import pytest
import pytest_twisted
from private_postfix import Postfix, domain_of
from real_servers import Serve
from twisted.internet import reactor
from twisted.python.threadpool import ThreadPool

from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.backends.memory import MemoryBackend
from lmtp_twisted.threads import default_pool

pytestmark = pytest.mark.peer("postfix")


def shaky(description: str) -> tuple[object, MemoryBackend]:
    """A backend with faults, and the inbox behind it."""
    pool: ThreadPool = default_pool(reactor)
    inbox = MemoryBackend()
    context = BackendContext(reactor, pool, "store.example.org", named={"inbox": lambda: inbox})
    return context.build(f"faults:{description},then=inbox"), inbox


def copies(inbox: MemoryBackend) -> dict[str, int]:
    """How many copies each recipient has, by the local part."""
    return Counter(recipient.partition("@")[0] for message in inbox.messages for recipient in message.recipients)


async def sent_until_removed(
    postfix: Postfix, serve: Serve, description: str, names: str
) -> tuple[list[str], MemoryBackend]:
    """Send to some recipients, again and again until the queue is empty; the status of each attempt."""
    backend, inbox = shaky(description)
    server = await serve(0, backend)
    domain = domain_of(server.where)
    queue_id = await postfix.submit([f"{name}@{domain}" for name in names])
    number = len(names)
    while True:
        attempts = await postfix.attempts(queue_id, number)
        done = {attempt.local for attempt in attempts if attempt.status != "deferred"}
        if len(done) == len(names):
            await postfix.removed(queue_id)
            return [f"{attempt.local} {attempt.status} {attempt.dsn}" for attempt in attempts], inbox
        number += len(names) - len(done)
        await postfix.deferred(queue_id)
        await postfix.flush()


@pytest_twisted.ensureDeferred
async def test_every_nth_recipient_is_deferred_and_tried_again(postfix: Postfix, serve: Serve) -> None:
    """RFC 2033 §4.2: just those who were refused are, and nobody has a second copy."""
    attempts, inbox = await sent_until_removed(postfix, serve, "defer,every=3", "abcdefg")
    assert attempts[:7] == [
        "a sent 2.0.0",
        "b sent 2.0.0",
        "c deferred 4.3.0",
        "d sent 2.0.0",
        "e sent 2.0.0",
        "f deferred 4.3.0",
        "g sent 2.0.0",
    ]
    # Of all recipients so far c was the eighth now, and f the ninth.
    assert attempts[7:] == ["c sent 2.0.0", "f deferred 4.3.0", "f sent 2.0.0"]
    assert copies(inbox) == dict.fromkeys("abcdefg", 1)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("how", ["", ",reset=yes", ",octets=30"])
async def test_a_dropped_connection_loses_and_doubles_nothing(postfix: Postfix, serve: Serve, how: str) -> None:
    """Those who were answered are done with; the others are tried again. A part of a reply is none."""
    attempts, inbox = await sent_until_removed(postfix, serve, f"drop,replies=2,times=1{how}", "abcde")
    assert attempts == [
        *("a sent 2.0.0", "b sent 2.0.0", "c deferred 4.4.2", "d deferred 4.4.2", "e deferred 4.4.2"),
        *("c sent 2.0.0", "d sent 2.0.0", "e sent 2.0.0"),
    ]
    assert copies(inbox) == dict.fromkeys("abcde", 1)


@pytest_twisted.ensureDeferred
async def test_what_was_delivered_before_the_connection_was_lost_is_there_twice(postfix: Postfix, serve: Serve) -> None:
    """RFC 1047: nobody can tell."""
    _, inbox = await sent_until_removed(postfix, serve, "drop,replies=1,times=1,delivered=yes", "abc")
    assert copies(inbox) == {"a": 1, "b": 2, "c": 2}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("at", ["mail", "rcpt"])
async def test_a_connection_that_is_dropped_before_the_content(postfix: Postfix, serve: Serve, at: str) -> None:
    attempts, inbox = await sent_until_removed(postfix, serve, f"drop,at={at},times=1", "ab")
    assert attempts == ["a deferred 4.4.2", "b deferred 4.4.2", "a sent 2.0.0", "b sent 2.0.0"]
    assert copies(inbox) == {"a": 1, "b": 1}


@pytest_twisted.ensureDeferred
async def test_a_refusal_bounces_and_the_others_are_sent(postfix: Postfix, serve: Serve) -> None:
    attempts, inbox = await sent_until_removed(postfix, serve, "refuse,to=b@*,code=552,enhanced=5.2.2", "abc")
    assert sorted(attempts) == ["a sent 2.0.0", "b bounced 5.2.2", "c sent 2.0.0"]
    assert copies(inbox) == {"a": 1, "c": 1}


@pytest_twisted.ensureDeferred
async def test_early_replies_are_logged_when_the_last_is_there(postfix: Postfix, serve: Serve) -> None:
    """Whatever the order in which recipients are done with, each gets its own reply."""
    attempts, inbox = await sent_until_removed(postfix, serve, "stagger,seconds=0.05,order=reversed", "abc")
    assert attempts == ["a sent 2.0.0", "b sent 2.0.0", "c sent 2.0.0"]
    assert copies(inbox) == dict.fromkeys("abc", 1)
