"""Command lines, from the line to the values of its argument."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from fuzz_addresses import check_address
from fuzz_parameters import check_parameters, parsed_or_refused

from lmtp_twisted.wire.addresses import Address, parse_path
from lmtp_twisted.wire.commands import (
    BASE_LINE_LIMIT,
    NotRemembered,
    parse_bdat,
    parse_lhlo,
    parse_mail,
    parse_rcpt,
    read_line,
    split_command,
)
from lmtp_twisted.wire.parameters import parse_mail_parameters, parse_rcpt_parameters

_OF_A_MESSAGE = {b"LHLO", b"MAIL", b"RCPT", b"DATA", b"BDAT", b"RSET", b"NOOP", b"QUIT"}


def commands(data: bytes) -> None:
    """Any octets as a line, and what stands behind its verb as each argument that has a grammar."""
    line = data.partition(b"\n")[0]
    verb, argument = split_command(line.removesuffix(b"\r"))
    check_split(line.removesuffix(b"\r"), verb, argument)
    if not line.endswith(b"\r") or len(line) >= BASE_LINE_LIMIT:
        verb, argument_read = b"", b""
    else:
        verb, argument_read = split_command(line[:-1])
    # It remembers, so the second answer must be the first.
    for _ in range(2):
        try:
            assert read_line(line) == (verb, argument_read)
        except NotRemembered:
            assert verb not in _OF_A_MESSAGE
        else:
            assert verb in _OF_A_MESSAGE or not line.endswith(b"\r") or len(line) >= BASE_LINE_LIMIT
    _envelope(argument)
    name = parsed_or_refused(parse_lhlo, argument)
    if name is not None:
        assert name.encode("ascii") == argument
        assert re.fullmatch(r'[^\s()<>,;\\"\x00-\x20\x7f-\U0010ffff]{1,255}', name)
    chunk = parsed_or_refused(parse_bdat, argument)
    if chunk is not None:
        size, last = chunk
        assert 0 <= size < 10**20
        assert parse_bdat(b"%d%b" % (size, b" LAST" if last else b"")) == chunk
        assert argument.upper().endswith(b"LAST") == last


def check_split(line: bytes, verb: bytes, argument: bytes) -> None:
    """A verb has no blank and no small letter; nothing but blanks is lost."""
    assert b" " not in verb
    assert verb == verb.upper()
    assert not argument.startswith(b" ")
    assert not argument.endswith((b" ", b"\t"))
    assert verb + argument.replace(b" ", b"") == line[: len(verb)].upper() + line[len(verb) :].rstrip(b" \t").replace(
        b" ", b""
    )


def _envelope(argument: bytes) -> None:
    sender = parsed_or_refused(parse_mail, argument)
    assert sender == _expected(argument, b"FROM:", parse_mail_parameters)
    if sender is not None:
        check_parameters(sender[1])
        if sender[0] is not None:
            check_address(sender[0])
            assert parse_mail(b"from: <%b>" % str(sender[0]).encode())[0] == sender[0]
    recipient = parsed_or_refused(parse_rcpt, argument)
    expected = _expected(argument, b"TO:", parse_rcpt_parameters)
    assert recipient == (expected if expected is not None and expected[0] is not None else None)
    if recipient is not None:
        check_parameters(recipient[1])
        check_address(recipient[0])
        assert parse_rcpt(b"to:<%b>" % str(recipient[0]).encode())[0] == recipient[0]


def _expected(argument: bytes, keyword: bytes, parse: Callable[[bytes], Any]) -> tuple[Address | None, Any] | None:
    """The path by the full grammar, without the short cut for common forms, and the parameters behind it."""
    path = argument[len(keyword) :].lstrip(b" ")
    end = _end_of_path(path)
    if argument[: len(keyword)].upper() != keyword or end < 0:
        return None
    rest = path[end + 1 :]
    try:
        address = parse_path(path[1:end])
    except ValueError:
        return None
    if rest and not rest.startswith(b" "):
        return None
    given = parsed_or_refused(parse, rest.strip(b" "))
    return None if given is None else (address, given)


def _end_of_path(path: bytes) -> int:
    """Where the closing bracket is: the first one outside quotes; -1 where there is none or another opens."""
    if not path.startswith(b"<"):
        return -1
    at, is_quoted = 1, False
    while at < len(path):
        octet = path[at : at + 1]
        if octet == b'"':
            is_quoted = not is_quoted
        elif is_quoted and octet == b"\\":
            at += 1
        elif octet == b">" and not is_quoted:
            return at
        elif octet == b"<" and not is_quoted:
            return -1
        at += 1
    return -1
