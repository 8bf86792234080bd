"""
The order of commands: which verb in which state, and what it is answered otherwise. The whole of it is one table.

A row is a verb, a column a state. A cell is ``None`` where the verb's handler is called, or the reply that is given
instead (RFC 5321 §4.1.4, RFC 2033 §4). What a handler makes of the state:

- LHLO, where it is accepted, and RSET lead to READY (RSET stays in START before LHLO): the transaction is gone.
- MAIL, where it is accepted, leads to SENDER; the first RCPT that is accepted leads to RECIPIENTS.
- DATA takes the content, then all final replies are written, then the state is READY.
- STARTTLS, where it is accepted, leads to START: all that was said before it is forgotten (RFC 3207 §4.2). So does
  XCLIENT.
- AUTH that is accepted stays in READY. Until then, where it is required, the verbs of :data:`NEED_AUTH` are answered
  530, but for what comes before LHLO out of order, and every verb but those of :data:`LEAD_TO_AUTH` is counted.
- The first BDAT chunk leads to CHUNKS, the last one to READY as DATA does.

Two things are awkward. A BDAT command is followed by octets whether we want them or not: its handler is always called,
reads them away, and only then gives the reply of its cell. And an unknown verb has no row: it is answered 500 in every
state, and counted.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from lmtp_twisted.wire.replies import (
    CHUNKS_UNDER_WAY,
    LHLO_FIRST,
    MAIL_FIRST,
    NESTED_MAIL,
    NOT_IN_TRANSACTION,
    RCPT_FIRST,
    Reply,
)


class State(enum.IntEnum):
    """Where a session is. A number, since it picks a column of the table with every command."""

    #: Before LHLO.
    START = 0
    #: LHLO was accepted, no transaction is open.
    READY = 1
    #: MAIL was accepted, no RCPT yet.
    SENDER = 2
    #: At least one RCPT was accepted.
    RECIPIENTS = 3
    #: At least one chunk was taken (RFC 3030 §2): the number of replies is fixed.
    CHUNKS = 4


_Row = tuple[Reply | None, Reply | None, Reply | None, Reply | None, Reply | None]
_ANY: _Row = (None, None, None, None, None)

# fmt: off
SEQUENCE: Mapping[bytes, _Row] = {
    #        START       READY       SENDER       RECIPIENTS   CHUNKS
    b"LHLO": _ANY,
    b"MAIL": (LHLO_FIRST, None,       NESTED_MAIL, NESTED_MAIL, CHUNKS_UNDER_WAY),
    b"RCPT": (LHLO_FIRST, MAIL_FIRST, None,        None,        CHUNKS_UNDER_WAY),
    b"DATA": (LHLO_FIRST, MAIL_FIRST, RCPT_FIRST,  None,        CHUNKS_UNDER_WAY),
    b"BDAT": (LHLO_FIRST, MAIL_FIRST, RCPT_FIRST,  None,        None),
    b"STARTTLS": (LHLO_FIRST, None, NOT_IN_TRANSACTION, NOT_IN_TRANSACTION, NOT_IN_TRANSACTION),
    b"AUTH": (LHLO_FIRST, None, NOT_IN_TRANSACTION, NOT_IN_TRANSACTION, NOT_IN_TRANSACTION),
    b"XCLIENT": (None, None, NOT_IN_TRANSACTION, NOT_IN_TRANSACTION, NOT_IN_TRANSACTION),
    b"XFORWARD": (None, None, NOT_IN_TRANSACTION, NOT_IN_TRANSACTION, NOT_IN_TRANSACTION),
    b"RSET": _ANY,
    b"NOOP": _ANY,
    b"VRFY": _ANY,
    b"EXPN": _ANY,
    b"HELP": _ANY,
    b"QUIT": _ANY,
    b"EHLO": _ANY,
    b"HELO": _ANY,
}
# fmt: on

#: What is refused without AUTH where it is required (RFC 4954 §6).
NEED_AUTH = frozenset({b"MAIL", b"RCPT", b"DATA", b"BDAT", b"VRFY"})
#: What a client that has yet to authenticate says on its way there.
LEAD_TO_AUTH = frozenset({b"LHLO", b"STARTTLS", b"AUTH", b"XCLIENT", b"QUIT"})
