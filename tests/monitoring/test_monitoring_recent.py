"""What happened lately, and who is connected."""

from __future__ import annotations

from typing import Any

import pytest
from monitored import BEGIN, monitored
from twisted.internet.defer import Deferred

from lmtp_twisted import PermanentFailure
from lmtp_twisted.daemon.monitoring import recent
from lmtp_twisted.daemon.monitoring.connected import MOST_SESSIONS, sessions_as_one
from lmtp_twisted.daemon.monitoring.recent import MOST_DOMAINS, MOST_FAILURES, MOST_SLOW, events_as_one
from lmtp_twisted.session import began_at, new_session_id
from lmtp_twisted.testing import ScriptedDeliveries


def test_failures_are_told_wherever_they_were() -> None:
    """The latest first; at RCPT and MAIL there is no reply id, so it is the session's."""
    deliveries = ScriptedDeliveries(
        {"full@x": PermanentFailure("full", enhanced="5.2.2")},
        recipients={"nobody@x": PermanentFailure("nobody")},
        senders={"no@x": PermanentFailure("no")},
    )
    server = monitored(deliveries, size_limit=100)
    client = server.client()
    client.say("MAIL FROM:<no@x>", "MAIL FROM:<>", "RCPT TO:<nobody@x>", "RCPT TO:<a..b@x>")
    server.reactor.advance(2)
    client.say("RCPT TO:<full@x>", "RCPT TO:<fine@x>", "DATA")
    full, _ = client.say("x", ".")
    client.say("MAIL FROM:<a@x>", "RCPT TO:<b@x>", "DATA")
    (large,) = client.say("x" * 200, ".")
    id = client.protocol.session.id
    events = server.events
    keys = ("at", "time", "id", "sender", "recipient", "reply", "backend")
    at = ("content", "delivery", "rcpt", "rcpt", "mail")
    assert [tuple(failure[key] for key in keys) for failure in events["failures"]] == [
        ("content", BEGIN + 2, large.split()[3], "a@x", "b@x", "552 5.3.4 Message larger than the limit", ""),
        ("delivery", BEGIN + 2, full.split()[3], "", "full@x", "554 5.2.2 full", "store"),
        ("rcpt", BEGIN, id, "", None, "501 5.1.3 Bad recipient address: the local part is malformed", ""),
        ("rcpt", BEGIN, id, "", "nobody@x", "550 5.1.1 nobody", "store"),
        ("mail", BEGIN, id, "no@x", None, "550 5.7.1 no", ""),
    ]
    assert [failure["at"] for failure in events["failures"]] == list(at)
    assert {failure["peer"] for failure in events["failures"]} == {client.protocol.session.peer_name}
    assert events["domains"] == [{"domain": "x", "2xx": 1, "4xx": 0, "5xx": 3}]


def test_failures_are_bounded() -> None:
    server = monitored(ScriptedDeliveries(recipients={"nobody@x": PermanentFailure("nobody")}))
    client = server.client()
    client.say("MAIL FROM:<a@x>", *["RCPT TO:<nobody@x>"] * (MOST_FAILURES + 5))
    assert len(server.events["failures"]) == MOST_FAILURES


def test_the_slowest_messages_are_told_once_each_with_their_slowest_recipient() -> None:
    """For 15 minutes."""
    answers: list[Deferred[None]] = []

    def deliver(message: Any) -> list[Any]:
        answers.append(Deferred())
        return [None, answers[-1]]

    server = monitored(ScriptedDeliveries(deliver=deliver))
    for seconds in (1.0, *[2.0] * MOST_SLOW, 3.0, 0.5):
        server.send("quick@x", "slow@x")
        server.reactor.advance(seconds)
        answers[-1].callback(None)
    slowest = server.events["slowest"]
    assert [slow["seconds"] for slow in slowest] == [3.0, *[2.0] * (MOST_SLOW - 1)]
    assert (slowest[0]["recipient"], slowest[0]["size"], slowest[0]["backend"]) == ("slow@x", 7, "store")
    assert slowest[0]["id"].endswith(".1.2")
    server.reactor.advance(14 * 60)
    assert len(server.events["slowest"]) == MOST_SLOW
    server.reactor.advance(2 * 60)
    assert server.events["slowest"] == []


def test_domains_are_told_with_most_first_and_the_rest_as_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """For 15 minutes; a flood of names takes no more memory."""
    monkeypatch.setattr(recent, "_DOMAINS_A_MINUTE", MOST_DOMAINS + 3)
    server = monitored()
    server.send("a@many", "b@many", *(f"a@d{number:03}" for number in range(MOST_DOMAINS + 10)))
    events = server.events
    assert events["domains"][0] == {"domain": "many", "2xx": 2, "4xx": 0, "5xx": 0}
    assert len(events["domains"]) == MOST_DOMAINS
    assert events["other"] == {"2xx": 11, "4xx": 0, "5xx": 0}
    server.reactor.advance(60)
    # As it is asked for each second.
    assert server.figures
    server.send("a@many", "Postmaster")
    assert server.events["domains"][0]["2xx"] == 3
    server.reactor.advance(15 * 60 + 1)
    assert server.events["domains"][0] == {"domain": "", "2xx": 1, "4xx": 0, "5xx": 0}
    server.reactor.advance(2 * 60)
    assert server.events["domains"] == []


def test_several_answers_are_one() -> None:
    """Of no more than one has."""
    server = monitored(ScriptedDeliveries({"full@x": PermanentFailure("full")}))
    server.send("full@x", "fine@y")
    answer = server.events
    both = events_as_one([answer, answer])
    assert both["domains"] == [
        {"domain": "x", "2xx": 0, "4xx": 0, "5xx": 2},
        {"domain": "y", "2xx": 2, "4xx": 0, "5xx": 0},
    ]
    assert len(both["failures"]) == 2
    assert events_as_one([]) == {
        "failures": [],
        "slowest": [],
        "domains": [],
        "other": {"2xx": 0, "4xx": 0, "5xx": 0},
    }


def test_sessions_are_told_with_what_they_do() -> None:
    """Whatever the state, and no longer than they last."""
    server = monitored(ScriptedDeliveries({"slow@x": Deferred()}))
    client = server.client()

    def told() -> Any:
        (row,) = server.sessions["sessions"]
        return row

    assert told() == {
        "id": client.protocol.session.id,
        "peer": client.protocol.session.peer_name,
        "since": began_at(client.protocol.session.id),
        "lhlo": "client.example",
        "tls": None,
        "user": None,
        "messages": 0,
        "doing": "waiting",
    }
    client.say("MAIL FROM:<a@x>")
    assert (told()["doing"], told()["messages"]) == ("envelope", 1)
    client.say("RCPT TO:<slow@x>", "DATA")
    assert told()["doing"] == "content"
    client.say("x", ".")
    assert told()["doing"] == "delivery"
    server.factory.drain()
    assert told()["doing"] == "closing"
    client.lose()
    assert server.sessions == {"total": 0, "sessions": []}


def test_sessions_are_bounded_and_the_longest_first() -> None:
    server = monitored()
    clients = [server.client() for _ in range(MOST_SESSIONS + 2)]
    answer = server.sessions
    assert answer["total"] == MOST_SESSIONS + 2
    ids = sorted(client.protocol.session.id for client in clients)
    assert [row["id"] for row in answer["sessions"]] == ids[:MOST_SESSIONS]
    both = sessions_as_one({"1": answer, "2": answer})
    assert (both["total"], len(both["sessions"])) == (2 * MOST_SESSIONS + 4, MOST_SESSIONS)
    assert {row["worker"] for row in both["sessions"]} == {"1", "2"}


def test_the_id_of_a_session_says_when_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time_ns", lambda: 1_764_012_345_678_901_234)
    assert began_at(new_session_id()) == 1_764_012_345.678901
    assert began_at("test") == began_at("!" * 14) == 0.0
