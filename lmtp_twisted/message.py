"""A message that has been received, as deliveries see it."""

from __future__ import annotations

import email.message
import email.parser
import email.policy
import io
from collections.abc import AsyncIterator, Iterator, Sequence
from email.utils import formatdate
from functools import lru_cache

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from zope.interface import implementer

from lmtp_twisted.envelope import Envelope, Recipient
from lmtp_twisted.interfaces import IReceivedMessage
from lmtp_twisted.session import SessionInfo
from lmtp_twisted.spool import Content
from lmtp_twisted.streaming import Part
from lmtp_twisted.wire.replies import printable


@implementer(IReceivedMessage)
class ReceivedMessage:
    """
    See :class:`~lmtp_twisted.interfaces.IReceivedMessage`.

    :param id: the session's id and the number of the transaction.
    :param session: who sent it.
    :param envelope: to whom.
    :param content: its octets: complete, or what one delivery reads of them while they come.
    :param hostname: our name, for ``Received:``.
    :param time: when it was complete, in seconds since the epoch.
    """

    __slots__ = ("_content", "_headers", "_hostname", "_time", "envelope", "id", "session")

    def __init__(
        self, id: str, session: SessionInfo, envelope: Envelope, content: Content | Part, hostname: str, time: float
    ) -> None:
        self.id = id
        self.session = session
        self.envelope = envelope
        self._content = content
        self._hostname = hostname
        self._time = time
        self._headers: email.message.EmailMessage | None = None

    @property
    def recipients(self) -> tuple[Recipient, ...]:
        """The accepted, distinct recipients."""
        return self.envelope.recipients

    @property
    def size(self) -> int:
        """Octets of the content."""
        return self._content.size

    @property
    def completed(self) -> Deferred[None]:
        """A Deferred that fires when the content is complete."""
        return self._content.completed

    @property
    def inMemory(self) -> bool:
        """Whether reading touches no file."""
        return self._content.in_memory

    @property
    def headers(self) -> email.message.EmailMessage:
        """The header block, parsed."""
        if self._headers is None:
            parser = email.parser.BytesParser(policy=email.policy.SMTP)
            parsed = parser.parsebytes(self._content.head, headersonly=True)
            assert isinstance(parsed, email.message.EmailMessage)
            self._headers = parsed
        return self._headers

    @property
    def received(self) -> bytes:
        """The ``Received:`` header line (RFC 5321 §4.4, RFC 3848, RFC 6531 §4.3)."""
        session, sender = self.session, self.envelope.sender
        keyword = ("UTF8" if sender.parameters.smtputf8 else "") + "LMTP"
        keyword += ("S" if session.tls else "") + ("A" if session.user is not None else "")
        only = f"\r\n\tfor <{self.recipients[0]}>" if len(self.recipients) == 1 else ""
        return (
            f"Received: from {session.lhlo_name} ({_address_literal(session.peer)})\r\n"
            f"\tby {self._hostname} with {keyword} id {self.id}{only};\r\n"
            f"\t{_date(int(self._time))}\r\n"
        ).encode()

    def trace(self, recipient: Recipient | None = None) -> bytes:
        """``Return-Path:`` and ``Received:``, and ``Delivered-To:`` for a recipient."""
        head = f"Return-Path: <{self.envelope.sender}>\r\n".encode()
        if recipient is not None:
            head += f"Delivered-To: {recipient}\r\n".encode()
        return head + self.received

    def forRecipients(self, recipients: Sequence[Recipient]) -> ReceivedMessage:
        """The same message for some of its recipients."""
        envelope = Envelope(self.envelope.sender, tuple(recipients))
        content = self._content.part(recipients)
        return ReceivedMessage(self.id, self.session, envelope, content, self._hostname, self._time)

    def chunks(self) -> AsyncIterator[bytes]:
        """The content, for the reactor thread."""
        return self._content.chunks()

    def blocks(self) -> Iterator[bytes]:
        """The content, for a thread."""
        return self._content.blocks()

    def open(self) -> io.BufferedIOBase:
        """The content as a file."""
        return self._content.open()

    def read(self) -> bytes:
        """The content as ``bytes``."""
        return self._content.read()

    def __repr__(self) -> str:
        return f"<ReceivedMessage {self.id} for {len(self.recipients)}>"


def _address_literal(peer: IAddress) -> str:
    host = getattr(peer, "host", None)
    if host is None:
        return "local socket"
    return printable(f"[IPv6:{host}]" if ":" in host else f"[{host}]", 80)


@lru_cache(maxsize=2)
def _date(seconds: int) -> str:
    return formatdate(seconds, localtime=True)
