"""What the pages make is what the unit of the service wants: a user, a program and places."""

from __future__ import annotations

import shlex
from configparser import ConfigParser
from pathlib import Path

import pytest
from docs_pages import INSTEAD, NOT_RUN, ROOT, Block, all_pages, blocks_of

from lmtp_twisted.daemon.positions import parse

UNIT = ROOT / "contrib" / "systemd" / "lmtp.service"
CONFIGURATIONS = [block for page in all_pages() for block in blocks_of(page) if block.file == "/etc/lmtp/lmtp.toml"]


def read() -> dict[str, str]:
    """Settings of the service."""
    unit = ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # as configparser's documentation has it
    unit.read(UNIT)
    return dict(unit["Service"])


def test_the_program_is_where_the_pages_put_it() -> None:
    """Behind a link."""
    program, *_ = shlex.split(read()["ExecStart"])
    (link,) = {command.split()[-1] for command in NOT_RUN if command.startswith("ln -sfn ") and "&&" not in command}
    assert program == f"{link}/bin/twistd"


def test_the_user_is_one_that_the_pages_make() -> None:
    """And the directories are theirs."""
    service = read()
    assert any(command.startswith("adduser ") and command.endswith(f" {service['User']}") for command in NOT_RUN)
    assert f"install -d -o {service['User']} -g {service['Group']} -m 700 /srv/mail" in INSTEAD
    assert f"install -d -g {service['Group']} -m 750 /etc/lmtp" in INSTEAD


@pytest.mark.parametrize("block", [pytest.param(block, id=block.place) for block in CONFIGURATIONS])
def test_mail_goes_where_the_service_may_write(block: Block) -> None:
    """All else is read-only to it."""
    backend = parse(block.text)[0]["backend"]
    place = Path(backend.removeprefix("maildir:").partition(",")[0])
    assert place == Path(read()["ReadWritePaths"].removeprefix("-"))


def test_there_is_one_unit_of_this_name() -> None:
    """No page has another one, which would take the place of what contrib/systemd has."""
    units = [block for page in all_pages() for block in blocks_of(page) if block.language == "systemd"]
    assert [block.file for block in units] == ["contrib/systemd/lmtp.service"]
