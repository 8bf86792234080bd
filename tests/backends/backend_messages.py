"""Messages as a backend is given them."""

from __future__ import annotations

from twisted.internet.address import IPv4Address

from lmtp_twisted.envelope import Envelope, Recipient, Sender
from lmtp_twisted.message import ReceivedMessage
from lmtp_twisted.session import SessionInfo
from lmtp_twisted.spool import Content
from lmtp_twisted.testing import FakeReactor, fake_spool
from lmtp_twisted.wire.addresses import parse_mailbox
from lmtp_twisted.wire.parameters import Body, MailParameters

CONTENT = b"Subject: hello\r\n\r\nThe first line\r\nThe second\r\n"


def received(
    *recipients: str,
    content: bytes = CONTENT,
    block: int | None = None,
    sender: str = "sender@example.net",
    body: Body | None = None,
) -> ReceivedMessage:
    """
    A message as a backend is given it.

    :param recipients: their addresses.
    :param block: octets of each segment in which the content came; such a message lies in a file.
    """
    spool = fake_spool(FakeReactor(), threshold=0 if block else 2**30)
    stored = Content(spool)
    for start in range(0, len(content), block or len(content) or 1):
        if stored.append(content[start : start + (block or len(content))]):
            stored.make_room()
    stored.finish()
    peer = IPv4Address("TCP", "192.0.2.1", 4242)
    session = SessionInfo(peer, IPv4Address("TCP", "192.0.2.2", 24), lhlo_name="client.example")
    envelope = Envelope(
        Sender(parse_mailbox(sender.encode()) if sender else None, MailParameters(body=body)),
        tuple(Recipient(parse_mailbox(address.encode())) for address in recipients),
    )
    return ReceivedMessage("session.1", session, envelope, stored, "mx.example.org", 1_700_000_000)
