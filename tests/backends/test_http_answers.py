"""What the answers of a web server mean."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmtp_twisted.backends.http.answers import understand
from lmtp_twisted.backends.http.client import Answer

JSON = "application/json"


def said(status: int, document: Any = None, count: int = 1, *, needs_results: bool = False) -> list[str]:
    """The replies to an answer, as they would be written."""
    body = b"" if document is None else json.dumps(document).encode()
    understood = understand(Answer(status, JSON if body else "", body), count, needs_results=needs_results)
    return [reply.encoded.decode().rstrip() for reply in understood.replies]


def results(*entries: Any) -> dict[str, Any]:
    return {"results": list(entries)}


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_success_is_success(status: int) -> None:
    assert said(status) == ["250 2.0.0 Delivered"]


@pytest.mark.parametrize(
    ("status", "reply"),
    [
        (404, "550 5.1.1"),
        (410, "550 5.1.1"),
        (413, "552 5.3.4"),
        (429, "451 4.3.2"),
        (503, "451 4.3.2"),
        (500, "451 4.3.0"),
        (502, "451 4.3.0"),
        (599, "451 4.3.0"),
    ],
)
def test_a_refusal_has_the_code_of_its_status(status: int, reply: str) -> None:
    (line,) = said(status)
    assert line.startswith(reply + " ")


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 402, 403, 405, 407, 411, 415, 422, 431, 451])
def test_what_an_operator_can_mend_bounces_no_mail(status: int) -> None:
    """RFC 3463 §3.4, X.3.5."""
    (line,) = said(status)
    assert line.startswith("451 4.3.5 ")


@pytest.mark.parametrize("document", ["fine", ["a"], None, 5, {"code": 550}, {"status": "ok"}])
def test_without_results_a_success_is_one_whatever_else_it_says(document: Any) -> None:
    """Where the request was for one recipient."""
    assert said(200, document) == ["250 2.0.0 Delivered"]


@pytest.mark.parametrize("document", ["fine", ["a"], None, 5, {"code": 250}, {"result": []}])
def test_where_results_are_needed_each_of_the_recipients_waits_for_them(document: Any) -> None:
    lines = said(200, document, 2, needs_results=True)
    assert [line[:9] for line in lines] == ["451 4.3.0"] * 2


def test_without_content_every_recipient_has_it() -> None:
    """Status 204 (RFC 9110 §15.3.5)."""
    assert said(204, None, 3, needs_results=True) == ["250 2.0.0 Delivered"] * 3


def test_each_result_is_the_reply_to_its_recipient() -> None:
    document = results(
        {},
        {"code": 250, "text": "Stored as 42"},
        {"code": 452, "enhanced": "4.2.2", "text": "Mailbox full"},
        {"code": 550, "enhanced": "5.1.1"},
    )
    assert said(200, document, 4, needs_results=True) == [
        "250 Delivered",
        "250 Stored as 42",
        "452 4.2.2 Mailbox full",
        "550 5.1.1",
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        "250 fine",
        {"code": "250"},
        {"code": 421},
        {"code": 354},
        {"code": 199},
        {"code": 600},
        {"code": True},
        {"code": 250.0},
        {"code": 550, "enhanced": "4.1.1"},
        {"code": 550, "enhanced": "5.1"},
        {"code": 550, "text": 5},
        {"code": None},
    ],
)
def test_a_result_that_says_nothing_is_temporary_for_its_recipient_alone(wrong: Any) -> None:
    lines = said(200, results({}, wrong, {"code": 550, "enhanced": "5.7.1"}), 3, needs_results=True)
    assert [line[:9] for line in lines] == ["250 Deliv", "451 4.3.0", "550 5.7.1"]


@pytest.mark.parametrize("number", [0, 1, 3])
@pytest.mark.parametrize("needs_results", [True, False])
def test_a_wrong_number_of_results_says_nothing_of_anybody(number: int, needs_results: bool) -> None:
    lines = said(200, results(*[{}] * number), 2, needs_results=needs_results)
    assert [line[:9] for line in lines] == ["451 4.3.0"] * 2


@pytest.mark.parametrize("body", [b" ", b"{", b'{"results": [{}', b"\xff", b"[" * 100_000, None])
def test_broken_json_is_temporary(body: bytes | None) -> None:
    """Also where the request had one recipient: nobody knows what it would have said."""
    (reply,) = understand(Answer(200, JSON, body), 1, needs_results=False).replies
    assert (reply.code, reply.enhanced) == (451, "4.3.0")


def test_a_page_is_no_answer_for_many() -> None:
    understood = understand(Answer(200, "text/html", b"<p>Welcome"), 2, needs_results=True)
    assert [reply.code for reply in understood.replies] == [451, 451]


def test_the_detail_of_a_refusal_is_its_text() -> None:
    """RFC 9457 §3.1.4."""
    problem = Answer(404, "application/problem+json", b'{"title": "No", "detail": "Ann left\\r\\n250 in May"}')
    (reply,) = understand(problem, 1, needs_results=False).replies
    assert reply.encoded == b"550 5.1.1 Ann left 250 in May\r\n"


@pytest.mark.parametrize("document", [{"detail": 5}, {"detail": ""}, {"detail": ["a"]}, ["detail"], "detail"])
def test_a_detail_that_is_no_text_changes_nothing(document: Any) -> None:
    assert said(404, document) == said(404)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["code", "text", "results"]), inner),
)


@given(status=st.integers(200, 599), document=_JSON, count=st.integers(1, 4), needs_results=st.booleans())
def test_whatever_is_said_each_recipient_has_one_reply_of_one_line(
    status: int, document: Any, count: int, needs_results: bool
) -> None:
    """RFC 2033 §4.2."""
    understood = understand(Answer(status, JSON, json.dumps(document).encode()), count, needs_results=needs_results)
    assert len(understood.replies) == count
    for reply in understood.replies:
        assert reply.code // 100 in (2, 4, 5)
        assert reply.encoded.count(b"\n") == 1
        assert len(reply.encoded) <= 512
