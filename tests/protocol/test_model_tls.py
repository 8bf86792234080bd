"""
Random sessions over a connection with its buffers, in the clear and under TLS: no reply is lost, none is too many,
nothing is logged as an error, and memory is bounded.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from dialogue import LoggedErrors
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from memory_tcp import MemoryTransport
from whole_session import SEARCH, WholeSession

from lmtp_twisted.flow import HeldLineReceiver
from lmtp_twisted.reception import Reception
from lmtp_twisted.streaming import Stream


def test_no_reply_is_lost_and_memory_is_bounded_with_and_without_tls() -> None:
    """RFC 2033 §4.2, RFC 3207 §4, RFC 2920 §3.2, RFC 3030 §2."""
    run_state_machine_as_test(WholeSession, settings=settings(max_examples=500, stateful_step_count=40))


@pytest.mark.parametrize(
    ("place", "name", "broken"),
    [
        # A client that does not read is answered on and on.
        (HeldLineReceiver, "pauseProducing", lambda self: None),
        # What comes while the session waits is kept, however much it is.
        (MemoryTransport, "pauseProducing", lambda self: None),
        # What came in the clear behind STARTTLS is not seen.
        (HeldLineReceiver, "has_input", False),
        # A chunk that fails is forgotten.
        (Reception, "fail", lambda self, reply: None),
        # A session that is held back goes on all the same.
        (HeldLineReceiver, "release", lambda self, reason, then=None: None),
        # A delivery that streams is not told that its content was refused.
        (Stream, "_tell", lambda self: None),
    ],
    ids=["output", "input", "injection", "limit", "stall", "deaf"],
)
def test_a_planted_defect_is_found(logged: LoggedErrors, place: Any, name: str, broken: Any) -> None:
    """A test that never fails proves nothing."""
    with mock.patch.object(place, name, broken), pytest.raises(AssertionError):
        run_state_machine_as_test(WholeSession, settings=SEARCH)
    logged.take()
