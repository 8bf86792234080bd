"""Mailboxes and paths: the grammar is held against one that is read off RFC 5321 §4.1.2, character by character."""

from __future__ import annotations

import socket
import string
import unicodedata

from lmtp_twisted.wire.addresses import MAX_PATH, Address, parse_mailbox, parse_path

_ATEXT = frozenset(string.ascii_letters + string.digits + "!#$%&'*+-/=?^_`{|}~")
_LET_DIG_HYP = frozenset(string.ascii_letters + string.digits + "_-")


def addresses(data: bytes) -> None:
    """Any octets as a mailbox and as what stands between the angle brackets of a path."""
    mailbox = _parsed(parse_mailbox, data)
    assert mailbox == _expected(data)
    path = _parsed(parse_path, data)
    if not data.startswith(b"@"):
        assert path == mailbox
    elif path is not None:
        # The mailbox behind a source route.
        assert path == _expected(data.partition(b":")[2])


def check_address(address: Address) -> None:
    """What must be so for each address that was parsed."""
    check_text(str(address))
    check_text(address.local)
    check_text(address.domain)
    written = str(address).encode()
    assert len(written) <= MAX_PATH - 2
    assert parse_mailbox(written) == address
    assert parse_path(written) == address
    assert address.is_ascii == written.isascii()
    again = Address(address.local, _swapped(address.domain))
    assert again.key == address.key
    assert Address(*address.key).key == address.key


def check_text(text: str) -> None:
    """It can stand in a header or a log: it is one line, and encodable."""
    text.encode("utf-8")
    assert len(f"({text})".splitlines()) == 1, text
    assert not [character for character in text if unicodedata.category(character) == "Cc"], text


def check_words(text: str) -> None:
    """It can stand in a reply as it is."""
    assert text
    assert text.isascii(), text
    assert text.isprintable(), text


def _parsed(parse: object, data: bytes) -> Address | None:
    assert callable(parse)
    try:
        address = parse(data)
    except ValueError as error:
        _check_refusal(error)
        return None
    if address is None:
        assert parse is parse_path
        assert not data
        return None
    assert isinstance(address, Address)
    check_address(address)
    return address


def _check_refusal(error: ValueError) -> None:
    # Not one of its subclasses, whose words are Python's.
    assert type(error) is ValueError
    check_words(str(error))


def _expected(data: bytes) -> Address | None:
    try:
        text = data.decode("utf-8")
        check_text(text)
    except (UnicodeDecodeError, AssertionError):
        return None
    if len(data) > MAX_PATH - 2:
        return None
    local, rest = _quoted(text) if text.startswith('"') else _dotted(text)
    if local is None or (rest and rest[0] != "@") or (rest and not _is_domain(rest[1:])) or not (local or rest):
        return None
    return Address(local, rest[1:])


def _quoted(text: str) -> tuple[str | None, str]:
    local, at = "", 1
    while at < len(text) and text[at] != '"':
        if text[at] == "\\":
            at += 1
            if at >= len(text) or not " " <= text[at] <= "~":
                return None, ""
        local += text[at]
        at += 1
    return (local, text[at + 1 :]) if at < len(text) else (None, "")


def _dotted(text: str) -> tuple[str | None, str]:
    local = text.partition("@")[0]
    for atom in local.split("."):
        if not atom or not all(character in _ATEXT or character > "\x7f" for character in atom):
            return None, ""
    return local, text[len(local) :]


def _is_domain(domain: str) -> bool:
    if domain.startswith("["):
        return domain.endswith("]") and _is_address(domain[1:-1])
    for label in domain.split("."):
        if not 0 < len(label) <= 63 or label[0] == "-" or label[-1] == "-":
            return False
        if not all(character in _LET_DIG_HYP or character > "\x7f" for character in label):
            return False
    return True


def _is_address(text: str) -> bool:
    family, address = (socket.AF_INET6, text[5:]) if text[:5].lower() == "ipv6:" else (socket.AF_INET, text)
    try:
        socket.inet_pton(family, address)
    except (OSError, ValueError):
        return False
    return True


def _swapped(domain: str) -> str:
    return "".join(character.swapcase() if character.isascii() else character for character in domain)
