"""Questions to several processes."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.task import Clock

from lmtp_twisted.daemon.workers.inquiries import MOST_UNANSWERED, PATIENCE, Inquiries


@attrs.define
class Member:
    """One that is asked."""

    unanswered: int = 0
    said: list[dict[str, Any]] = attrs.field(factory=list)
    passed_over: int = 0

    def say(self, message: dict[str, Any]) -> None:
        self.said.append(message)

    def is_behind(self) -> None:
        self.passed_over += 1


def _asked(*keys: str) -> tuple[Clock, Inquiries, dict[str, Member], list[Any]]:
    clock = Clock()
    inquiries, members, results = Inquiries(clock), {key: Member() for key in keys}, []
    inquiries.ask(members, "figures", {"since": 1}).addCallback(results.append)
    return clock, inquiries, members, results


def test_each_is_asked_and_all_answers_are_the_result() -> None:
    clock, inquiries, members, results = _asked("1.1", "2.1")
    question = {"ask": 0, "question": "figures", "argument": {"since": 1}}
    assert [member.said for member in members.values()] == [[question], [question]]
    inquiries.answer("2.1", {"answer": 0, "data": 20})
    assert results == []
    inquiries.answer("1.1", {"answer": 0, "data": 10})
    assert results == [{"1.1": 10, "2.1": 20}]
    assert clock.getDelayedCalls() == []


def test_who_does_not_answer_within_a_second_is_left_out_and_comes_too_late() -> None:
    clock, inquiries, _, results = _asked("1.1", "2.1")
    inquiries.answer("2.1", {"answer": 0, "data": 20})
    clock.advance(PATIENCE)
    assert results == [{"2.1": 20}]
    inquiries.answer("1.1", {"answer": 0, "data": 10})
    assert results == [{"2.1": 20}]


def test_who_does_not_know_the_question_or_is_gone_is_left_out_at_once() -> None:
    _, inquiries, _, results = _asked("1.1", "2.1", "3.1")
    inquiries.answer("1.1", {"answer": 0})
    inquiries.answer("2.1", {"answer": 0, "data": None})
    inquiries.gone("3.1")
    assert results == [{"2.1": None}]


def test_nobody_to_ask_is_no_answer() -> None:
    clock, _, _, results = _asked()
    assert results == [{}]
    assert clock.getDelayedCalls() == []


def test_what_nobody_asked_is_not_heard() -> None:
    _, inquiries, _, results = _asked("1.1")
    inquiries.answer("2.1", {"answer": 0, "data": 1})
    inquiries.answer("1.1", {"answer": 7, "data": 1})
    assert results == []
    inquiries.gone("1.1")
    assert results == [{}]


def test_who_never_answers_is_asked_no_more() -> None:
    clock, inquiries, members, _ = _asked("1.1")
    for _ in range(2 * MOST_UNANSWERED):
        inquiries.ask(members, "figures", None)
    assert len(members["1.1"].said) == MOST_UNANSWERED
    # The first question was asked before.
    assert members["1.1"].passed_over == MOST_UNANSWERED + 1
    clock.advance(PATIENCE)
