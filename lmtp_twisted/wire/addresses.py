"""
Mailboxes and paths: the grammar of RFC 5321 §4.1.2 and §4.1.3 with the UTF-8 of RFC 6531 §3.3.

Whether an address that is not ASCII may be used is a matter of the transaction, not of the grammar: it is
parsed here, and :attr:`Address.is_ascii` tells. Nothing here knows about commands, reply codes or whether a
mailbox exists.
"""

from __future__ import annotations

import ipaddress
import re
from functools import cached_property

import attrs

#: Octets of a path, its angle brackets included (RFC 5321 §4.5.3.1.3). No room is left for a domain over 255.
MAX_PATH = 256

#: What never stands in an envelope: C0, DEL and C1 controls, and the line ends of Unicode.
CONTROL_CHARACTERS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")

_ATEXT = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-]"
_DOT_STRING = re.compile(rf"{_ATEXT}+(?:\.{_ATEXT}+)*")
_MAILBOX = re.compile(rf'(?:({_DOT_STRING.pattern})|"((?:[^"\\]|\\[ -~])*)")(?:@(.*))?')
_QUOTED_PAIR = re.compile(r"\\(.)")
_TO_QUOTE = re.compile(r'(["\\])')
# The underscore is in no grammar, but in the names of real hosts.
_LET_DIG = "[A-Za-z0-9_\x80-\U0010ffff]"
_LABEL = f"{_LET_DIG}(?:[A-Za-z0-9_\x80-\U0010ffff-]{{0,61}}{_LET_DIG})?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NO_SEPARATOR = re.compile(r"[^!-~]|[A-Za-z0-9./@\"\\]")


@attrs.frozen
class Address:
    """
    A mailbox. ``str()`` gives its canonical form: the local part is quoted only where it has to be.

    :ivar local: the local part without quotes and backslashes, its case kept.
    :ivar domain: the domain or address literal as given; ``""`` where there is none, as in ``<Postmaster>``.
    """

    local: str
    domain: str

    def __str__(self) -> str:
        local = self.local
        if not _DOT_STRING.fullmatch(local):
            local = '"' + _TO_QUOTE.sub(r"\\\1", local) + '"'
        return f"{local}@{self.domain}" if self.domain else local

    @cached_property
    def is_ascii(self) -> bool:
        """Whether the address can be used without SMTPUTF8 (RFC 6531 §3.4)."""
        return self.local.isascii() and self.domain.isascii()

    @cached_property
    def key(self) -> tuple[str, str]:
        """The same for all spellings of one mailbox: only the domain is blind to case (RFC 5321 §2.4)."""
        return self.local, self.domain.lower()


def parse_mailbox(text: bytes) -> Address:
    """
    A mailbox without angle brackets (RFC 5321 §4.1.2): ``user@example.org``, or a local part alone, since a
    local delivery knows its own names (§4.5.1 asks it of ``Postmaster``).

    A local part may have more than 64 octets; some systems use such names.

    :param text: the mailbox in UTF-8.
    :raises ValueError: with the reason, fit for a reply.
    """
    if len(text) > MAX_PATH - 2:
        raise ValueError(f"the path is longer than {MAX_PATH} octets")
    decoded = _decode(text)
    match = _MAILBOX.fullmatch(decoded)
    if match is None:
        raise ValueError("the local part is malformed")
    plain, quoted, domain = match.groups()
    local = plain if plain is not None else _QUOTED_PAIR.sub(r"\1", quoted)
    if domain is not None:
        _check_domain(domain)
    elif not local:
        raise ValueError("the address is empty")
    return Address(local, domain or "")


def check_separator(separator: str) -> None:
    """
    :param separator: characters that begin the detail of a subaddress.
    :raises ValueError: where one of them cannot.
    """
    if match := _NO_SEPARATOR.search(separator):
        raise ValueError(f"separator is punctuation such as +, not {match[0]!r}")


def split_detail(local: str, separator: str) -> tuple[str, str]:
    """
    Take a subaddress apart (RFC 5233).

    :param local: a local part.
    :param separator: characters of which the first in the local part begins the detail; with none there are no details.
    :returns: the user, and the detail with its separator before it, or ``""``.
    """
    # Where nothing is before it, it is part of a name.
    found = [local.find(character, 1) for character in separator]
    start = min((place for place in found if place > 0), default=len(local))
    return local[:start], local[start:]


def parse_path(text: bytes) -> Address | None:
    """
    What stands between the angle brackets of MAIL and RCPT (RFC 5321 §4.1.2). A source route is checked and
    dropped (§3.6.1, appendix C).

    :param text: the path in UTF-8 without its angle brackets.
    :returns: ``None`` for the null path ``<>``.
    :raises ValueError: with the reason, fit for a reply.
    """
    if not text:
        return None
    if not text.startswith(b"@"):
        return parse_mailbox(text)
    if len(text) > MAX_PATH - 2:
        raise ValueError(f"the path is longer than {MAX_PATH} octets")
    route, colon, mailbox = text.partition(b":")
    if not colon:
        raise ValueError("a source route without a mailbox")
    for hop in route.split(b","):
        if not (hop.startswith(b"@") and _DOMAIN.fullmatch(_decode(hop[1:]))):
            raise ValueError("the source route is malformed")
    return parse_mailbox(mailbox)


def _decode(text: bytes) -> str:
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("not UTF-8")
    if CONTROL_CHARACTERS.search(decoded):
        raise ValueError("a control character")
    return decoded


def _check_domain(domain: str) -> None:
    if domain.startswith("["):
        _check_address_literal(domain)
    elif not _DOMAIN.fullmatch(domain):
        raise ValueError("the domain is malformed")


def _check_address_literal(literal: str) -> None:
    # A General-address-literal needs a tag that a standard defines (RFC 5321 §4.1.3): only IPv6 has one.
    inner = literal[1:-1]
    is_ipv6 = inner[:5].lower() == "ipv6:"
    try:
        if not literal.endswith("]") or "%" in inner:
            raise ValueError
        if is_ipv6:
            ipaddress.IPv6Address(inner[5:])
        else:
            ipaddress.IPv4Address(inner)
    except ValueError:
        raise ValueError("the address literal is malformed")
