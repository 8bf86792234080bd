"""
How a program ended → what the client is told. Exit statuses are those of ``sysexits.h``: what they say of the message
or its recipient is permanent; what they say of the machine an operator can mend, so it is tried again. Any other status
but 0, and any signal, is a defect of the program's, and mail must not suffer for that.
"""

from __future__ import annotations

import re

from lmtp_twisted.backends.pipe.program import Cut, Ended
from lmtp_twisted.errors import DeliveryError

#: Characters of a program's own words in a reply.
MOST_WORDS = 200

_ENHANCED = re.compile(r"([45])(\.\d{1,3}\.\d{1,3})(?:\s+|\Z)", re.ASCII)
# Names as in sysexits.h, without the EX_.
_BY_STATUS = {
    64: (451, "4.3.5", "Delivery program used wrongly"),  # USAGE
    65: (554, "5.6.0", "Message not acceptable"),  # DATAERR
    66: (451, "4.3.0", "Delivery program lacks its input"),  # NOINPUT
    67: (550, "5.1.1", "No such user"),  # NOUSER
    68: (550, "5.1.2", "No such host"),  # NOHOST
    69: (554, "5.3.0", "Service not available"),  # UNAVAILABLE
    70: (451, "4.3.0", "Delivery program failed"),  # SOFTWARE
    71: (451, "4.3.0", "System error"),  # OSERR
    72: (451, "4.3.5", "System file missing"),  # OSFILE
    73: (451, "4.2.0", "Cannot store the message"),  # CANTCREAT
    74: (451, "4.3.0", "Input or output error"),  # IOERR
    75: (451, "4.3.0", "Try again later"),  # TEMPFAIL
    76: (451, "4.5.0", "Remote error in protocol"),  # PROTOCOL
    77: (550, "5.7.1", "Not permitted"),  # NOPERM
    78: (451, "4.3.5", "Delivery program misconfigured"),  # CONFIG
}
_OTHER = (451, "4.3.0", "Delivery program failed")
_BY_CUT = {
    Cut.TIME: (451, "4.4.7", "Delivery took too long"),
    Cut.ERRORS: (451, "4.3.0", "Delivery program failed"),
    Cut.CANCELLED: (451, "4.3.0", "Delivery was cancelled"),
}


def outcome_of(ended: Ended) -> DeliveryError | None:
    """
    :param ended: how it ended.
    :returns: ``None`` where the message is delivered; else the refusal, in the program's own words where it has some.
        Words that begin with an enhanced status code of class 4 or 5 decide over the status, as in Postfix.
    """
    if ended.cut is not None:
        return DeliveryError(*_BY_CUT[ended.cut])
    if not ended.status:
        return None
    code, enhanced, text = _BY_STATUS.get(ended.status, _OTHER)
    words = first_line(ended.errors) if ended.status > 0 else ""
    if match := _ENHANCED.match(words):
        enhanced, words = f"{match[1]}{match[2]}", words[match.end() :]
        if code // 100 != int(match[1]):
            code = 451 if match[1] == "4" else 550
    return DeliveryError(code, enhanced, words or text)


def first_line(errors: bytes) -> str:
    """The first line that is not blank, as text; what it may hold is for the reply to see to."""
    lines = errors.decode("utf-8", "replace").splitlines()
    return next((line.strip()[:MOST_WORDS] for line in lines if line.strip()), "")
