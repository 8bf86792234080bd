"""The envelope of a message as values: who sends, who receives, and what became of each recipient."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Any

import attrs

from lmtp_twisted.wire.addresses import Address
from lmtp_twisted.wire.commands import parse_mail, parse_rcpt
from lmtp_twisted.wire.parameters import MailParameters, OriginalRecipient, RcptParameters
from lmtp_twisted.wire.replies import Reply, printable


@attrs.frozen
class Sender:
    """
    The reverse-path of a MAIL command with its parameters (RFC 5321 §4.1.1.2).

    :ivar address: ``None`` for the null reverse-path ``<>``.
    :ivar parameters: what else the command said: size, body, smtputf8, ret, envid, …
    """

    address: Address | None
    parameters: MailParameters = MailParameters()

    def __str__(self) -> str:
        return "" if self.address is None else str(self.address)

    @cached_property
    def is_plain(self) -> bool:
        """Whether it uses no extension: no parameters, and no characters that need SMTPUTF8."""
        return not self.parameters.keywords and (self.address is None or self.address.is_ascii)


@attrs.frozen
class DirectoryEntry:
    """
    What a directory knows of a recipient. What is ``None`` is left to the backend.

    :ivar mailbox: the path of the mailbox below the backend's directory, such as ``example.org/alice``.
    :ivar quota: what the mailbox may hold, as in ``1G`` or ``1G:10000``; ``"0"`` for any number of messages.
    :ivar backend: the name of the backend that has the mailbox, see :class:`~lmtp_twisted.routing.Router`.
    """

    mailbox: str | None = None
    quota: str | None = None
    backend: str | None = None


@attrs.frozen
class Recipient:
    """
    The forward-path of a RCPT command with its parameters (RFC 5321 §4.1.1.3).

    :ivar address: where the mail goes; its domain is ``""`` for ``<Postmaster>`` and other local names.
    :ivar parameters: what else the command said: notify and orcpt (RFC 3461).
    :ivar entry: what the directory says, where there is one that was asked.
    """

    address: Address
    parameters: RcptParameters = RcptParameters()
    entry: DirectoryEntry | None = None

    def __str__(self) -> str:
        return str(self.address)

    @cached_property
    def printable(self) -> str:
        """The address as replies and logs name it: ASCII, control characters escaped, at most 300 characters."""
        return printable(str(self.address), 300)

    @cached_property
    def is_plain(self) -> bool:
        """Whether it uses no extension: no parameters, and no characters that need SMTPUTF8."""
        return not self.parameters.keywords and self.address.is_ascii

    @property
    def original(self) -> OriginalRecipient | None:
        """The original recipient (ORCPT), where the client gave one."""
        return self.parameters.orcpt


@attrs.frozen
class Envelope:
    """
    One message's envelope.

    :ivar sender: the reverse-path.
    :ivar recipients: the accepted, distinct recipients in RCPT order.
    """

    sender: Sender
    recipients: tuple[Recipient, ...] = ()


# One for each delivery: without slots it is made in two thirds of the time.
@attrs.frozen(slots=False)
class Outcome:
    """
    What became of one RCPT, for observers.

    :ivar recipient: the recipient.
    :ivar reply: what the client was told, or would have been had it stayed, without the recipient and the id.
    :ivar reply_id: the id that stands in the reply; unique.
    :ivar size: octets of the content.
    :ivar seconds: from the final dot to the reply.
    :ivar backend: the :class:`~lmtp_twisted.interfaces.ILMTPDeliveryFactory` that took the recipient; ``None`` where
        none was asked to deliver, since the content was refused.
    :ivar message_id: what the message has as its Message-ID, printable ASCII; empty where none is near its beginning.
    """

    recipient: Recipient
    reply: Reply
    reply_id: str
    size: int
    seconds: float
    backend: Any = None
    message_id: str = ""


# The same senders and recipients come again and again, and these values are frozen: a look-up costs a tenth of a parse.
# Errors are raised anew each time, so garbage does not fill the cache.
@lru_cache(maxsize=4096)
def parse_sender(argument: bytes) -> Sender:
    """
    :param argument: what follows ``MAIL`` and a blank.
    :raises lmtp_twisted.errors.CommandError: as :func:`~lmtp_twisted.wire.commands.parse_mail`.
    """
    return Sender(*parse_mail(argument))


@lru_cache(maxsize=4096)
def parse_recipient(argument: bytes) -> Recipient:
    """
    :param argument: what follows ``RCPT`` and a blank.
    :raises lmtp_twisted.errors.CommandError: as :func:`~lmtp_twisted.wire.commands.parse_rcpt`.
    """
    return Recipient(*parse_rcpt(argument))
