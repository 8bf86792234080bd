"""
What stands in a request beside the message: the envelope, a key that is the same whenever the message is sent again,
and a signature.

A value that a client chose reaches a header only through :func:`escaped`.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import quote

import attrs
from twisted.web.http_headers import Headers

from lmtp_twisted.envelope import Recipient
from lmtp_twisted.interfaces import IReceivedMessage

#: Octets of the header that names the recipients: web servers take 8 KiB of one header and 16 of all, often not more.
MOST_RECIPIENTS = 4096

# The characters of ordinary addresses stay as they are (RFC 5321 §4.1.2), but for those with a meaning here.
_KEPT = "!#$&'*+/=?^`{|}@[]:"


def escaped(text: str) -> str:
    """
    :param text: anything.
    :returns: visible ASCII without a comma, the rest of its UTF-8 as ``%XX`` (RFC 3986 §2.1).
    """
    return quote(text, safe=_KEPT)


def in_requests(recipients: Sequence[Recipient]) -> Iterator[list[Recipient]]:
    """
    For requests that have all recipients of a message: in so many as it takes for them to fit into a header.

    :param recipients: at least one.
    """
    batch: list[Recipient] = []
    octets = 0
    for recipient in recipients:
        length = len(escaped(str(recipient))) + 1
        if batch and octets + length > MOST_RECIPIENTS:
            yield batch
            batch, octets = [], 0
        batch.append(recipient)
        octets += length
    yield batch


@attrs.frozen
class Digests:
    """
    :ivar content: the SHA-256 of the content as it was received: the same whenever the client sends it again.
    :ivar body: that of the body of the request, which has our own header lines before the content.
    """

    content: str
    body: str


def digests_of(message: IReceivedMessage, trace: bytes) -> Digests:
    """
    :param message: read here, so large ones are for a thread.
    :param trace: what stands before the content in the body.
    """
    content, body = hashlib.sha256(), hashlib.sha256(trace)
    for block in message.blocks():
        content.update(block)
        body.update(block)
    return Digests(content.hexdigest(), body.hexdigest())


def idempotency_key(sender: str, recipients: str, digests: Digests) -> str:
    """
    The same for each attempt to deliver this content from this sender to these recipients.

    :param sender: as it stands in its header.
    :param recipients: as they stand in theirs.
    """
    return hashlib.sha256(f"{sender}\n{recipients}\n{digests.content}".encode()).hexdigest()


def signature(secret: bytes, timestamp: str, sender: str, recipients: str, digests: Digests) -> str:
    """
    An HMAC (RFC 2104) of four lines, without a line end behind the last.

    :param secret: the key.
    :param timestamp: seconds since the epoch.
    :param sender: as it stands in its header.
    :param recipients: as they stand in theirs.
    """
    lines = f"{timestamp}\n{sender}\n{recipients}\n{digests.body}"
    return "sha256=" + hmac.new(secret, lines.encode(), hashlib.sha256).hexdigest()


def headers_for(
    message: IReceivedMessage,
    recipients: Iterable[Recipient],
    digests: Digests,
    *,
    timestamp: int,
    secret: bytes | None,
    authorization: bytes | None,
) -> Headers:
    """
    All headers that are ours to give.

    :param recipients: those of this request.
    :param timestamp: seconds since the epoch.
    :param secret: signs the request.
    :param authorization: the value of that header.
    """
    session = message.session
    sender = escaped(str(message.envelope.sender))
    to = ",".join(escaped(str(recipient)) for recipient in recipients)
    values = {
        "Content-Type": "message/rfc822",
        "User-Agent": "lmtp-twisted",
        "Idempotency-Key": f'"{idempotency_key(sender, to, digests)}"',
        "Lmtp-Id": message.id,
        "Lmtp-Sender": sender,
        "Lmtp-Recipient": to,
        "Lmtp-Peer": escaped(session.peer_name),
        "Lmtp-Lhlo": escaped(session.lhlo_name),
    }
    if session.user is not None:
        values["Lmtp-User"] = escaped(session.user)
    if secret is not None:
        values["Lmtp-Timestamp"] = str(timestamp)
        values["Lmtp-Signature"] = signature(secret, str(timestamp), sender, to, digests)
    headers = Headers({name.encode(): [value.encode()] for name, value in values.items()})
    if authorization is not None:
        headers.setRawHeaders(b"Authorization", [authorization])
    return headers
