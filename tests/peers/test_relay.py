"""The relay between a client and servers of ours, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from real_servers import RealServer, Serve
from test_client_to_our_server import CONTENT, endpoint_of, said
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from lmtp_twisted import PermanentFailure, TemporaryFailure
from lmtp_twisted.backends.relay import RelayBackend
from lmtp_twisted.client import ClientSettings, LMTPClient, OutgoingMessage, Timeouts, deliver, make_envelope
from lmtp_twisted.client.capabilities import Capabilities
from lmtp_twisted.testing import ScriptedDeliveries

#: As many recipients as give each of three servers some.
# So many that each of three servers gets some, wherever its port puts it on the ring.
MANY = [f"u{number}@x" for number in range(90)]


class Relays:
    """Makes relays, which end with the test."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self.made: list[RelayBackend] = []

    async def __call__(self, *servers: RealServer, **options: Any) -> RealServer:
        """One for these servers."""
        backend = RelayBackend([endpoint_of(server) for server in servers], **{"hostname": "mx.example", **options})
        self.made.append(backend)
        return await self._serve(0, backend, hostname="mx.example", trusted=["127.0.0.1"])


@pytest_twisted.async_yield_fixture
async def relay(serve: Serve) -> AsyncIterator[Relays]:
    """Makes relays."""
    relays = Relays(serve)
    yield relays
    for backend in relays.made:
        await backend.close()


@pytest.mark.parametrize("streams", [True, False])
@pytest_twisted.ensureDeferred
async def test_each_recipient_gets_the_servers_own_reply(serve: Serve, relay: Relays, streams: bool) -> None:
    """RFC 2033 §4.2: code, enhanced code and text; also what the server said to RCPT."""
    backend = ScriptedDeliveries(
        {"b@x": TemporaryFailure("Full", code=452, enhanced="4.2.2")},
        recipients={"c@x": PermanentFailure("Nobody here")},
    )
    store = await serve(0, backend)
    mx = await relay(store, streams=streams)
    replies = await deliver(endpoint_of(mx), make_envelope("s@y", ["a@x", "b@x", "c@x"]), CONTENT)
    assert said(replies) == [(250, "2.0.0"), (452, "4.2.2"), (550, "5.1.1")]
    assert all(word in reply.text for word, reply in zip(["Delivered", "Full", "Nobody here"], replies, strict=True))
    (message,) = backend.messages
    head, _, rest = message.read().partition(b"Subject")
    assert head.startswith(b"Received: from ")
    assert b"by mx.example with LMTP id " in head
    assert b"Return-Path" not in head
    assert b"Subject" + rest == CONTENT


@pytest_twisted.ensureDeferred
async def test_recipients_belong_to_servers_and_stay_there(serve: Serve, relay: Relays) -> None:
    """One transaction for each server; whatever the case, the detail, and the order in which the servers are named."""
    backends = [ScriptedDeliveries() for _ in range(3)]
    servers = [await serve(0, backend) for backend in backends]
    mx = await relay(*servers)
    replies = await deliver(endpoint_of(mx), make_envelope("s@y", MANY), CONTENT)
    assert [reply.code for reply in replies] == [250] * len(MANY)
    homes = [{str(recipient) for recipient in backend.messages[0].recipients} for backend in backends]
    assert sorted(name for home in homes for name in home) == sorted(MANY)
    assert all(homes)
    again = await relay(*reversed(servers))
    others = [f"{name.upper().partition('@')[0]}+lists@X" for name in MANY]
    await deliver(endpoint_of(again), make_envelope("s@y", others), CONTENT)
    spelled = [
        {str(recipient).lower().replace("+lists", "") for recipient in backend.messages[1].recipients}
        for backend in backends
    ]
    assert spelled == homes


@pytest_twisted.ensureDeferred
async def test_a_dead_server_is_451_for_its_recipients_only(serve: Serve, relay: Relays) -> None:
    """RFC 3463 §3.5: 4.4.1."""
    backends = [ScriptedDeliveries() for _ in range(3)]
    servers = [await serve(0, backend) for backend in backends]
    mx = await relay(*servers)
    await deliver(endpoint_of(mx), make_envelope("s@y", MANY), CONTENT)
    lost = {str(recipient) for recipient in backends[1].messages[0].recipients}
    await servers[1].stop()
    for _ in range(2):
        replies = await deliver(endpoint_of(mx), make_envelope("s@y", MANY), CONTENT)
        for name, reply in zip(MANY, replies, strict=True):
            expected = (451, "4.4.1") if name in lost else (250, "2.0.0")
            assert (reply.code, reply.enhanced) == expected, reply


@pytest_twisted.ensureDeferred
async def test_connections_are_used_again(serve: Serve, relay: Relays) -> None:
    """One after the other needs one."""
    store = await serve(0, ScriptedDeliveries())
    mx = await relay(store)
    client = LMTPClient(endpoint_of(mx))
    for _ in range(5):
        (reply,) = await client.deliver(make_envelope("s@y", ["a@x"]), CONTENT)
        assert reply.code == 250
    await client.close()
    assert len(store.sessions.named("sessionStarted")) == 1


@pytest_twisted.ensureDeferred
async def test_the_server_learns_who_the_client_is(serve: Serve, relay: Relays) -> None:
    """Postfix's XFORWARD_README: our client, or the one that it names in its turn."""
    backend = ScriptedDeliveries(deliver=lambda message: [str(message.session.xforward)] * len(message.recipients))
    store = await serve(0, backend, trusted=["127.0.0.1"])
    mx = await relay(store)
    client = LMTPClient(endpoint_of(mx), ClientSettings(hostname="origin.example"))
    (reply,) = await client.deliver(make_envelope("s@y", ["a@x"]), CONTENT)
    for part in ("'ADDR': '127.0.0.1'", "'HELO': 'origin.example'", "'PROTO': 'LMTP'", "'SOURCE': 'REMOTE'"):
        assert part in reply.text, reply
    given = {"NAME": "far.example", "ADDR": "2001:db8::7"}
    (reply,) = await client.deliver(make_envelope("s@y", ["a@x"]), CONTENT, given)
    assert "'ADDR': '2001:db8::7'" in reply.text, reply
    assert "'NAME': 'far.example'" in reply.text
    assert "HELO" not in reply.text
    await client.close()
    silent = await relay(store, forwards=False)
    (reply,) = await deliver(endpoint_of(silent), make_envelope("s@y", ["a@x"]), CONTENT)
    assert "{}" in reply.text


@pytest.mark.parametrize("streams", [True, False])
@pytest_twisted.ensureDeferred
async def test_a_loop_is_found_at_the_first_return(serve: Serve, relay: Relays, streams: bool) -> None:
    """RFC 5321 §6.3: over two relays, whose servers are each other; whatever has a connection gives it back."""
    back = await relay(await serve(0, ScriptedDeliveries()), streams=streams)
    there = await relay(back, streams=streams)
    # What was made first is bent to what was made last.
    relay.made[0].clients = [LMTPClient(endpoint_of(there))]
    replies = await deliver(endpoint_of(there), make_envelope("s@y", ["a@x", "b@x"]), CONTENT)
    assert said(replies) == [(554, "5.4.6")] * 2
    assert "Mail loop" in replies[0].text
    assert len(there.sessions.named("sessionStarted")) == 2


@pytest_twisted.ensureDeferred
async def test_a_message_goes_out_while_it_comes(serve: Serve, relay: Relays) -> None:
    """The server has its beginning before the client has sent its end."""
    backend = ScriptedDeliveries()
    store = await serve(0, backend)
    mx = await relay(store)
    go_on: Deferred[None] = Deferred()

    async def slow() -> AsyncIterator[bytes]:
        yield b"Subject: Hello\r\n\r\n" + b"x" * 100_000 + b"\r\n"
        yield b"x" * 100_000 + b"\r\n"
        await go_on
        yield b"the end\r\n"

    done = deliver(endpoint_of(mx), make_envelope("s@y", ["a@x"]), OutgoingMessage(slow))
    await store.sessions.until("sessionStarted", 1)
    assert not backend.messages
    go_on.callback(None)
    (reply,) = await done
    assert reply.code == 250
    assert backend.messages[0].read().endswith(b"\r\nthe end\r\n")


@pytest.mark.parametrize("streams", [True, False])
@pytest_twisted.ensureDeferred
async def test_a_content_that_is_refused_reaches_no_server(serve: Serve, relay: Relays, streams: bool) -> None:
    """RFC 1870 §6.3: too large, or its client lost: the connection to the server ends before its dot."""
    backend = ScriptedDeliveries()
    store = await serve(0, backend)
    made = RelayBackend([endpoint_of(store)], hostname="mx.example", streams=streams)
    relay.made.append(made)
    mx = await serve(0, made, size_limit=100_000)
    envelope = make_envelope("s@y", ["a@x", "b@x"])

    async def huge() -> AsyncIterator[bytes]:
        for _ in range(300):
            yield b"Subject: x\r\n\r\n" + b"x" * 500 + b"\r\n"

    settings = ClientSettings(uses_chunking=False)
    client = LMTPClient(endpoint_of(mx), settings)
    # It does not heed the limit that it is told.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Capabilities, "size", None)
        replies = await client.deliver(envelope, OutgoingMessage(huge))
    assert said(replies) == [(552, "5.3.4")] * 2
    waiting: Deferred[None] = Deferred()

    async def endless() -> AsyncIterator[bytes]:
        yield b"Subject: x\r\n\r\n" + b"x" * 50_000 + b"\r\n"
        await waiting

    lost = client.deliver(envelope, OutgoingMessage(endless))
    if streams:
        await store.sessions.until("sessionStarted", 2)
    lost.addErrback(lambda _: None)
    lost.cancel()
    await client.close()
    if streams:
        await store.sessions.until("sessionEnded", 2)
    assert backend.messages == []


@pytest_twisted.ensureDeferred
async def test_a_large_message_takes_little_memory_and_waits_for_the_slowest(serve: Serve, relay: Relays) -> None:
    """A server that does not read holds back the client."""
    backend = ScriptedDeliveries(deliver=lambda message: [str(message.size)] * len(message.recipients))
    store = await serve(0, backend)
    mx = await relay(store)
    sent = 0

    async def large() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(400):
            sent += 1
            yield b"x" * 65534 + b"\r\n"

    done = deliver(endpoint_of(mx), make_envelope("s@y", ["a@x"]), OutgoingMessage(large))
    await store.sessions.until("sessionStarted", 1)
    await deferLater(reactor, 0, lambda: None)
    (protocol,) = store.factory.sessions
    protocol.transport.pauseProducing()
    before = -1
    while before != sent:
        before = sent
        await _turn()
    assert sent < 300
    protocol.transport.resumeProducing()
    (reply,) = await done
    assert reply.code == 250
    assert sent == 400
    assert int(reply.text.split()[-1]) > 400 * 65536


async def _turn() -> None:
    """Let the reactor do what it has to do."""
    for _ in range(50):
        await deferLater(reactor, 0, lambda: None)


@pytest_twisted.ensureDeferred
async def test_more_mail_than_the_servers_take_is_refused_at_mail(serve: Serve, relay: Relays) -> None:
    """RFC 3463 §3.4: 4.3.2, before a recipient is named."""
    waiting: Deferred[None] = Deferred()
    store = await serve(0, ScriptedDeliveries({"a@x": waiting}))
    settings = ClientSettings(hostname="mx.example", max_connections=1, max_waiting=1, timeouts=Timeouts(turn=20))
    mx = await relay(store, settings=settings)
    envelope = make_envelope("s@y", ["a@x"])
    first = deliver(endpoint_of(mx), envelope, CONTENT)
    second = deliver(endpoint_of(mx), envelope, CONTENT)
    await mx.sessions.until("sessionStarted", 2)
    await store.sessions.until("sessionStarted", 1)
    while not relay.made[0].clients[0].is_full:
        await _turn()
    assert said(await deliver(endpoint_of(mx), envelope, CONTENT)) == [(451, "4.3.2")]
    waiting.callback(None)
    assert said([*await first, *await second]) == [(250, "2.0.0")] * 2
