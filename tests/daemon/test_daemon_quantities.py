"""Numbers on the command line."""

from __future__ import annotations

import pytest

from lmtp_twisted.daemon.quantities import count, octets, seconds


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("1000", 1000), ("1k", 1024), ("50M", 50 * 1024**2), ("2g", 2 * 1024**3), ("010", 10)],
)
def test_a_size_is_a_number_of_octets_with_a_power_of_1024(text: str, value: int) -> None:
    assert octets(text) == value


@pytest.mark.parametrize("text", ["", "M", "-1", "1.5M", "1MB", "1 M", "1e6", "9" * 16, "\u0661", "1_000", "0x10"])
def test_what_is_no_size_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a size such as 1000000, 500k, 50M or 2G"):
        octets(text)


@pytest.mark.parametrize(("text", "value"), [("0", 0.0), ("300", 300.0), ("0.25", 0.25), ("1000000", 1e6)])
def test_seconds_may_have_decimals(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "-1", "nan", "inf", "1e3", "1000001", "5m", ".5", "1.", "1_0"])
def test_seconds_are_finite_and_not_negative(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a number of seconds from 0 to 1000000"):
        seconds(text)


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("1000", 1000)])
def test_a_count_is_a_whole_number(text: str, value: int) -> None:
    assert count(text) == value


@pytest.mark.parametrize("text", ["", "-1", "1.0", "ten", "1k", "\u0663", "1" * 10])
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a whole number"):
        count(text)
