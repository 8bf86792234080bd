"""Each message to several backends: the worst of their outcomes is the recipient's."""

from __future__ import annotations

from typing import Any

import pytest
from dialogues import content, finals, names, rcpt, session
from twisted.internet.defer import Deferred

from lmtp_twisted import PermanentFailure, TemporaryFailure
from lmtp_twisted.fanout import AllOf
from lmtp_twisted.testing import ScriptedDeliveries

LATER, NO = TemporaryFailure("later"), PermanentFailure("no")


def test_a_fan_out_needs_backends() -> None:
    with pytest.raises(ValueError, match="needs backends"):
        AllOf([])


def test_every_backend_gets_the_message_for_every_recipient() -> None:
    one, two = ScriptedDeliveries(), ScriptedDeliveries()
    client = session(AllOf([one, two]))
    assert rcpt(client, "a@x", "b@x") == ["250 2.1.5", "250 2.1.5"]
    assert content(client) == ["250 2.0.0 <a@x>", "250 2.0.0 <b@x>"]
    assert names(one) == names(two) == [["a@x", "b@x"]]


@pytest.mark.parametrize(
    ("first", "second", "reply"),
    [
        (None, LATER, "451"),
        (LATER, None, "451"),
        (None, NO, "554"),
        (NO, LATER, "451"),
        (LATER, NO, "451"),
        (ValueError("broken"), None, "451"),
    ],
)
def test_the_worst_outcome_decides_and_a_temporary_one_is_worse_than_a_permanent(
    first: Any, second: Any, reply: str
) -> None:
    """So that the client tries again. Other recipients have their own."""
    client = session(AllOf([ScriptedDeliveries({"a@x": first}), ScriptedDeliveries({"a@x": second})]))
    rcpt(client, "a@x", "b@x")
    replies = content(client)
    assert [line[:3] for line in replies] == [reply, "250"]


@pytest.mark.parametrize(("first", "second", "reply"), [(None, NO, "550"), (NO, LATER, "451"), (LATER, None, "451")])
def test_a_recipient_is_accepted_where_all_accept_it(first: Any, second: Any, reply: str) -> None:
    one, two = ScriptedDeliveries(recipients={"a@x": first}), ScriptedDeliveries(recipients={"a@x": second})
    client = session(AllOf([one, two]))
    (refused, accepted) = rcpt(client, "a@x", "b@x")
    assert (refused[:3], accepted[:3]) == (reply, "250")
    assert content(client) == ["250 2.0.0 <b@x>"]
    assert names(one) == names(two) == [["b@x"]]


def test_a_sender_that_one_refuses_is_refused_and_the_other_hears_so() -> None:
    one, two = ScriptedDeliveries(), ScriptedDeliveries(senders={"sender@example.net": NO})
    client = session(AllOf([one, two]))
    assert rcpt(client, "a@x") == ["503 5.5.1"]
    assert (one.calls[-1][0], two.calls[-1][0]) == ("aborted", "aborted")


def test_a_reply_waits_for_all_backends_and_for_none_of_the_other_recipients() -> None:
    """RFC 2033 §4.2."""
    slow: Deferred[Any] = Deferred()
    client = session(AllOf([ScriptedDeliveries({"b@x": slow}), ScriptedDeliveries()]))
    rcpt(client, "a@x", "b@x")
    assert content(client) == ["250 2.0.0 <a@x>"]
    slow.callback(None)
    assert finals(client.read()) == ["250 2.0.0 <b@x>"]


def test_a_lost_connection_cancels_what_every_backend_has_under_way() -> None:
    cancelled: list[int] = []
    slow = [Deferred(lambda _: cancelled.append(1)), Deferred(lambda _: cancelled.append(2))]
    client = session(AllOf([ScriptedDeliveries({"a@x": each}) for each in slow]))
    rcpt(client, "a@x")
    assert content(client) == []
    client.lose()
    assert cancelled == [1, 2]


def test_a_backend_that_fails_as_a_whole_spoils_only_its_own_outcomes() -> None:
    client = session(AllOf([ScriptedDeliveries({"b@x": NO}), ScriptedDeliveries(deliver=lambda message: [None])]))
    rcpt(client, "a@x", "b@x")
    assert [line[:3] for line in content(client)] == ["451", "451"]


def test_vrfy_is_a_yes_only_where_all_say_yes() -> None:
    class Verifying(ScriptedDeliveries):
        def verifyAddress(self, recipient: Any) -> Any:
            return "yes"

    assert session(AllOf([Verifying(), Verifying()])).say("VRFY a@x")[0].startswith("250 2.1.5 yes")
    assert session(AllOf([Verifying(), ScriptedDeliveries()])).say("VRFY a@x")[0].startswith("252")
