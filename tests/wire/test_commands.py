"""Command lines: RFC 5321 §4.1.1, RFC 2033 §4.1, RFC 3030 §2."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lmtp_twisted.errors import CommandError
from lmtp_twisted.wire import commands
from lmtp_twisted.wire.addresses import Address, parse_path
from lmtp_twisted.wire.commands import (
    LINE_LIMITS,
    MAX_LINE,
    line_limit,
    parse_bdat,
    parse_lhlo,
    parse_mail,
    parse_rcpt,
    split_command,
)
from lmtp_twisted.wire.parameters import Body, MailParameters, Notify, OriginalRecipient, RcptParameters

GOOD_PATHS = [
    (b"<user@example.org>", Address("user", "example.org")),
    (b"<User.Name+tag@Example.ORG>", Address("User.Name+tag", "Example.ORG")),
    (b"<user>", Address("user", "")),
    (b"<pOSTmaster>", Address("pOSTmaster", "")),
    (b"<@a,@b:u@c>", Address("u", "c")),
    (b'<"a b"@c>', Address("a b", "c")),
    (b'<"a\\"b"@c>', Address('a"b', "c")),
    (b'<"a>b"@c>', Address("a>b", "c")),
    (b'<"a\\">b"@c>', Address('a">b', "c")),
    (b'<""@c>', Address("", "c")),
    (b"<u@[192.0.2.1]>", Address("u", "[192.0.2.1]")),
    (b"<u@[IPv6:2001:db8::1]>", Address("u", "[IPv6:2001:db8::1]")),
    (b"<u@a_b.example>", Address("u", "a_b.example")),
    (b"<" + b"u" * 100 + b"@example.org>", Address("u" * 100, "example.org")),
    ("<jürgen@bücher.example>".encode(), Address("jürgen", "bücher.example")),
]
BAD_PATHS = [
    b"a@b",
    b"a@b>",
    b"<a@b",
    b"<",
    b"<<a@b>>",
    b"<a@b@c>",
    b"<a.@b>",
    b"<a..b@c>",
    b"<a@b..c>",
    b"<a@-b>",
    b"< a@b>",
    b"<a@b >",
    b"<a\x00b@c>",
    b'<"a\x0ab"@c>',
    b"<a\xff@b>",
    b'<"a@b>',
    b"<a@>",
    b"<@b>",
    b"<u@[300.1.1.1]>",
    b"<u@[IPv6:zz]>",
    b"<" + b"u" * 253 + b"@c>",
    b"Alice <a@b>",
]
BRIEF = st.text('a.@"\\<>[]:, -é\n=', max_size=20).map(str.encode)
ARGUMENTS = st.one_of(
    st.binary(max_size=40),
    st.tuples(st.sampled_from([b"FROM:", b"TO:", b"FROM:<", b"TO:<", b"to: <"]), BRIEF).map(b"".join),
    st.tuples(st.sampled_from([b"FROM:<a@b>", b"TO:<a@b>", b"TO:<>"]), BRIEF).map(b"".join),
)


def refusal(parse: Any, argument: bytes) -> tuple[int | None, str | None]:
    with pytest.raises(CommandError) as caught:
        parse(argument)
    assert caught.value.text
    return caught.value.code, caught.value.enhanced


@pytest.mark.parametrize(
    ("line", "verb", "argument"),
    [
        (b"RSET", b"RSET", b""),
        (b"rset", b"RSET", b""),
        (b"QuIt  ", b"QUIT", b""),
        (b"QUIT\t ", b"QUIT", b""),
        (b"MAIL FROM:<a@b>", b"MAIL", b"FROM:<a@b>"),
        (b"mail From:<A@b>   ", b"MAIL", b"From:<A@b>"),
        (b"MAIL   FROM:<a@b>", b"MAIL", b"FROM:<a@b>"),
        (b"NOOP a  b", b"NOOP", b"a  b"),
        (b"GET / HTTP/1.1", b"GET", b"/ HTTP/1.1"),
        (b"", b"", b""),
        (b"   ", b"", b""),
        (b" QUIT", b"", b"QUIT"),
        (b"\xff\x00x y", b"\xff\x00X", b"y"),
    ],
)
def test_a_line_is_a_verb_and_an_argument(line: bytes, verb: bytes, argument: bytes) -> None:
    """RFC 5321 §2.4 (case) and §4.1.1 (trailing blanks)."""
    assert split_command(line) == (verb, argument)


@pytest.mark.parametrize(("path", "address"), GOOD_PATHS)
def test_mail_takes_a_reverse_path(path: bytes, address: Address) -> None:
    """RFC 5321 §4.1.1.2, §4.1.2."""
    assert parse_mail(b"FROM:" + path) == (address, MailParameters())


@pytest.mark.parametrize(("path", "address"), GOOD_PATHS)
def test_rcpt_takes_a_forward_path(path: bytes, address: Address) -> None:
    """RFC 5321 §4.1.1.3, §4.1.2."""
    assert parse_rcpt(b"TO:" + path) == (address, RcptParameters())


@pytest.mark.parametrize("path", BAD_PATHS)
def test_a_bad_reverse_path_is_a_5_1_7(path: bytes) -> None:
    """RFC 3463 §3.2."""
    assert refusal(parse_mail, b"FROM:" + path) == (501, "5.1.7")


@pytest.mark.parametrize("path", [*BAD_PATHS, b"<>"])
def test_a_bad_or_null_forward_path_is_a_5_1_3(path: bytes) -> None:
    """RFC 3463 §3.2; RFC 5321 §4.1.1.3 has no null forward-path."""
    assert refusal(parse_rcpt, b"TO:" + path) == (501, "5.1.3")


def test_mail_takes_the_null_reverse_path() -> None:
    """RFC 5321 §4.5.5."""
    assert parse_mail(b"FROM:<>") == (None, MailParameters())


@pytest.mark.parametrize("argument", [b"", b"FROM", b"FROM:", b"FROM: ", b"TO:<x>", b"<a@b>", b"FROM :<a@b>"])
def test_mail_without_a_path_is_a_5_5_4(argument: bytes) -> None:
    """RFC 5321 §4.3.2, RFC 3463 §3.6."""
    assert refusal(parse_mail, argument) == (501, "5.5.4")


@pytest.mark.parametrize("argument", [b"", b"TO", b"TO:", b"TO:  ", b"FROM:<x>", b"<a@b>", b"TO :<a@b>"])
def test_rcpt_without_a_path_is_a_5_5_4(argument: bytes) -> None:
    """RFC 5321 §4.3.2, RFC 3463 §3.6."""
    assert refusal(parse_rcpt, argument) == (501, "5.5.4")


@pytest.mark.parametrize("argument", [b"from:<a@b>", b"From: <a@b>", b"FROM:   <a@b>", b"FROM:<a@b>  "])
def test_mail_tolerates_letter_case_and_blanks(argument: bytes) -> None:
    """RFC 5321 §2.4; the blank is in no RFC, but in the lines of many clients."""
    assert parse_mail(argument) == (Address("a", "b"), MailParameters())


@pytest.mark.parametrize("argument", [b"to:<a@b>", b"To: <a@b>", b"TO:   <a@b>", b"TO:<a@b>  ", b'to:  <"a"@b> '])
def test_rcpt_tolerates_letter_case_and_blanks(argument: bytes) -> None:
    """RFC 5321 §2.4."""
    assert parse_rcpt(argument) == (Address("a", "b"), RcptParameters())


@pytest.mark.parametrize("path", [b"<a@b>", b'<"a"@b>'])
def test_mail_has_parameters(path: bytes) -> None:
    """RFC 5321 §4.1.1.2."""
    address, parameters = parse_mail(b"FROM:" + path + b"  SIZE=7 BODY=8BITMIME ")
    assert address == Address("a", "b")
    assert parameters == MailParameters(size=7, body=Body.EIGHT_BIT_MIME, keywords=frozenset({"SIZE", "BODY"}))


@pytest.mark.parametrize("path", [b"<a@b>", b'<"a"@b>'])
def test_rcpt_has_parameters(path: bytes) -> None:
    """RFC 5321 §4.1.1.3."""
    address, parameters = parse_rcpt(b"TO:" + path + b" NOTIFY=DELAY ORCPT=rfc822;root")
    assert address == Address("a", "b")
    assert parameters == RcptParameters(
        Notify.DELAY, OriginalRecipient("rfc822", "root"), frozenset({"NOTIFY", "ORCPT"})
    )


@pytest.mark.parametrize("path", [b"<a@b>", b'<"a"@b>'])
@pytest.mark.parametrize(
    ("rest", "code"), [(b"SIZE=1", 501), (b">", 501), (b"\tFOO", 501), (b" \tFOO", 501), (b" FOO", 555)]
)
def test_what_follows_a_path_is_a_blank_and_parameters(path: bytes, rest: bytes, code: int) -> None:
    """RFC 5321 §4.1.1.2, §4.1.1.3."""
    assert refusal(parse_mail, b"FROM:" + path + rest) == (code, "5.5.4")
    assert refusal(parse_rcpt, b"TO:" + path + rest) == (code, "5.5.4")


@pytest.mark.parametrize("name", [b"client.example", b"[192.0.2.1]", b"[IPv6:2001:db8::1]", b"my_host", b"a" * 255])
def test_lhlo_takes_a_name(name: bytes) -> None:
    """RFC 2033 §4.1, RFC 5321 §4.1.1.1."""
    assert parse_lhlo(name) == name.decode()


@pytest.mark.parametrize("character", [*range(0x21), *b'"(),;<>\\', 0x7F, 0x80, 0xFF])
def test_an_lhlo_name_cannot_break_a_header(character: int) -> None:
    """RFC 5321 §4.4: the name stands in the Received line."""
    assert refusal(parse_lhlo, b"a" + bytes([character]) + b"b") == (501, "5.5.4")


@pytest.mark.parametrize("name", [b"", b"a b", b"a" * 256, "bücher.example".encode(), b"a\n"])
def test_lhlo_takes_one_name_and_nothing_else(name: bytes) -> None:
    """RFC 2033 §4.1."""
    assert refusal(parse_lhlo, name) == (501, "5.5.4")


@pytest.mark.parametrize(
    ("argument", "octets", "is_last"),
    [
        (b"0", 0, False),
        (b"1000", 1000, False),
        (b"0 LAST", 0, True),
        (b"86 last", 86, True),
        (b"86   Last", 86, True),
        (b"9" * 20, 10**20 - 1, False),
    ],
)
def test_bdat_takes_octets_and_last(argument: bytes, octets: int, is_last: bool) -> None:
    """RFC 3030 §2."""
    assert parse_bdat(argument) == (octets, is_last)


@pytest.mark.parametrize(
    "argument",
    [
        b"",
        b"abc",
        b"LAST",
        b"10 FOO",
        b"10LAST",
        b"-1",
        b"+1",
        b"1_0",
        b"1 LAST x",
        b"1\n",
        b"9" * 21,
        b"\xb2",
    ],
)
def test_a_malformed_bdat_is_a_501(argument: bytes) -> None:
    """RFC 3030 §2."""
    assert refusal(parse_bdat, argument) == (501, "5.5.4")


@pytest.mark.parametrize(
    ("verb", "limit"),
    [
        (b"NOOP", 512),
        (b"LHLO", 512),
        (b"", 512),
        (b"VRFY", 522),
        (b"MAIL", 1208),
        (b"RCPT", 1048),
        (b"AUTH", 12288),
    ],
)
def test_a_verb_has_a_limit_of_its_line(verb: bytes, limit: int) -> None:
    """RFC 5321 §4.5.3.1.4 and what each extension adds."""
    assert line_limit(verb) == limit


def test_the_longest_line_is_that_of_auth() -> None:
    """RFC 4954 §4."""
    assert MAX_LINE == LINE_LIMITS[b"AUTH"] == 12288


def test_all_parameters_at_their_longest_fit_into_a_line() -> None:
    """RFC 5321 §4.5.3.1.4, RFC 3461 §4.2 and §4.4."""
    mail = (
        b"MAIL FROM:<" + b"u" * 250 + b"@b.c> SIZE=99999999999999999999 BODY=BINARYMIME SMTPUTF8 RET=FULL ENVID="
        b"" + b"x" * 100 + b" AUTH=" + b"a" * 494 + b" MT-PRIORITY=-9 REQUIRETLS\r\n"
    )
    rcpt = b"RCPT TO:<" + b"u" * 250 + b"@b.c> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;" + b"x" * 493 + b"\r\n"
    assert parse_mail(split_command(mail[:-2])[1])[1].requiretls
    assert parse_rcpt(split_command(rcpt[:-2])[1])[1].orcpt is not None
    assert len(mail) <= line_limit(b"MAIL")
    assert len(rcpt) <= line_limit(b"RCPT")


@given(st.sampled_from([parse_mail, parse_rcpt, parse_lhlo, parse_bdat]), ARGUMENTS)
@example(parse_mail, b"FROM:<" + b'"' * 1000)
@example(parse_mail, b'FROM:<"' + b"\\" * 1000)
@example(parse_rcpt, b"TO:<" + b"a." * 1000)
@example(parse_rcpt, b"TO:<a@" + b"a-" * 1000)
def test_no_argument_raises_anything_but_a_command_error(parse: Any, argument: bytes) -> None:
    """Whatever a client sends is answered."""
    try:
        parse(argument)
    except CommandError as error:
        code, enhanced = error.code, error.enhanced
    else:
        return
    assert code in {501, 555}
    assert enhanced in {"5.5.4", "5.1.3", "5.1.7"}


@given(
    st.one_of(
        st.text("aZ0.+-_@é", max_size=20),
        st.from_regex(r"[a-z0-9.+=]{1,9}@[a-z0-9._-]{1,70}", fullmatch=True),
        st.from_regex(commands._COMMON_RCPT.pattern.decode().split("<")[1].split(">")[0], fullmatch=True),
    )
)
@example("u" * 249 + "@b.c")
@example("u" * 250 + "@b.c")
@example("u" * 251 + "@b.c")
@example("u@" + "a" * 63)
@example("u@" + "a" * 64)
def test_the_common_form_means_the_same_to_the_full_grammar(path: str) -> None:
    """The short cut decides nothing: it takes nothing that the grammar refuses or reads differently."""
    try:
        expected = parse_path(path.encode())
    except ValueError:
        expected = None
    try:
        address = parse_rcpt(b"TO:<" + path.encode() + b">")[0]
    except CommandError:
        address = None
    assert address == expected


def test_the_common_form_needs_no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hot path does not reach the full grammar."""
    monkeypatch.delattr(commands, "parse_path")
    assert parse_mail(b"FROM:<u17@example.org> SIZE=1")[0] == Address("u17", "example.org")
    assert parse_rcpt(b"TO:<u17@example.org>")[0] == Address("u17", "example.org")
