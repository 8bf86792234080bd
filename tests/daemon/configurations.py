"""Configuration files for tests, and what is said of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmtp_twisted.daemon import Options
from lmtp_twisted.daemon.configuration import Configuration, read_configuration
from lmtp_twisted.daemon.said import Faults

#: A name that is not that of any directory in a message.
NAME = "lmtp.toml"


def configured(text: str | bytes, directory: Path) -> Configuration:
    """What a file says."""
    path = directory / NAME
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_configuration(str(path))


def faults_of(text: str | bytes, directory: Path) -> list[str]:
    """The lines that tell what is wrong with a file, without its directory."""
    with pytest.raises(Faults) as raised:
        configured(text, directory)
    assert all(line.isprintable() for line in raised.value.lines)
    return [line.removeprefix(f"{directory}/") for line in raised.value.lines]


def parsed(*arguments: str) -> Options:
    """A command line, read."""
    options = Options()
    options.parseOptions(arguments)
    return options
