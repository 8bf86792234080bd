"""AUTH: what the server says to each line of it (RFC 4954)."""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from ipaddress import ip_address
from typing import Any

import pytest
from dialogue import Client, LoggedErrors, codes, connected, server, with_recipients, with_sender
from logins import LOCAL, CheckedTokens, Realm, portal
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import Portal
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher

from lmtp_twisted import PermanentFailure, Settings, TemporaryFailure
from lmtp_twisted.extensions.logins import FREE, MEMORY, MOST_COUNTED, MOST_PEERS, Failures
from lmtp_twisted.flow import Hold
from lmtp_twisted.limits import Limit
from lmtp_twisted.testing import RecordingObserver, ScriptedDeliveries
from lmtp_twisted.wire.commands import NotRemembered, read_line


def b64(octets: bytes) -> str:
    """As a client sends it."""
    return b64encode(octets).decode("ascii")


GOOD = b64(b"\0alice\0secret")
BAD = b64(b"\0alice\0wrong")


def offered(client: Client) -> list[str]:
    """The mechanisms that the reply to LHLO announces."""
    for line in client.say("LHLO client.example"):
        if line[4:].startswith("AUTH "):
            return line[9:].split()
    return []


def local(backend: Any = None, **options: Any) -> Client:
    """A client of a Unix socket that has said LHLO, to a server with a portal."""
    client = connected(backend, peer=LOCAL, **{"portal": portal(), **options})
    client.say("LHLO client.example")
    return client


# What is offered


def test_without_a_portal_there_is_no_auth() -> None:
    """RFC 4954 §4, RFC 5321 §4.1.4: its place in the order of commands it has all the same."""
    client = Client(server())
    assert codes(client.say("AUTH PLAIN AHgAeQ==")) == ["503 5.5.1"]
    assert offered(client) == []
    assert codes(client.say("AUTH PLAIN AHgAeQ==")) == ["502 5.5.1"]
    assert codes(client.say("MAIL FROM:<a@example.net> AUTH=<>")) == ["555 5.5.4"]


@pytest.mark.parametrize(
    ("peer", "options", "mechanisms"),
    [
        (UNIXAddress(b"/run/x"), {}, ["CRAM-MD5", "XOAUTH2", "PLAIN", "LOGIN"]),
        (IPv4Address("TCP", "192.0.2.1", 9), {}, ["CRAM-MD5"]),
        (IPv4Address("TCP", "127.0.0.1", 9), {}, ["CRAM-MD5"]),
        (IPv4Address("TCP", "127.0.0.1", 9), {"auth_insecure": True}, ["CRAM-MD5", "XOAUTH2", "PLAIN", "LOGIN"]),
        (IPv4Address("TCP", "192.0.2.1", 9), {"auth_insecure": True}, ["CRAM-MD5"]),
        (UNIXAddress(b"/run/x"), {"disabled": ["plain", "CRAM-MD5"]}, ["XOAUTH2", "LOGIN"]),
        (UNIXAddress(b"/run/x"), {"disabled": ["auth"]}, []),
    ],
)
def test_passwords_are_asked_for_only_where_nobody_listens(
    peer: Any, options: dict[str, Any], mechanisms: list[str]
) -> None:
    """RFC 4954 §4: a mechanism that shows the password needs protection; what is not announced is not there."""
    client = connected(peer=peer, portal=portal(), **options)
    assert offered(client) == mechanisms
    for mechanism in ("PLAIN", "LOGIN"):
        expected = "334" if mechanism in mechanisms else "504 5.5.4" if mechanisms else None
        said = codes(client.say(f"AUTH {mechanism}"))
        assert said == [expected or ("502 5.5.1" if "disabled" in options else "504 5.5.4")]
        if said == ["334"]:
            assert codes(client.say("*")) == ["501 5.0.0"]


def test_the_checkers_decide_which_mechanisms_there_are() -> None:
    """A mechanism whose credentials nobody can check is no mechanism."""
    client = connected(peer=LOCAL, portal=Portal(Realm(), [CheckedTokens()]))
    assert offered(client) == ["XOAUTH2"]
    client = connected(peer=LOCAL, portal=Portal(Realm()))
    assert offered(client) == []


# The mechanisms


@pytest.mark.parametrize("verb", ["AUTH PLAIN", "auth plain"])
def test_plain_in_one_line_and_in_two(verb: str) -> None:
    """RFC 4616, RFC 4954 §4: the blank of an empty challenge is there."""
    client = local()
    assert codes(client.say(f"{verb} {GOOD}")) == ["235 2.7.0"]
    client = local()
    assert client.say(verb) == ["334 "]
    assert codes(client.say(GOOD)) == ["235 2.7.0"]
    assert client.protocol.session.user == "alice"


def test_login_asks_for_the_user_and_then_the_password() -> None:
    """As its clients expect."""
    client = local()
    assert [b64decode(line[4:]) for line in client.say("AUTH LOGIN")] == [b"Username:"]
    assert [b64decode(line[4:]) for line in client.say(b64(b"alice"))] == [b"Password:"]
    assert codes(client.say(b64(b"secret"))) == ["235 2.7.0"]


def test_login_takes_the_user_with_its_first_line() -> None:
    """Many clients send it there."""
    client = local()
    assert [b64decode(line[4:]) for line in client.say(f"AUTH LOGIN {b64(b'alice')}")] == [b"Password:"]
    assert codes(client.say(b64(b"secret"))) == ["235 2.7.0"]


@pytest.mark.parametrize(("password", "code"), [(b"secret", "235 2.7.0"), (b"wrong", "535 5.7.8")])
def test_cram_md5_proves_the_password_without_showing_it(password: bytes, code: str) -> None:
    """RFC 2195."""
    client = local(auth_failure_delay=0)
    (line,) = client.say("AUTH CRAM-MD5")
    challenge = b64decode(line[4:])
    assert challenge.startswith(b"<")
    assert challenge.endswith(b"@mx.example.org>")
    digest = hmac.new(password, challenge, "md5").hexdigest().encode()
    said = client.say(b64(b"alice " + digest)) + client.after(0)
    assert codes(said) == [code]


def test_no_two_challenges_of_cram_md5_are_the_same() -> None:
    """RFC 2195 §2: an answer that somebody overheard is worth nothing."""
    client = local()
    challenges = set()
    for _ in range(5):
        challenges.update(client.say("AUTH CRAM-MD5"))
        client.say("*")
    assert len(challenges) == 5


def test_xoauth2_gives_the_token_to_the_checker() -> None:
    """As Google's documentation of it has it."""
    client = local()
    token = b64(b"user=alice\x01auth=Bearer t0ken\x01\x01")
    assert codes(client.say(f"AUTH XOAUTH2 {token}")) == ["235 2.7.0"]
    assert client.protocol.session.user == "alice"


def fail_xoauth2(client: Client) -> list[str]:
    """A token that is wrong. What comes at once."""
    return client.say(f"AUTH XOAUTH2 {b64(b'user=alice' + bytes([1]) + b'auth=Bearer no' + bytes([1, 1]))}")


@pytest.mark.parametrize("acknowledgement", ["", "AQ==", "*"])
def test_xoauth2_that_fails_says_so_in_a_challenge_first(acknowledgement: str) -> None:
    """It comes as late as a refusal, or guesses would cost nothing; the client answers it, and then hears 535."""
    client = local()
    assert fail_xoauth2(client) == []
    assert client.after(0.9) == []
    (line,) = client.after(0.1)
    assert b'"status":"401"' in b64decode(line[4:])
    assert codes(client.say(acknowledgement)) == ["535 5.7.8"]
    assert codes(client.say("NOOP")) == ["250 2.0.0"]
    fail_xoauth2(client)
    client.after(2)
    client.say("")
    fail_xoauth2(client)
    client.after(3)
    assert codes(client.say("")) == ["535 5.7.8", "421 4.7.0"]


def test_who_does_not_wait_for_the_refusal_of_xoauth2_has_failed_all_the_same() -> None:
    """It is counted and logged before the client hears anything."""
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)
    try:
        client = local()
        fail_xoauth2(client)
        client.lose()
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert any("authentication failed" in str(formatEvent(event)) for event in events)


def test_the_answer_to_a_refusal_of_xoauth2_is_a_line_like_any_other() -> None:
    """Too long is 500 5.5.6, and the next line is a command again; a bare LF ends the session."""
    for length in (12_288, 100_000):
        client = local()
        fail_xoauth2(client)
        client.after(1)
        assert codes(client.say("A" * length, "MAIL FROM:<>")) == ["500 5.5.6", "250 2.1.0"]
    client = local()
    fail_xoauth2(client)
    client.after(1)
    assert codes(client.send(b"\n")) == ["500 5.5.2"]
    assert client.is_closed


@pytest.mark.parametrize("length", [12_288, 100_000])
def test_an_answer_to_the_last_refusal_of_xoauth2_that_is_too_long_ends_the_session_as_well(length: int) -> None:
    """Guesses are counted when they are made: how a client takes the refusal gives it no more of them."""
    observer = RecordingObserver()
    client = local(max_auth_failures=2, observers=[observer])
    fail_xoauth2(client)
    client.after(1)
    assert codes(client.say("A" * length)) == ["500 5.5.6"]
    fail_xoauth2(client)
    client.after(2)
    assert codes(client.say("A" * length, "NOOP")) == ["500 5.5.6", "421 4.7.0"]
    assert [event.limit for event in observer.events][-1] is Limit.AUTH_FAILURES
    assert client.is_closed
    client = local(max_auth_failures=1, max_bad_commands=1, observers=[observer])
    fail_xoauth2(client)
    client.after(1)
    assert codes(client.say("A" * length)) == ["500 5.5.6", "421 4.7.0"]


def test_external_needs_a_certificate() -> None:
    """RFC 4422 appendix A; with one it is tested over TLS."""
    assert codes(local().say("AUTH EXTERNAL =")) == ["504 5.5.4"]


# What is refused


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("AUTH", "501 5.5.4"),
        ("AUTH FOO", "504 5.5.4"),
        ("AUTH GSSAPI YIIB", "504 5.5.4"),
        ("AUTH PLAIN =AAA", "501 5.5.2"),
        ("AUTH PLAIN not*base64", "501 5.5.2"),
        ("AUTH PLAIN AGFsaWNlAHNlY3JldA", "501 5.5.2"),
        ("AUTH PLAIN =", "501 5.5.2"),
        (f"AUTH PLAIN {b64(b'alice')}", "501 5.5.2"),
        (f"AUTH PLAIN {b64(b'a' + bytes(1) + b'b' + bytes(1) + b'c' + bytes(1))}", "501 5.5.2"),
        (f"AUTH PLAIN {b64(bytes(1) + bytes(1) + b'secret')}", "501 5.5.2"),
        ("AUTH CRAM-MD5 AAAA", "501 5.7.0"),
        ("AUTH CRAM-MD5 =", "501 5.7.0"),
        (f"AUTH XOAUTH2 {b64(b'user=alice')}", "501 5.5.2"),
    ],
)
def test_what_is_malformed_is_refused_and_the_session_goes_on(line: str, code: str) -> None:
    """RFC 4954 §4, §6."""
    client = local()
    assert codes(client.say(line)) == [code]
    assert codes(client.say(f"AUTH PLAIN {GOOD}")) == ["235 2.7.0"]


@pytest.mark.parametrize(("line", "code"), [("*", "501 5.0.0"), ("=", "501 5.5.2"), ("AUTH PLAIN", "501 5.5.2")])
def test_an_answer_to_a_challenge_may_be_wrong_too(line: str, code: str) -> None:
    """RFC 4954 §4: ``*`` cancels. No line of an exchange runs as a command."""
    client = local()
    client.say("AUTH PLAIN")
    assert codes(client.say(line)) == [code]
    assert codes(client.say("NOOP")) == ["250 2.0.0"]


def test_nobody_acts_as_somebody_else() -> None:
    """RFC 4616 §2: an authorization identity of one's own is fine, another is not."""
    client = local()
    assert client.say(f"AUTH PLAIN {b64(b'bob' + bytes(1) + b'alice' + bytes(1) + b'secret')}") == []
    assert codes(client.after(1)) == ["535 5.7.8"]
    assert codes(client.say(f"AUTH PLAIN {b64(b'alice' + bytes(1) + b'alice' + bytes(1) + b'secret')}")) == [
        "235 2.7.0"
    ]


@pytest.mark.parametrize("begun", [with_sender, with_recipients])
def test_not_in_a_transaction(begun: Any) -> None:
    """RFC 4954 §4."""
    client = begun(portal=portal())
    assert codes(client.say("AUTH CRAM-MD5")) == ["503 5.5.1"]
    assert codes(client.say("RCPT TO:<one@example.org>")) == ["250 2.1.5"]


def test_not_twice() -> None:
    """RFC 4954 §4."""
    client = local()
    client.say(f"AUTH PLAIN {GOOD}")
    assert codes(client.say(f"AUTH PLAIN {GOOD}", "AUTH LOGIN")) == ["503 5.5.1", "503 5.5.1"]


def test_lines_of_an_exchange_have_a_limit() -> None:
    """RFC 4954 §4: 12288 octets with their CR LF."""
    client = local()
    client.say("AUTH PLAIN")
    assert codes(client.say("A" * 12284)) == ["501 5.5.2"]
    client.say("AUTH PLAIN")
    assert codes(client.say("A" * 12288, "NOOP")) == ["500 5.5.6", "250 2.0.0"]
    client.say("AUTH PLAIN")
    assert codes(client.say("A" * 100_000, "NOOP")) == ["500 5.5.6", "250 2.0.0"]
    assert codes(client.say(f"AUTH PLAIN {GOOD}")) == ["235 2.7.0"]


@pytest.mark.parametrize("length", [12288, 100_000])
def test_so_has_the_command_itself(length: int) -> None:
    """RFC 4954 §4."""
    client = local()
    assert codes(client.say("AUTH PLAIN " + "A" * length, "NOOP")) == ["500 5.5.6", "250 2.0.0"]


def test_a_long_line_that_fits_is_read() -> None:
    """RFC 4954 §4: tickets and tokens are long."""
    client = local()
    token = b64(b"user=alice\x01auth=Bearer " + b"x" * 9000 + b"\x01\x01")
    assert client.say(f"AUTH XOAUTH2 {token}") == []
    (line,) = client.after(1)
    assert line.startswith("334 ")


def test_a_line_of_an_exchange_that_ends_in_a_bare_lf_ends_the_session() -> None:
    """As any other command line."""
    client = local()
    client.say("AUTH PLAIN")
    assert codes(client.send(f"{GOOD}\n".encode())) == ["500 5.5.2"]
    assert client.is_closed
    client = local(lenient_newlines=True)
    client.say("AUTH PLAIN")
    assert codes(client.send(f"{GOOD}\n".encode())) == ["235 2.7.0"]


def test_all_of_an_exchange_may_come_in_one_segment_or_octet_by_octet() -> None:
    """RFC 2920 §3: AUTH is no command that must be last in a group here; its lines never run as commands."""
    lines = f"AUTH LOGIN\r\n{b64(b'alice')}\r\n{b64(b'secret')}\r\nNOOP\r\n".encode()
    client = local()
    assert codes(client.send(lines)) == ["334", "334", "235 2.7.0", "250 2.0.0"]
    client = local()
    said: list[str] = []
    for index in range(len(lines)):
        said += client.send(lines[index : index + 1])
    assert codes(said) == ["334", "334", "235 2.7.0", "250 2.0.0"]


def test_login_without_a_user_is_none() -> None:
    """Nothing to check."""
    client = local()
    client.say("AUTH LOGIN", "")
    assert codes(client.say(b64(b"secret"))) == ["501 5.5.2"]


@pytest.mark.parametrize("answer", [b"alice", b"alice 0123", b" " + b"0" * 32])
def test_an_answer_of_cram_md5_may_be_malformed(answer: bytes) -> None:
    """RFC 2195: a user, a blank and 32 hexadecimal digits."""
    client = local()
    client.say("AUTH CRAM-MD5")
    assert codes(client.say(b64(answer))) == ["501 5.5.2"]


# Where it is required


def test_where_it_is_required_nothing_else_goes() -> None:
    """RFC 4954 §6: 530 to MAIL, RCPT, DATA, BDAT and VRFY, whose octets are read away."""
    client = local(auth_required=True)
    said = client.send(
        b"MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nVRFY alice\r\nBDAT 6 LAST\r\nQUIT\r\n"
        b"BDAT 6\r\nQUIT\r\nNOOP\r\nRSET\r\nHELP\r\n"
    )
    assert codes(said) == [*["530 5.7.0"] * 6, *["250 2.0.0"] * 2, "214 2.0.0"]
    assert codes(client.say(f"AUTH PLAIN {GOOD}")) == ["235 2.7.0"]
    assert codes(client.say("MAIL FROM:<a@example.net>", "RCPT TO:<b@example.org>")) == ["250 2.1.0", "250 2.1.5"]
    assert codes(client.content()) == ["250 2.0.0"]


def test_where_it_is_not_required_it_is_a_choice() -> None:
    """RFC 4954 §4."""
    assert codes(local().say("MAIL FROM:<a@example.net>")) == ["250 2.1.0"]


def test_commands_without_it_are_counted() -> None:
    """A client that does not listen to 530 is sent away."""
    observer = RecordingObserver()
    client = local(auth_required=True, max_unauthenticated_commands=3, observers=[observer])
    assert codes(client.say("LHLO again", "AUTH FOO", *["NOOP"] * 4))[-5:] == [
        "504 5.5.4",
        *["250 2.0.0"] * 3,
        "421 4.7.0",
    ]
    assert client.is_closed
    assert [event.limit for event in observer.events if event.limit] == [Limit.UNAUTHENTICATED_COMMANDS]


def test_what_cannot_be_required_is_an_error() -> None:
    """Nobody could ever send anything."""
    with pytest.raises(ValueError, match="portal"):
        server(auth_required=True)
    with pytest.raises(ValueError, match="portal"):
        server(auth_required=True, portal=portal(), disabled=["AUTH"])


# Failures


def test_a_wrong_password_is_answered_late_and_later_each_time_and_the_third_is_the_last() -> None:
    """RFC 4954 §4: who guesses has to wait, and to begin again."""
    observer = RecordingObserver()
    client = local(observers=[observer])
    assert client.say(f"AUTH PLAIN {BAD}", "NOOP") == []
    assert client.after(0.9) == []
    assert codes(client.after(0.1)) == ["535 5.7.8", "250 2.0.0"]
    client.say(f"AUTH PLAIN {BAD}")
    assert client.after(1.9) == []
    assert codes(client.after(0.1)) == ["535 5.7.8"]
    client.say(f"AUTH PLAIN {BAD}")
    assert client.after(2.9) == []
    assert codes(client.after(0.1)) == ["535 5.7.8", "421 4.7.0"]
    assert client.is_closed
    assert [event.limit for event in observer.events if event.limit] == [Limit.AUTH_FAILURES]


@pytest.mark.parametrize("end", ["lost", "closed", "shut down"])
def test_a_client_that_goes_while_it_waits_for_its_refusal_leaves_nothing(end: str) -> None:
    """No timer is left: the fixture looks after that."""
    client = local()
    client.say(f"AUTH PLAIN {BAD}")
    assert Hold.PENALTY in client.protocol._holds
    if end == "lost":
        client.lose()
    elif end == "closed":
        client.protocol.close()
    else:
        client.protocol.shut_down()
        assert codes(client.read()) == ["421 4.3.2"]


def test_an_unknown_user_is_told_the_same_as_a_wrong_password() -> None:
    """Or who guesses would learn which users there are."""
    client = local(auth_failure_delay=0)
    client.say(f"AUTH PLAIN {BAD}")
    wrong = client.after(0)
    client.say(f"AUTH PLAIN {b64(bytes(1) + b'nobody' + bytes(1) + b'secret')}")
    assert client.after(0) == wrong


def test_a_checker_that_fails_is_454_and_not_asked_for_ever(logged: LoggedErrors) -> None:
    """RFC 4954 §4.7: the client may try again, as late and as often as after a refusal: each attempt is an error."""
    client = local(portal=Portal(Realm(), [CheckedTokens(RuntimeError("the database is down"))]))
    token = b64(b"user=alice\x01auth=Bearer t0ken\x01\x01")
    for seconds in (1, 2):
        assert client.say(f"AUTH XOAUTH2 {token}") == []
        assert codes(client.after(seconds)) == ["454 4.7.0"]
        assert codes(client.say("NOOP")) == ["250 2.0.0"]
    client.say(f"AUTH XOAUTH2 {token}")
    assert codes(client.after(3)) == ["454 4.7.0", "421 4.7.0"]
    assert len(logged.take()) == 3


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TemporaryFailure("later"), "454 4.7.0 later"),
        (TemporaryFailure("later", code=432, enhanced="4.7.12"), "432 4.7.12 later"),
    ],
)
def test_a_realm_may_say_that_it_is_not_possible_now(error: Exception, expected: str) -> None:
    """RFC 4954 §6: 454, and 432 for a password that has to be changed."""
    client = local(portal=portal(Realm(error)))
    assert client.say(f"AUTH PLAIN {GOOD}") == []
    assert client.after(1) == [expected]


def test_a_realm_may_refuse_for_good() -> None:
    """A right password and yet no entry: 535, or what it says, as late as other refusals."""
    client = local(portal=portal(Realm(PermanentFailure("your account is closed"))))
    assert client.say(f"AUTH PLAIN {GOOD}") == []
    assert client.after(1) == ["535 5.7.8 your account is closed"]


@pytest.mark.parametrize("given", [None, (1, 2), ("x", object(), None), ("x", ScriptedDeliveries(), None)])
def test_a_realm_that_gives_what_is_none_is_454(given: Any, logged: LoggedErrors) -> None:
    """Whatever an application gives, the session goes on."""
    client = local(portal=portal(Realm(given=given)))
    client.say(f"AUTH PLAIN {GOOD}")
    assert codes(client.after(1)) == ["454 4.7.0"]
    assert len(logged.take()) == 1
    assert codes(client.say("NOOP")) == ["250 2.0.0"]


def test_a_checker_may_take_its_time() -> None:
    """What was sent meanwhile waits."""
    answer: Deferred[bytes] = Deferred()
    client = local(portal=Portal(Realm(), [CheckedTokens(answer)]))
    token = b64(b"user=alice\x01auth=Bearer t0ken\x01\x01")
    assert client.say(f"AUTH XOAUTH2 {token}", "MAIL FROM:<a@example.net>") == []
    answer.callback(b"alice")
    assert codes(client.read()) == ["235 2.7.0", "250 2.1.0"]


def test_but_not_for_ever() -> None:
    """Every wait has its end: that of a delivery."""
    cancelled: list[Any] = []
    answer: Deferred[bytes] = Deferred(cancelled.append)
    client = local(portal=Portal(Realm(), [CheckedTokens(answer)]), delivery_timeout=30)
    token = b64(b"user=alice\x01auth=Bearer t0ken\x01\x01")
    client.say(f"AUTH XOAUTH2 {token}")
    assert codes(client.after(30) + client.after(1)) == ["454 4.7.0"]
    assert len(cancelled) == 1


def test_a_peer_that_fails_too_often_waits_before_it_is_even_listened_to() -> None:
    """Who hangs up before the late refusal, and begins anew, gains nothing; others are served at once."""
    factory = server(portal=portal())
    for _ in range(FREE + 2):
        client = Client(factory, LOCAL)
        client.say("LHLO c", f"AUTH PLAIN {BAD}")
        client.lose()
    client = Client(factory, LOCAL)
    client.say("LHLO c")
    assert client.say(f"AUTH PLAIN {GOOD}") == []
    assert client.after(0.9) == []
    assert codes(client.after(0.1)) == ["235 2.7.0"]
    other = Client(factory, IPv4Address("TCP", "192.0.2.1", 9))
    other.say("LHLO c")
    assert codes(other.say("AUTH CRAM-MD5")) == ["334"]
    # It is forgotten in time.
    factory.reactor.advance(MEMORY)
    client = Client(factory, LOCAL)
    client.say("LHLO c")
    assert codes(client.say(f"AUTH PLAIN {GOOD}")) == ["235 2.7.0"]


def test_what_is_remembered_of_failures_is_bounded() -> None:
    """And a whole network of IPv6 is one peer."""
    failures = Failures(Clock())
    for number in range(MOST_PEERS + 10):
        failures.add(IPv4Address("TCP", str(ip_address(0x0A000000 + number)), 1))
    assert len(failures._known) == MOST_PEERS
    for number in range(FREE + 100):
        failures.add(IPv6Address("TCP", f"2001:db8::{number:x}", 1))
    assert failures.too_many(IPv6Address("TCP", "2001:db8::ffff", 1)) == MOST_COUNTED
    assert failures.too_many(IPv6Address("TCP", "2001:db8:0:1::1", 1)) == 0


def test_an_avatar_that_is_none_is_given_back(logged: LoggedErrors) -> None:
    """Its realm has opened something for it."""
    given_back: list[None] = []
    client = local(portal=portal(Realm(given=(None, None, lambda: given_back.append(None)))))
    client.say(f"AUTH PLAIN {GOOD}")
    client.after(1)
    assert len(given_back) == 1
    assert len(logged.take()) == 1


# The avatar


def test_who_is_authenticated_decides_the_delivery() -> None:
    """The avatar takes the place of the server's backend, with the session as its mind."""
    backend, realm = ScriptedDeliveries(), Realm()
    observer = RecordingObserver()
    client = local(backend, portal=portal(realm), observers=[observer])
    client.say(f"AUTH PLAIN {GOOD}", "MAIL FROM:<a@example.net>", "RCPT TO:<b@example.org>")
    client.content()
    assert backend.messages == []
    (message,) = realm.avatar.messages
    assert b" with LMTPA id " in message.received
    assert realm.minds == [client.protocol.session]
    assert "sessionAuthenticated" in [event.name for event in observer.events]
    assert realm.logged_out == 0
    client.lose()
    assert realm.logged_out == 1


def test_the_policy_is_asked_of_an_avatar_as_well() -> None:
    """An authenticated client is under the same law."""
    policy = ScriptedDeliveries(recipients={"b@example.org": PermanentFailure("not today")})
    client = local(portal=portal(), policy=policy)
    client.say(f"AUTH PLAIN {GOOD}", "MAIL FROM:<a@example.net>")
    assert codes(client.say("RCPT TO:<b@example.org>")) == ["550 5.1.1"]


def test_a_realm_may_know_the_user_by_another_name() -> None:
    """It is given the session, and says so there."""
    client = local(portal=portal(Realm(user="Alice Liddell")))
    client.say(f"AUTH PLAIN {GOOD}")
    assert client.protocol.session.user == "Alice Liddell"


def test_an_avatar_that_comes_too_late_is_given_back() -> None:
    """Its connection is lost, and the checker answers all the same."""
    answer: Deferred[bytes] = Deferred(lambda answer: answer.callback(b"alice"))
    realm = Realm()
    client = local(portal=Portal(realm, [CheckedTokens(answer)]))
    client.say(f"AUTH XOAUTH2 {b64(b'user=alice' + bytes([1]) + b'auth=Bearer t' + bytes([1, 1]))}")
    client.lose()
    assert (len(realm.minds), realm.logged_out) == (1, 1)


def test_a_logout_that_fails_is_logged(logged: LoggedErrors) -> None:
    """And ends nothing else."""
    client = local(portal=portal(Realm(given=(None, ScriptedDeliveries(), lambda: 1 / 0))))
    assert codes(client.say(f"AUTH PLAIN {GOOD}")) == ["235 2.7.0"]
    client.lose()
    assert len(logged.take()) == 1


def test_auth_on_mail_is_taken_wherever_auth_is_announced() -> None:
    """RFC 4954 §5: authenticated or not; the delivery sees it."""
    for value, seen in (("<>", ""), ("e+3Dmc2@example.com", "e=mc2@example.com")):
        client = local()
        assert codes(client.say(f"MAIL FROM:<a@example.net> AUTH={value}")) == ["250 2.1.0"]
        (sender,) = [argument for name, argument in client.factory.backend.calls if name == "validateFrom"]
        assert sender.parameters.auth == seen
    assert codes(local().say("MAIL FROM:<a@example.net> AUTH=e+3dmc2")) == ["501 5.5.4"]


# Secrets


def test_no_line_of_auth_is_remembered() -> None:
    """What may hold a password stays in no cache."""
    read_line.cache_clear()
    client = local()
    client.say(f"AUTH PLAIN {GOOD}")
    client.say("AUTH LOGIN", b64(b"alice"), b64(b"secret"))
    for line in (f"AUTH PLAIN {GOOD}\r", f"auth plain {GOOD}\r"):
        before = read_line.cache_info()
        with pytest.raises(NotRemembered):
            read_line(line.encode())
        after = read_line.cache_info()
        assert (after.currsize, after.hits) == (before.currsize, before.hits)


def test_credentials_do_not_show_their_secret() -> None:
    """Should they ever get into a log or a traceback."""
    seen: list[Any] = []
    checker = CheckedTokens()
    checker.seen = seen
    client = local(portal=Portal(Realm(), [checker]))
    client.say(f"AUTH XOAUTH2 {b64(b'user=alice' + bytes([1]) + b'auth=Bearer t0ken' + bytes([1, 1]))}")
    assert "t0ken" not in repr(seen)
    assert seen[0].token == b"t0ken"


def test_a_failed_login_is_logged_without_what_the_client_said() -> None:
    """A password may have been typed where the name belongs."""
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)
    try:
        client = local()
        client.say(f"AUTH PLAIN {b64(bytes(1) + b'hunter2' + bytes(1) + b'hunter3')}")
        client.after(1)
    finally:
        globalLogPublisher.removeObserver(events.append)
    text = "\n".join(formatEvent(event) for event in events)
    assert "authentication failed" in text
    assert "hunter" not in text
    assert "hunter" not in repr(events)


def test_the_settings_of_auth_are_checked() -> None:
    """As all others."""
    with pytest.raises(ValueError, match="max_auth_failures"):
        Settings(hostname="x", max_auth_failures=0)
    with pytest.raises(ValueError, match="DIGEST-MD5"):
        Settings(hostname="x", disabled=["DIGEST-MD5"])


def test_memory_checkers_of_twisted_do() -> None:
    """Those of strcred's ``memory:``."""
    checker = InMemoryUsernamePasswordDatabaseDontUse(alice=b"secret")
    client = local(portal=Portal(Realm(), [checker]))
    assert codes(client.say(f"AUTH PLAIN {GOOD}")) == ["235 2.7.0"]
