"""A reply as it came (RFC 5321 §4.2), and the pattern that one is held against."""

from __future__ import annotations

import re

import attrs

_ENHANCED = re.compile(rb"([245])\.\d{1,3}\.\d{1,3}(?![\d.])")
_ADDRESS = re.compile(rb"<([^<>\s]*@[^<>\s]*|[^<>\s@]+)>")


def printable(octets: bytes) -> str:
    """
    :param octets: whatever came, or is sent.
    :returns: it in printable ASCII: a judge's report must not do anything to a terminal.
    """
    escaped = octets.decode("latin-1").encode("unicode_escape").decode("ascii")
    return escaped.replace("\\\\", "\\")


@attrs.frozen
class Reply:
    """
    :ivar code: its three digits.
    :ivar lines: the text of each of its lines, without the code and what follows it.
    :ivar longest: octets of its longest line, with its code and its CRLF.
    :ivar has_blank: there is one behind the code of the last line.
    """

    code: int
    lines: tuple[bytes, ...]
    longest: int = 0
    has_blank: bool = True

    @property
    def enhanced(self) -> str:
        """The enhanced status code of its first line (RFC 2034 §4); empty where there is none."""
        match = _ENHANCED.match(self.lines[0])
        return match[0].decode("ascii") if match else ""

    @property
    def is_enhanced(self) -> bool:
        """Whether each line begins with an enhanced code of the class of the code."""
        first = str(self.code)[0].encode("ascii")
        return all((match := _ENHANCED.match(line)) and match[1] == first for line in self.lines)

    @property
    def addresses(self) -> frozenset[str]:
        """Those that it names, in lower case."""
        return frozenset(found.decode("latin-1").lower() for line in self.lines for found in _ADDRESS.findall(line))

    @property
    def codes(self) -> str:
        """Its codes alone: what does not change from run to run."""
        return f"{self.code} {self.enhanced}".rstrip()

    def __str__(self) -> str:
        last = len(self.lines) - 1
        return " / ".join(
            f"{self.code}{' ' if number == last else '-'}{printable(text)}" for number, text in enumerate(self.lines)
        )


_CODES = r"any|[2345](?:\d\d|xx)(?:\|[2345](?:\d\d|xx))*"
_PATTERN = re.compile(
    rf"(?P<codes>{_CODES})"
    r"(?: \((?P<code>[2345]\d\d)?(?P<enhanced>(?<=\() ?[245]\.\d+\.\d+|(?<=\d) [245]\.\d+\.\d+)?\))?"
    r"(?P<is_enhanced> enhanced)?(?P<is_short> short)?(?P<is_blank> blank)?"
    r"(?: for (?P<recipient>\S+))?"
    r"(?: (?P<sense>with|without) (?P<words>.+))?"
)


@attrs.frozen
class Pattern:
    """
    What a reply has to be like, as a scenario says it: ``503``, ``5xx (503 5.5.1)``, ``2xx for {rcpt1}``.

    :ivar text: as it is written.
    :ivar codes: codes, with ``xx`` for any of a class; ``any`` is any final one.
    :ivar code: the one that it should be exactly, at the level beyond.
    :ivar enhanced: likewise the enhanced one; only where the server announces these.
    :ivar is_enhanced: each line has an enhanced code of the right class.
    :ivar is_short: no line has more than 512 octets (RFC 5321 §4.5.3.1.5).
    :ivar is_blank: a blank follows the code.
    :ivar recipient: the one that it is for: it may not name another one.
    :ivar words: what stands in one of its lines, in any case, or in none of them, as :attr:`sense` says.
    :ivar sense: ``with`` or ``without``.
    """

    text: str
    codes: tuple[str, ...]
    code: str | None = None
    enhanced: str | None = None
    is_enhanced: bool = False
    is_short: bool = False
    is_blank: bool = False
    recipient: str | None = None
    sense: str | None = None
    words: str | None = None

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """
        :raises ValueError: where it is none.
        """
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is no pattern of a reply")
        found = match.groupdict()
        return cls(
            text=text,
            codes=tuple(found["codes"].split("|")),
            code=found["code"],
            enhanced=found["enhanced"] and found["enhanced"].strip(),
            is_enhanced=bool(found["is_enhanced"]),
            is_short=bool(found["is_short"]),
            is_blank=bool(found["is_blank"]),
            recipient=found["recipient"],
            sense=found["sense"],
            words=found["words"],
        )

    def accepts(self, reply: Reply, recipient: str | None = None, words: bytes = b"") -> bool:
        """
        Whether the reply keeps to the standard.

        :param recipient: that of the pattern, with its placeholders filled in.
        :param words: likewise.
        """
        code = str(reply.code)
        if "any" not in self.codes and code not in self.codes and f"{code[0]}xx" not in self.codes:
            return False
        if self.is_enhanced and not reply.is_enhanced:
            return False
        if (self.is_short and reply.longest > 512) or (self.is_blank and not reply.has_blank):
            return False
        if recipient is not None and reply.addresses and recipient.lower() not in reply.addresses:
            return False
        if self.words is not None:
            return any(words.lower() in line.lower() for line in reply.lines) == (self.sense == "with")
        return True

    def is_met_exactly(self, reply: Reply, *, has_enhanced_codes: bool) -> bool:
        """
        Whether it also has the very codes.

        :param has_enhanced_codes: the server announces enhanced status codes.
        """
        if self.code is not None and str(reply.code) != self.code:
            return False
        return self.enhanced is None or not has_enhanced_codes or reply.enhanced == self.enhanced
