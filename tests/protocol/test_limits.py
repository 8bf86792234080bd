"""Limits: what a client that reaches one is told, that observers hear of it, and what it leaves behind."""

from __future__ import annotations

from typing import Any

import pytest
from dialogue import Client, codes, connected, greeted, server, with_recipients, with_sender
from logins import LOCAL, portal
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred

from lmtp_twisted import Settings
from lmtp_twisted.headcount import HeadCount, OwnTally
from lmtp_twisted.limits import Limit
from lmtp_twisted.session import PeerCredentials
from lmtp_twisted.testing import RecordingObserver, ScriptedDeliveries
from lmtp_twisted.wire.replies import Reply

ONE, OTHER = IPv4Address("TCP", "192.0.2.1", 1), IPv4Address("TCP", "192.0.2.2", 1)


def reached(observer: RecordingObserver) -> list[Limit | None]:
    """The limits that an observer heard of."""
    return [event.limit for event in observer.events if event.name == "limitReached"]


@pytest.mark.parametrize("limit", Limit)
def test_what_ends_a_session_is_said_with_421_or_554(limit: Limit) -> None:
    """RFC 5321 §3.8; and each limit has a name that metrics can use."""
    assert isinstance(limit.value, str)
    if limit.reply is not None:
        assert limit.reply.code in {421, 554, 452, 552}
    assert Limit(limit.value) is limit


# Sessions


def test_sessions_in_all_are_limited() -> None:
    """421 in place of the greeting; who goes makes room."""
    observer = RecordingObserver()
    factory = server(max_sessions=1, observers=[observer])
    first = Client(factory)
    assert codes(Client(factory).greeting) == ["421 4.3.2"]
    assert reached(observer) == [Limit.SESSIONS]
    first.lose()
    assert codes(Client(factory).greeting) == ["220"]


def test_so_are_sessions_of_each_peer() -> None:
    """One peer that opens too many does not shut out the others."""
    observer = RecordingObserver()
    factory = server(max_sessions_per_peer=2, observers=[observer])
    clients = [Client(factory, ONE), Client(factory, ONE)]
    refused = Client(factory, ONE)
    assert codes(refused.greeting) == ["421 4.3.2"]
    assert reached(observer) == [Limit.SESSIONS_OF_PEER]
    assert codes(Client(factory, OTHER).greeting) == ["220"]
    refused.lose()
    assert codes(Client(factory, ONE).greeting) == ["421 4.3.2"]
    clients[0].lose()
    assert codes(Client(factory, ONE).greeting) == ["220"]


def test_an_address_is_one_peer_however_it_is_written() -> None:
    """IPv6 wraps those of IPv4."""
    factory = server(max_sessions_per_peer=1)
    Client(factory, ONE)
    assert codes(Client(factory, IPv6Address("TCP", "::ffff:192.0.2.1", 1)).greeting) == ["421 4.3.2"]


def test_clients_of_unix_sockets_are_one_peer() -> None:
    """Nothing tells them apart."""
    factory = server(max_sessions_per_peer=1)
    Client(factory, UNIXAddress(b"/run/a"))
    assert codes(Client(factory, UNIXAddress(None)).greeting) == ["421 4.3.2"]


def test_what_is_counted_of_peers_is_forgotten_with_them() -> None:
    """Any number of peers may come and go."""
    factory = server(max_sessions_per_peer=2)
    for number in range(50):
        Client(factory, IPv4Address("TCP", f"192.0.2.{number}", 1)).lose()
    (count,) = factory.counts
    assert not count._peer_of
    tally = count._tally
    assert isinstance(tally, OwnTally)
    assert not tally._numbers


def test_factories_can_share_limits_besides_their_own() -> None:
    """As listeners of one server do: what is too many for one of them need not be so for the other."""
    shared = HeadCount(3, 2)
    small, large = (server(shared_count=shared, max_sessions=most) for most in (1, 100))
    first = Client(small, ONE)
    assert codes(Client(small, OTHER).greeting) == ["421 4.3.2"]
    second = Client(large, ONE)
    assert codes(Client(large, ONE).greeting) == ["421 4.3.2"]
    Client(large, OTHER)
    assert codes(Client(large, OTHER).greeting) == ["421 4.3.2"]
    first.lose()
    second.lose()
    assert codes(Client(large, ONE).greeting) == ["220"]
    assert codes(Client(small, ONE).greeting) == ["220"]


def test_while_the_server_stops_it_says_that_and_not_a_limit() -> None:
    """RFC 5321 §3.8."""
    observer = RecordingObserver()
    factory = server(max_sessions=1, observers=[observer])
    Client(factory)
    factory.drain()
    assert Client(factory).greeting == ["421 4.3.2 Shutting down"]
    assert reached(observer) == []


@pytest.mark.parametrize(
    ("settings", "lets_in"),
    [
        ({}, True),
        ({"allowed_uids": {1000}}, True),
        ({"allowed_uids": {1001}}, False),
        ({"allowed_gids": {100}}, True),
        ({"allowed_gids": {1000}}, False),
        ({"allowed_uids": {7}, "allowed_gids": {100}}, True),
    ],
)
def test_users_of_unix_sockets(settings: dict[str, Any], lets_in: bool) -> None:
    """Either the user or the group is enough; where nobody is named the mode of the socket decides."""
    assert Settings(hostname="x", **settings).lets_in(PeerCredentials(pid=1, uid=1000, gid=100)) is lets_in


def test_there_is_no_negative_user() -> None:
    """As with all settings, the message names it."""
    with pytest.raises(ValueError, match="allowed_uids"):
        Settings(hostname="x", allowed_uids=[-1])


# Commands


def test_commands_of_a_session_are_limited() -> None:
    """421 to the one that is too many. The lines of content are no commands."""
    observer = RecordingObserver()
    client = with_recipients(max_commands=6, observers=[observer])
    assert codes(client.content("Subject: x\r\n\r\n" + "NOOP\r\n" * 20)) == ["250 2.0.0"]
    assert codes(client.say("NOOP", "FOO", "NOOP", "NOOP")) == ["250 2.0.0", "500 5.5.2", "421 4.7.0"]
    assert client.is_closed
    assert reached(observer) == [Limit.COMMANDS]


def test_commands_behind_an_exchange_of_auth_are_counted_on() -> None:
    """The lines of the exchange are no commands."""
    client = connected(peer=LOCAL, portal=portal(), max_commands=3)
    client.say("LHLO c", "AUTH PLAIN")
    assert codes(client.say("AGFsaWNlAHNlY3JldA==", "NOOP", "NOOP")) == ["235 2.7.0", "250 2.0.0", "421 4.7.0"]


def test_without_that_limit_there_is_none() -> None:
    """The default: an MTA keeps its connection and may have any number of messages."""
    client = greeted()
    assert codes(client.say(*["NOOP"] * 5000)) == ["250 2.0.0"] * 5000


def test_bad_commands_in_a_row_are_limited() -> None:
    """421 after the last."""
    observer = RecordingObserver()
    client = greeted(max_bad_commands=3, observers=[observer])
    assert codes(client.say("FOO", "FOO", "NOOP", "FOO", "FOO", "FOO", "NOOP")) == [
        *["500 5.5.2"] * 2,
        "250 2.0.0",
        *["500 5.5.2"] * 3,
        "421 4.7.0",
    ]
    assert reached(observer) == [Limit.BAD_COMMANDS]


def test_lines_recipients_and_sizes_are_limited_and_the_session_goes_on() -> None:
    """500, 452 and 552, each seen by observers."""
    observer = RecordingObserver()
    client = with_recipients(max_recipients=1, size_limit=100, observers=[observer])
    assert codes(client.say("RCPT TO:<two@example.org>", "NOOP " + "x" * 600)) == ["452 4.5.3", "500 5.5.2"]
    assert codes(client.say("NOOP " + "x" * 20_000)) == ["500 5.5.2"]
    assert codes(client.content("x" * 200 + "\r\n")) == ["552 5.3.4"]
    assert codes(client.say("MAIL FROM:<a@example.net> SIZE=101")) == ["552 5.3.4"]
    assert reached(observer) == [
        Limit.RECIPIENTS,
        Limit.LINE_LENGTH,
        Limit.LINE_LENGTH,
        Limit.MESSAGE_SIZE,
        Limit.MESSAGE_SIZE,
    ]


def test_a_chunk_that_is_far_too_large_ends_the_session() -> None:
    """RFC 3030 §2: its octets will not be read."""
    observer = RecordingObserver()
    client = with_recipients(size_limit=100, observers=[observer])
    assert codes(client.say("BDAT 100000 LAST")) == ["552 5.3.4"]
    assert client.is_closed
    assert reached(observer) == [Limit.MESSAGE_SIZE]


def test_a_mail_loop_is_a_limit() -> None:
    """RFC 5321 §6.3."""
    observer = RecordingObserver()
    client = with_recipients(max_received=2, observers=[observer])
    assert codes(client.content("Received: x\r\n" * 3 + "\r\n")) == ["554 5.4.6"]
    assert reached(observer) == [Limit.RECEIVED_LINES]


def test_http_and_early_talkers_are_seen() -> None:
    """421."""
    observer = RecordingObserver()
    assert codes(connected(observers=[observer]).say("GET / HTTP/1.1")) == ["421 4.7.0"]
    client = connected(observers=[observer], greeting_delay=5)
    assert codes(client.say("LHLO c")) == ["421 4.7.0"]
    assert reached(observer) == [Limit.HTTP, Limit.EARLY_TALKER]


# Time


def test_silence_is_limited() -> None:
    """RFC 5321 §4.5.3.2.7."""
    observer = RecordingObserver()
    client = greeted(idle_timeout=10, observers=[observer])
    assert codes(client.after(11)) == ["421 4.4.2"]
    assert reached(observer) == [Limit.IDLE]


def test_a_session_may_take_only_so_long() -> None:
    """421, and closed, however busy it is."""
    observer = RecordingObserver()
    client = greeted(session_timeout=30, observers=[observer])
    for _ in range(5):
        assert codes(client.after(5) + client.say("NOOP")) == ["250 2.0.0"]
    assert codes(client.after(5)) == ["421 4.7.0"]
    assert client.is_closed
    assert reached(observer) == [Limit.SESSION_TIME]


def test_final_replies_are_sent_before_a_session_ends_for_its_time() -> None:
    """RFC 2033 §4.2: they are owed. The next command is the last."""
    slow: Deferred[None] = Deferred()
    client = with_recipients(ScriptedDeliveries({"one@example.org": slow}), session_timeout=30)
    assert client.content() == []
    assert client.after(40) == []
    slow.callback(None)
    assert codes(client.read()) == ["250 2.0.0"]
    assert client.say("MAIL FROM:<a@example.net>") == ["421 4.7.0 The session took too long"]
    assert client.is_closed


def test_a_transaction_before_the_dot_ends_with_the_session() -> None:
    """Its delivery hears that it is aborted."""
    client = with_sender(session_timeout=30)
    assert codes(client.after(31)) == ["421 4.7.0"]
    client.lose()
    assert client.factory.backend.calls[-1] == ("aborted", "connection lost")


def test_replies_that_are_not_read_are_seen() -> None:
    """Nothing can be said any more: the connection is aborted."""
    observer = RecordingObserver()
    client = greeted(write_timeout=30, observers=[observer])
    client.protocol.pauseProducing()
    client.after(31)
    assert client.is_closed
    assert reached(observer) == [Limit.UNREAD_REPLIES]


def test_an_observer_that_fails_changes_nothing(logged: Any) -> None:
    """It is logged."""

    class Failing(RecordingObserver):
        def limitReached(self, session: Any, limit: Limit) -> None:
            raise RuntimeError("full")

    client = with_recipients(max_recipients=1, observers=[Failing()])
    assert codes(client.say("RCPT TO:<two@example.org>")) == ["452 4.5.3"]
    assert len(logged.take()) == 1


def test_a_session_keeps_its_attributes_in_itself() -> None:
    """CPython keeps up to 30 there; with more each look at one takes longer, which was 12 % of a message."""
    client = with_recipients()
    client.send(b"BDAT 0\r\nBDAT 0 LAST\r\n")
    assert len(vars(client.protocol)) <= 30
    assert isinstance(client.factory.help, Reply)
