"""The lines of maildirsize."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmtp_twisted.backends.maildir.maildirsize import Limits, Record, Usage

COUNTS = st.integers(0, 10**15)


@pytest.mark.parametrize(
    ("text", "octets", "messages"),
    [
        ("1000", 1000, 0),
        ("500k", 500 * 1024, 0),
        ("50M", 50 * 1024**2, 0),
        ("1G", 1024**3, 0),
        ("2T", 2 * 1024**4, 0),
        ("1g:10000", 1024**3, 10000),
        ("0:10000", 0, 10000),
    ],
)
def test_a_limit_is_octets_and_perhaps_messages(text: str, octets: int, messages: int) -> None:
    assert Limits.parse(text) == Limits(octets, messages)


@pytest.mark.parametrize(
    "text", ["", "0", "0:0", "G", "1GB", "-1", "1.5G", ":10", "1G:", "1G:1k", "1 G", "1" * 13, "\u0661"]
)
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="quota is octets such as 1G") as refused:
        Limits.parse(text)
    assert repr(text) in str(refused.value)


@pytest.mark.parametrize(
    ("limits", "usage", "holds"),
    [
        (Limits(10), Usage(10, 1000), True),
        (Limits(10), Usage(11, 1), False),
        (Limits(0, 2), Usage(10**12, 2), True),
        (Limits(0, 2), Usage(0, 3), False),
        (Limits(10, 2), Usage(10, 2), True),
        (Limits(10, 2), Usage(11, 2), False),
        (Limits(10, 2), Usage(10, 3), False),
    ],
)
def test_a_limit_can_be_reached_and_not_passed(limits: Limits, usage: Usage, holds: bool) -> None:
    assert limits.hold(usage) is holds


@pytest.mark.parametrize(
    ("limits", "line"),
    [(Limits(1000), b"1000S\n"), (Limits(1000, 10), b"1000S,10C\n"), (Limits(0, 10), b"10C\n")],
)
def test_limits_are_written_as_others_write_them(limits: Limits, line: bytes) -> None:
    """Maildir++: S is octets, C is messages; what has no limit is left out."""
    assert limits.line == line


@pytest.mark.parametrize(
    ("data", "limits", "usage", "lines"),
    [
        (b"1000S\n0 0\n", Limits(1000), Usage(), 1),
        (b"1000S,10C\n100 2\n-50 -1\n", Limits(1000, 10), Usage(50, 1), 2),
        (b"10C,1000S\n100 2\n", Limits(1000, 10), Usage(100, 2), 1),
        # Courier fills its lines up with blanks.
        (b"1000S\n        1234            1\n", Limits(1000), Usage(1234, 1), 1),
        (b"1000S\n1234            1\n", Limits(1000), Usage(1234, 1), 1),
        # Dovecot without limits of its own, and what is left of an old one.
        (b"0S\n5 1\n", Limits(0), Usage(5, 1), 1),
        (b"NOQUOTA\n5 1\n", None, Usage(5, 1), 1),
        (b"\n5 1\n", None, Usage(5, 1), 1),
    ],
)
def test_what_others_write_is_read(data: bytes, limits: Limits | None, usage: Usage, lines: int) -> None:
    assert Record.parse(data) == Record(data, limits, usage, lines)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"1000S\n",
        b"1000S\n5 1",
        b"1000S\n5\n",
        b"1000S\n5 1 2\n",
        b"1000S\n5 x\n",
        b"1000S\n5 1\n\n",
        b"1000S\n5 1\n\0\0\0\0\n",
        b"1000S\n5 -1\n",
        b"1000S\n-5 1\n",
        b"1000S\n5.0 1\n",
    ],
)
def test_what_makes_no_sense_is_not_believed(data: bytes) -> None:
    assert Record.parse(data) is None


@given(COUNTS, COUNTS, st.lists(st.tuples(COUNTS, COUNTS), min_size=1))
def test_what_was_written_is_read(octets: int, messages: int, added: list[tuple[int, int]]) -> None:
    limits = Limits(octets or 1, messages)
    usages = [Usage(*each) for each in added]
    data = limits.line + b"".join(usage.line for usage in usages)
    whole = Record.parse(data)
    assert whole == Record(data, limits, sum(usages, Usage()), len(usages))
    # And so it is a line at a time.
    grown = Record.parse(limits.line + usages[0].line)
    for usage in usages[1:]:
        assert grown is not None
        grown = grown.extended(usage.line)
    assert grown == whole


@given(st.binary(max_size=100))
def test_any_octets_are_read_or_are_not(data: bytes) -> None:
    record = Record.parse(data)
    assert record is None or min(record.usage.octets, record.usage.messages) >= 0
