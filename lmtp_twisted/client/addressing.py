"""An envelope from text, for those who have nothing else."""

from __future__ import annotations

from collections.abc import Iterable

from lmtp_twisted.envelope import Envelope, Recipient, Sender
from lmtp_twisted.wire.addresses import Address, parse_mailbox
from lmtp_twisted.wire.parameters import MailParameters, RcptParameters


def make_envelope(
    sender: str,
    recipients: Iterable[str],
    parameters: MailParameters | None = None,
    rcpt_parameters: RcptParameters | None = None,
) -> Envelope:
    """
    :param sender: an address; ``""`` is the null reverse-path.
    :param recipients: addresses.
    :param parameters: of MAIL; none by default.
    :param rcpt_parameters: of each RCPT; none by default.
    :raises ValueError: where one of them is no address, with the reason.
    """

    def parsed(text: str) -> Address:
        try:
            return parse_mailbox(text.encode("utf-8", "surrogateescape"))
        except ValueError as error:
            raise ValueError(f"{text!r}: {error}")

    return Envelope(
        Sender(parsed(sender) if sender else None, parameters or MailParameters()),
        tuple(Recipient(parsed(text), rcpt_parameters or RcptParameters()) for text in recipients),
    )
