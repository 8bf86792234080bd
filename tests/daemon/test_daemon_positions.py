"""On which line each key of a TOML document stands: held against what the parser makes of the same document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmtp_twisted.daemon.positions import MOST_DEEP, parse

DOCUMENT = r'''# a comment = 1
a = 1
b."c d".'e' = [ 1, # ]
  "]", [2,
  3]]
[x]
y = """
"key" = 1
""""
z = {q = 1, r.s = "}"}
[[l.m]]
k = 1979-05-27 07:32:00
[l.m.n]
o = ["""a
]"""]
[[l.m]]
k = ''
[l.m.n]
"p\u0071" = 'x'
'''


def test_each_key_and_element_has_the_line_where_it_first_stands() -> None:
    _, lines = parse(DOCUMENT)
    assert {path: line for path, line in lines.items() if path} == {
        ("a",): 2,
        ("b",): 3,
        ("b", "c d"): 3,
        ("b", "c d", "e"): 3,
        ("b", "c d", "e", 0): 3,
        ("b", "c d", "e", 1): 4,
        ("b", "c d", "e", 2): 4,
        ("b", "c d", "e", 2, 0): 4,
        ("b", "c d", "e", 2, 1): 5,
        ("x",): 6,
        ("x", "y"): 7,
        ("x", "z"): 10,
        ("x", "z", "q"): 10,
        ("x", "z", "r"): 10,
        ("x", "z", "r", "s"): 10,
        ("l",): 11,
        ("l", "m"): 11,
        ("l", "m", 0): 11,
        ("l", "m", 0, "k"): 12,
        ("l", "m", 0, "n"): 13,
        ("l", "m", 0, "n", "o"): 14,
        ("l", "m", 0, "n", "o", 0): 14,
        ("l", "m", 1): 16,
        ("l", "m", 1, "k"): 17,
        ("l", "m", 1, "n"): 18,
        ("l", "m", 1, "n", "pq"): 19,
    }


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _paths(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _paths(inner, (*path, index))


def _at(value: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


# A document is written from random pieces. Numbers are all different, so the line of a number is known without reading.
_STRINGS = st.sampled_from(
    [
        *['"]"', '"a\\"b"', "'[x]'", '"""\n= "1\n""\\""""', '"""a"""""', "'''\n[t]\n''''", "'''''''", '"""\\\n   x"""'],
        *["1979-05-27 07:32:00", "07:32:00", "inf", "true", "1.5", '""', "''", '""""""'],
    ]
)
_KEYS = st.sampled_from(["a", "b-c", "1", '"d e"', "'f.g'", '"#"', '"="', "'\"'", '"\\u00e9"', '""'])
_GAPS = st.sampled_from(["", " ", "\t"])
_BREAKS = st.sampled_from(["", " ", "\n", "\n\n  # [c]\n", " # x = 1\n", "\r\n"])


@st.composite
def _values(draw: st.DrawFn, depth: int = 2) -> str:
    kind = draw(st.sampled_from(["number", "number", "string", "array", "table"])) if depth else "number"
    if kind == "number":
        return "N"
    if kind == "string":
        return draw(_STRINGS)
    if kind == "array":
        elements = draw(st.lists(_values(depth - 1), max_size=4))
        text = "".join(f"{draw(_BREAKS)}{element}{draw(_BREAKS)}," for element in elements)
        text = text[:-1] if draw(st.booleans()) else text
        return f"[{text}{draw(_BREAKS)}]"
    keys = draw(st.lists(_KEYS, max_size=3, unique=True))
    return "{" + ", ".join(f"{key}{draw(_GAPS)}={draw(_GAPS)}{draw(_values(depth - 1))}" for key in keys) + "}"


@st.composite
def _documents(draw: st.DrawFn) -> str:
    lines = []
    for _ in range(draw(st.integers(1, 8))):
        path = f"{draw(_GAPS)}.{draw(_GAPS)}".join(draw(st.lists(_KEYS, min_size=1, max_size=3)))
        kind = draw(st.sampled_from(["pair", "pair", "pair", "table", "array", "blank"]))
        lines.append(
            {
                "pair": lambda path: f"{draw(_GAPS)}{path} = {draw(_values())}",
                "table": lambda path: f"[{path}]",
                "array": lambda path: f"[[ {path} ]]",
                "blank": lambda path: "",
            }[kind](path)
            + draw(st.sampled_from(["", " # [y]", "\r"]))
        )
    text = "\n".join(lines)
    for number in range(1000, 1000 + text.count("N")):
        text = text.replace("N", str(number), 1)
    return text


@given(_documents())
def test_what_is_found_is_what_the_parser_finds_and_where_it_stands(text: str) -> None:
    try:
        data, lines = parse(text)
    except ValueError:
        return
    assert set(lines) == {path[:MOST_DEEP] for path in _paths(data)}
    # An array's or a table's line is that of its key.
    for path in lines:
        value = _at(data, path)
        if isinstance(value, int) and value >= 1000:
            assert lines[path] == text.count("\n", 0, text.index(str(value))) + 1


def test_the_documents_of_that_test_are_mostly_toml() -> None:
    """Else it would look at little."""
    seen: list[Mapping[Any, int]] = []

    @given(_documents())
    def look(text: str) -> None:
        try:
            seen.append(parse(text)[1])
        except ValueError:
            seen.append({})

    look()
    assert sum(len(lines) > 3 for lines in seen) > len(seen) / 4


@pytest.mark.parametrize(
    "text", ["a = [" + "\n1," * 20_000 + "]", '[a]\nb = """' + "x\n" * 20_000 + '"""', "#\n" * 50_000]
)
def test_a_long_document_takes_no_long_time(text: str) -> None:
    _, lines = parse(text)
    assert max(lines.values()) <= text.count("\n") + 1
