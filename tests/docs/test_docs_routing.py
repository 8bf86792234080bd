"""Each row of the tables of docs/routing.rst is made to happen."""

from __future__ import annotations

from typing import Any

import pytest
from docs_pages import ROOT
from docs_tables import Failure, failures_of
from twisted.internet.defer import Deferred

from lmtp_twisted import LMTPFactory, PermanentFailure, TemporaryFailure
from lmtp_twisted.fallback import FirstOf
from lmtp_twisted.fanout import AllOf
from lmtp_twisted.testing import Conversation, FakeReactor, ScriptedDeliveries

WHO = "ann@example.org"
DOWN, NO = TemporaryFailure("down", enhanced="4.4.1"), PermanentFailure("no")


def at_rcpt(answer: Any) -> ScriptedDeliveries:
    return ScriptedDeliveries(recipients={WHO: answer})


def at_the_end(outcome: Any) -> ScriptedDeliveries:
    return ScriptedDeliveries({WHO: outcome})


class NoDelivery(ScriptedDeliveries):
    def getDelivery(self, session: Any) -> Any:
        raise TemporaryFailure(enhanced="4.3.2")


def takes() -> ScriptedDeliveries:
    return ScriptedDeliveries()


# For each row what A and B may be, and how many messages each has in the end.
CHAIN: dict[str, list[tuple[Any, Any, int, int]]] = {
    "A takes the message": [(takes(), takes(), 1, 0)],
    "A gives no delivery, refuses the sender, the recipient or the message with 4.3, 4.4 or 4.0; B takes it": [
        (NoDelivery(), takes(), 0, 1),
        (ScriptedDeliveries(senders={"you@example.net": DOWN}), takes(), 0, 1),
        (at_rcpt(TemporaryFailure(enhanced="4.3.0")), takes(), 0, 1),
        (at_the_end(TemporaryFailure(enhanced="4.0.0")), takes(), 1, 1),
        (at_the_end(DOWN), takes(), 1, 1),
    ],
    "A raises an exception that is no refusal, B takes it": [(at_the_end(KeyError()), takes(), 1, 1)],
    "A refuses with a 5": [(at_the_end(NO), takes(), 1, 0)],
    "A's mailbox is full: 452 4.2.2": [(at_the_end(TemporaryFailure(code=452, enhanced="4.2.2")), takes(), 1, 0)],
    "A refuses for the sake of a policy: 451 4.7.1": [(at_the_end(TemporaryFailure(enhanced="4.7.1")), takes(), 1, 0)],
    "A is in trouble, and so is B": [(at_the_end(DOWN), at_the_end(DOWN), 1, 1), (at_rcpt(DOWN), at_rcpt(DOWN), 0, 0)],
    "A is in trouble, B refuses with a 5": [(at_the_end(DOWN), at_rcpt(NO), 1, 0), (at_rcpt(DOWN), at_rcpt(NO), 0, 0)],
    "A takes longer than ``--delivery-timeout``": [(at_the_end(Deferred()), takes(), 1, 0)],
    "A took the message and was lost before it said so, as by 4.4.2 of a relay": [
        (at_the_end(TemporaryFailure(enhanced="4.4.2")), takes(), 1, 1)
    ],
}

FAN_OUT: dict[str, list[tuple[Any, Any, int, int]]] = {
    "Both take the message": [(takes(), takes(), 1, 1)],
    "One of them refuses the recipient at RCPT with a 5": [(at_rcpt(NO), takes(), 0, 0), (takes(), at_rcpt(NO), 0, 0)],
    "One refuses the recipient with a 5, the other with a 4": [
        (at_rcpt(NO), at_rcpt(DOWN), 0, 0),
        (at_rcpt(DOWN), at_rcpt(NO), 0, 0),
    ],
    "A has taken the message, B cannot now": [(takes(), at_the_end(DOWN), 1, 1)],
    "A has taken the message, B refuses it with a 5": [(takes(), at_the_end(NO), 1, 1)],
    "A refuses it with a 5, B cannot now": [(at_the_end(NO), at_the_end(DOWN), 1, 1)],
    "B raises an exception, or gives a wrong number of outcomes": [
        (takes(), at_the_end(KeyError()), 1, 1),
        (takes(), ScriptedDeliveries(deliver=lambda message: []), 1, 1),
    ],
}

ROWS = failures_of(ROOT / "docs/routing.rst")


def test_every_row_is_made_to_happen() -> None:
    assert [row.what for row in ROWS] == [*CHAIN, *FAN_OUT]


@pytest.mark.parametrize("row", [pytest.param(row, id=row.what) for row in ROWS])
def test_the_client_sees_what_the_row_says(row: Failure) -> None:
    make = FirstOf if row.what in CHAIN else AllOf
    for a, b, messages_of_a, messages_of_b in (CHAIN | FAN_OUT)[row.what]:
        reactor = FakeReactor()
        client = Conversation(LMTPFactory(backend=make([a, b]), reactor=reactor))
        client.say("LHLO client.example", "MAIL FROM:<you@example.net>")
        (reply,) = client.say(f"RCPT TO:<{WHO}>")
        if reply.startswith("250"):
            client.say("DATA")
            replies = client.say("Hello", ".")
            reactor.advance(541)
            (reply,) = replies or client.read()
        assert reply.startswith(row.reply), reply
        assert (len(a.messages), len(b.messages)) == (messages_of_a, messages_of_b)
