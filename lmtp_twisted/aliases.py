"""
Aliases: addresses that stand for others. Text in, a table out; nothing here touches a file.

Each line is ``alias: target, target…``, in the manner of virtual(5). An alias is an address, or ``@domain`` for all of
a domain that nothing else takes, or a local part alone for a recipient without a domain, such as ``postmaster``. A
target is an address, or behind ``@domain`` also an ``@domain``, for the same local part there. A line that begins with
a blank goes on with the one before it; what begins with ``#`` is a comment. Case and Unicode's forms do not matter in
aliases.

Targets that are aliases are replaced when the table is made, so looking one up never goes round in circles. A target
that is its own alias stays, as for a copy to somebody else.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping

import attrs

from lmtp_twisted.wire.addresses import Address, parse_mailbox

#: How often an alias may lead to another, and how many targets it may have in the end.
MOST_STEPS, MOST_TARGETS = 20, 1000

# A comma within quotes is a part of a local part.
_TARGETS = re.compile(r'(?:"(?:\\.|[^"\\])*"|[^",])+')


def name_of(address: Address) -> str:
    """
    :param address: of a recipient.
    :returns: the same for all spellings of one mailbox, as people see it: lower case, and Unicode's normal form C.
    """
    return unicodedata.normalize("NFC", f"{address.local}@{address.domain}".lower())


@attrs.frozen
class Aliases:
    """
    :ivar addresses: for the name of each alias its targets, none of which is an alias.
    :ivar domains: for each domain its targets; a ``str`` is a domain for the same local part.
    """

    addresses: Mapping[str, tuple[Address, ...]] = attrs.field(factory=dict)
    domains: Mapping[str, tuple[Address | str, ...]] = attrs.field(factory=dict)

    @classmethod
    def parse(cls, text: str) -> Aliases:
        """
        :param text: the lines.
        :raises ValueError: with the number of the line, where one makes no sense or leads back to itself.
        """
        found: dict[str, _Line] = {}
        domains: dict[str, tuple[Address | str, ...]] = {}
        for number, alias, targets in _lines(text):
            try:
                if alias.startswith("@"):
                    key = unicodedata.normalize("NFC", _domain(alias).lower())
                    is_new, domains[key] = key not in domains, tuple(map(_target_of_domain, targets))
                else:
                    key = name_of(_address(alias))
                    is_new = key not in found
                    found[key] = _Line(number, tuple(map(_target, targets)))
            except ValueError as error:
                raise ValueError(f"line {number}: {error}")
            if not is_new:
                raise ValueError(f"line {number}: {alias} is there already")
        return cls({name: _expand(name, found) for name in found}, domains)

    def targets_of(self, address: Address) -> tuple[Address, ...] | None:
        """The targets of an alias; ``None`` for what is none."""
        return self.addresses.get(name_of(address))

    def targets_in_domain(self, address: Address) -> tuple[Address, ...]:
        """The targets of what nothing else takes, which may be aliases; empty where its domain has none."""
        targets = self.domains.get(unicodedata.normalize("NFC", address.domain.lower()), ())
        return tuple(Address(address.local, to) if isinstance(to, str) else to for to in targets)


@attrs.frozen
class _Line:
    number: int
    targets: tuple[Address, ...]


def _lines(text: str) -> Iterator[tuple[int, str, list[str]]]:
    whole: list[tuple[int, str]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not line[0].isspace():
            whole.append((number, line))
        elif whole:
            whole[-1] = whole[-1][0], f"{whole[-1][1]} {line.strip()}"
        else:
            raise ValueError(f"line {number}: it goes on with no line")
    for number, line in whole:
        alias, colon, targets = line.partition(":")
        names = [target.strip() for target in _TARGETS.findall(targets)]
        names = [name for name in names if name]
        if not colon or not names:
            raise ValueError(f"line {number}: not an alias, a colon and its targets")
        yield number, alias.strip(), names


def _address(text: str) -> Address:
    try:
        return parse_mailbox(text.encode())
    except ValueError as error:
        raise ValueError(f"{text!r} is no address: {error}")


def _target(text: str) -> Address:
    address = _address(text)
    # So are programs and files, which other systems have here.
    if not address.domain:
        raise ValueError(f"{text!r} has no domain")
    return address


def _domain(text: str) -> str:
    return _address(f"x{text}").domain


def _target_of_domain(text: str) -> Address | str:
    return _domain(text) if text.startswith("@") else _target(text)


def _expand(alias: str, lines: Mapping[str, _Line]) -> tuple[Address, ...]:
    """The targets of an alias in the end, each once."""
    found: dict[str, Address] = {}
    done: set[str] = set()

    def follow(name: str, way: tuple[str, ...]) -> None:
        line = lines[name]
        if len(way) > MOST_STEPS:
            raise ValueError(f"line {line.number}: more than {MOST_STEPS} aliases lead to {name} from {way[0]}")
        for target in line.targets:
            key = name_of(target)
            if key not in lines or key == name:
                found.setdefault(key, target)
                if len(found) > MOST_TARGETS:
                    raise ValueError(f"line {lines[alias].number}: {alias} has more than {MOST_TARGETS} targets")
            elif key in way:
                raise ValueError(f"line {line.number}: {key} leads back to itself: {', '.join((*way, key))}")
            elif key not in done:
                follow(key, (*way, key))
        done.add(name)

    follow(alias, (alias,))
    return tuple(found.values())
