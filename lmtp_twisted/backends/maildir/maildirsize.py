"""
The file ``maildirsize`` of Maildir++, which Courier, Dovecot and Exim read and write too: a line with the limits, then
lines with octets and messages that are to be added up. No file is touched here.

Who adds or removes a message appends a line. When there are 5120 octets of them, the mailbox is counted anew.
"""

from __future__ import annotations

import re

import attrs

#: The file's name.
NAME = "maildirsize"
#: Octets of the file from which on it is counted anew.
LONGEST = 5120

_LIMITS = re.compile(r"([0-9]{1,12})([kKmMgGtT]?)(?::([0-9]{1,12}))?")
_FACTORS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
_LIMIT = re.compile(rb"([0-9]{1,19})([SC])")
_LINES = re.compile(rb"(?:[ \t]*-?[0-9]{1,19}[ \t]+-?[0-9]{1,19}[ \t]*\n)*")


@attrs.frozen
class Usage:
    """
    :ivar octets: of all messages.
    :ivar messages: how many there are.
    """

    octets: int = 0
    messages: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.octets + other.octets, self.messages + other.messages)

    def __neg__(self) -> Usage:
        return Usage(-self.octets, -self.messages)

    @property
    def line(self) -> bytes:
        """As it stands in the file."""
        return b"%d %d\n" % (self.octets, self.messages)


@attrs.frozen
class Limits:
    """
    :ivar octets: of all messages together; 0 for any number of them.
    :ivar messages: how many there may be; 0 for any number of them.
    """

    octets: int
    messages: int = 0

    @classmethod
    def parse(cls, text: str) -> Limits:
        """
        :param text: such as ``1G``, or ``1G:10000`` where the messages are counted too, or ``0:10000`` where only they
            are; ``k``, ``M``, ``G`` and ``T`` are powers of 1024.
        :raises ValueError: where it is no limit.
        """
        match = _LIMITS.fullmatch(text)
        limits = cls(int(match[1]) * _FACTORS[match[2].lower()], int(match[3] or 0)) if match else cls(0)
        if limits == cls(0):
            raise ValueError(f"quota is octets such as 1G, or octets and messages such as 1G:10000, not {text!r}")
        return limits

    @classmethod
    def of_recipient(cls, text: str) -> Limits | None:
        """
        :param text: as :meth:`parse` has it, or ``0``.
        :returns: ``None`` for any number of messages.
        :raises ValueError: where it is no limit.
        """
        return None if text == "0" else cls.parse(text)

    def hold(self, usage: Usage) -> bool:
        """Whether so much is not too much."""
        return usage.octets <= (self.octets or usage.octets) and usage.messages <= (self.messages or usage.messages)

    @property
    def line(self) -> bytes:
        """As it stands in the file."""
        octets = b"%dS" % self.octets if self.octets else b""
        messages = b"%dC" % self.messages if self.messages else b""
        return b",".join(filter(None, (octets, messages))) + b"\n"


@attrs.frozen
class Record:
    """
    What a file says.

    :ivar data: the whole file.
    :ivar limits: those that its writer knew; ``None`` where they make no sense.
    :ivar usage: the sum of its lines.
    :ivar lines: how many there are.
    """

    data: bytes
    limits: Limits | None
    usage: Usage
    lines: int

    @classmethod
    def parse(cls, data: bytes) -> Record | None:
        """
        :param data: the whole file.
        :returns: ``None`` where it is none of ours or of others, where a line is not whole, or the sum is below zero.
        """
        first, newline, lines = data.partition(b"\n")
        if not newline or not lines:
            return None
        return cls(first + newline, _limits_of(first), Usage(), 0).extended(lines)

    def extended(self, lines: bytes) -> Record | None:
        """
        :param lines: what stands behind the rest of the file.
        :returns: what both say together; ``None`` as :meth:`parse`.
        """
        if not _LINES.fullmatch(lines):
            return None
        numbers = list(map(int, lines.split()))
        usage = self.usage + Usage(sum(numbers[::2]), sum(numbers[1::2]))
        if usage.octets < 0 or usage.messages < 0:
            return None
        return Record(self.data + lines, self.limits, usage, self.lines + len(numbers) // 2)


def _limits_of(line: bytes) -> Limits | None:
    found = {b"S": 0, b"C": 0}
    for part in line.split(b","):
        match = _LIMIT.fullmatch(part.strip())
        if match is None:
            return None
        found[match[2]] = int(match[1])
    return Limits(found[b"S"], found[b"C"])
