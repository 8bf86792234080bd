"""The octets of a file: the trace headers, then the content, with the line ends that readers of Maildirs expect."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator

from lmtp_twisted.interfaces import IReceivedMessage
from lmtp_twisted.wire.parameters import Body


class Newlines(enum.Enum):
    """The line ends of the files. A bare CR or LF in a content is kept in either case."""

    #: CR LF becomes LF.
    LF = "lf"
    #: As received.
    CRLF = "crlf"


def octets_of(message: IReceivedMessage, newlines: Newlines) -> Iterator[bytes]:
    """
    What to write, a block at a time; reads files where the message is not in memory. A message that came with
    BODY=BINARYMIME is octets and not lines, so it is kept as it is (RFC 3030 §3).

    :param message: the message.
    :param newlines: of the file.
    """
    as_is = newlines is Newlines.CRLF or message.envelope.sender.parameters.body is Body.BINARY_MIME
    if message.inMemory:
        whole = message.trace() + message.read()
        return iter((whole if as_is else whole.replace(b"\r\n", b"\n"),))
    blocks = _with_trace(message)
    return blocks if as_is else with_lf(blocks)


def _with_trace(message: IReceivedMessage) -> Iterator[bytes]:
    yield message.trace()
    yield from message.blocks()


def with_lf(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """
    CR LF becomes LF, also where a block ends between the two.

    :param blocks: however the octets are split.
    """
    held = b""
    for block in blocks:
        if held:
            block = held + block
            held = b""
        if block.endswith(b"\r"):
            block, held = block[:-1], b"\r"
        yield block.replace(b"\r\n", b"\n")
    if held:
        yield held
