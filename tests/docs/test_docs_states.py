"""The table and the picture of docs/architecture.rst are what sessions do."""

from __future__ import annotations

import sys

import pytest
from docs_pages import ROOT

from lmtp_twisted.sequence import SEQUENCE, State

sys.path.append(str(ROOT / "docs" / "_ext"))

import session_states as picture  # an extension of Sphinx, which finds it by this path

STATES = [pytest.param(state, id=state.name) for state in State]


@pytest.mark.parametrize("state", STATES)
def test_what_a_cell_refuses_gets_its_reply_and_nothing_moves(state: State) -> None:
    """But for BDAT, which ends a transaction that has no recipients (RFC 3030 §2)."""
    for verb, row in SEQUENCE.items():
        refusal, session = row[state], picture.Session(state)
        if refusal is not None:
            (reply, *_) = session.say(verb.decode())
            assert reply == f"{refusal.code} {refusal.enhanced} {refusal.text}"
            assert session.state is state or verb == b"BDAT"


@pytest.mark.parametrize("state", STATES)
def test_what_a_cell_accepts_is_not_out_of_order(state: State) -> None:
    """The other half of the table: whatever it is answered, it is not 503."""
    for verb, row in SEQUENCE.items():
        if row[state] is None:
            replies = picture.Session(state).say(verb.decode())
            assert replies
            assert not any(reply.startswith("503") for reply in replies)


def test_the_picture_has_the_states_and_what_leads_from_one_to_the_other() -> None:
    """As lmtp_twisted/sequence.py says in words."""
    arrows = picture.transitions()
    assert arrows == {
        (State.START, State.READY): ["LHLO"],
        (State.READY, State.START): ["STARTTLS", "XCLIENT"],
        (State.READY, State.SENDER): ["MAIL"],
        (State.SENDER, State.READY): ["LHLO", "RSET"],
        (State.SENDER, State.RECIPIENTS): ["RCPT"],
        (State.RECIPIENTS, State.READY): ["LHLO", "DATA", "BDAT LAST", "RSET"],
        (State.RECIPIENTS, State.CHUNKS): ["BDAT"],
        (State.CHUNKS, State.READY): ["LHLO", "BDAT LAST", "RSET"],
    }
    drawing = picture.drawing(arrows)
    assert all(f">{state.name}</text>" in drawing for state in State)
    assert drawing.count("url(#arrow)") == len(arrows)
