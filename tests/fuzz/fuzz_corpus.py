"""
The corpus: octets that are worth trying, and the words that they are made of.

``corpus/TARGET/NAME`` holds what a client could send, as it is. Whoever fixes a defect that was found this way puts
what showed it there.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
CORPUS = HERE / "corpus"
DICTIONARY = HERE / "dictionary"

#: Octets of the longest input: a command line with a few parameters, or a small session.
LONGEST = 700


@cache
def seeds(target: str) -> dict[str, bytes]:
    """The corpus of a target, by name."""
    return {path.name: path.read_bytes() for path in sorted((CORPUS / target).iterdir())}


@cache
def words() -> tuple[bytes, ...]:
    """The dictionary."""
    lines = re.findall(r'^".*"$', DICTIONARY.read_text(encoding="ascii"), re.MULTILINE)
    return tuple(ast.literal_eval(f"b{line}") for line in lines)
