"""The parameters of MAIL and RCPT: what was parsed, written anew, is parsed to the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from fuzz_addresses import check_text, check_words

from lmtp_twisted.errors import CommandError
from lmtp_twisted.wire.parameters import (
    MailParameters,
    Notify,
    RcptParameters,
    decode_xtext,
    parse_mail_parameters,
    parse_rcpt_parameters,
)

_MAIL = {"SIZE", "BODY", "SMTPUTF8", "RET", "ENVID", "AUTH", "MT-PRIORITY", "REQUIRETLS"}
_RCPT = {"NOTIFY", "ORCPT"}


def parameters(data: bytes) -> None:
    """Any octets behind a path, and as xtext."""
    for parse, write, known in (
        (parse_mail_parameters, _mail, _MAIL),
        (parse_rcpt_parameters, _rcpt, _RCPT),
    ):
        parsed = parsed_or_refused(parse, data)
        if parsed is not None:
            check_parameters(parsed)
            assert parsed.keywords <= known
            assert parse(write(parsed)) == parsed
            words = [word for word in data.split(b" ") if word]
            assert len(parsed.keywords) == len(words)
            # The order and the letter case of keywords say nothing.
            assert parse(b"  ".join(_lowered(word) for word in reversed(words))) == parsed
    text = parsed_or_refused(decode_xtext, data)
    if text is not None:
        check_text(text)
        assert data.isascii()
        assert decode_xtext(xtext(text)) == text


def check_parameters(parsed: MailParameters | RcptParameters) -> None:
    """What must be so for all parameters that were parsed."""
    for value in attrs.asdict(parsed).values():
        for text in value.values() if isinstance(value, dict) else [value]:
            if isinstance(text, str):
                check_text(text)
    if isinstance(parsed, MailParameters):
        assert parsed.size is None or 0 <= parsed.size < 10**20
        assert parsed.mt_priority is None or -9 <= parsed.mt_priority <= 9
        assert parsed.envid is None or 0 < len(parsed.envid) <= 100
        assert parsed.envid is None or parsed.envid.isascii()
    else:
        assert parsed.orcpt is None or len(parsed.orcpt.address) <= 500
        assert parsed.notify is None or parsed.notify is Notify.NEVER or not parsed.notify & Notify.NEVER


def parsed_or_refused(parse: Callable[[bytes], Any], data: bytes) -> Any:
    """What a parser makes of it; ``None`` where it refuses, in words that can stand in a reply."""
    try:
        return parse(data)
    except CommandError as error:
        _check_refusal(error)
        return None


def _check_refusal(error: CommandError) -> None:
    assert error.code in (501, 555)
    assert error.enhanced is not None
    assert error.enhanced.startswith("5.")
    check_words(error.text)


def _lowered(word: bytes) -> bytes:
    keyword, equals, value = word.partition(b"=")
    return keyword.lower() + equals + value


def _mail(parsed: MailParameters) -> bytes:
    written = {
        "SIZE": None if parsed.size is None else b"%d" % parsed.size,
        "BODY": None if parsed.body is None else parsed.body.value.encode(),
        "RET": None if parsed.ret is None else parsed.ret.value.encode(),
        "ENVID": None if parsed.envid is None else xtext(parsed.envid),
        "AUTH": None if parsed.auth is None else xtext(parsed.auth) or b"<>",
        "MT-PRIORITY": None if parsed.mt_priority is None else b"%d" % parsed.mt_priority,
        "SMTPUTF8": b"" if parsed.smtputf8 else None,
        "REQUIRETLS": b"" if parsed.requiretls else None,
    }
    return _joined(written)


def _rcpt(parsed: RcptParameters) -> bytes:
    names = [] if parsed.notify is None else [flag.name for flag in Notify if flag in parsed.notify]
    orcpt = parsed.orcpt
    written = {"NOTIFY": ",".join(filter(None, names)).encode() or None}
    if orcpt is not None:
        unicode = orcpt.type.lower() == "utf-8"
        address = "".join(_unitext(c) for c in orcpt.address).encode() if unicode else xtext(orcpt.address)
        written["ORCPT"] = orcpt.type.encode() + b";" + address
    return _joined(written)


def _joined(written: dict[str, bytes | None]) -> bytes:
    given = {name.encode(): value for name, value in written.items() if value is not None}
    return b" ".join(name + (b"=" + value if value else b"") for name, value in given.items())


def xtext(text: str) -> bytes:
    """As a client writes it."""
    return b"".join(
        bytes((octet,)) if 33 <= octet <= 126 and octet not in b"+=" else b"+%02X" % octet for octet in text.encode()
    )


def _unitext(character: str) -> str:
    return f"+{ord(character):02X}" if character in "+=\\ " else character
