"""
What was said of the options, and where: so that whatever is wrong with a value, and whenever that is found, can be told
with the option of the command line or the line of the file that says it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from operator import itemgetter
from typing import Any

import attrs

from lmtp_twisted.backends.description import without_passwords
from lmtp_twisted.daemon.lines import one_line
from lmtp_twisted.daemon.values import OPTIONS
from lmtp_twisted.settings import Settings

#: Faults that are told at a time; a file that is no configuration at all has any number.
MOST_FAULTS = 100


@attrs.frozen
class Place:
    """
    Where something was said.

    :ivar name: what it is called there: ``--tls-key``, or ``listeners.mta.tls-key``.
    :ivar line: in which file and on which line, as ``lmtp.toml:12``; empty for the command line.
    :ivar directory: where relative paths begin; ``None`` is the current directory.
    """

    name: str
    line: str = ""
    directory: str | None = None

    def __str__(self) -> str:
        return f"{self.line}: {self.name}" if self.line and self.name else self.line or self.name

    def saying(self, value: object) -> Place:
        """The same, with the value on a command line, which has no lines to count."""
        return self if self.line else attrs.evolve(self, name=f"{self.name} {value}")

    def calls(self, option: str) -> str:
        """What another option is called there."""
        return option if self.line else f"--{option}"


class Fault(ValueError):
    """
    Something that was said will not do.

    :param place: where it was said.
    :param rest: what is wrong, to follow the name.
    """

    def __init__(self, place: Place, rest: str) -> None:
        super().__init__(without_passwords(f"{place}{rest}"))
        self.place = place
        self.rest = rest

    @property
    def text(self) -> str:
        """The line that tells it."""
        return one_line(str(self)) if self.place.line else plain_line(self)


class Told(ValueError):
    """Something is missing because of what was told already."""


def blame(place: Place, error: ValueError) -> ValueError:
    """
    :param place: where it was said.
    :param error: what is wrong.
    :returns: the fault of this place, unless it is somebody else's already.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, (Fault, Told)):
            return cause
        cause = cause.__cause__
    return Fault(place, f": {error}")


def plain_line(error: object) -> str:
    """The line that tells what is wrong where no file is to blame."""
    return f"twistd lmtp: {one_line(str(error))}"


class Faults(Exception):
    """
    All that is wrong, as far as it can be found at a time.

    :param lines: one for each fault.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__()
        self._found: list[tuple[float, str]] = [(0, line) for line in lines]
        self._told: set[str] = set()

    @property
    def lines(self) -> list[str]:
        """One for each fault: what no file is to blame for, and the others as they stand in theirs."""
        return [line for _, line in sorted(self._found, key=itemgetter(0))]

    def add(self, error: ValueError, listener: str = "") -> None:
        """
        One more, unless it was told already.

        :param listener: for which it matters.
        :raises Faults: this one, where they are too many.
        """
        place = error.place if isinstance(error, Fault) else Place("")
        line = error.text if isinstance(error, Fault) else plain_line(error)
        if isinstance(error, Told) or line in self._told:
            return
        self._told.add(line)
        if listener and place.line and not place.name.startswith(listener):
            line = f"{line} (for {listener})"
        self._found.append((float(place.line.rpartition(":")[2] or 0), line))
        if len(self._found) >= MOST_FAULTS:
            rest = f"more than {MOST_FAULTS - 1} faults, and the rest is not looked for"
            self._found.append((math.inf, plain_line(rest)))
            raise self

    @contextmanager
    def caught(self, listener: str = "") -> Iterator[None]:
        """What is wrong in the block is one more."""
        try:
            yield
        except ValueError as error:
            self.add(error, listener)

    def end(self) -> None:
        """
        That was all.

        :raises Faults: this one, where there are any.
        """
        if self._found:
            raise self


class Said:
    """
    The values of options, some of them said here and the others below.

    :param values: by the options' names.
    :param place: where an option was said, or one of its elements by its number.
    :param below: asked for the rest.
    """

    def __init__(
        self, values: Mapping[str, Any], place: Callable[[str, int | str | None], Place], below: Said | None = None
    ) -> None:
        self.values = values
        self._place = place
        self._below = below

    def over(self, below: Said) -> Said:
        """The same, with something else below."""
        return Said(self.values, self._place, below)

    def where(self, values: Mapping[str, Any]) -> Said:
        """The same places, and other values."""
        return Said(values, self._place, self._below)

    def _layer(self, key: str) -> Said:
        layer = self
        while key not in layer.values and layer._below is not None:
            layer = layer._below
        return layer

    def settings(self) -> Settings:
        """
        Those of the options that are fields of it.

        :raises ValueError: where the name of this machine will not do.
        """
        values = {option.field: self[key] for key, option in OPTIONS.items() if option.field is not None}
        if values["hostname"] is None:
            del values["hostname"]
        return Settings(**values)

    def __getitem__(self, key: str) -> Any:
        return self._layer(key).values[key]

    def place(self, key: str, index: int | str | None = None) -> Place:
        """Where an option was said, or one of its elements."""
        return self._layer(key)._place(key, index)

    def fault(self, key: str, rest: str, index: int | str | None = None) -> Fault:
        """What is wrong with an option, to be raised."""
        return Fault(self.place(key, index), rest)

    @contextmanager
    def blamed(self, key: str, index: int | str | None = None) -> Iterator[None]:
        """What is wrong in the block is this option's fault, unless it is somebody else's already."""
        try:
            yield
        except ValueError as error:
            raise blame(self.place(key, index), error)


def on_command_line(key: str, _index: int | str | None = None) -> Place:
    """The place of an option of the command line."""
    return Place(f"--{key}")
