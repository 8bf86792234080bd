"""What the tests of packages share: our own wheel."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from wheels import CHECKOUT, build_wheel


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is packed, since building leaves traces; with what Twisted leaves beside plugins."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, copy)
    for name in ("lmtp_twisted", "twisted"):
        shutil.copytree(CHECKOUT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "dropin.cache"))
    (copy / "twisted/plugins/dropin.cache").write_bytes(b"")
    return copy


@pytest.fixture(scope="session")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our wheel."""
    return build_wheel(checkout, tmp_path_factory.mktemp("wheel"))
