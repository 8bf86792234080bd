"""Commands in bursts (RFC 2920)."""

from __future__ import annotations

from dialogue import (
    codes,
    connected,
    greeted,
    server,
)
from twisted.internet.defer import Deferred, succeed
from twisted.internet.testing import StringTransport

from lmtp_twisted import LMTPFactory
from lmtp_twisted.testing import ScriptedDeliveries

MESSAGE = ("Subject: x", "", "Hello", ".")


def test_pipelining_a_whole_session_in_one_segment_works() -> None:
    """RFC 2920 §3.1."""
    client = connected()
    replies = client.say(
        "LHLO c",
        "MAIL FROM:<a@x>",
        "RCPT TO:<b@x>",
        "RCPT TO:<>",
        "DATA",
        "Subject: x",
        "",
        ".",
        "RSET",
        "NOOP",
        "QUIT",
    )
    answers = codes(replies)
    assert answers[answers.index("250 2.1.0") :] == [
        "250 2.1.0",
        "250 2.1.5",
        "501 5.1.3",
        "354",
        "250 2.0.0",
        "250 2.0.0",
        "250 2.0.0",
        "221 2.0.0",
    ]


def test_the_replies_of_a_burst_leave_together() -> None:
    """RFC 2920 §3.2."""
    writes: list[bytes] = []

    class Transport(StringTransport):
        def write(self, data: bytes) -> None:
            writes.append(data)

    factory: LMTPFactory = server()
    protocol = factory.buildProtocol(None)
    protocol.makeConnection(Transport())
    writes.clear()
    protocol.dataReceived(b"LHLO c\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nRCPT TO:<c@x>\r\nDATA\r\n")
    assert len(writes) == 1
    assert writes[0].endswith(b"\r\n")
    protocol.dataReceived(b"x\r\n.\r\nRSET\r\nQUIT\r\n")
    assert len(writes) == 2
    from twisted.internet.error import ConnectionDone
    from twisted.python.failure import Failure

    protocol.connectionLost(Failure(ConnectionDone()))


def test_replies_are_not_held_back_by_a_command_that_waits() -> None:
    """RFC 2920 §3.2: what has an answer is answered."""
    slow: Deferred[None] = Deferred()
    client = greeted(ScriptedDeliveries(recipients={"slow@x": slow}))
    assert codes(client.say("MAIL FROM:<a@x>", "RCPT TO:<b@x>", "RCPT TO:<slow@x>", "NOOP")) == [
        "250 2.1.0",
        "250 2.1.5",
    ]
    slow.callback(None)
    assert codes(client.read()) == ["250 2.1.5", "250 2.0.0"]


def test_a_deferred_that_has_fired_already_makes_no_difference() -> None:
    """RFC 2920 §3.2."""
    deliveries = ScriptedDeliveries(
        {"b@x": lambda: succeed("stored")},
        senders={"a@x": lambda: succeed(None)},
        recipients={"b@x": lambda: succeed(True)},
    )
    client = greeted(deliveries)
    replies = client.say("MAIL FROM:<a@x>", "RCPT TO:<b@x>", "DATA", *MESSAGE, "QUIT")
    assert codes(replies) == ["250 2.1.0", "250 2.1.5", "354", "250 2.0.0", "221 2.0.0"]
