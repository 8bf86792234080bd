"""A message that a mail server of a page is handed by SMTP."""

from __future__ import annotations

import smtplib
from collections.abc import Sequence


def submit(
    client: smtplib.SMTP, recipients: Sequence[str], sender: str = "you@example.net", options: Sequence[str] = ()
) -> dict[str, tuple[int, str]]:
    """
    :param client: connected.
    :param options: parameters of RCPT.
    :returns: the reply to each recipient.
    """
    client.ehlo_or_helo_if_needed()
    client.mail(sender)
    replies = {recipient: client.rcpt(recipient, options) for recipient in recipients}
    if any(code == 250 for code, _ in replies.values()):
        code, text = client.data(b"Subject: Hello\r\n\r\nHello\r\n")
        assert code == 250, text
    return {recipient: (code, text.decode()) for recipient, (code, text) in replies.items()}
