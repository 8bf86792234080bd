"""The unit of the documentation starts the server that it seems to start."""

from __future__ import annotations

import shlex
from configparser import ConfigParser

import pytest
from docs_pages import INSTEAD, NOT_RUN, ROOT, blocks_of
from twisted.python.usage import UsageError
from twisted.scripts.twistd import ServerOptions

from lmtp_twisted.daemon import Options

(UNIT,) = (block for block in blocks_of(ROOT / "docs" / "postfix.rst") if block.language == "systemd")


def read(text: str) -> ConfigParser:
    """The sections and settings of a unit."""
    unit = ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # as configparser's documentation has it
    unit.read_string(text)
    return unit


def options_of(command: str) -> ServerOptions:
    """What twistd makes of a command line."""
    program, *arguments = shlex.split(command)
    assert program == "/opt/lmtp/bin/twistd"
    options = ServerOptions()
    options.parseOptions(arguments)
    return options


def test_the_unit_starts_the_server_in_the_foreground() -> None:
    """What it calls is known to twistd and to the server, and listens where Postfix looks."""
    options = options_of(read(UNIT.text)["Service"]["ExecStart"])
    assert options["nodaemon"]
    assert options["pidfile"] == ""
    assert options.subCommand == "lmtp"
    assert isinstance(options.subOptions, Options)
    assert options.subOptions["backend"] == "maildir:/srv/mail"
    assert options.subOptions["listen"] == ["unix:/var/spool/postfix/lmtp/socket"]


def test_the_unit_leaves_the_server_time_to_stop() -> None:
    """Sessions, ports, backends and threads may each take as long as the sessions get."""
    service = read(UNIT.text)["Service"]
    options = options_of(service["ExecStart"])
    assert int(service["TimeoutStopSec"]) > 4 * options.subOptions["drain-timeout"]


def test_the_unit_is_one_of_a_program_in_the_foreground() -> None:
    """With the user that the page makes, and the environment."""
    service = read(UNIT.text)["Service"]
    assert service["Type"] == "simple"
    owner = f"-o {service['User']} -g {service['Group']} "
    assert any(owner in command for command in INSTEAD)
    assert f"python3 -m venv {service['ExecStart'].partition('/bin/')[0]}" in NOT_RUN


@pytest.mark.parametrize("option", ["--no-such-option", "--max-sessions=many"])
def test_an_option_that_does_not_exist_is_found_out(option: str) -> None:
    """The tests above can fail."""
    with pytest.raises((UsageError, SystemExit)):
        options_of(f"{read(UNIT.text)['Service']['ExecStart']} {option}")
