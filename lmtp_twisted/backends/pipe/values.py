"""
What a program is told of a message and its recipient: as arguments where the command has placeholders, and as
environment variables always. The names are those of Postfix's pipe(8) and local(8).

Names are data. The only way from an address to a program leads through this module, which refuses what a program could
take for an option or for a path; what a client says of itself and is like that is left out.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

import attrs

from lmtp_twisted.backends.maildir.naming import Case, component
from lmtp_twisted.envelope import Recipient, Sender
from lmtp_twisted.errors import PermanentFailure
from lmtp_twisted.interfaces import IReceivedMessage
from lmtp_twisted.wire.addresses import CONTROL_CHARACTERS, Address, split_detail

#: The placeholders, each with its environment variables.
PLACEHOLDERS: Mapping[str, tuple[str, ...]] = {
    "sender": ("SENDER",),
    "recipient": ("RECIPIENT",),
    "original_recipient": ("ORIGINAL_RECIPIENT",),
    "user": ("USER", "LOGNAME"),
    "extension": ("EXTENSION",),
    "mailbox": ("LOCAL",),
    "domain": ("DOMAIN",),
    "size": ("SIZE",),
    "queue_id": ("QUEUE_ID",),
    "envid": ("ENVID",),
    "client_address": ("CLIENT_ADDRESS",),
    "client_port": ("CLIENT_PORT",),
    "client_hostname": ("CLIENT_HOSTNAME",),
    "client_helo": ("CLIENT_HELO",),
    "client_protocol": ("CLIENT_PROTOCOL",),
    "sasl_username": ("SASL_USERNAME",),
    "sasl_sender": ("SASL_SENDER",),
}


@attrs.frozen
class Mailbox:
    """
    A recipient's address, taken apart and safe to hand on.

    :ivar user: the local part without its detail.
    :ivar extension: the detail, ``""`` where there is none.
    :ivar local: the local part.
    :ivar domain: in lower case; never empty.
    """

    user: str
    extension: str
    local: str
    domain: str

    def __str__(self) -> str:
        return str(Address(self.local, self.domain))


@attrs.frozen
class Naming:
    """
    How recipients are named to programs.

    :ivar hostname: the domain of recipients that have none.
    :ivar case: of users; that of a detail is kept.
    :ivar separator: characters of which the first in a local part begins its detail; with none there are no details.
    """

    hostname: str
    case: Case = Case.FOLD
    separator: str = "+"

    def mailbox_of(self, address: Address) -> Mailbox:
        """
        :param address: of a recipient.
        :raises lmtp_twisted.errors.PermanentFailure: ``553 5.1.3`` for a local part, a detail or a domain that begins
            with a hyphen or a dot, a local part that is empty, holds a slash or is longer than a file's name can be.
        """
        local = component(unicodedata.normalize("NFC", address.local))
        user, rest = split_detail(local, self.separator)
        if self.case is Case.FOLD or user.lower() == "postmaster":
            user = user.lower()
        extension = rest[1:]
        domain = component((address.domain or self.hostname).lower())
        if user.startswith("-") or extension.startswith(("-", ".")) or domain.startswith("-"):
            raise PermanentFailure("No mailbox can have this name", code=553, enhanced="5.1.3")
        return Mailbox(user, extension, user + rest, domain)


def check_sender(sender: Sender) -> None:
    """
    :param sender: of a message.
    :raises lmtp_twisted.errors.PermanentFailure: ``553 5.1.7`` for one that begins with a hyphen.
    """
    if sender.address is not None and sender.address.local.startswith("-"):
        raise PermanentFailure("No sender can have this name", code=553, enhanced="5.1.7")


def values_of(message: IReceivedMessage, recipient: Recipient, mailbox: Mailbox) -> dict[str, str]:
    """
    :param message: the message.
    :param recipient: one of its recipients.
    :param mailbox: that one's.
    :returns: what stands in the place of each placeholder; ``""`` for what is not known.
    """
    sender: Sender = message.envelope.sender
    session = message.session
    forwarded = session.xforward
    peer = session.peer
    original = recipient.original.address if recipient.original is not None else ""
    theirs = {
        "envid": sender.parameters.envid,
        "client_address": forwarded.get("ADDR") or getattr(peer, "host", None),
        "client_port": forwarded.get("PORT") or getattr(peer, "port", None),
        "client_hostname": forwarded.get("NAME") or session.xclient.get("NAME"),
        "client_helo": forwarded.get("HELO") or session.lhlo_name,
        "client_protocol": forwarded.get("PROTO") or "LMTP",
        "sasl_username": session.user,
        "sasl_sender": sender.parameters.auth,
    }
    return {
        "sender": str(sender),
        "recipient": str(mailbox),
        "original_recipient": _harmless(original) or str(recipient.address),
        "user": mailbox.user,
        "extension": mailbox.extension,
        "mailbox": mailbox.local,
        "domain": mailbox.domain,
        "size": str(message.size),
        "queue_id": message.id,
        **{name: _harmless(value) for name, value in theirs.items()},
    }


def _harmless(value: object) -> str:
    text = "" if value is None else str(value)
    return "" if text.startswith("-") or CONTROL_CHARACTERS.search(text) else text


def environment_of(values: Mapping[str, str]) -> dict[bytes, bytes]:
    """
    :param values: as :func:`values_of`.
    :returns: the environment variables that say the same.
    """
    return {
        variable.encode("ascii"): values[name].encode("utf-8")
        for name, variables in PLACEHOLDERS.items()
        for variable in variables
    }
