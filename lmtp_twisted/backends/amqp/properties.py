"""
Envelope and session → the properties of a message in the queue. The body is the content as received, so all that
belongs beside it is here: :func:`properties_of` is the contract with those who consume.
"""

from __future__ import annotations

import time
from typing import Any

from pika import BasicProperties, DeliveryMode

from lmtp_twisted.envelope import Recipient
from lmtp_twisted.interfaces import IReceivedMessage
from lmtp_twisted.wire.parameters import Notify


def message_headers(message: IReceivedMessage) -> dict[str, Any]:
    """
    :param message: to be published.
    :returns: the headers that are the same for all of its recipients. What is not known is not there.
    """
    session, sender = message.session, message.envelope.sender
    parameters = sender.parameters
    headers: dict[str, Any] = {
        "sender": str(sender),
        "session": session.id,
        "peer": session.peer_name,
        "lhlo": session.lhlo_name,
        "received": message.received.decode(),
    }
    if session.tls is not None:
        headers["tls"] = session.tls.version
    if session.user is not None:
        headers["user"] = session.user
    for name, value in session.xforward.items():
        headers[f"xforward-{name.lower()}"] = value
    if parameters.keywords:
        if parameters.body is not None:
            headers["body"] = parameters.body.value
        if parameters.smtputf8:
            headers["smtputf8"] = True
        if parameters.ret is not None:
            headers["ret"] = parameters.ret.value
        if parameters.envid is not None:
            headers["envid"] = parameters.envid
        if parameters.auth is not None:
            headers["auth"] = parameters.auth
        if parameters.mt_priority is not None:
            headers["mt-priority"] = parameters.mt_priority
        if parameters.requiretls:
            headers["requiretls"] = True
    return headers


def properties_of(id: str, headers: dict[str, Any], recipient: Recipient) -> BasicProperties:
    """
    :param id: unique; a message that cannot be routed comes back with it.
    :param headers: of :func:`message_headers`.
    :param recipient: whom this copy is for.
    """
    headers = {**headers, "recipient": str(recipient)}
    if recipient.parameters.keywords:
        if recipient.original is not None:
            headers["orcpt"] = f"{recipient.original.type};{recipient.original.address}"
        if recipient.parameters.notify is not None:
            given = recipient.parameters.notify
            headers["notify"] = ",".join(str(flag.name) for flag in Notify if flag in given)
    return BasicProperties(
        content_type="message/rfc822",
        delivery_mode=DeliveryMode.Persistent,
        message_id=id,
        timestamp=int(time.time()),
        app_id="lmtp-twisted",
        headers=headers,
    )
