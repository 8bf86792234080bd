"""The connections of a client: kept, asked, bounded, and left alone where there is nobody."""

from __future__ import annotations

import gc
import inspect
from base64 import b64encode
from typing import Any

import pytest
from scripted_server import ALL, CONTENT, LOST, TIMES, Play, replies
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectingCancelledError
from twisted.logger import capturedLogs

from lmtp_twisted.client import (
    ClientSettings,
    ClientTLS,
    External,
    LMTPClient,
    Password,
    Security,
    Timeouts,
    Token,
    make_envelope,
)

FAR = IPv4Address("TCP", "192.0.2.1", 24)
SENT = ["250 2.0.0 Number 0"]


def deliver(play: Play) -> list[str]:
    """To one recipient."""
    return play.deliver(CONTENT, "a@x")


def test_a_connection_is_used_again() -> None:
    """RFC 5321 §3.3: one transaction after the other."""
    play = Play()
    assert [deliver(play) for _ in range(3)] == [SENT] * 3
    assert len(play.server.lines) == 1
    assert play.line.commands.count("LHLO client.example") == 1
    assert "RSET" not in play.line.commands
    play.close()


def test_a_connection_that_nobody_used_for_a_while_is_asked_first() -> None:
    """By RSET. One that does not answer, or not well, is not used."""
    play = Play(check_after=5, keep=1000, timeouts=TIMES)
    deliver(play)
    play.after(6)
    assert deliver(play) == SENT
    assert play.line.commands.count("RSET") == 1
    for answer in ("500 5.5.1 What?", LOST):
        play.after(6)
        play.server.answers["RSET"] = answer
        assert deliver(play) == SENT
    assert len(play.server.lines) == 3
    play.after(6)
    play.server.answers["RSET"] = None
    started = play.start(CONTENT, "a@x")
    play.after(TIMES.connect)
    assert replies(started) == SENT
    play.close()


def test_a_connection_that_ended_unheard_costs_nothing() -> None:
    """Where nothing was sent but commands a message goes to another one: after an end, and after 421."""
    for ending in (LOST, "421 4.4.2 Idle for too long", ("421 4.4.2 Idle for too long", LOST)):
        play = Play({"MAIL": ["250 2.1.0 OK", ending, "250 2.1.0 OK"]})
        assert deliver(play) == SENT
        assert deliver(play) == SENT
        assert len(play.server.lines) == 2
        play.close()


def test_a_new_connection_that_ends_is_not_tried_for_ever() -> None:
    """Once, and then it is the recipients' failure."""
    play = Play({"MAIL": ["250 2.1.0 OK", LOST]})
    assert deliver(play) == SENT
    assert deliver(play) == ["451 4.4.2 The connection to the server was lost"]
    assert len(play.server.lines) == 2
    play.close()


def test_a_connection_is_closed_when_nobody_uses_it() -> None:
    """With QUIT (RFC 5321 §4.1.1.10); a server that says nothing to it is left all the same."""
    for quit_answer in ("221 2.0.0 Bye", None):
        play = Play({"QUIT": quit_answer}, keep=60, timeouts=TIMES)
        deliver(play)
        play.after(59)
        deliver(play)
        play.after(59)
        assert not play.line.is_lost
        play.after(2)
        assert play.line.commands[-1] == "QUIT"
        play.after(TIMES.goodbye)
        assert play.line.is_lost
        play.close()


def test_a_server_that_says_how_many_messages_a_session_takes_is_heeded() -> None:
    """RFC 9422 §4.1."""
    play = Play({"LHLO": f"{ALL[:-12]}250 LIMITS MAILMAX=2"})
    assert [deliver(play) for _ in range(5)] == [SENT] * 5
    assert [sum("MAIL" in command for command in line.commands) for line in play.server.lines] == [2, 2, 1]
    play.close()


def test_connections_and_those_who_wait_for_one_are_bounded() -> None:
    """What is too much is 451 4.3.2 at once; what waits for too long is so, too."""
    play = Play({".": None}, max_connections=2, max_waiting=1, timeouts=TIMES)
    first, second = play.start(CONTENT, "a@x"), play.start(CONTENT, "a@x")
    assert not play.client.is_full
    third = play.start(CONTENT, "a@x")
    assert play.client.is_full
    assert deliver(play) == ["451 4.3.2 Too many messages wait for the server"]
    assert len(play.server.lines) == 2
    play.server.lines[0].say("250 2.0.0 First")
    play.settle()
    assert replies(first) == ["250 2.0.0 First"]
    # The third has its turn, on the connection of the first.
    assert play.server.lines[0].commands.count("DATA") == 2
    fourth = play.start(CONTENT, "a@x")
    play.server.answers["."] = "250 2.0.0 Late"
    play.after(6)
    assert [replies(started)[0][:9] for started in (second, third)] == ["451 4.4.2"] * 2
    assert replies(fourth) == ["250 2.0.0 Late"]
    play.close()


def test_who_waits_for_a_connection_in_vain_is_told() -> None:
    """Nobody waits for ever."""
    play = Play({".": None}, max_connections=1, timeouts=Timeouts(turn=8))
    play.start(CONTENT, "a@x")
    second = play.start(CONTENT, "a@x")
    play.after(8)
    assert replies(second) == ["451 4.3.2 No connection to the server was free in time"]
    play.close()


def test_one_who_waits_can_be_cancelled() -> None:
    """The turn is the next one's."""
    play = Play({".": [None, "250 2.0.0 OK"]}, max_connections=1)
    first = play.start(CONTENT, "a@x")
    second, third = play.start(CONTENT, "a@x"), play.start(CONTENT, "a@x")
    second[0].addErrback(lambda _: None)
    second[0].cancel()
    play.line.say("250 2.0.0 First")
    play.settle()
    assert replies(first) == ["250 2.0.0 First"]
    assert replies(third) == ["250 2.0.0 OK"]
    play.close()


def test_a_server_that_cannot_be_reached_is_left_alone_for_longer_each_time() -> None:
    """Exponential back-off; meanwhile nobody waits. The log says once that it is away and once that it is back."""
    play = Play(retry_first=1, retry_most=4)
    play.server.is_down = True
    with capturedLogs() as logged:
        for wait in (1, 2, 4, 4):
            (reply,) = deliver(play)
            assert reply.startswith("451 4.4.1 ScriptedServer: No connection: ")
            attempts = play.server.attempts
            play.after(wait - 0.1)
            assert deliver(play) == ["451 4.4.1 ScriptedServer cannot be reached; the next attempt is in 0.1 s"]
            assert play.server.attempts == attempts
            play.after(0.1)
        play.server.is_down = False
        assert deliver(play) == SENT
    assert [event["log_format"] for event in logged] == [
        "{server} cannot be reached: {error}",
        "{server} can be reached again",
    ]
    play.close()


def test_what_a_server_says_does_not_reach_the_log_as_it_is() -> None:
    """Control characters could deceive who reads it, and the length fill it."""
    play = Play({"greeting": "554 5.7.1 \x1b[2J\u202e" + "x" * 900})
    with capturedLogs() as logged:
        deliver(play)
    (event,) = logged
    assert "554 5.7.1 ?[2J\\x{202E}xxx" in event["error"]
    assert len(event["error"]) == 300
    play.close()


def test_the_times_between_attempts_are_not_the_same_for_all() -> None:
    """Jitter, from a half of the time to all of it."""
    play = Play(retry_first=8, random=lambda: 0.0)
    play.server.is_down = True
    deliver(play)
    play.after(4)
    play.server.is_down = False
    assert deliver(play) == SENT
    play.close()


def test_attempts_that_fail_together_count_once() -> None:
    """Ten messages that meet a server that is down are no reason to leave it alone for a thousand seconds."""
    play = Play({"greeting": LOST}, retry_first=1)
    connect = play.server.connect
    waiting: list[Any] = []
    play.server.connect = lambda factory: waiting.append(connect(factory)) or waiting[-1]  # type: ignore[method-assign, func-returns-value]
    started = [play.client.deliver_each(make_envelope("s@y", ["a@x"]), CONTENT) for _ in range(5)]
    play.settle()
    assert {replies(one)[0][:9] for one in started} == {"451 4.4.2"}
    play.server.answers["greeting"] = "220 server.example"
    play.after(1)
    assert deliver(play) == SENT
    play.close()


def test_a_connection_that_is_never_made_is_given_up() -> None:
    """RFC 3463 §3.5. Endpoints have a word of their own for what was cancelled; and one that the caller cancels says
    nothing of the server."""
    play = Play(timeouts=TIMES)
    play.server.connect = lambda factory: Deferred(  # type: ignore[method-assign]
        lambda waiting: waiting.errback(ConnectingCancelledError(FAR))
    )
    (cancelled,) = play.start(CONTENT, "a@x")
    cancelled.addErrback(lambda _: None)
    cancelled.cancel()
    started = play.start(CONTENT, "a@x")
    play.after(TIMES.connect)
    assert replies(started) == ["451 4.4.1 ScriptedServer: No connection within 1 s"]
    play.close()


@pytest.mark.parametrize(
    ("answers", "reply"),
    [
        (
            {"greeting": "421 4.3.2 Too many"},
            "451 4.3.2 ScriptedServer: The server does not take connections: 421 4.3.2",
        ),
        (
            {"greeting": "554 5.7.1 Not you"},
            "451 4.3.2 ScriptedServer: The server does not take connections: 554 5.7.1",
        ),
        ({"LHLO": "500 5.5.1 This is SMTP"}, "451 4.5.0 ScriptedServer: The server refused LHLO: 500 5.5.1"),
    ],
)
def test_a_server_that_has_no_session_for_us_is_a_failure_that_passes(answers: dict[str, Any], reply: str) -> None:
    """RFC 5321 §3.1, RFC 2033 §4.1: it says nothing of a recipient."""
    play = Play(answers)
    assert deliver(play)[0].startswith(reply)
    play.close()


def test_a_client_that_is_closed_delivers_no_more() -> None:
    """What is under way, and what waits, is told so."""
    play = Play({".": None}, max_connections=1)
    first, second = play.start(CONTENT, "a@x"), play.start(CONTENT, "a@x")
    play.close()
    assert replies(first) == ["451 4.3.2 The client was closed"]
    assert replies(second) == ["451 4.3.2 The client was closed"]
    assert deliver(play) == ["451 4.3.2 The client was closed"]
    play.close()


@pytest.mark.parametrize("canceller", [None, lambda waiting: waiting.errback(ConnectingCancelledError(FAR))])
def test_a_client_that_is_closed_while_a_connection_is_made_gives_it_up(canceller: Any) -> None:
    """The delivery has its outcome, and says nothing of the server: the log neither."""
    play = Play()
    connecting: list[Deferred[Any]] = []
    play.server.connect = lambda factory: connecting.append(Deferred(canceller)) or connecting[-1]  # type: ignore[method-assign, func-returns-value]
    started = play.start(CONTENT, "a@x")
    with capturedLogs() as logged:
        play.close()
    assert replies(started) == ["451 4.3.2 The client was closed"]
    assert connecting[0].called
    assert not logged


def test_a_connection_that_cannot_be_given_up_is_ended_when_it_is_made() -> None:
    """Nothing is said in it: some endpoints answer to a cancellation with what they have."""
    play = Play()
    connect = play.server.connect

    def make(factory: Any) -> Deferred[Any]:
        return Deferred(lambda waiting: connect(factory).addCallback(waiting.callback))

    play.server.connect = make  # type: ignore[method-assign]
    started = play.start(CONTENT, "a@x")
    play.close()
    assert replies(started) == ["451 4.3.2 The client was closed"]
    assert play.line.commands == []
    assert play.line.is_lost


def test_no_connection_is_made_by_a_client_that_was_closed_while_it_asked_one() -> None:
    """By RSET: the next one that is idle is not used in its place either."""
    for idle in (1, 2):
        play = Play({"RSET": None}, check_after=5, keep=1000)
        play.server.answers["."] = None
        for _ in range(idle):
            play.start(CONTENT, "a@x")
        for line in play.server.lines:
            line.say("250 2.0.0 OK")
        play.settle()
        play.after(6)
        started = play.start(CONTENT, "a@x")
        assert play.line.commands[-1] == "RSET"
        play.close()
        assert replies(started) == ["451 4.3.2 The client was closed"]
        assert len(play.server.lines) == idle


def test_each_delivery_to_a_client_that_is_closed_has_a_failure_of_its_own() -> None:
    """Connections that are in use when it is closed."""
    play = Play({".": None})
    for _ in range(2):
        play.start(CONTENT, "a@x")
    play.close()
    first, second = (protocol.failure for protocol in play.server.protocols.values())
    assert str(first) == str(second) == "451 4.3.2 The client was closed"
    assert first is not second


def test_each_delivery_that_is_given_up_has_a_failure_of_its_own() -> None:
    """One for all would hold on to the frames of each."""
    play = Play({".": None})
    for _ in range(2):
        (started,) = play.start(CONTENT, "a@x")
        started.addErrback(lambda _: None)
        started.cancel()
        play.settle()
    first, second = (protocol.failure for protocol in play.server.protocols.values())
    assert str(first) == str(second) == "451 4.4.2 The delivery was not finished"
    assert first is not second
    play.close()


def test_starttls_that_is_wanted_and_not_offered_is_a_failure_that_passes() -> None:
    """RFC 3207 §4: nothing is sent in the clear."""
    play = Play(security=Security.STARTTLS)
    assert deliver(play) == ["451 4.7.4 ScriptedServer: The server offers no STARTTLS"]
    assert play.line.commands == ["LHLO client.example", "QUIT"]
    play.close()


def test_what_follows_the_answer_to_starttls_in_the_clear_is_never_read() -> None:
    """RFC 3207 §6: it could be anybody's."""
    tls = {
        "LHLO": "250-server.example\n250 STARTTLS",
        "STARTTLS": "220 2.0.0 Go on\n250-server.example\n250 AUTH PLAIN",
    }
    play = Play(tls, peer=FAR)
    assert "a reply that it was not asked for" in deliver(play)[0]
    assert play.line.aborting
    play.close()


def test_starttls_is_asked_for_where_it_is_offered_by_others_than_this_machine() -> None:
    """The default: the way to this machine itself needs none."""
    for peer, says in ((FAR, True), (IPv4Address("TCP", "127.0.0.9", 24), False), (UNIXAddress(b"/s"), False)):
        play = Play({"LHLO": "250-server.example\n250 STARTTLS", "STARTTLS": "454 4.7.0 Not now"}, peer=peer)
        (reply,) = deliver(play)
        assert ("STARTTLS" in play.line.commands) == says
        assert reply.startswith("451 4.7.4" if says else "250")
        play.close()


LOGIN = Password("judge", "secret")


@pytest.mark.parametrize(
    ("credentials", "offered", "answers", "said"),
    [
        (LOGIN, "PLAIN LOGIN CRAM-MD5", ["235 2.7.0 OK"], ["AUTH PLAIN AGp1ZGdlAHNlY3JldA=="]),
        (LOGIN, "LOGIN", ["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", "235 2.7.0"], ["AUTH LOGIN", "anVkZ2U=", "c2VjcmV0"]),
        (
            Password("tim", "tanstaaftanstaaf"),
            "CRAM-MD5",
            ["334 PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+", "235 2.7.0"],
            ["AUTH CRAM-MD5", "dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw"],
        ),
        (Token("j", "t"), "PLAIN XOAUTH2", ["235 2.7.0"], ["AUTH XOAUTH2 dXNlcj1qAWF1dGg9QmVhcmVyIHQBAQ=="]),
        (External(), "PLAIN EXTERNAL", ["235 2.7.0"], ["AUTH EXTERNAL ="]),
        (External("judge"), "EXTERNAL", ["235 2.7.0"], ["AUTH EXTERNAL anVkZ2U="]),
        (Token("j", "t" * 400), "XOAUTH2", ["334 ", "235 2.7.0"], ["AUTH XOAUTH2"]),
    ],
)
def test_a_client_logs_in(credentials: Any, offered: str, answers: list[str], said: list[str]) -> None:
    """RFC 4954, 4616, 2195 (its example), 4422: with the best that both know."""
    heard: list[str] = []
    left = list(answers)

    def answer(line: str) -> str:
        heard.append(line)
        return left.pop(0)

    play = Play({"LHLO": f"250-server.example\n250 AUTH {offered}"}, credentials=credentials)
    for verb in ("AUTH", *(line.upper().split()[0] for line in said[1:])):
        play.server.answers[verb] = answer
    if "XOAUTH2" in said[0] and len(answers) == 2:
        play.server.answers[b64encode(b"user=j\1auth=Bearer " + b"t" * 400 + b"\1\1").decode().upper()] = answer
    assert deliver(play) == SENT
    assert heard[: len(said)] == said
    assert not left
    play.close()


@pytest.mark.parametrize(
    ("credentials", "answers", "says"),
    [
        (LOGIN, {"AUTH": "535 5.7.8 Wrong"}, "The server refused our AUTH: 535 5.7.8 Wrong"),
        (
            Token("j", "t"),
            {"AUTH": "334 eyJ9", "": "535 5.7.8 Expired"},
            "The server refused our AUTH: 535",
        ),
        (LOGIN, {"AUTH": "334 again", "*": "501 5.0.0 Cancelled"}, "The server refused our AUTH: 501"),
        (LOGIN, {"AUTH": "334 again", "*": "334 and again"}, "The server refused our AUTH: 334 and again"),
        (External(), {}, "The server offers no mechanism of AUTH for us"),
    ],
)
def test_a_login_that_fails_is_not_the_messages_fault(credentials: Any, answers: dict[str, Any], says: str) -> None:
    """RFC 4954 §6: the message can be tried again when the password is right."""
    play = Play({"LHLO": "250-server.example\n250 AUTH PLAIN XOAUTH2", **answers}, credentials=credentials)
    (reply,) = deliver(play)
    assert reply.startswith(f"451 4.7.0 ScriptedServer: {says}")
    assert "secret" not in reply
    play.close()


def test_a_password_is_not_said_where_others_may_listen() -> None:
    """RFC 4954 §4: unless that is allowed, or its mechanism keeps it."""
    offer = {"LHLO": "250-server.example\n250 AUTH PLAIN LOGIN", "AUTH": "235 2.7.0 OK"}
    play = Play(offer, credentials=LOGIN, peer=FAR)
    assert "keeps a password from those who may listen" in deliver(play)[0]
    assert not any("AUTH" in command for command in play.line.commands)
    play.close()
    play = Play(offer, credentials=LOGIN, peer=FAR, allows_plaintext=True)
    assert deliver(play) == SENT
    play.close()
    play = Play({"LHLO": "250-x\n250 AUTH PLAIN CRAM-MD5", "AUTH": "535 5.7.8 No"}, credentials=LOGIN, peer=FAR)
    deliver(play)
    assert play.line.commands[1] == "AUTH CRAM-MD5"
    play.close()


def test_secrets_are_in_no_representation() -> None:
    """Of settings, which end up in logs."""
    for credentials in (LOGIN, Token("j", "secret")):
        assert "secret" not in repr(ClientSettings(credentials=credentials))


@pytest.mark.parametrize(
    "made",
    [
        lambda: ClientSettings(hostname="a b"),
        lambda: ClientSettings(hostname=""),
        lambda: ClientSettings(hostname="x\r\nMAIL"),
        lambda: ClientSettings(max_connections=0),
        lambda: Timeouts(final=0),
        lambda: ClientTLS(authorities=b"nothing"),
        lambda: ClientTLS(certificate=b"nothing"),
        lambda: LMTPClient("nonsense"),
        lambda: LMTPClient("host:99999"),
        lambda: LMTPClient("host:0"),
        lambda: LMTPClient(7),
        lambda: LMTPClient("a b:24"),
    ],
)
def test_settings_that_are_wrong_are_refused_at_once(made: Any) -> None:
    """In one line."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # all of them, whatever they say
        made()
    assert "\n" not in str(caught.value)


def test_a_delivery_that_is_forgotten_ends_quietly() -> None:
    """Python closes a coroutine that nobody holds, in the midst of its wait: that must not wake it again."""
    play = Play({".": None})
    started = play.start(CONTENT, "a@x")
    coroutines = [one for one in gc.get_objects() if inspect.iscoroutine(one) and one.cr_frame is not None]
    (forgotten,) = [
        one
        for one in coroutines
        if one.cr_code is LMTPClient._deliver.__code__ and one.cr_frame.f_locals["self"] is play.client
    ]
    forgotten.close()
    assert replies(started) == ["..."]
    play.close()
