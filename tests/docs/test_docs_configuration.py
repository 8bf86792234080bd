"""What the pages say of the configuration file is what it takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from docs_pages import ROOT, Block, all_pages, blocks_of

from lmtp_twisted.daemon.configuration import read_configuration
from lmtp_twisted.daemon.said import Faults
from lmtp_twisted.daemon.values import OPTIONS

PAGE = ROOT / "docs/configuration.rst"
TOML = [
    block
    for page in all_pages()
    for block in blocks_of(page)
    if block.language == "toml" and block.file != "pyproject.toml"
]
#: Files that a page shows since something is wrong with their keys or values.
WRONG = {"wrong.toml"}
#: Keys that are no options.
TABLES = {"backends", "listeners", "pattern", "type", "argument"}


@pytest.mark.parametrize("block", [pytest.param(block, id=block.place) for block in TOML])
def test_a_file_on_a_page_has_keys_and_values_that_exist(block: Block, tmp_path: Path) -> None:
    (tmp_path / "lmtp.toml").write_text(block.text)
    if block.file in WRONG:
        with pytest.raises(Faults):
            read_configuration(str(tmp_path / "lmtp.toml"))
    else:
        read_configuration(str(tmp_path / "lmtp.toml"))


def test_the_page_shows_some_files() -> None:
    assert {block.file for block in TOML} >= {"lmtp.toml", *WRONG}


def test_every_key_in_the_text_of_the_page_exists() -> None:
    """Words in literals are keys, unless they have anything that a key has not."""
    text = PAGE.read_text(encoding="utf-8")
    keys = set(re.findall(r"``([a-z][a-z-]*)``", text)) | set(re.findall(r"``([a-z][a-z-]*) = [^`]*``", text))
    assert "tls-key" in keys
    assert keys <= OPTIONS.keys() | TABLES
