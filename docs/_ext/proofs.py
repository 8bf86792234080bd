"""
``:proof:`protocol/test_limits.py test_so_are_sessions_of_each_peer```: the test that shows what stands before it. That
there is no such test is an error of the build.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst.states import Inliner

TESTS = Path(__file__).parents[2] / "tests"


def proof(
    _name: str, rawtext: str, text: str, lineno: int, inliner: Inliner, *_: Any
) -> tuple[list[nodes.Node], list[nodes.Node]]:
    """The role."""
    file, _, test = text.partition(" ")
    path = TESTS / file
    if not path.is_file() or not re.search(rf"^(async )?def {test}\(", path.read_text(encoding="utf-8"), re.MULTILINE):
        message = inliner.reporter.error(f"there is no test {test} in tests/{file}", line=lineno)
        return [inliner.problematic(rawtext, rawtext, message)], [message]
    return [nodes.literal(rawtext, f"{Path(file).stem}::{test}", classes=["proof"])], []


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_role("proof", proof)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
