"""Recipient → mailbox: names are data."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmtp_twisted.backends.maildir.naming import MAX_NAME, Case, Layout, Naming, component
from lmtp_twisted.errors import PermanentFailure
from lmtp_twisted.wire.addresses import Address

USUAL = ("{domain}", "{local}")


def naming(*parts: str, case: Case = Case.FOLD) -> Naming:
    return Naming(parts or USUAL, case, "MX.example.org")


# Where mailboxes lie


def test_a_directory_without_placeholders_holds_a_directory_for_each_domain() -> None:
    assert Layout.parse("/srv/mail") == Layout("/srv/mail", USUAL)


def test_a_trailing_slash_changes_nothing() -> None:
    assert Layout.parse("/srv/mail/") == Layout("/srv/mail", USUAL)


def test_the_root_ends_where_the_first_placeholder_comes() -> None:
    assert Layout.parse("/home/{local}/Maildir") == Layout("/home", ("{local}", "Maildir"))


def test_a_placeholder_may_stand_beside_other_letters() -> None:
    assert Layout.parse("/srv/x-{local}@{domain}") == Layout("/srv", ("x-{local}@{domain}",))


def test_a_placeholder_may_stand_at_the_root_of_all() -> None:
    assert Layout.parse("/{local}") == Layout("/", ("{local}",))


def test_a_relative_directory_is_below_the_current_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon changes its directory later."""
    monkeypatch.chdir(tmp_path)
    assert Layout.parse("mail").root == f"{tmp_path}/mail"


def test_a_tilde_is_a_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """No shell expands it behind ``maildir:``."""
    monkeypatch.setenv("HOME", "/home/op")
    assert Layout.parse("~/mail").root == "/home/op/mail"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "needs a directory"),
        ("/srv/\0", "NUL"),
        ("/srv/{user}", r"\{user\} in '/srv/\{user\}' is unknown"),
        ("/srv/{detail}/{local}", r"\{detail\}"),
        ("/srv/mail,quota=1G", "',quota=1G' are not its options"),
        ("/srv/mail,create=no,own=er", "',create=no,own=er' are not its options"),
        ("/srv/{local},creat=no", "',creat=no' are not its options"),
    ],
)
def test_a_path_that_makes_no_sense_is_refused(path: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Layout.parse(path)


def test_a_directory_may_be_called_like_an_option_where_a_slash_ends_it() -> None:
    assert Layout.parse("/srv/a,b=c/").root == "/srv/a,b=c"


# The mailbox of an address


def test_domains_are_in_lower_case_and_local_parts_by_default_too() -> None:
    """RFC 5321 §2.4."""
    assert naming().mailbox_of(Address("Alice", "Example.ORG")) == ("example.org", "alice")


def test_local_parts_keep_their_case_where_it_is_kept() -> None:
    assert naming(case=Case.KEEP).mailbox_of(Address("Alice", "Example.ORG")) == ("example.org", "Alice")


@pytest.mark.parametrize("local", ["postmaster", "Postmaster", "POSTMASTER"])
def test_postmaster_is_one_mailbox_even_where_case_is_kept(local: str) -> None:
    """RFC 5321 §4.5.1."""
    assert naming(case=Case.KEEP).mailbox_of(Address(local, "a.example")) == ("a.example", "postmaster")


def test_a_recipient_without_a_domain_has_that_of_our_host() -> None:
    """RFC 5321 §4.5.1: ``<Postmaster>``."""
    assert naming().mailbox_of(Address("Postmaster", "")) == ("mx.example.org", "postmaster")


def test_names_that_look_the_same_are_the_same_mailbox() -> None:
    """RFC 6530 §10.1: normal form C."""
    composed, decomposed = "andr\u00e9", "andre\u0301"
    assert naming().mailbox_of(Address(decomposed, "a.example")) == naming().mailbox_of(Address(composed, "a.example"))


def test_fixed_names_stay_as_they_are() -> None:
    assert naming("{local}", "Maildir").mailbox_of(Address("A", "b.example")) == ("a", "Maildir")


def test_a_local_part_with_braces_is_no_placeholder() -> None:
    assert naming("{local}").mailbox_of(Address("{domain}", "b.example")) == ("{domain}",)


@pytest.mark.parametrize(
    "local",
    [
        "",
        ".",
        "..",
        ".hidden",
        "../etc",
        "a/b",
        "/",
        "a\0b",
        "a\nb",
        "a\x7f",
        "a\u2028b",
        "a" * 256,
        "\u00e9" * 128,
        "\ud800",
    ],
)
def test_what_cannot_be_one_name_is_refused(local: str) -> None:
    with pytest.raises(PermanentFailure) as refused:
        naming().mailbox_of(Address(local, "a.example"))
    assert (refused.value.code, refused.value.enhanced) == (553, "5.1.3")


@pytest.mark.parametrize("domain", ["..", "a/b", ".a"])
def test_a_domain_is_no_better_than_a_local_part(domain: str) -> None:
    with pytest.raises(PermanentFailure):
        naming().mailbox_of(Address("a", domain))


def test_a_name_of_two_parts_is_not_too_long_either() -> None:
    with pytest.raises(PermanentFailure):
        naming("{local}@{domain}").mailbox_of(Address("a" * 200, "b" * 100))


@pytest.mark.parametrize("local", ["a b", "-rf", "~", "$HOME", "a\\b", "*", "a" * MAX_NAME, "caf\u00e9", "a:2,S"])
def test_what_is_one_name_is_taken_as_it_is(local: str) -> None:
    """No shell ever sees it."""
    assert naming().mailbox_of(Address(local, "a.example")) == ("a.example", local.lower())


@given(st.text())
def test_a_component_is_one_name_in_one_directory(text: str) -> None:
    try:
        name = component(text)
    except PermanentFailure:
        return
    assert os.path.basename(name) == name
    assert name not in ("", ".", "..")
    assert not name.startswith(".")
    assert len(os.fsencode(name)) <= 255
    assert all(unicodedata.category(letter) != "Cc" for letter in name)
