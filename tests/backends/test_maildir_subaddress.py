"""Local parts taken apart: RFC 5233, and the names of folders."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lmtp_twisted.backends.maildir.naming import Case, Naming
from lmtp_twisted.backends.maildir.subaddress import MAX_NAME, Detail, Subaddresses, folder_of, utf7
from lmtp_twisted.errors import PermanentFailure
from lmtp_twisted.wire.addresses import Address

TO_FOLDERS = Subaddresses(Detail.FOLDER)


def mailbox_of(local: str, subaddresses: Subaddresses = TO_FOLDERS, case: Case = Case.FOLD) -> tuple[str, ...]:
    return Naming(("{domain}", "{local}"), case, "mx.example.org", subaddresses).mailbox_of(Address(local, "x"))


def test_a_detail_is_ignored_by_default() -> None:
    assert mailbox_of("bob+lists", Subaddresses()) == ("x", "bob")


def test_a_detail_names_a_folder() -> None:
    assert mailbox_of("bob+lists") == ("x", "bob", ".lists")


def test_dots_stand_between_the_levels_of_folders() -> None:
    assert mailbox_of("bob+lists.python.dev") == ("x", "bob", ".lists.python.dev")


def test_the_first_separator_counts() -> None:
    assert mailbox_of("bob+a+b") == ("x", "bob", ".a+b")


def test_there_can_be_several_separators() -> None:
    both = Subaddresses(Detail.FOLDER, "+-")
    assert mailbox_of("bob-a+b", both) == ("x", "bob", ".a+b")
    assert mailbox_of("bob+a-b", both) == ("x", "bob", ".a-b")


def test_without_a_separator_local_parts_are_whole() -> None:
    assert mailbox_of("bob+lists", Subaddresses(Detail.FOLDER, "")) == ("x", "bob+lists")


def test_what_begins_with_the_separator_is_a_user() -> None:
    assert mailbox_of("+lists") == ("x", "+lists")
    assert mailbox_of("+bob+lists") == ("x", "+bob", ".lists")


def test_the_user_is_folded_and_the_folder_is_not() -> None:
    """RFC 3501 §5.1: but for INBOX the names of folders are sensitive to case."""
    assert mailbox_of("Bob+Lists") == ("x", "bob", ".Lists")
    assert mailbox_of("Postmaster+Lists", case=Case.KEEP) == ("x", "postmaster", ".Lists")


def test_a_user_that_no_mailbox_can_have_is_refused_with_a_detail_too() -> None:
    with pytest.raises(PermanentFailure):
        mailbox_of("..+lists")


@pytest.mark.parametrize(
    "detail",
    [
        "",
        ".",
        "..",
        ".a",
        "a.",
        "a..b",
        "../b",
        "a/b",
        "/",
        "\0",
        "a\nb",
        "\x7f",
        "INBOX",
        "inbox",
        "Inbox.a",
        "a" * 255,
        "ü" * 100,
        ".".join("a" * 21),
        "\ud800",
    ],
)
def test_what_no_folder_can_be_called_is_as_no_detail(detail: str) -> None:
    """The mail is the user's, and what its writer wished for is not there."""
    assert mailbox_of(f"bob+{detail}") == ("x", "bob")


@pytest.mark.parametrize("name", ["cur", "new", "tmp", "maildirfolder", "maildirsize", "~", "*", "a b", "-x"])
def test_a_folder_can_be_called_as_what_is_in_a_maildir(name: str) -> None:
    """The dot before it keeps them apart."""
    assert folder_of(name) == f".{name}"


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("plain", "plain"),
        ("a&b", "a&-b"),
        ("&&", "&-&-"),
        # The example of RFC 3501 §5.1.3, level by level.
        ("~peter", "~peter"),
        ("台北", "&U,BTFw-"),
        ("日本語", "&ZeVnLIqe-"),
        ("Entwürfe", "Entw&APw-rfe"),
        ("😀", "&2D3eAA-"),
    ],
)
def test_names_are_in_modified_utf_7(text: str, encoded: str) -> None:
    """RFC 3501 §5.1.3."""
    assert utf7(text) == encoded


def decoded(text: str) -> str:
    """RFC 3501 §5.1.3 the other way round, by Python's UTF-7."""

    def plain(match: re.Match[str]) -> str:
        return "&" if not match[1] else f"+{match[1].replace(',', '/')}-".encode().decode("utf-7")

    return re.sub("&([^-]*)-", plain, text)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=50))
def test_no_two_names_have_the_same_encoding(text: str) -> None:
    encoded = utf7(text)
    assert re.fullmatch("[\x20-\x7e]*", encoded)
    assert decoded(encoded) == text


@given(st.text(max_size=300))
@example("../../etc")
@example("a" * 254)
def test_no_detail_leads_out_of_the_mailbox(detail: str) -> None:
    """One name in one directory, never that of what is there already."""
    name = folder_of(detail)
    if name is not None:
        assert re.fullmatch(r"(\.[\x20-\x2d\x30-\x7e]+)+", name)
        assert len(name.encode()) <= MAX_NAME
        assert name.upper() != ".INBOX"


@pytest.mark.parametrize("separator", ["a", "+1", "/", "@", ".", " ", "ü", '"', "\\"])
def test_what_stands_in_ordinary_names_is_no_separator(separator: str) -> None:
    with pytest.raises(ValueError, match="separator is punctuation"):
        Subaddresses(separator=separator)
