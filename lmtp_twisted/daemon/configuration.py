"""
The configuration file: TOML, with a key for each option and tables of backends and listeners.

What is read here is text and its meaning. Nothing is opened, made or tried but the file itself, so a file can be read
while a server runs.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import attrs

from lmtp_twisted.daemon.checkers import below_directory as checker_below
from lmtp_twisted.daemon.lines import one_line
from lmtp_twisted.daemon.listening import below_directory as endpoint_below
from lmtp_twisted.daemon.positions import Path, parse
from lmtp_twisted.daemon.said import Fault, Faults, Place, Said, Told, blame
from lmtp_twisted.daemon.values import OPTIONS, Kind, split_route
from lmtp_twisted.directories.description import below_directory as directory_below

#: Octets of a file, and characters of a line of it, beyond which it is not a configuration.
MOST_OCTETS = 1024 * 1024
MOST_OF_LINE = 8192

#: Options that say where to listen. A listener has one of them.
PLACES = ("port", "listen", "listen-tls")

# Where a listener differs from the list of options.
_OF_LISTENER = {
    **{key: option for key, option in OPTIONS.items() if option.is_of_listener},
    "listen": attrs.evolve(OPTIONS["listen"], kind=Kind.TEXT, read=str),
    "listen-tls": attrs.evolve(OPTIONS["listen-tls"], kind=Kind.TEXT, read=str),
}
#: Options that have no value by default, which can be said in a listener by ``false``.
CAN_BE_OFF = ("aliases", "directory", "tls-certificate", "tls-client-ca")

# What a listener does not get from above where it has the first: the second belongs to it, the rest need one at all.
_GO_WITH = {
    "tls-certificate": ["tls-key", "tls-client-ca", "tls-require-client"],
    "directory": ["directory-query", "directory-for", "directory-backend"],
}
# Options whose descriptions may hold a path, and what makes it an absolute one.
_WITH_PATHS: Mapping[str | int, Callable[[str, str], str]] = {
    "auth": checker_below,
    "directory": directory_below,
    "http": endpoint_below,
    "listen": endpoint_below,
    "listen-tls": endpoint_below,
}
_TABLES = ("backends", "listeners")
_OF_ROUTE = ("pattern", "backend")
# How names of things are shown in messages, and what may be one.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_MOST_SHOWN = 60
_WHERE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)\Z")
_TYPES = {
    str: "a string",
    dict: "a table",
    bool: "a boolean",
    int: "a whole number",
    float: "a number with a point",
    list: "an array",
}


@attrs.frozen
class NamedBackend:
    """
    A backend of the table ``backends``.

    :ivar place: where it stands.
    :ivar description: as for ``--backend``; or ``None``, and then the rest is given.
    :ivar kind: the word before the first colon of a description.
    :ivar argument: what would follow it.
    :ivar options: by their keys.
    :ivar places: where each of the options stands.
    """

    place: Place
    description: str | None
    kind: str = ""
    argument: str = ""
    options: Mapping[str, str] = attrs.field(factory=dict)
    places: Mapping[str, Place] = attrs.field(factory=dict)


@attrs.frozen
class Configuration:
    """
    :ivar path: of the file, as it was given.
    :ivar said: the options.
    :ivar backends: those that have a name.
    :ivar listeners: by their names, what each says of itself.
    :ivar text: what it says.
    """

    path: str
    said: Said
    backends: Mapping[str, NamedBackend]
    listeners: Mapping[str, Said]
    text: str = attrs.field(repr=False)


def read_configuration(path: str, text: str | None = None) -> Configuration:
    """
    :param path: of the file.
    :param text: what it says, where somebody else has read it.
    :raises Faults: with a line for each fault.
    """
    try:
        if text is None:
            text = _text_of(path)
    except OSError as error:
        raise Faults(f"{_shown(path)}: {error.strerror}")
    try:
        data, positions = parse(text)
    except RecursionError:
        raise Faults(f"{_shown(path)}: too many brackets in one another")
    except ValueError as error:
        raise Faults(_syntax(path, text, str(error)))
    return _Reader(path, positions).read(data, text)


def _text_of(path: str) -> str:
    try:
        is_file = stat.S_ISREG(os.stat(path).st_mode)
    except ValueError:
        raise Faults(f"{_shown(path)}: not the name of a file")
    if not is_file:
        # Not read: a pipe may keep us waiting, and cannot be read again.
        raise Faults(f"{_shown(path)}: not a file")
    with open(path, "rb") as file:
        data = file.read(MOST_OCTETS + 1)
    if len(data) > MOST_OCTETS:
        raise Faults(f"{_shown(path)}: more than {MOST_OCTETS} octets")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise Faults(f"{_shown(path)}:{number}: not UTF-8")
    for number, line_text in enumerate(text.split("\n"), 1):
        if len(line_text) > MOST_OF_LINE:
            raise Faults(f"{_shown(path)}:{number}: more than {MOST_OF_LINE} characters; an array may have many lines")
    return text


def _syntax(path: str, text: str, message: str) -> str:
    """The parser's message with the line where others have it."""
    found = _WHERE.search(message)
    if found is None:
        return f"{_shown(path)}: {_shown(message)}"
    last = len(text.rstrip("\n").split("\n"))
    return f"{_shown(path)}:{found[1] or last}: {_shown(message[: found.start()])}"


def _shown(text: str, most: int = 4 * _MOST_SHOWN) -> str:
    text = one_line(text)
    return text if len(text) <= most else text[: most - 1] + "…"


def _key_shown(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) and len(key) <= _MOST_SHOWN else f'"{_shown(key, _MOST_SHOWN)}"'


class _Reader:
    def __init__(self, path: str, positions: Mapping[Path, int]) -> None:
        self._path = path
        self._directory = os.path.dirname(os.path.abspath(path))
        self._positions = positions
        self._faults = Faults()

    def read(self, data: dict[str, Any], text: str) -> Configuration:
        options = {key: value for key, value in data.items() if key not in _TABLES}
        said = self._options((), options, OPTIONS)
        backends = {
            name: backend
            for name, value in self._table("backends", data).items()
            if (backend := self._backend(name, value)) is not None
        }
        listeners = {name: self._listener(name, value) for name, value in self._table("listeners", data).items()}
        self._faults.end()
        return Configuration(self._path, said, backends, listeners, text)

    # Places

    def _place(self, *path: str | int) -> Place:
        while path not in self._positions:
            path = path[:-1]
        name = ""
        for key in path:
            name += f"[{key + 1}]" if isinstance(key, int) else f"{'.' * bool(name)}{_key_shown(key)}"
        return Place(name, f"{_shown(self._path)}:{self._positions[path]}", self._directory)

    def _refuse(self, path: Path, rest: str) -> None:
        self._faults.add(Fault(self._place(*path), rest))

    # Tables

    def _table(self, name: str, data: dict[str, Any]) -> dict[str, Any]:
        table = data.get(name, {})
        if not isinstance(table, dict):
            self._refuse((name,), f" is a table of tables, as [{name}.NAME], not {_type_of(table)}")
            return {}
        for key in table:
            if not _NAME.fullmatch(key):
                self._refuse((name, key), ": a name has letters, digits, - and _")
        return {key: value for key, value in table.items() if _NAME.fullmatch(key)}

    def _options(self, path: tuple[str, ...], table: dict[str, Any], known: Mapping[str, Any]) -> Said:
        values: dict[str, Any] = {}
        for key, value in table.items():
            place = (*path, key)
            if key not in known:
                self._refuse(place, _unknown(key, known, path))
                continue
            with self._faults.caught():
                if value is False and key in CAN_BE_OFF:
                    values[key] = None
                    continue
                given = self._given(place, value, known[key].kind)
                try:
                    values[key] = known[key].read(given)
                except ValueError as error:
                    raise Fault(self._place(*place), f": {error}")
        return Said(values, lambda key, index: self._place(*path, key, *([] if index is None else [index])))

    def _given(self, path: Path, value: Any, kind: Kind) -> Any:
        """A value as it would be given on the command line."""
        if kind is Kind.BACKENDS:
            if not isinstance(value, dict):
                raise Fault(self._place(*path), f": {kind.wanted} is wanted, not {_type_of(value)}")
            return {name: self._scalar((*path, name), text, Kind.TEXT) for name, text in value.items()}
        if not kind.is_list:
            return self._scalar(path, value, kind)
        if not isinstance(value, list):
            raise Fault(self._place(*path), f": {kind.wanted} is wanted, not {_type_of(value)}")
        return [
            self._route((*path, index), element) if kind is Kind.ROUTES else self._scalar((*path, index), element, kind)
            for index, element in enumerate(value)
        ]

    def _scalar(self, path: Path, value: Any, kind: Kind) -> Any:
        if type(value) not in kind.types:
            wanted = " or ".join(_TYPES[one] for one in kind.types) if kind.is_list else kind.wanted
            raise Fault(self._place(*path), f": {wanted} is wanted, not {_type_of(value)}")
        if kind is Kind.FLAG:
            return value
        try:
            text = str(value)
        except ValueError as error:
            # A whole number may have any length, unless it is to be written as one of ten digits.
            raise Fault(self._place(*path), f": {error}")
        if "\0" in text:
            raise Fault(self._place(*path), ": a NUL is in it")
        if kind is Kind.PATH and text:
            return os.path.join(self._directory, text)
        for key in path[-2:]:
            if key in _WITH_PATHS:
                return _WITH_PATHS[key](text, self._directory)
        return text

    def _route(self, path: Path, value: Any) -> tuple[str, str]:
        if isinstance(value, dict):
            unknown = [key for key in value if key not in _OF_ROUTE]
            for key in unknown:
                self._refuse((*path, key), _unknown(key, _OF_ROUTE, path))
            for key in _OF_ROUTE:
                if key not in value:
                    # Most likely it is there, and spelled in another way.
                    raise Told if unknown else Fault(self._place(*path), f": {key} is missing")
            pattern, backend = (self._scalar((*path, key), value[key], Kind.TEXT) for key in _OF_ROUTE)
            return pattern, backend
        try:
            return split_route(self._scalar(path, value, Kind.ROUTES))
        except ValueError as error:
            raise blame(self._place(*path), error)

    def _listener(self, name: str, table: Any) -> Said:
        path = ("listeners", name)
        if not isinstance(table, dict):
            self._refuse(path, f" is a table, as [listeners.{name}], not {_type_of(table)}")
            return Said({}, lambda *_: self._place(*path))
        given = [key for key in PLACES if key in table]
        if len(given) != 1:
            self._refuse(path, f": one of {', '.join(PLACES)} is wanted, not {' and '.join(given) or 'none'}")
        said = self._options(path, table, _OF_LISTENER)
        # It listens at one place only.
        apart = list(PLACES)
        for key, others in _GO_WITH.items():
            if key in table:
                apart += others if table[key] is False else others[:1]
        nothing = {key: None if key in PLACES else OPTIONS[key].kind.nothing() for key in apart}
        return said.where({**nothing, **said.values})

    def _backend(self, name: str, value: Any) -> NamedBackend | None:
        path = ("backends", name)
        place = self._place(*path)
        with self._faults.caught():
            if isinstance(value, str):
                return NamedBackend(place, self._scalar(path, value, Kind.TEXT))
            if not isinstance(value, dict):
                hint = "; options stand above the first table" if name in OPTIONS else ""
                raise Fault(place, f": a string or a table is wanted, not {_type_of(value)}{hint}")
            if "type" not in value:
                raise Fault(place, ": type is missing")
            options = {key: self._option_of_backend((*path, key), given) for key, given in value.items()}
            kind, argument = options.pop("type"), options.pop("argument", "")
            return NamedBackend(place, None, kind, argument, options, {key: self._place(*path, key) for key in value})
        return None

    def _option_of_backend(self, path: Path, value: Any) -> str:
        """As a description has it."""
        if isinstance(value, bool):
            return "yes" if value else "no"
        if not isinstance(value, (str, int, float)):
            raise Fault(self._place(*path), f": a string, a number or a boolean is wanted, not {_type_of(value)}")
        return str(self._scalar(path, str(value), Kind.TEXT))


def _type_of(value: Any) -> str:
    return _TYPES.get(type(value), "a date or a time")


def _unknown(key: str, known: Iterable[str], path: Path) -> str:
    similar = get_close_matches(key.lower().replace("_", "-"), known, 1) if len(key) <= _MOST_SHOWN else []
    if key in OPTIONS:
        hint = ": it is for the whole server, and stands above the first table"
    elif similar:
        hint = f", did you mean {similar[0]}?"
    else:
        hint = ""
    return f" is no key{hint}"
