"""Who may talk at all (RFC 5321 §3.1)."""

from __future__ import annotations

import pytest
from dialogue import (
    LoggedErrors,
    codes,
    connected,
)
from twisted.internet.defer import Deferred

from lmtp_twisted import PermanentFailure, TemporaryFailure
from lmtp_twisted.errors import DeliveryError


class _Connections:
    """A connection policy that answers as it is told."""

    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.sessions: list[object] = []

    def validateConnection(self, session: object) -> object:
        self.sessions.append(session)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize("answer", [None, True, "welcome"])
def test_a_connection_policy_may_accept(answer: object) -> None:
    """RFC 5321 §3.1."""
    policy = _Connections(answer)
    client = connected(connection_policy=policy)
    assert codes(client.greeting) == ["220"]
    assert policy.sessions == [client.protocol.session]


@pytest.mark.parametrize(
    ("answer", "greeting"),
    [
        (PermanentFailure("no"), "554"),
        (PermanentFailure("no", code=550, enhanced="5.7.25"), "554"),
        (TemporaryFailure("later"), "421"),
        (TemporaryFailure("later", code=450, enhanced="4.7.1"), "421"),
        (DeliveryError(421, "4.7.0", "wrong code"), "421"),
    ],
)
def test_a_connection_policy_may_refuse(answer: Exception, greeting: str, logged: LoggedErrors) -> None:
    """RFC 5321 §3.1, §3.8."""
    client = connected(connection_policy=_Connections(answer))
    assert [line[:3] for line in client.greeting] == [greeting]
    assert client.is_closed
    assert client.say("LHLO c") == []
    assert len(logged.take()) == (answer.code == 421)  # type: ignore[attr-defined]


@pytest.mark.parametrize("answer", [ZeroDivisionError(), False, 7])
def test_a_connection_policy_that_fails_is_421(answer: object, logged: LoggedErrors) -> None:
    """RFC 5321 §3.8."""
    client = connected(connection_policy=_Connections(answer))
    assert [line[:3] for line in client.greeting] == ["421"]
    assert client.is_closed
    assert len(logged.take()) == 1


def test_a_connection_policy_may_take_its_time() -> None:
    """RFC 5321 §3.1."""
    answer: Deferred[None] = Deferred()
    client = connected(connection_policy=_Connections(answer))
    assert client.greeting == []
    assert client.say("NOOP") == []
    answer.callback(None)
    assert codes(client.read()) == ["220", "250 2.0.0"]


def test_a_connection_policy_that_never_answers_is_421() -> None:
    """RFC 5321 §3.8."""
    client = connected(connection_policy=_Connections(Deferred()))
    assert [line[:3] for line in client.after(540)] == ["421"]
    assert client.is_closed


def test_a_connection_policy_may_answer_after_the_client_is_gone() -> None:
    """Nothing is written any more."""
    answer: Deferred[None] = Deferred(lambda deferred: deferred.callback(None))
    client = connected(connection_policy=_Connections(answer))
    client.lose()
    assert client.read() == []
