"""The commands of a client, as octets with their CRLF. Values become commands here and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from lmtp_twisted.client.capabilities import Capabilities
from lmtp_twisted.envelope import Recipient, Sender
from lmtp_twisted.errors import PermanentFailure
from lmtp_twisted.wire.addresses import Address, parse_mailbox
from lmtp_twisted.wire.attributes import MAX_VALUE
from lmtp_twisted.wire.parameters import Body, Notify, OriginalRecipient

#: Octets of a command line, its CRLF included (RFC 5321 §4.5.3.1.4).
MAX_COMMAND = 512

_TO_ENCODE = re.compile(rb"[^!-*,-<>-~]")
_NOTIFY = (Notify.NEVER, Notify.SUCCESS, Notify.FAILURE, Notify.DELAY)


def xtext(text: str) -> bytes:
    """:returns: the text in xtext (RFC 3461 §4)."""
    return _TO_ENCODE.sub(lambda match: b"+%02X" % match[0][0], text.encode("utf-8"))


def path(address: Address | None) -> bytes:
    """
    :param address: ``None`` is the null path.
    :returns: the path with its angle brackets.
    :raises ValueError: for what would be read as something else than this address.
    """
    if address is None:
        return b"<>"
    octets = str(address).encode("utf-8")
    if parse_mailbox(octets) != address:
        raise ValueError("not an address")
    return b"<%b>" % octets


def mail(sender: Sender, able: Capabilities, *, size: int | None, body: Body | None, smtputf8: bool) -> bytes:
    """
    MAIL (RFC 5321 §4.1.1.2) with the parameters that the server knows.

    :param sender: who sends.
    :param able: what the server can do.
    :param size: octets, or ``None`` where nobody knows.
    :param body: what is said of the content; ``None`` is nothing.
    :param smtputf8: whether SMTPUTF8 is asked for.
    :raises PermanentFailure: where the address is none.
    """
    try:
        line = b"MAIL FROM:" + path(sender.address)
    except ValueError:
        raise PermanentFailure("The sender's address cannot be sent", code=553, enhanced="5.1.7")
    given = sender.parameters
    if size is not None and "SIZE" in able:
        line += b" SIZE=%d" % size
    if body is not None:
        line += b" BODY=" + body.value.encode()
    if smtputf8:
        line += b" SMTPUTF8"
    if "DSN" in able:
        if given.ret is not None:
            line += b" RET=" + given.ret.value.encode()
        if given.envid is not None:
            line += b" ENVID=" + xtext(given.envid)
    if given.auth is not None and "AUTH" in able:
        line += b" AUTH=" + (xtext(given.auth) or b"<>")
    if given.mt_priority is not None and "MT-PRIORITY" in able:
        line += b" MT-PRIORITY=%d" % given.mt_priority
    if given.requiretls:
        line += b" REQUIRETLS"
    return line + b"\r\n"


def rcpt(recipient: Recipient, able: Capabilities) -> bytes:
    """
    RCPT (RFC 5321 §4.1.1.3), likewise.

    :raises ValueError: where the address is none.
    """
    line = b"RCPT TO:" + path(recipient.address)
    given = recipient.parameters
    if "DSN" in able:
        if given.notify is not None:
            words = [flag.name or "" for flag in _NOTIFY if flag in given.notify]
            line += b" NOTIFY=" + ",".join(words).encode()
        if given.orcpt is not None and (given.orcpt.address.isascii() or "SMTPUTF8" in able):
            line += b" ORCPT=" + _orcpt(given.orcpt)
    return line + b"\r\n"


def _orcpt(original: OriginalRecipient) -> bytes:
    # The type is given by whoever made the value; "utf-8" in xtext is utf-8-addr-xtext but for what is not ASCII, which
    # it embeds by its code point (RFC 6533 §3).
    if original.type.lower() == "utf-8":
        address = "".join(
            character if "!" <= character <= "~" and character not in "+=\\" else f"\\x{{{ord(character):02X}}}"
            for character in original.address
        ).encode()
    else:
        address = xtext(original.address)
    return xtext(original.type) + b";" + address


def xforward(attributes: Mapping[str, str | None], able: Capabilities) -> Iterator[bytes]:
    """
    XFORWARD with the attributes that the server takes, in as many lines as it needs.

    :param attributes: by name; ``None`` is what nobody knows.
    :param able: what the server can do.
    """
    line = b"XFORWARD"
    for name in able.xforward:
        if name in attributes:
            value = attributes[name]
            word = b" %b=%b" % (name.encode(), b"[UNAVAILABLE]" if value is None else xtext(value[:MAX_VALUE]))
            if len(line) + len(word) + 2 > MAX_COMMAND and line != b"XFORWARD":
                yield line + b"\r\n"
                line = b"XFORWARD"
            line += word
    if line != b"XFORWARD":
        yield line + b"\r\n"
