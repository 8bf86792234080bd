"""
What a web server's answer means for the recipients, and what it means when there is none.

Only an answer that says so makes mail bounce: what an operator can mend, such as a wrong password, is a 4.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import attrs
from OpenSSL.SSL import Error as TLSError
from service_identity import VerificationError
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.python.failure import Failure
from twisted.web.client import RequestGenerationFailed, RequestTransmissionFailed, ResponseFailed

from lmtp_twisted.backends.http.client import Answer
from lmtp_twisted.errors import is_enhanced
from lmtp_twisted.wire.replies import DELIVERED, Reply

_UNKNOWN = Reply(550, "5.1.1", "No such recipient")
_BUSY = Reply(451, "4.3.2", "Too busy, try again later")
_FAILED = Reply(451, "4.3.0", "Try again later")
_BY_STATUS = {
    404: _UNKNOWN,
    410: _UNKNOWN,
    413: Reply(552, "5.3.4", "Message too large"),
    429: _BUSY,
    503: _BUSY,
}
#: RFC 3463 §3.4: the system is not configured as it must be.
_MISCONFIGURED = Reply(451, "4.3.5", "Not possible now, try again later")
_UNINTELLIGIBLE = Reply(451, "4.3.0", "Answer not understood, try again later")

_UNREACHABLE = Reply(451, "4.4.1", "No connection, try again later")
_BROKEN = Reply(451, "4.4.2", "Connection broken, try again later")
_LATE = Reply(451, "4.4.7", "No answer in time, try again later")
_INSECURE = Reply(451, "4.7.5", "No secure connection, try again later")


@attrs.frozen
class Understood:
    """
    :ivar replies: one for each recipient, in order.
    :ivar complaint: for the operator; empty where nothing is wrong.
    """

    replies: Sequence[Reply]
    complaint: str = ""


def understand(answer: Answer, count: int, *, needs_results: bool) -> Understood:
    """
    What an answer says.

    :param answer: the answer.
    :param count: how many recipients the request had.
    :param needs_results: whether a success must say something of each of them.
    """
    document = _document(answer)
    if not 200 <= answer.status < 300:
        return _refused(answer.status, document, count)
    if answer.status == 204:
        return Understood([DELIVERED] * count)
    if isinstance(document, ValueError):
        return Understood([_UNINTELLIGIBLE] * count, str(document))
    if not isinstance(document, dict) or "results" not in document:
        if not needs_results:
            return Understood([DELIVERED] * count)
        return Understood([_UNINTELLIGIBLE] * count, "an answer without results")
    results = document["results"]
    if not isinstance(results, list) or len(results) != count:
        return Understood([_UNINTELLIGIBLE] * count, f"an answer without exactly {count} results")
    replies = [_reply_of(result) for result in results]
    wrong = [place + 1 for place, reply in enumerate(replies) if reply is None]
    return Understood(
        [reply or _UNINTELLIGIBLE for reply in replies],
        f"results that say nothing: {', '.join(map(str, wrong))}" if wrong else "",
    )


def _document(answer: Answer) -> Any:
    """The JSON of an answer; ``None`` where it is something else; a :exc:`ValueError` where it is broken."""
    if answer.body == b"" or not (answer.content_type == "application/json" or answer.content_type.endswith("+json")):
        return None
    if answer.body is None:
        return ValueError("an answer that is too long")
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        return ValueError("an answer in broken JSON")


def _refused(status: int, document: Any, count: int) -> Understood:
    reply = _BY_STATUS.get(status, _FAILED if status >= 500 else _MISCONFIGURED)
    # As RFC 9457 §3.1.4 has it, and more than one framework.
    detail = document.get("detail") if isinstance(document, dict) else None
    if isinstance(detail, str) and detail:
        reply = attrs.evolve(reply, text=detail)
    return Understood([reply] * count, f"status {status}" if reply.code < 500 else "")


def _reply_of(result: Any) -> Reply | None:
    if not isinstance(result, dict):
        return None
    code, enhanced, text = result.get("code", 250), result.get("enhanced"), result.get("text", "")
    if type(code) is not int or code == 421 or not (200 <= code < 300 or 400 <= code < 600):
        return None
    if not isinstance(text, str) or not (enhanced is None or (is_enhanced(enhanced) and enhanced[0] == str(code)[0])):
        return None
    if code == 250 and not text:
        text = DELIVERED.text
    return Reply(code, enhanced, text)


def reply_to(failure: Failure) -> Reply | None:
    """
    What to say where there is no answer.

    :param failure: how the request ended.
    :returns: ``None`` where that is no matter of the connection.
    """
    if failure.check(TimedOut):
        return _LATE
    if failure.check(ConnectError, DNSLookupError):
        return _UNREACHABLE
    if failure.check(ConnectionClosed):
        return _BROKEN
    if failure.check(RequestGenerationFailed):
        # The message cannot be read.
        return _FAILED
    if not isinstance(failure.value, (RequestTransmissionFailed, ResponseFailed)):
        return None
    return _INSECURE if any(reason.check(TLSError, VerificationError) for reason in failure.value.reasons) else _BROKEN


def words_of(failure: Failure) -> str:
    """What the log says of it."""
    reasons = getattr(failure.value, "reasons", ())
    return "; ".join(f"{type(reason.value).__name__}: {reason.value}" for reason in (failure, *reasons) if reason.value)
