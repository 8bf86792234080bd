"""What docs/architecture.rst says of the package is so."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter

import pytest
from docs_pages import ROOT

PACKAGE = ROOT / "lmtp_twisted"
PAGE = (ROOT / "docs" / "architecture.rst").read_text(encoding="utf-8")
#: The modules of each floor, from the top.
FLOORS = [text.split() for text in re.findall(r"^\.\. rooms::((?:\s+[\w.]+)+)", PAGE, re.MULTILINE)]
FLOOR_OF = {module: number for number, floor in enumerate(FLOORS) for module in floor}
#: All but the packages' own, which only gather names.
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if path.name != "__init__.py"
)


@cache
def imports_of(module: str) -> frozenset[str]:
    """The modules of the package that a module imports when it is imported itself."""
    tree = ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
    return frozenset(_imports(tree.body)) & frozenset(MODULES) - {module}


def _imports(nodes: list[ast.stmt]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                yield name.removeprefix("lmtp_twisted.")
        elif isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("lmtp_twisted.") for alias in node.names)


def test_every_module_has_a_room() -> None:
    """One, on one floor: a new one is to be written into the page."""
    rooms = [module for floor in FLOORS for module in floor]
    assert set(MODULES) - set(rooms) == set()
    assert set(rooms) - set(MODULES) == set()
    assert len(rooms) == len(set(rooms))


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_nothing_from_above(module: str) -> None:
    """Its own floor is as far up as it looks."""
    assert module in FLOOR_OF, "the page has no room for it"
    assert [other for other in imports_of(module) if FLOOR_OF[other] < FLOOR_OF[module]] == []


def test_no_two_modules_import_each_other() -> None:
    """Not by way of others either."""
    TopologicalSorter({module: imports_of(module) for module in MODULES}).prepare()


def test_sessions_and_backends_do_not_know_each_other() -> None:
    """The interfaces stand between them."""
    for module in ("factory", "protocol", "connection"):
        assert not [other for other in imports_of(module) if other.startswith("backends.")]


@pytest.mark.parametrize("module", [module for module in MODULES if module.startswith("wire.")])
def test_the_wire_needs_neither_twisted_nor_anything_that_does_io(module: str) -> None:
    """It could be lifted into another project."""
    tree = ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
    outside = {name.partition(".")[0] for name in _imports(tree.body) if name not in MODULES}
    assert outside.isdisjoint({"twisted", "zope", "os", "io", "socket", "time", "asyncio", "threading", "tempfile"})
