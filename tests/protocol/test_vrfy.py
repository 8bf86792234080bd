"""VRFY and HELP: what a delivery that can tell makes of the first, what the second names (RFC 5321 §3.5, §4.1.1)."""

from __future__ import annotations

from typing import Any

import pytest
from dialogue import LoggedErrors, codes, connected, greeted, with_recipients
from logins import portal
from twisted.internet.defer import Deferred

from lmtp_twisted import PermanentFailure, TemporaryFailure
from lmtp_twisted.envelope import Recipient
from lmtp_twisted.routing import Router
from lmtp_twisted.testing import ScriptedDeliveries
from lmtp_twisted.wire.replies import Reply


class Verifying(ScriptedDeliveries):
    """
    Deliveries that answer VRFY.

    :param answer: as those of :class:`ScriptedDeliveries`.
    """

    def __init__(self, answer: Any = None) -> None:
        super().__init__()
        self._verdict = answer

    def verifyAddress(self, recipient: Recipient) -> Any:
        """As it was told."""
        self.calls.append(("verifyAddress", str(recipient)))
        if isinstance(self._verdict, Exception):
            raise self._verdict
        return self._verdict


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        (None, "250 2.1.5 <alice@example.org>"),
        (True, "250 2.1.5 <alice@example.org>"),
        ("Alice Liddell <alice@example.org>", "250 2.1.5 Alice Liddell <alice@example.org>"),
        (Reply(252, "2.1.5", "perhaps"), "252 2.1.5 perhaps"),
        (PermanentFailure("nobody here"), "550 5.1.1 nobody here"),
        (PermanentFailure("moved", code=551, enhanced="5.1.6"), "551 5.1.6 moved"),
        (TemporaryFailure("later"), "451 4.3.0 later"),
    ],
)
def test_a_delivery_that_can_tell_is_asked(answer: Any, reply: str) -> None:
    """RFC 5321 §3.5.3. Its delivery is its own, and hears that it is over."""
    deliveries = Verifying(answer)
    client = greeted(deliveries)
    assert client.say("VRFY <alice@example.org>") == [reply]
    assert [name for name, _ in deliveries.calls] == ["getDelivery", "verifyAddress", "aborted"]
    assert deliveries.calls[1] == ("verifyAddress", "alice@example.org")


@pytest.mark.parametrize(
    ("argument", "named"),
    [
        ("alice", "alice"),
        ("alice@example.org", "alice@example.org"),
        ("<alice@example.org>", "alice@example.org"),
        ("<älice@example.org> SMTPUTF8", "älice@example.org"),
        ("alice@example.org smtputf8", "alice@example.org"),
    ],
)
def test_the_argument_may_be_an_address_or_a_user(argument: str, named: str) -> None:
    """RFC 5321 §3.5.1, RFC 6531 §3.7.4.2."""
    deliveries = Verifying()
    assert codes(greeted(deliveries).say(f"VRFY {argument}")) == ["250 2.1.5"]
    assert ("verifyAddress", named) in deliveries.calls


@pytest.mark.parametrize("argument", ["Alice Liddell", "<alice", "a@b@c", "<>", "<a@b> FOO"])
def test_what_is_no_address_is_252(argument: str) -> None:
    """RFC 5321 §7.3: nobody is asked."""
    deliveries = Verifying()
    assert codes(greeted(deliveries).say(f"VRFY {argument}")) == ["252 2.1.5"]
    assert deliveries.calls == []


def test_a_delivery_that_cannot_tell_is_252() -> None:
    """RFC 5321 §3.5.3, also before LHLO; and it hears that it is over."""
    client = connected()
    assert codes(client.say("VRFY alice", "VRFY")) == ["252 2.1.5", "501 5.5.4"]
    assert [name for name, _ in client.factory.backend.calls] == ["getDelivery", "aborted"]


def test_vrfy_in_a_transaction_leaves_it_alone() -> None:
    """RFC 5321 §4.1.1.6: it has no effect on it."""
    deliveries = Verifying(PermanentFailure("no"))
    client = with_recipients(deliveries)
    assert codes(client.say("VRFY bob")) == ["550 5.1.1"]
    assert codes(client.content()) == ["250 2.0.0"]


def test_the_answer_may_take_its_time() -> None:
    """What was sent meanwhile waits, and the delivery hears the end after its answer."""
    answer: Deferred[None] = Deferred()
    deliveries = Verifying(answer)
    client = greeted(deliveries)
    assert client.say("VRFY alice", "NOOP") == []
    assert ("aborted", "VRFY") not in deliveries.calls
    answer.callback(None)
    assert codes(client.read()) == ["250 2.1.5", "250 2.0.0"]
    assert deliveries.calls[-1] == ("aborted", "VRFY")


def test_a_connection_that_is_lost_meanwhile_cancels_it() -> None:
    """And the delivery hears that it is over."""
    cancelled: list[Any] = []
    deliveries = Verifying(Deferred(cancelled.append))
    client = greeted(deliveries)
    client.say("VRFY alice")
    client.lose()
    assert len(cancelled) == 1
    assert deliveries.calls[-1] == ("aborted", "VRFY")


@pytest.mark.parametrize("answer", [7, RuntimeError("x"), Reply(354, None, "x")])
def test_what_is_no_answer_is_451(answer: Any, logged: LoggedErrors) -> None:
    """Logged, and the session goes on."""
    client = greeted(Verifying(answer))
    assert codes(client.say("VRFY alice", "NOOP")) == ["451 4.3.0", "250 2.0.0"]
    assert len(logged.take()) == 1


def test_a_backend_that_is_busy_says_so() -> None:
    """As it does to MAIL; it may be asked to wait, too."""

    class Busy(ScriptedDeliveries):
        def getDelivery(self, session: Any) -> Any:
            raise TemporaryFailure("busy", enhanced="4.3.2")

    assert codes(greeted(Busy()).say("VRFY alice")) == ["451 4.3.2"]

    class Slow(Verifying):
        def getDelivery(self, session: Any) -> Any:
            return waiting

    waiting: Deferred[Any] = Deferred()
    client = greeted(Slow())
    assert client.say("VRFY alice") == []
    waiting.callback(Verifying("yes"))
    assert client.read() == ["250 2.1.5 yes"]


def test_behind_a_router_the_backend_of_that_recipient_is_asked() -> None:
    """As it would be at RCPT."""
    one, other = Verifying("one"), ScriptedDeliveries()
    client = greeted(Router([("example.org", one)], other))
    assert client.say("VRFY <a@example.org>") == ["250 2.1.5 one"]
    assert codes(client.say("VRFY <a@example.com>")) == ["252 2.1.5"]
    assert [name for name, _ in other.calls] == ["getDelivery", "aborted"]


def test_behind_a_policy_both_are_asked() -> None:
    """What a policy would refuse at RCPT is not for VRFY to tell: one that cannot say is 252."""
    recipient = "VRFY <a@example.org>"
    assert greeted(Verifying("yes"), policy=Verifying()).say(recipient) == ["250 2.1.5 yes"]
    assert codes(greeted(Verifying("yes"), policy=Verifying(PermanentFailure("no"))).say(recipient)) == ["550 5.1.1"]
    assert codes(greeted(Verifying("yes"), policy=ScriptedDeliveries()).say(recipient)) == ["252 2.1.5"]
    assert codes(greeted(ScriptedDeliveries(), policy=Verifying()).say(recipient)) == ["252 2.1.5"]


# HELP


def test_help_names_the_commands_that_there_are() -> None:
    """RFC 5321 §4.1.1.8."""
    (line,) = greeted().say("HELP")
    assert line == "214 2.0.0 This is LMTP, RFC 2033: LHLO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT"
    (line,) = greeted(tls=object(), portal=portal(), disabled=["VRFY", "CHUNKING"]).say("HELP MAIL")
    assert line == "214 2.0.0 This is LMTP, RFC 2033: LHLO MAIL RCPT DATA STARTTLS AUTH RSET NOOP HELP QUIT"


@pytest.mark.parametrize("verb", ["VRFY", "EXPN", "HELP"])
def test_each_can_be_switched_off(verb: str) -> None:
    """502."""
    assert codes(greeted(disabled=[verb]).say(f"{verb} x")) == ["502 5.5.1"]
