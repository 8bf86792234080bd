"""
The parameters of MAIL and RCPT (RFC 5321 §4.1.2) as values.

What a parameter says is parsed here; whether its extension is switched on, and what follows from it, is decided
where the settings are known. There SIZE is compared with its limit, too.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from lmtp_twisted.errors import CommandError
from lmtp_twisted.wire.addresses import CONTROL_CHARACTERS

#: Octets of an ENVID value (RFC 3461 §4.4) and of an ORCPT value (§4.2), as they are on the wire.
MAX_ENVID = 100
MAX_ORCPT = 500


class Body(enum.Enum):
    """What the content is made of (RFC 6152 §2, RFC 3030 §3)."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT_MIME = "8BITMIME"
    BINARY_MIME = "BINARYMIME"


class Ret(enum.Enum):
    """How much of the message a notification of failure returns (RFC 3461 §4.3)."""

    FULL = "FULL"
    HDRS = "HDRS"


class Notify(enum.Flag):
    """When the sender wants to be notified (RFC 3461 §4.1): ``NEVER`` alone, or any of the others."""

    NEVER = enum.auto()
    SUCCESS = enum.auto()
    FAILURE = enum.auto()
    DELAY = enum.auto()


@attrs.frozen
class OriginalRecipient:
    """
    The recipient as the sender first wrote it (ORCPT, RFC 3461 §4.2, RFC 6533 §3).

    :ivar type: the kind of address as given, ``rfc822`` or ``utf-8`` most of the time.
    :ivar address: the address, decoded; not necessarily a mailbox.
    """

    type: str
    address: str


@attrs.frozen
class MailParameters:
    """
    What a MAIL command said beside the reverse-path.

    :ivar size: octets that the client expects to send (RFC 1870 §3).
    :ivar body: the BODY type.
    :ivar smtputf8: whether the message needs SMTPUTF8 (RFC 6531 §3.4).
    :ivar ret: what a notification returns.
    :ivar envid: the sender's envelope identifier, decoded (RFC 3461 §4.4).
    :ivar auth: who submitted the message, decoded; ``""`` for ``<>``, nobody known (RFC 4954 §5).
    :ivar mt_priority: -9 to 9 (RFC 6710 §4).
    :ivar requiretls: whether every hop must use TLS (RFC 8689 §2).
    :ivar keywords: the keywords that were given, in upper case.
    """

    size: int | None = None
    body: Body | None = None
    smtputf8: bool = False
    ret: Ret | None = None
    envid: str | None = None
    auth: str | None = None
    mt_priority: int | None = None
    requiretls: bool = False
    keywords: frozenset[str] = frozenset()


@attrs.frozen
class RcptParameters:
    """
    What a RCPT command said beside the forward-path.

    :ivar notify: when to notify the sender.
    :ivar orcpt: the original recipient.
    :ivar keywords: the keywords that were given, in upper case.
    """

    notify: Notify | None = None
    orcpt: OriginalRecipient | None = None
    keywords: frozenset[str] = frozenset()


_NO_MAIL_PARAMETERS = MailParameters()
_NO_RCPT_PARAMETERS = RcptParameters()


def parse_mail_parameters(text: bytes) -> MailParameters:
    """
    :param text: what follows the reverse-path, without blanks around it; ``b""`` is cheap.
    :raises CommandError: ``555 5.5.4`` for a keyword that does not exist, ``501 5.5.4`` for all else.
    """
    return MailParameters(**_parse(text, _MAIL)) if text else _NO_MAIL_PARAMETERS


def parse_rcpt_parameters(text: bytes) -> RcptParameters:
    """
    :param text: what follows the forward-path, without blanks around it; ``b""`` is cheap.
    :raises CommandError: as :func:`parse_mail_parameters`.
    """
    return RcptParameters(**_parse(text, _RCPT)) if text else _NO_RCPT_PARAMETERS


def decode_xtext(value: bytes) -> str:
    """
    Undo xtext (RFC 3461 §4).

    :param value: printable ASCII without ``=``, in which ``+`` begins two upper-case hexadecimal digits.
    :returns: the text; encoded octets beyond ASCII are read as UTF-8.
    :raises CommandError: ``501 5.5.4`` where it is not xtext, not UTF-8, or hides a control character.
    """
    try:
        if not _XTEXT.fullmatch(value):
            raise ValueError
        return _decode(_HEXCHAR.sub(_octet, value))
    except ValueError:
        raise CommandError(501, "5.5.4", "Bad xtext")


_XTEXT = re.compile(rb"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
_HEXCHAR = re.compile(rb"\+([0-9A-F]{2})")


def _octet(match: re.Match[bytes]) -> bytes:
    return bytes((int(match[1], 16),))


def _decode(octets: bytes) -> str:
    text = octets.decode("utf-8")
    if CONTROL_CHARACTERS.search(text):
        raise ValueError
    return text


_ValueParser = Callable[[bytes], object]

# esmtp-param with the values of RFC 6531 §3.3, which may hold UTF-8. The parsers take no value beyond it.
_PARAMETER = re.compile(rb"[A-Za-z0-9][A-Za-z0-9-]*(?:=[!-<>-~\x80-\xff]+)?")


def _parse(text: bytes, known: Mapping[bytes, tuple[str, _ValueParser]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    keywords = []
    for parameter in text.split(b" "):
        if not parameter:
            continue
        name, equals, value = parameter.partition(b"=")
        name = name.upper()
        if name not in known:
            raise _unknown(parameter)
        keyword = name.decode("ascii")
        field, parse = known[name]
        if field in values:
            raise CommandError(501, "5.5.4", f"{keyword} given twice")
        try:
            if equals and not value:
                raise ValueError
            values[field] = parse(value)
        except (LookupError, ValueError, CommandError):
            raise CommandError(501, "5.5.4", f"Bad value of {keyword}")
        keywords.append(keyword)
    values["keywords"] = frozenset(keywords)
    return values


def _unknown(parameter: bytes) -> CommandError:
    if not _PARAMETER.fullmatch(parameter):
        return CommandError(501, "5.5.4", "Malformed parameter")
    keyword = parameter.partition(b"=")[0].decode("ascii")
    return CommandError(555, "5.5.4", f"Parameter {keyword} not recognised")


# The parsers of values: each is given b"" where there was no value, and raises LookupError, ValueError or
# CommandError.


def _size(value: bytes) -> int:
    if len(value) > 20 or not value.isdigit():
        raise ValueError
    return int(value)


_BODY = {body.value.encode("ascii"): body for body in Body}


def _body(value: bytes) -> Body:
    return _BODY[value.upper()]


def _flag(value: bytes) -> bool:
    if value:
        raise ValueError
    return True


_RET = {ret.value.encode("ascii"): ret for ret in Ret}


def _ret(value: bytes) -> Ret:
    return _RET[value.upper()]


def _envid(value: bytes) -> str:
    if not 0 < len(value) <= MAX_ENVID:
        raise ValueError
    return _ascii_xtext(value)


def _auth(value: bytes) -> str:
    if not value:
        raise ValueError
    return "" if value == b"<>" else decode_xtext(value)


_PRIORITY = re.compile(rb"-?[1-9]|0")


def _mt_priority(value: bytes) -> int:
    if not _PRIORITY.fullmatch(value):
        raise ValueError
    return int(value)


_NOTIFY = {b"SUCCESS": Notify.SUCCESS, b"FAILURE": Notify.FAILURE, b"DELAY": Notify.DELAY}


def _notify(value: bytes) -> Notify:
    value = value.upper()
    if value == b"NEVER":
        return Notify.NEVER
    wanted = Notify(0)
    for word in value.split(b","):
        wanted |= _NOTIFY[word]
    return wanted


_ADDRESS_TYPE = re.compile(rb"[A-Za-z0-9!#$%&'*+/?^_`{|}~.-]+")


def _orcpt(value: bytes) -> OriginalRecipient:
    kind, semicolon, address = value.partition(b";")
    if len(value) > MAX_ORCPT or not semicolon or not _ADDRESS_TYPE.fullmatch(kind):
        raise ValueError
    decode = _unitext if kind.lower() == b"utf-8" else _ascii_xtext
    return OriginalRecipient(kind.decode("ascii"), decode(address))


def _ascii_xtext(value: bytes) -> str:
    # Before it was encoded it was printable ASCII and blanks (RFC 3461 §4.2, §4.4).
    text = decode_xtext(value)
    if not text.isascii():
        raise ValueError
    return text


_UNITEXT = re.compile(rb"(?:[!-*,-<>-\[\]-~\x80-\xff]|\+[0-9A-F]{2}|\\x\{[0-9A-Fa-f]{2,6}\})+")
_EMBEDDED = re.compile(rb"\\x\{([0-9A-Fa-f]+)\}|\+([0-9A-F]{2})")


def _unitext(value: bytes) -> str:
    # utf-8-addr-xtext or utf-8-addr-unitext (RFC 6533 §3). Neither has a "+", so the xtext of a client that
    # knows nothing else can be read without mistaking one for the other.
    if not _UNITEXT.fullmatch(value):
        raise ValueError
    return _decode(_EMBEDDED.sub(_embedded, value))


def _embedded(match: re.Match[bytes]) -> bytes:
    point, octet = match.groups()
    return chr(int(point, 16)).encode("utf-8") if point else bytes((int(octet, 16),))


_MAIL: Mapping[bytes, tuple[str, _ValueParser]] = {
    b"SIZE": ("size", _size),
    b"BODY": ("body", _body),
    b"SMTPUTF8": ("smtputf8", _flag),
    b"RET": ("ret", _ret),
    b"ENVID": ("envid", _envid),
    b"AUTH": ("auth", _auth),
    b"MT-PRIORITY": ("mt_priority", _mt_priority),
    b"REQUIRETLS": ("requiretls", _flag),
}
_RCPT: Mapping[bytes, tuple[str, _ValueParser]] = {
    b"NOTIFY": ("notify", _notify),
    b"ORCPT": ("orcpt", _orcpt),
}
