"""
Random sessions against a small model: one reply for each command, one for each accepted recipient after a content, in
order, with the codes that follow from the state, however the octets are cut and whenever the application answers.
"""

from __future__ import annotations

import re
from typing import Any

from dialogue import Client, LoggedErrors, greeted, server, stuffed
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from session_model import (
    LIMIT,
    MOST_BAD,
    MOST_RECIPIENTS,
    NAMES,
    RANDOM,
    SESSIONS,
    VERDICTS,
    Application,
    Command,
    Model,
    codes_of,
    verdicts_of,
)
from twisted.internet.defer import Deferred

from lmtp_twisted.testing import FakeReactor, ScriptedDeliveries, fake_spool


def _play(client: Client, application: Application, octets: bytes, random: Any) -> list[str]:
    """Send the octets in random segments, and let the application answer in between. Returns the replies."""
    lines: list[str] = []
    at = 0
    while at < len(octets):
        size = random.choice([1, 1, 2, 3, 10, 100, 5000])
        lines += client.send(octets[at : at + size])
        at += size
        while application.waiting and random.random() < 0.2:
            application.answer()
            lines += client.read()
    while application.waiting:
        application.answer()
        lines += client.read()
    return lines


@given(SESSIONS, RANDOM)
@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_each_command_has_one_reply_and_each_message_one_for_each_recipient(
    logged: LoggedErrors, commands: list[Command], random: Any
) -> None:
    """RFC 2033 §4.2, RFC 5321 §4.1.4, RFC 2920 §3.2."""
    verdicts = verdicts_of(random)
    model = Model(verdicts)
    octets = b"".join(model.say(command) for command in commands)
    application = Application(verdicts, random)
    reactor = FakeReactor()
    factory = server(
        application.deliveries,
        reactor=reactor,
        spool=fake_spool(reactor, threshold=random.choice([50, 10**6])),
        size_limit=LIMIT,
        drain_factor=1000,
        max_recipients=MOST_RECIPIENTS,
        max_bad_commands=MOST_BAD,
    )
    client = Client(factory)
    lines = _play(client, application, octets, random)
    logged.take()
    assert codes_of(lines) == model.expected
    assert client.is_closed == model.closed
    application.look(model.contents)
    assert len(application.contents) == len(model.contents)
    client.lose()
    assert factory.spool.used == 0
    assert reactor.getDelayedCalls() == []


@given(st.lists(st.sampled_from(NAMES), min_size=1, max_size=12), RANDOM)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_the_final_replies_are_in_the_order_of_the_recipients_and_as_early_as_may_be(
    logged: LoggedErrors, recipients: list[str], random: Any
) -> None:
    """RFC 2033 §4.2: after each outcome, all replies are there up to the first recipient without one."""
    waiting: dict[str, tuple[Deferred[Any], str]] = {}

    def deliver(message: Any) -> list[Deferred[Any]]:
        for recipient in message.recipients:
            waiting[str(recipient)[0]] = (Deferred(), random.choice(list(VERDICTS)))
        return [waiting[str(recipient)[0]][0] for recipient in message.recipients]

    client = greeted(ScriptedDeliveries(deliver=deliver))
    client.say("MAIL FROM:<s@x>", *(f"RCPT TO:<{name}@x>" for name in recipients))
    lines = client.content()
    codes = {name: VERDICTS[verdict][1] for name, (_, verdict) in waiting.items()}
    assert lines == []
    pending = list(waiting)
    random.shuffle(pending)
    while pending:
        deferred, verdict = waiting[pending.pop()]
        value = VERDICTS[verdict][0]
        if isinstance(value, Exception):
            deferred.errback(value)
        else:
            deferred.callback(value)
        lines += client.read()
        first_open = next((place for place, name in enumerate(recipients) if name in pending), len(recipients))
        assert codes_of(lines) == [codes[name] for name in recipients[:first_open]]
    logged.take()
    for line, name in zip(lines, recipients, strict=True):
        named = re.search("<(.)@x>", line)
        assert named is not None
        assert named[1] == name
    client.lose()


@given(st.binary(max_size=300), st.lists(st.integers(1, 50), max_size=30), st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_octets_are_delivered_as_they_are(content: bytes, sizes: list[int], chunked: bool) -> None:
    """RFC 5321 §4.5.2, RFC 3030 §2."""
    deliveries = ScriptedDeliveries()
    client = greeted(deliveries)
    client.say("MAIL FROM:<a@x>", "RCPT TO:<b@x>")
    if chunked:
        octets = b"BDAT %d LAST\r\n%b" % (len(content), content)
    else:
        content += b"" if not content or content.endswith(b"\r\n") else b"\r\n"
        octets = b"DATA\r\n" + stuffed(content) + b".\r\n"
    octets += b"NOOP\r\n"
    lines, at = [], 0
    for size in [*sizes, len(octets)]:
        lines += client.send(octets[at : at + size])
        at += size
    assert codes_of(lines) == ([250, 250] if chunked else [354, 250, 250])
    assert [message.read() for message in deliveries.messages] == [content]
    client.lose()


FRAGMENTS = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [b"\r\n", b"\r", b"\n", b"NOOP", b"MAIL FROM:", b"<a@x>", b"RCPT TO:", b"DATA", b"LHLO ", b" ", b"."]
    ),
    st.just(b"x" * 13_000),
)


@given(st.lists(FRAGMENTS, max_size=30))
@settings(max_examples=300, deadline=None)
def test_no_octets_whatever_break_the_session(segments: list[bytes]) -> None:
    """Each is answered in whole lines, or the connection is closed with one; once the line has ended, it goes on."""
    # BDAT is followed by octets that are no commands.
    assume(b"BDAT" not in b"".join(segments).upper())
    client = greeted(max_bad_commands=10**6)
    lines: list[str] = []
    for segment in segments:
        lines += client.send(segment)
    lines += client.send(b"\r\n")
    if client.is_closed:
        assert codes_of(lines)[-1] in (221, 421, 500)
        assert client.say("NOOP") == []
    else:
        assert codes_of(client.say("NOOP")) == [250]
    client.lose()
