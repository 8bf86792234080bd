"""Which recipients a pattern means, and that none of them can keep the server busy."""

from __future__ import annotations

import sys
import time

import pytest

from lmtp_twisted.patterns import compile_pattern, text_of
from lmtp_twisted.wire.addresses import Address


def matches(pattern: str, address: str) -> bool:
    local, _, domain = address.rpartition("@") if "@" in address else (address, "", "")
    return bool(compile_pattern(pattern)(text_of(Address(local, domain))))


@pytest.mark.parametrize(
    ("pattern", "address"),
    [
        ("user@example.org", "User@EXAMPLE.org"),
        ("@example.org", "anybody@example.org"),
        ("*.example.org", "a@lists.example.org"),
        ("user+*@example.org", "user+lists@example.org"),
        ("user+*@*", "user+@example.net"),
        ("/^[0-9]+@/", "12@example.org"),
        ("/^(bounce|owner)-/", "OWNER-list@example.org"),
        ("/EXAMPLE\\.org$/", "a@example.org"),
        ("/^postmaster@$/", "Postmaster"),
        ("J\xf6rg@ex\xe4mple.org", "jo\u0308rg@exa\u0308mple.org"),
        ("jo\u0308rg@exa\u0308mple.org", "j\xf6rg@ex\xe4mple.org"),
        ("/^jo\u0308rg@/", "j\xf6rg@ex\xe4mple.org"),
        ("/^j\xf6rg@/", "JO\u0308RG@ex\xe4mple.org"),
    ],
)
def test_a_pattern_means_these(pattern: str, address: str) -> None:
    assert matches(pattern, address)


@pytest.mark.parametrize(
    ("pattern", "address"),
    [
        ("@example.org", "a@lists.example.org"),
        ("@example.org", "Postmaster"),
        ("user+*@example.org", "user@example.org"),
        ("user+*@example.org", "other+user@example.org"),
        ("/^[0-9]+@/", "a12@example.org"),
        ("/example.org$/", "example.org@example.net"),
    ],
)
def test_a_pattern_does_not_mean_these(pattern: str, address: str) -> None:
    assert not matches(pattern, address)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("//", "between slashes"),
        ("/x", "between slashes"),
        ("/(/", "missing"),
        (r"/(a)\1/", "invalid escape"),
        ("/a{2000}/", "repetition size"),
        ("/((a{100}){100}){100}/", "repetition|too large"),
    ],
)
def test_what_is_no_expression_of_re2_is_refused(pattern: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        compile_pattern(pattern)


def test_without_re2_an_expression_is_refused_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "re2", None)
    with pytest.raises(ValueError, match=r"pip install 'lmtp-twisted\[re2\]'"):
        compile_pattern("/x/")
    assert matches("*.example.org", "a@b.example.org")


@pytest.mark.parametrize(
    "pattern", ["/^(([a-z])+.)+[A-Z]([a-z])+$/", "/(a*)*(a*)*b/", "/(x|xx|a|aa|aaa)+$/", "*a*a*a*a*a*a*b"]
)
def test_no_address_keeps_a_pattern_busy(pattern: str) -> None:
    """256 octets are what a path may have (RFC 5321 §4.5.3.1.3); a backtracking matcher takes ages for these."""
    match = compile_pattern(pattern)
    start = time.process_time()
    for _ in range(100):
        match("a" * 250 + "@")
    assert time.process_time() - start < 1
