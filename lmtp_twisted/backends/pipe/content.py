"""What a program reads: the trace headers, then the content, with the line ends that programs of Unix expect."""

from __future__ import annotations

import time
from collections.abc import Iterator

import attrs

from lmtp_twisted.backends.maildir.lines import Newlines, with_lf
from lmtp_twisted.envelope import Recipient
from lmtp_twisted.interfaces import IReceivedMessage
from lmtp_twisted.wire.parameters import Body


@attrs.frozen
class Form:
    """
    How the message is given.

    :ivar newlines: the line ends. What came with BODY=BINARYMIME is octets and not lines, and given as it is.
    :ivar from_line: whether it begins with a ``From`` line, as in a file of type mbox.
    :ivar delivered_to: whether there is a ``Delivered-To`` header.
    """

    newlines: Newlines = Newlines.LF
    from_line: bool = False
    delivered_to: bool = False

    def blocks(self, message: IReceivedMessage, recipient: Recipient) -> Iterator[bytes]:
        """
        :param message: the message.
        :param recipient: whose copy it is.
        :returns: the octets in blocks, none of them empty, read by the calling thread.
        """
        octets = self._octets(message, recipient)
        is_binary = message.envelope.sender.parameters.body is Body.BINARY_MIME
        return octets if is_binary or self.newlines is Newlines.CRLF else filter(None, with_lf(octets))

    def _octets(self, message: IReceivedMessage, recipient: Recipient) -> Iterator[bytes]:
        head: bytes = message.trace(recipient if self.delivered_to else None)
        yield self._from_line(message) + head
        yield from message.blocks()

    def _from_line(self, message: IReceivedMessage) -> bytes:
        if not self.from_line:
            return b""
        # What follows the first blank is the date.
        sender = str(message.envelope.sender).replace(" ", "_") or "MAILER-DAEMON"
        return f"From {sender} {time.asctime(time.gmtime())}\r\n".encode()
