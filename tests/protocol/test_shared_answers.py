"""An answer that an application gives twice says the same twice, and one that comes too late is given back."""

from __future__ import annotations

from typing import Any

import pytest
from dialogue import Client, codes, server
from twisted.internet.defer import Deferred, fail, succeed

from lmtp_twisted import PermanentFailure
from lmtp_twisted.testing import ScriptedDeliveries


def greeted_client(*arguments: Any, **options: Any) -> Client:
    client = Client(server(*arguments, **options))
    client.say("LHLO client.example")
    return client


def message(client: Client, *recipients: str) -> list[str]:
    client.say("MAIL FROM:<a@x>", *(f"RCPT TO:<{recipient}>" for recipient in recipients), "DATA")
    return codes(client.say("Subject: x", "", "Hello", "."))


def test_a_policy_may_return_one_deferred_for_all() -> None:
    """What the backend says of one recipient must not stick to it."""
    accepted = succeed(None)
    policy = ScriptedDeliveries(recipients={"bad@x": lambda: accepted, "good@x": lambda: accepted})
    backend = ScriptedDeliveries(recipients={"bad@x": PermanentFailure("no")})
    client = greeted_client(backend, policy=policy)
    client.say("MAIL FROM:<a@x>")
    assert codes(client.say("RCPT TO:<bad@x>", "RCPT TO:<good@x>")) == ["550 5.1.1", "250 2.1.5"]


@pytest.mark.parametrize("recipients", [("b@x",), ("b@x", "c@x")])
def test_a_refusal_of_every_message_stays_one(recipients: tuple[str, ...]) -> None:
    refused: Deferred[Any] = fail(PermanentFailure("closed"))
    client = greeted_client(deliverMessage=lambda message: refused)
    for _ in range(3):
        assert message(client, *recipients) == ["554 5.3.0"] * len(recipients)


def test_a_deferred_keeps_its_result_for_the_application() -> None:
    """What we do behind it is ours alone."""
    outcome: Deferred[Any] = succeed("stored")
    client = greeted_client(ScriptedDeliveries({"b@x": lambda: outcome}))
    message(client, "b@x")
    assert outcome.result == "stored"


def test_a_delivery_that_comes_after_its_time_is_told_that_it_is_not_needed() -> None:
    backend = ScriptedDeliveries()

    class Slow:
        def getDelivery(self, session: Any) -> Any:
            # A canceller that is too slow: the delivery comes all the same.
            return Deferred(lambda deferred: deferred.callback(backend))

    client = greeted_client(Slow(), delivery_timeout=10)
    client.say("MAIL FROM:<a@x>")
    assert codes(client.after(10)) == ["451 4.4.7"]
    assert backend.calls == [("aborted", "too late")]


def test_a_question_whose_time_is_over_is_cancelled_before_the_next_is_asked() -> None:
    """The calls of a delivery do not overlap."""
    order: list[str] = []
    slow: Deferred[Any] = Deferred(lambda _: order.append("cancelled"))

    def asked_next() -> None:
        order.append("asked")

    client = greeted_client(
        ScriptedDeliveries(recipients={"slow@x": lambda: slow, "next@x": asked_next}), delivery_timeout=10
    )
    client.say("MAIL FROM:<a@x>")
    client.say("RCPT TO:<slow@x>", "RCPT TO:<next@x>")
    assert codes(client.after(10)) == ["451 4.4.7", "250 2.1.5"]
    assert order == ["cancelled", "asked"]
