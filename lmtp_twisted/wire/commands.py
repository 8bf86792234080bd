"""
From a command line to its verb, and from an argument to values (RFC 5321 §4.1.1, RFC 2033 §4.1, RFC 3030 §2).

Verbs stay bytes in upper case: which there are, and when each may come, is a table of the session's. Arguments
of a form of their own (AUTH, XCLIENT, XFORWARD) are parsed beside their extension.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from lmtp_twisted.errors import CommandError
from lmtp_twisted.wire.addresses import MAX_PATH, Address, parse_path
from lmtp_twisted.wire.parameters import (
    MAX_ENVID,
    MAX_ORCPT,
    MailParameters,
    RcptParameters,
    parse_mail_parameters,
    parse_rcpt_parameters,
)

#: Octets of a command line with its CRLF (RFC 5321 §4.5.3.1.4).
BASE_LINE_LIMIT = 512

#: Octets of a command line with its CRLF for the verbs whose limit an extension raises.
LINE_LIMITS: Mapping[bytes, int] = MappingProxyType(
    {
        b"MAIL": BASE_LINE_LIMIT
        + 26  # SIZE=, RFC 1870 §3
        + 17  # BODY=, RFC 6152 §2
        + 10  # SMTPUTF8, RFC 6531 §3.1
        + len(" RET=FULL")  # RFC 3461 §4.3
        + len(" ENVID=")  # RFC 3461 §4.4
        + MAX_ENVID
        + 500  # AUTH=, RFC 4954 §3
        + 15  # MT-PRIORITY=, RFC 6710 §3
        + 12,  # REQUIRETLS, RFC 8689 §2
        b"RCPT": BASE_LINE_LIMIT
        + len(" NOTIFY=SUCCESS,FAILURE,DELAY")  # RFC 3461 §4.1
        + len(" ORCPT=")  # RFC 3461 §4.2
        + MAX_ORCPT,
        b"VRFY": BASE_LINE_LIMIT + 10,  # SMTPUTF8, RFC 6531 §3.1
        b"EXPN": BASE_LINE_LIMIT + 10,
        b"AUTH": 12288,  # RFC 4954 §4
    }
)

#: Octets of the longest command line of all, with its CRLF.
MAX_LINE = max(LINE_LIMITS.values())


def line_limit(verb: bytes) -> int:
    """
    :param verb: in upper case.
    :returns: octets that a command line with this verb may have, its CRLF included.
    """
    return LINE_LIMITS.get(verb, BASE_LINE_LIMIT)


def split_command(line: bytes) -> tuple[bytes, bytes]:
    """
    :param line: a command line without its CRLF.
    :returns: the verb in upper case, whatever it is, and the argument without blanks around it.
    """
    verb, _, argument = line.rstrip(b" \t").partition(b" ")
    return verb.upper(), argument.lstrip(b" ")


class NotRemembered(Exception):
    """A line may hold what must not stay in memory."""


# What a message consists of. Any other line may be part of a password, as from a client that does not wait for the
# answer to its AUTH.
_REMEMBERED = frozenset({b"LHLO", b"MAIL", b"RCPT", b"DATA", b"BDAT", b"RSET", b"NOOP", b"QUIT"})


# A session says the same few words again and again, and a site's recipients are the same from message to message.
@lru_cache(maxsize=4096)
def read_line(line: bytes) -> tuple[bytes, bytes]:
    """
    :func:`split_command` for a whole line, remembered.

    :param line: a command line without its LF.
    :returns: the verb and the argument; the verb is empty where the line needs a second look, since it ends in no CR or
        is longer than one without extensions may be.
    :raises NotRemembered: for what is none of the commands that a message consists of.
    """
    if not line.endswith(b"\r") or len(line) >= BASE_LINE_LIMIT:
        return b"", b""
    verb, argument = split_command(line[:-1])
    if verb not in _REMEMBERED:
        # What is raised is not kept in the cache.
        raise NotRemembered
    return verb, argument


# The common form of a path, an ASCII dot-string and a domain, which needs no second look. All else, wrong or
# merely rare, goes to the full grammar of wire.addresses. What matches here means the same there.
_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_COMMON = rf" *<({_ATEXT}(?:\.{_ATEXT})*)@({_LABEL}(?:\.{_LABEL})*)>(?: +(.*))?\Z"
_COMMON_MAIL = re.compile(f"[Ff][Rr][Oo][Mm]:{_COMMON}".encode("ascii"), re.DOTALL)
_COMMON_RCPT = re.compile(f"[Tt][Oo]:{_COMMON}".encode("ascii"), re.DOTALL)


def parse_mail(argument: bytes) -> tuple[Address | None, MailParameters]:
    """
    The argument of MAIL (RFC 5321 §4.1.1.2).

    :param argument: for example ``b"FROM:<user@example.org> SIZE=1000"``.
    :returns: the reverse-path, ``None`` where it is null, and the parameters.
    :raises CommandError: ``501 5.5.4`` without a path, ``501 5.1.7`` for a bad one, or as
        :func:`~lmtp_twisted.wire.parameters.parse_mail_parameters`.
    """
    match = _COMMON_MAIL.match(argument)
    if match is not None and match.end(2) - match.start(1) <= MAX_PATH - 2:
        local, domain, rest = match.groups(b"")
        return Address(local.decode("ascii"), domain.decode("ascii")), parse_mail_parameters(rest)
    path, rest = _split_path(argument, b"FROM:", "MAIL FROM:<address>", "5.1.7")
    try:
        address = parse_path(path)
    except ValueError as error:
        raise CommandError(501, "5.1.7", f"Bad sender address: {error}")
    return address, parse_mail_parameters(rest)


def parse_rcpt(argument: bytes) -> tuple[Address, RcptParameters]:
    """
    The argument of RCPT (RFC 5321 §4.1.1.3).

    :param argument: for example ``b"TO:<user@example.org> NOTIFY=NEVER"``.
    :returns: the forward-path and the parameters.
    :raises CommandError: ``501 5.5.4`` without a path, ``501 5.1.3`` for a bad or null one, or as
        :func:`~lmtp_twisted.wire.parameters.parse_rcpt_parameters`.
    """
    match = _COMMON_RCPT.match(argument)
    if match is not None and match.end(2) - match.start(1) <= MAX_PATH - 2:
        local, domain, rest = match.groups(b"")
        return Address(local.decode("ascii"), domain.decode("ascii")), parse_rcpt_parameters(rest)
    path, rest = _split_path(argument, b"TO:", "RCPT TO:<address>", "5.1.3")
    try:
        address = parse_path(path)
        if address is None:
            raise ValueError("the address is empty")
    except ValueError as error:
        raise CommandError(501, "5.1.3", f"Bad recipient address: {error}")
    return address, parse_rcpt_parameters(rest)


# An angle bracket inside a quoted local part ends no path.
_PATH = re.compile(rb'<((?:"(?:[^"\\]|\\.)*"|[^"<>])*)>', re.DOTALL)


def _split_path(argument: bytes, keyword: bytes, syntax: str, enhanced: str) -> tuple[bytes, bytes]:
    text = argument[len(keyword) :].lstrip(b" ")
    if argument[: len(keyword)].upper() != keyword or not text:
        raise CommandError(501, "5.5.4", f"Syntax: {syntax}")
    match = _PATH.match(text)
    if match is None:
        raise CommandError(501, enhanced, "An address stands in angle brackets")
    rest = text[match.end() :]
    if rest and not rest.startswith(b" "):
        raise CommandError(501, "5.5.4", "A blank stands before the parameters")
    return match[1], rest.strip(b" ")


_LHLO_NAME = re.compile(rb"""[!#-'*+\-./0-:=?-\[\]-~]{1,255}""")


def parse_lhlo(argument: bytes) -> str:
    """
    The argument of LHLO (RFC 2033 §4.1): a domain or an address literal, or whatever a client takes for one,
    as long as it cannot break the header line that it will stand in.

    :returns: the name: printable ASCII without blanks, quotes, brackets of comments and the like.
    :raises CommandError: ``501 5.5.4``.
    """
    if not _LHLO_NAME.fullmatch(argument):
        raise CommandError(501, "5.5.4", "Syntax: LHLO hostname")
    return argument.decode("ascii")


_BDAT = re.compile(rb"([0-9]{1,20})( +LAST)?", re.IGNORECASE)


def parse_bdat(argument: bytes) -> tuple[int, bool]:
    """
    The argument of BDAT (RFC 3030 §2).

    :returns: the octets of the chunk, and whether it is the last.
    :raises CommandError: ``501 5.5.4``; the size of what follows is then unknown.
    """
    match = _BDAT.fullmatch(argument)
    if match is None:
        raise CommandError(501, "5.5.4", "Syntax: BDAT octets [LAST]")
    return int(match[1]), match[2] is not None
