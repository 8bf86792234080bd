"""Enhanced status codes as the values of a label: those that are registered, so that nobody can make any number."""

from __future__ import annotations

from functools import lru_cache

from lmtp_twisted.wire.replies import DEFAULT_ENHANCED, Reply

# The highest detail of each subject in IANA's registry of enhanced status codes (RFC 5248).
_DETAILS = (0, 10, 4, 6, 7, 6, 10, 30)


@lru_cache(maxsize=1024)
def _reason(code: int, enhanced: str | None) -> str:
    enhanced = enhanced or DEFAULT_ENHANCED.get(code // 100, "")
    try:
        status, subject, detail = (int(part) for part in enhanced.split("."))
    except ValueError:
        return f"{code // 100}.other"
    if status == code // 100 and subject < len(_DETAILS) and detail <= _DETAILS[subject]:
        return f"{status}.{subject}.{detail}"
    return f"{code // 100}.other"


def reason_of(reply: Reply) -> str:
    """
    :param reply: a refusal.
    :returns: its enhanced status code, such as ``4.2.2``; ``4.other`` or ``5.other`` where it is not registered.
    """
    return _reason(reply.code, reply.enhanced)
