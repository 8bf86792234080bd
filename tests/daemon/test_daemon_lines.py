"""The form of a line of the log."""

from __future__ import annotations

import ast
import json
import os
import re
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmtp_twisted.daemon.forms import TEXT
from lmtp_twisted.daemon.lines import indented, one_line, quoted, word


@pytest.fixture
def _east_of_greenwich() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "XYZ-05:30"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.usefixtures("_east_of_greenwich")
def test_a_line_says_when_how_grave_who_and_what() -> None:
    # A second that no other test asks for, since the text of seconds is kept.
    assert TEXT.event(1700000001.0625, "info", "lmtp", "text") == "2023-11-15T03:43:21.062+0530 info [lmtp] text"


def test_a_whole_second_has_its_thousandths() -> None:
    assert ".000" in TEXT.event(1700000002.0, "info", "lmtp", "text")


def test_text_that_is_printable_stays_as_it_is() -> None:
    assert one_line('plain "text" \\ of Zoë and 山田') == 'plain "text" \\ of Zoë and 山田'


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a\r\nb", r"a\r\nb"),
        ("\x00\x1b[31m\x7f", r"\x00\x1b[31m\x7f"),
        ("\x85\x9b", r"\x85\x9b"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("\u202eevil", r"\u202eevil"),
        ("\udcff", r"\udcff"),
        ("\U000e0001", r"\U000e0001"),
    ],
)
def test_what_is_not_printable_is_escaped(text: str, escaped: str) -> None:
    assert one_line(text) == escaped


@given(st.text(st.characters(codec=None)))
def test_a_line_is_one_line_and_can_be_encoded_whatever_its_text(text: str) -> None:
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    assert line.isprintable()
    line.encode("utf-8")


def test_a_traceback_has_a_line_for_each_of_its_own_all_indented() -> None:
    assert indented("Traceback:\n  File x\nError: a\rb\n") == [
        "    Traceback:",
        "      File x",
        r"    Error: a\rb",
    ]


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain+Zoë@example.org", "plain+Zoë@example.org"),
        ('"a b"@example.org', r'"a\x20b"@example.org'),
        (r'"a\x20b"@example.org', r'"a\\x20b"@example.org'),
        ("a\u00a0b", r"a\xa0b"),
    ],
)
def test_a_word_has_no_blanks_and_can_be_read_back(text: str, escaped: str) -> None:
    assert word(text) == escaped


@given(st.text(st.characters(codec=None)))
def test_a_word_is_one_word_whatever_its_text(text: str) -> None:
    assert len(word(text).split()) <= 1
    if "'" not in text and not re.search("[\ud800-\udfff]", text):
        assert ast.literal_eval(f"'{word(text)}'") == text


@given(st.text(st.characters(codec=None)))
def test_a_string_of_json_is_one_printable_line_and_means_its_text(text: str) -> None:
    line = quoted(text)
    assert line.isprintable()
    line.encode("utf-8")
    if not re.search("[\ud800-\udfff]", text):
        assert json.loads(line) == text
