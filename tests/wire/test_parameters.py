"""The parameters of MAIL and RCPT: RFC 5321 §4.1.2 and the RFCs of the extensions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmtp_twisted.errors import CommandError
from lmtp_twisted.wire.addresses import CONTROL_CHARACTERS
from lmtp_twisted.wire.parameters import (
    Body,
    MailParameters,
    Notify,
    OriginalRecipient,
    RcptParameters,
    Ret,
    decode_xtext,
    parse_mail_parameters,
    parse_rcpt_parameters,
)

MAIL_KEYWORDS = [b"SIZE", b"BODY", b"SMTPUTF8", b"RET", b"ENVID", b"AUTH", b"MT-PRIORITY", b"REQUIRETLS"]
RCPT_KEYWORDS = [b"NOTIFY", b"ORCPT"]
VALUES = st.sampled_from([b"", b"=", b"=1", b"=8BITMIME", b"=FULL", b"=<>", b"=never", b"=utf-8;\\x{e9}", b"=+2B"])
PARAMETERS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(MAIL_KEYWORDS + RCPT_KEYWORDS), VALUES | st.binary(max_size=9)).map(b"".join),
        st.binary(max_size=12),
    ),
    max_size=4,
).map(b" ".join)


def refusal_of_mail(text: bytes) -> tuple[int | None, str | None]:
    with pytest.raises(CommandError) as caught:
        parse_mail_parameters(text)
    return caught.value.code, caught.value.enhanced


def refusal_of_rcpt(text: bytes) -> tuple[int | None, str | None]:
    with pytest.raises(CommandError) as caught:
        parse_rcpt_parameters(text)
    return caught.value.code, caught.value.enhanced


def test_no_parameters_are_one_shared_value() -> None:
    """The common case costs nothing."""
    assert parse_mail_parameters(b"") is parse_mail_parameters(b"")
    assert parse_mail_parameters(b"") == MailParameters()
    assert parse_rcpt_parameters(b"") is parse_rcpt_parameters(b"")
    assert parse_rcpt_parameters(b"") == RcptParameters()


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        (b"SIZE=0", "size", 0),
        (b"SIZE=00012", "size", 12),
        (b"SIZE=99999999999999999999", "size", 99999999999999999999),
        (b"BODY=7BIT", "body", Body.SEVEN_BIT),
        (b"BODY=8BITMIME", "body", Body.EIGHT_BIT_MIME),
        (b"BODY=BINARYMIME", "body", Body.BINARY_MIME),
        (b"body=8bitMime", "body", Body.EIGHT_BIT_MIME),
        (b"SMTPUTF8", "smtputf8", True),
        (b"smtputf8", "smtputf8", True),
        (b"RET=FULL", "ret", Ret.FULL),
        (b"RET=hdrs", "ret", Ret.HDRS),
        (b"ENVID=QQ314159", "envid", "QQ314159"),
        (b"ENVID=a+2Bb+3Dc+20d", "envid", "a+b=c d"),
        (b"ENVID=" + b"x" * 100, "envid", "x" * 100),
        (b"AUTH=<>", "auth", ""),
        (b"AUTH=e+3Dmc2@example.com", "auth", "e=mc2@example.com"),
        (b"AUTH=+C3+A9@example.com", "auth", "é@example.com"),
        (b"MT-PRIORITY=0", "mt_priority", 0),
        (b"MT-PRIORITY=9", "mt_priority", 9),
        (b"mt-priority=-9", "mt_priority", -9),
        (b"REQUIRETLS", "requiretls", True),
    ],
)
def test_a_mail_parameter_has_a_value(text: bytes, field: str, value: object) -> None:
    """RFC 1870 §3, 6152 §2, 3030 §3, 6531 §3.4, 3461 §4.3 and §4.4, 4954 §5, 6710 §4, 8689 §2."""
    assert getattr(parse_mail_parameters(text), field) == value


@pytest.mark.parametrize(
    "text",
    [
        b"SIZE",
        b"SIZE=",
        b"SIZE=abc",
        b"SIZE=-1",
        b"SIZE=+1",
        b"SIZE=1_0",
        b"SIZE=1.5",
        b"SIZE=" + b"9" * 21,
        b"BODY",
        b"BODY=",
        b"BODY=9BIT",
        b"BODY=\xff",
        b"SMTPUTF8=",
        b"SMTPUTF8=x",
        b"RET",
        b"RET=X",
        b"RET=FULL,HDRS",
        b"ENVID",
        b"ENVID=",
        b"ENVID=a+zz",
        b"ENVID=a+2b",
        b"ENVID=a+",
        b"ENVID=a+0D+0Ab",
        b"ENVID=a+09b",
        b"ENVID=a+7F",
        b"ENVID=+C3+A9",
        b"ENVID=\xc3\xa9",
        b"ENVID=a=b",
        b"ENVID=" + b"x" * 101,
        b"AUTH",
        b"AUTH=",
        b"AUTH=a+0A",
        b"AUTH=a+C3",
        b"AUTH=a=b",
        b"MT-PRIORITY",
        b"MT-PRIORITY=",
        b"MT-PRIORITY=10",
        b"MT-PRIORITY=-10",
        b"MT-PRIORITY=+1",
        b"MT-PRIORITY=-0",
        b"MT-PRIORITY=01",
        b"MT-PRIORITY=x",
        b"REQUIRETLS=",
        b"REQUIRETLS=yes",
    ],
)
def test_a_bad_value_of_a_mail_parameter_is_a_501(text: bytes) -> None:
    """RFC 5321 §4.3.2 and the RFCs of the extensions."""
    assert refusal_of_mail(text) == (501, "5.5.4")


@pytest.mark.parametrize(
    ("text", "notify"),
    [
        (b"NOTIFY=NEVER", Notify.NEVER),
        (b"notify=never", Notify.NEVER),
        (b"NOTIFY=SUCCESS", Notify.SUCCESS),
        (b"NOTIFY=success,Delay", Notify.SUCCESS | Notify.DELAY),
        (b"NOTIFY=DELAY,FAILURE,SUCCESS", Notify.SUCCESS | Notify.FAILURE | Notify.DELAY),
        (b"NOTIFY=DELAY,DELAY", Notify.DELAY),
    ],
)
def test_notify_is_never_or_a_set(text: bytes, notify: Notify) -> None:
    """RFC 3461 §4.1."""
    assert parse_rcpt_parameters(text).notify == notify


@pytest.mark.parametrize(
    ("value", "kind", "address"),
    [
        (b"rfc822;root", "rfc822", "root"),
        (b"RFC822;Bob@Example.COM", "RFC822", "Bob@Example.COM"),
        (b"rfc822;a+2Bb@c", "rfc822", "a+b@c"),
        (b"rfc822;+22a+20b+22@c", "rfc822", '"a b"@c'),
        (b"rfc822;a;b", "rfc822", "a;b"),
        (b"rfc822;a\\x{E9}", "rfc822", "a\\x{E9}"),
        (b"rfc822;", "rfc822", ""),
        (b"x400;/c=us".replace(b"=", b"+3D"), "x400", "/c=us"),
        (b"utf-8;user@example.org", "utf-8", "user@example.org"),
        (b"UTF-8;j\\x{FC}rgen@c", "UTF-8", "jürgen@c"),
        (b"utf-8;j\\x{fc}rgen@c", "utf-8", "jürgen@c"),
        (b"utf-8;a\\x{2B}b\\x{3D}c\\x{5C}\\x{20}d@e", "utf-8", "a+b=c\\ d@e"),
        (b"utf-8;\\x{1F4E7}@c", "utf-8", "\U0001f4e7@c"),
        (b"utf-8;\\x{10FFFF}@c", "utf-8", "\U0010ffff@c"),
        (b"utf-8;j\xc3\xbcrgen@c", "utf-8", "jürgen@c"),
        (b"utf-8;j+C3+BCrgen+2Btag@c", "utf-8", "jürgen+tag@c"),
    ],
)
def test_orcpt_is_decoded_by_its_type(value: bytes, kind: str, address: str) -> None:
    """RFC 3461 §4.2, RFC 6533 §3."""
    assert parse_rcpt_parameters(b"ORCPT=" + value).orcpt == OriginalRecipient(kind, address)


def test_an_orcpt_of_500_octets_is_accepted() -> None:
    """RFC 3461 §4.2."""
    parameters = parse_rcpt_parameters(b"ORCPT=rfc822;" + b"u" * 493)
    assert parameters.orcpt == OriginalRecipient("rfc822", "u" * 493)


@pytest.mark.parametrize(
    "text",
    [
        b"NOTIFY",
        b"NOTIFY=",
        b"NOTIFY=NEVER,SUCCESS",
        b"NOTIFY=SUCCESS,NEVER",
        b"NOTIFY=SUCCESS,",
        b"NOTIFY=,",
        b"NOTIFY=ALWAYS",
        b"NOTIFY=\xff",
        b"ORCPT",
        b"ORCPT=",
        b"ORCPT=abc",
        b"ORCPT=;abc",
        b"ORCPT=rfc(822;abc",
        b"ORCPT=rfc822;a+zz",
        b"ORCPT=rfc822;a+0D+0Ab",
        b"ORCPT=rfc822;a=b",
        b"ORCPT=rfc822;\xc3\xa9",
        b"ORCPT=rfc822;+C3+A9",
        b"ORCPT=rfc822;" + b"u" * 494,
        b"ORCPT=utf-8;",
        b"ORCPT=utf-8;a\\b",
        b"ORCPT=utf-8;a+b",
        b"ORCPT=utf-8;a=b",
        b"ORCPT=utf-8;\xff",
        b"ORCPT=utf-8;+C3",
        b"ORCPT=utf-8;\\x{}",
        b"ORCPT=utf-8;\\x{0A}",
        b"ORCPT=utf-8;\\x{2028}",
        b"ORCPT=utf-8;+0D+0A",
        b"ORCPT=utf-8;\\x{D800}",
        b"ORCPT=utf-8;\\x{110000}",
        b"ORCPT=utf-8;\\x{0000041}",
    ],
)
def test_a_bad_value_of_a_rcpt_parameter_is_a_501(text: bytes) -> None:
    """RFC 3461 §4.1 and §4.2, RFC 6533 §3."""
    assert refusal_of_rcpt(text) == (501, "5.5.4")


@pytest.mark.parametrize("text", [b"FOO", b"FOO=bar", b"X-1=\xc3\xa9", b"NOTIFY=NEVER", b"SIZE=1 FOO"])
def test_an_unknown_keyword_of_mail_is_a_555(text: bytes) -> None:
    """RFC 5321 §4.1.1.11."""
    assert refusal_of_mail(text) == (555, "5.5.4")


@pytest.mark.parametrize("text", [b"FOO", b"FOO=bar", b"SIZE=1", b"SMTPUTF8", b"NOTIFY=NEVER FOO"])
def test_an_unknown_keyword_of_rcpt_is_a_555(text: bytes) -> None:
    """RFC 5321 §4.1.1.11."""
    assert refusal_of_rcpt(text) == (555, "5.5.4")


@pytest.mark.parametrize(
    "text",
    [b"=1", b"-FOO", b"FOO=", b"FOO=a=b", b"FO_O=1", b"FOO=a\tb", b"FOO\r", b"FOO=a\x00", b"F\xc3\xa9"],
)
def test_what_is_not_even_a_parameter_is_a_501(text: bytes) -> None:
    """RFC 5321 §4.1.2, esmtp-param."""
    assert refusal_of_mail(text) == (501, "5.5.4")


@pytest.mark.parametrize("text", [b"SIZE=1 SIZE=1", b"SIZE=1 BODY=7BIT size=2", b"SMTPUTF8 SMTPUTF8"])
def test_a_mail_parameter_comes_once(text: bytes) -> None:
    """RFC 3461 §4.5 says it of RET and ENVID; the others are no different."""
    assert refusal_of_mail(text) == (501, "5.5.4")


@pytest.mark.parametrize("text", [b"NOTIFY=NEVER NOTIFY=NEVER", b"ORCPT=rfc822;a orcpt=rfc822;b"])
def test_a_rcpt_parameter_comes_once(text: bytes) -> None:
    """RFC 3461 §4.5."""
    assert refusal_of_rcpt(text) == (501, "5.5.4")


def test_several_parameters_come_in_any_order_with_any_number_of_blanks() -> None:
    """RFC 5321 §4.1.1.2."""
    assert parse_mail_parameters(b"BODY=8BITMIME  Size=5   SMTPUTF8") == MailParameters(
        size=5,
        body=Body.EIGHT_BIT_MIME,
        smtputf8=True,
        keywords=frozenset({"SIZE", "BODY", "SMTPUTF8"}),
    )


def test_the_keywords_that_were_given_are_told() -> None:
    """So that one that is not announced can be refused."""
    assert parse_mail_parameters(b"auth=<> RequireTLS").keywords == {"AUTH", "REQUIRETLS"}
    assert parse_rcpt_parameters(b"notify=never").keywords == {"NOTIFY"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"", ""),
        (b"plain", "plain"),
        (b"+2B+3D+20", "+= "),
        (b"[UNAVAILABLE]", "[UNAVAILABLE]"),
        (b"+C3+A9", "é"),
    ],
)
def test_xtext_is_decoded(value: bytes, text: str) -> None:
    """RFC 3461 §4."""
    assert decode_xtext(value) == text


@pytest.mark.parametrize(
    "value",
    [b"+", b"+2", b"+zz", b"+2b", b"a=b", b"a b", b"\xc3\xa9", b"+0D+0A", b"+00", b"+C2+85", b"+C3", b"a\n"],
)
def test_bad_xtext_is_a_501(value: bytes) -> None:
    """RFC 3461 §4: hexadecimal digits are in upper case."""
    with pytest.raises(CommandError) as caught:
        decode_xtext(value)
    assert (caught.value.code, caught.value.enhanced) == (501, "5.5.4")


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)))
def test_xtext_round_trips(text: str) -> None:
    """RFC 3461 §4."""
    encoded = "".join(c if "!" <= c <= "~" and c not in "+=" else f"+{ord(c):02X}" for c in text)
    assert decode_xtext(encoded.encode()) == text


@given(st.text(st.characters(min_codepoint=0xA0, exclude_categories=["Cs", "Zl", "Zp"]), min_size=1, max_size=20))
def test_both_forms_of_a_utf_8_address_are_read_alike(text: str) -> None:
    """RFC 6533 §3: utf-8-addr-xtext and utf-8-addr-unitext."""
    escaped = "".join(f"\\x{{{ord(c):X}}}" for c in text)
    expected = OriginalRecipient("utf-8", text)
    assert parse_rcpt_parameters(b"ORCPT=utf-8;" + escaped.encode()).orcpt == expected
    assert parse_rcpt_parameters(b"ORCPT=utf-8;" + text.encode()).orcpt == expected


@given(st.sampled_from([parse_mail_parameters, parse_rcpt_parameters]), PARAMETERS)
def test_no_input_raises_anything_but_a_501_or_555(parse: Any, text: bytes) -> None:
    """And no control character gets through."""
    try:
        parameters = parse(text)
    except CommandError as error:
        answer = error.code, error.enhanced
    else:
        for field in ("envid", "auth"):
            assert not CONTROL_CHARACTERS.search(getattr(parameters, field, None) or "")
        return
    assert answer in {(501, "5.5.4"), (555, "5.5.4")}
