"""The text of a file of aliases as a table: what it means, and what is refused with the number of its line."""

from __future__ import annotations

import pytest

from lmtp_twisted.aliases import MOST_TARGETS, Aliases
from lmtp_twisted.wire.addresses import Address, parse_mailbox


def targets(text: str, address: str) -> list[str] | None:
    found = Aliases.parse(text).targets_of(parse_mailbox(address.encode()))
    return None if found is None else [str(target) for target in found]


@pytest.mark.parametrize(
    ("text", "address", "expected"),
    [
        ("info@x: alice@x", "info@x", ["alice@x"]),
        ("info@x: alice@x, bob@y,carol@z", "info@x", ["alice@x", "bob@y", "carol@z"]),
        ("info@x: alice@x,\n  bob@y\n\t, carol@z", "info@x", ["alice@x", "bob@y", "carol@z"]),
        ("# a comment\n\n  # another\ninfo@x: alice@x", "info@x", ["alice@x"]),
        ("Info@X.Example: Alice@x", "iNFO@x.eXAMPLE", ["Alice@x"]),
        ("jose\u0301@x: alice@x", "jos\u00e9@x", ["alice@x"]),
        ("info@x: alice@x", "other@x", None),
        ("Postmaster: alice@x", "postmaster", ["alice@x"]),
        ("postmaster: alice@x", "postmaster@x", None),
        ('"a b"@x: "c, d"@x, e@x', '"a b"@x', ['"c, d"@x', "e@x"]),
        ("info@x: alice@x\r\n", "info@x", ["alice@x"]),
        # Aliases that lead to others.
        ("a@x: b@x\nb@x: c@x, d@x\nc@x: e@x", "a@x", ["e@x", "d@x"]),
        ("a@x: b@x, c@x\nb@x: d@x\nc@x: D@x", "a@x", ["d@x"]),
        # A copy to somebody else.
        ("a@x: a@x, b@x", "a@x", ["a@x", "b@x"]),
        ("all@x: a@x, b@x\na@x: A@x, c@x", "all@x", ["A@x", "c@x", "b@x"]),
    ],
)
def test_an_alias_stands_for_its_targets(text: str, address: str, expected: list[str] | None) -> None:
    assert targets(text, address) == expected


def test_the_targets_of_a_domain_are_addresses_or_the_same_local_part_elsewhere() -> None:
    aliases = Aliases.parse("@Old.example: @new.example, archive@x\n@x: info@x")
    assert aliases.targets_in_domain(Address("Bob", "OLD.example")) == (
        Address("Bob", "new.example"),
        Address("archive", "x"),
    )
    assert aliases.targets_in_domain(Address("bob", "x")) == (Address("info", "x"),)
    assert aliases.targets_in_domain(Address("bob", "new.example")) == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("# one\ninfo@x alice@x", "line 2: not an alias, a colon and its targets"),
        ("info@x:", "line 1: not an alias"),
        ("info@x: ,", "line 1: not an alias"),
        (": alice@x", "line 1: '' is no address"),
        ("  alice@x", "line 1: it goes on with no line"),
        ("info@x: alice@@x", "line 1: 'alice@@x' is no address: the domain is malformed"),
        ("info@x: |/bin/sh", "line 1: '|/bin/sh' has no domain"),
        ("info@x: :include:/etc/passwd", "line 1: ':include:/etc/passwd' is no address"),
        ("@x: alice", "line 1: 'alice' has no domain"),
        ("info@x: @y", "line 1: '@y' is no address"),
        ("@: a@x", "line 1: 'x@' is no address"),
        ("info@x: a@x\nINFO@X: b@x", "line 2: INFO@X is there already"),
        ("@x: a@x\n@X: b@x", "line 2: @X is there already"),
        ("a@x: b@x\nb@x: a@x", "line 2: a@x leads back to itself: a@x, b@x, a@x"),
        ("a@x: b@x\nb@x: c@x\nc@x: b@x, d@x", "line 3: b@x leads back to itself: a@x, b@x, c@x, b@x"),
        ("\n".join(f"a{n}@x: a{n + 1}@x" for n in range(30)), "line 21: more than 20 aliases lead to a20@x from a0@x"),
        (
            "a@x: " + ", ".join(f"b{n}@x" for n in range(MOST_TARGETS + 1)),
            f"line 1: a@x has more than {MOST_TARGETS} targets",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_line(text: str, words: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the words are compared whole
        Aliases.parse(text)
    assert str(caught.value).startswith(words)


def test_aliases_that_meet_again_and_again_are_followed_once_each() -> None:
    """Two ways at each of twenty steps would be a million ways."""
    text = "\n".join(f"a{n}@x: a{n + 1}@x, b{n + 1}@x\nb{n}@x: a{n + 1}@x, b{n + 1}@x" for n in range(19))
    assert targets(text, "a0@x") == ["a19@x", "b19@x"]
