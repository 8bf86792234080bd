"""Mailboxes and paths: RFC 5321 §4.1.2 and §4.1.3, RFC 6531 §3.3."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lmtp_twisted.wire.addresses import Address, parse_mailbox, parse_path

ATEXT = "abcXYZ019!#$%&'*+-/=?^_`{|}~éßλ"
LOCAL_PARTS = st.one_of(
    st.lists(st.text(ATEXT, min_size=1, max_size=6), min_size=1, max_size=4).map(".".join),
    st.text(ATEXT + ' "\\.@<>(),:;[]', max_size=30),
)
LABELS = st.from_regex(r"[A-Za-z0-9_é](?:[A-Za-z0-9_é-]{0,10}[A-Za-z0-9_é])?", fullmatch=True)
DOMAINS = st.one_of(
    st.lists(LABELS, min_size=1, max_size=4).map(".".join),
    st.ip_addresses(v=4).map(lambda address: f"[{address}]"),
    st.ip_addresses(v=6).map(lambda address: f"[IPv6:{address}]"),
)


@pytest.mark.parametrize(
    ("text", "local", "domain"),
    [
        ("user@example.org", "user", "example.org"),
        ("u.s.er+tag@example.org", "u.s.er+tag", "example.org"),
        ("!#$%&'*+-/=?^_`{|}~@example.org", "!#$%&'*+-/=?^_`{|}~", "example.org"),
        ("user@localhost", "user", "localhost"),
        ("user@1.2.3.4", "user", "1.2.3.4"),
        ("Postmaster", "Postmaster", ""),
        ('"a b"@example.org', "a b", "example.org"),
        ('"a b"', "a b", ""),
        (r'"a\"b"@example.org', 'a"b', "example.org"),
        (r'"a\\b"@example.org', "a\\b", "example.org"),
        (r'"\a\b"@example.org', "ab", "example.org"),
        ('"a@b"@example.org', "a@b", "example.org"),
        ('"<>,:;()"@example.org', "<>,:;()", "example.org"),
        ('""@example.org', "", "example.org"),
        ("user@[192.0.2.1]", "user", "[192.0.2.1]"),
        ("user@[IPv6:2001:db8::1]", "user", "[IPv6:2001:db8::1]"),
        ("user@[ipv6:::ffff:192.0.2.1]", "user", "[ipv6:::ffff:192.0.2.1]"),
        ("j\u00fcrgen@b\u00fccher.example", "j\u00fcrgen", "b\u00fccher.example"),
        ('"\u00e9 \u00e9"@example.org', "\u00e9 \u00e9", "example.org"),
        (
            "user@\u0909\u0926\u093e\u0939\u0930\u0923.example",
            "user",
            "\u0909\u0926\u093e\u0939\u0930\u0923.example",
        ),
    ],
)
def test_a_mailbox_has_a_local_part_and_a_domain(text: str, local: str, domain: str) -> None:
    """RFC 5321 §4.1.2, §4.1.3; RFC 6531 §3.3."""
    assert parse_mailbox(text.encode()) == Address(local, domain)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b'""',
        b"@example.org",
        b"user@",
        b"a@b@c",
        b"a.@b",
        b".a@b",
        b"a..b@c",
        b"a b@c",
        b" a@b",
        b"a@b ",
        b"<a@b>",
        b"a,b@c",
        b'a"b"@c',
        b'"a"b@c',
        b'"a".b@c',
        b'"a@b',
        b'"a\\"@b',
        b"a\\b@c",
        b"a(comment)@b",
        b"a@b..c",
        b"a@.b",
        b"a@b.",
        b"a@b c",
        b"a@b/c",
        b"a@b:c",
    ],
)
def test_what_is_not_in_the_grammar_is_refused(text: bytes) -> None:
    """RFC 5321 §4.1.2."""
    with pytest.raises(ValueError, match=r"\w"):
        parse_mailbox(text)


@pytest.mark.parametrize(
    "text",
    [
        "a\x00b@c",
        "a\tb@c",
        '"a\rb"@c',
        '"a\nb"@c',
        '"a\\\nb"@c',
        "a@b\nc",
        "a@b\n",
        "a\x7f@b",
        "a\x85@b",
        "a\u2028@b",
        "a@b\u2029",
    ],
)
def test_control_characters_are_refused_wherever_they_stand(text: str) -> None:
    """RFC 5321 §4.1.2: neither atext nor qtextSMTP has them; a line end could otherwise reach a header."""
    with pytest.raises(ValueError, match="control character"):
        parse_mailbox(text.encode())


@pytest.mark.parametrize("text", [b"\xff@example.org", b"user@\xc3", b"\xed\xa0\x80@example.org", b"\xc0\xaf@b"])
def test_invalid_utf_8_is_refused(text: bytes) -> None:
    """RFC 6531 §3.3, RFC 3629 §4."""
    with pytest.raises(ValueError, match="UTF-8"):
        parse_mailbox(text)


@pytest.mark.parametrize(
    "literal",
    [
        "[300.1.1.1]",
        "[1.2.3]",
        "[1.2.3.4",
        "[]",
        "[",
        "[1.2.3.4].org",
        "[2001:db8::1]",
        "[IPv6:]",
        "[IPv6:2001:db8::1::2]",
        "[IPv6:fe80::1%eth0]",
        "[IPv6:192.0.2.1]",
        "[x-unknown:content]",
        "[\u0661.2.3.4]",
    ],
)
def test_an_address_literal_that_names_no_address_is_refused(literal: str) -> None:
    """RFC 5321 §4.1.3; no General-address-literal has been defined but IPv6."""
    with pytest.raises(ValueError, match="literal"):
        parse_mailbox(b"user@" + literal.encode())


@pytest.mark.parametrize("domain", ["-a.example", "a-.example", "a.-b", "a.b-", "-"])
def test_a_label_neither_begins_nor_ends_with_a_hyphen(domain: str) -> None:
    """RFC 5321 §4.1.2, sub-domain."""
    with pytest.raises(ValueError, match="domain"):
        parse_mailbox(b"user@" + domain.encode())


@pytest.mark.parametrize("domain", ["a_b.example", "_dmarc.example", "a_.example"])
def test_an_underscore_in_a_domain_is_tolerated(domain: str) -> None:
    """No RFC has it, real hosts do."""
    assert parse_mailbox(b"user@" + domain.encode()).domain == domain


def test_a_label_has_at_most_63_characters() -> None:
    """RFC 1035 §2.3.4."""
    assert parse_mailbox(b"u@" + b"a" * 63 + b".example").domain == "a" * 63 + ".example"
    with pytest.raises(ValueError, match="domain"):
        parse_mailbox(b"u@" + b"a" * 64 + b".example")


def test_a_local_part_over_64_octets_is_accepted() -> None:
    """Beyond what RFC 5321 §4.5.3.1.1 asks for: some systems use them."""
    assert parse_mailbox(b"u" * 200 + b"@example.org").local == "u" * 200


def test_a_path_has_at_most_256_octets() -> None:
    """RFC 5321 §4.5.3.1.3: the angle brackets count."""
    assert parse_mailbox(b"u" * 252 + b"@b")
    with pytest.raises(ValueError, match="256"):
        parse_mailbox(b"u" * 253 + b"@b")
    with pytest.raises(ValueError, match="256"):
        parse_mailbox("é".encode() * 127 + b"@b")


@pytest.mark.parametrize(
    ("address", "canonical"),
    [
        (Address("user", "example.org"), "user@example.org"),
        (Address("Postmaster", ""), "Postmaster"),
        (Address("a.b", "Example.ORG"), "a.b@Example.ORG"),
        (Address("a b", "c"), '"a b"@c'),
        (Address('a"b', "c"), r'"a\"b"@c'),
        (Address("a\\b", "c"), r'"a\\b"@c'),
        (Address("a..b", "c"), '"a..b"@c'),
        (Address(".a", "c"), '".a"@c'),
        (Address("a@b", ""), '"a@b"'),
        (Address("", "c"), '""@c'),
        (Address("é", "c"), "é@c"),
    ],
)
def test_the_canonical_form_quotes_only_where_it_has_to(address: Address, canonical: str) -> None:
    """RFC 5321 §4.1.2: quotes that are not needed should not be there."""
    assert str(address) == canonical


@pytest.mark.parametrize("text", [b'"user"@c', b'"u\\ser"@c'])
def test_quotes_that_are_not_needed_are_gone(text: bytes) -> None:
    """RFC 5321 §4.1.2: both are the mailbox of the plain form."""
    assert str(parse_mailbox(text)) == "user@c"


@pytest.mark.parametrize(
    ("address", "is_ascii"),
    [
        (Address("a", "b"), True),
        (Address("é", "b"), False),
        (Address("a", "é"), False),
        (Address("a", ""), True),
    ],
)
def test_an_address_tells_whether_it_needs_smtputf8(address: Address, is_ascii: bool) -> None:
    """RFC 6531 §3.4."""
    assert address.is_ascii is is_ascii


def test_only_the_domain_is_blind_to_case() -> None:
    """RFC 5321 §2.4."""
    assert Address("User", "EXAMPLE.org").key == Address("User", "example.ORG").key
    assert Address("User", "example.org").key != Address("user", "example.org").key


def test_the_key_of_a_quoted_local_part_is_that_of_the_plain_one() -> None:
    """RFC 5321 §4.1.2: two spellings of one mailbox."""
    assert parse_mailbox(b'"user"@c').key == parse_mailbox(b"user@C").key


def test_an_empty_path_is_the_null_path() -> None:
    """RFC 5321 §4.5.5."""
    assert parse_path(b"") is None


@pytest.mark.parametrize("text", [b"@a:u@c", b"@a,@b:u@c", b"@a.example,@b.example,@x_y.example:u@c"])
def test_a_source_route_is_dropped(text: bytes) -> None:
    """RFC 5321 appendix C."""
    assert parse_path(text) == Address("u", "c")


@pytest.mark.parametrize(
    "text",
    [
        b"@a",
        b"@a:",
        b"@:u@c",
        b"@a,b:u@c",
        b"@a,:u@c",
        b"@a,@:u@c",
        b"@a@b:u@c",
        b"@a b:u@c",
        b"@\xff:u@c",
        b"@a\n:u@c",
    ],
)
def test_a_malformed_source_route_is_refused(text: bytes) -> None:
    """RFC 5321 §4.1.2, A-d-l."""
    with pytest.raises(ValueError, match=r"\w"):
        parse_path(text)


def test_a_source_route_counts_in_the_length_of_the_path() -> None:
    """RFC 5321 §4.5.3.1.3."""
    route = b",".join([b"@" + b"a" * 60] * 4)
    assert parse_path(route + b":u@" + b"b" * 4)
    with pytest.raises(ValueError, match="256"):
        parse_path(route + b":u@" + b"b" * 5)


@given(LOCAL_PARTS, DOMAINS)
def test_the_canonical_form_parses_to_the_same_address(local: str, domain: str) -> None:
    """RFC 5321 §4.1.2."""
    address = Address(local, domain)
    assert parse_mailbox(str(address).encode()) == address


@given(st.binary(max_size=300) | st.text('a.@"\\<>[]:,-é \n').map(str.encode))
@example(b'"' + b"\\" * 251)
@example(b"a" * 300)
def test_no_input_raises_anything_but_value_error(text: bytes) -> None:
    """What is accepted has a canonical form that is accepted."""
    try:
        address = parse_path(text)
    except ValueError:
        return
    if address is not None:
        canonical = str(address).encode()
        if len(canonical) <= 254:
            assert parse_mailbox(canonical) == address
