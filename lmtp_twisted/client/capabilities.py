"""What a server says that it can do, in its reply to LHLO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs


@attrs.frozen
class Capabilities:
    """
    :ivar keywords: the words behind each keyword, all in upper case.
    """

    keywords: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)

    @classmethod
    def of(cls, lines: Sequence[str]) -> Capabilities:
        """
        :param lines: of the reply to LHLO; the first is the server's name.
        """
        found: dict[str, tuple[str, ...]] = {}
        for line in lines[1:]:
            keyword, *words = line.upper().split() or [""]
            found.setdefault(keyword, tuple(words))
        return cls(found)

    def __contains__(self, keyword: str) -> bool:
        return keyword in self.keywords

    @property
    def size(self) -> int | None:
        """The most octets of a message, where the server says (RFC 1870 §4)."""
        (word, *_) = self.keywords.get("SIZE") or ("",)
        return _number(word)

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """Those of AUTH (RFC 4954 §3)."""
        return self.keywords.get("AUTH", ())

    @property
    def xforward(self) -> tuple[str, ...]:
        """The attributes of XFORWARD."""
        return self.keywords.get("XFORWARD", ())

    def limit(self, name: str) -> int | None:
        """
        :param name: of LIMITS (RFC 9422 §4), such as ``RCPTMAX``.
        """
        for word in self.keywords.get("LIMITS", ()):
            key, _, value = word.partition("=")
            if key == name:
                return _number(value)
        return None


def _number(word: str) -> int | None:
    """A number above zero: zero is no limit."""
    return int(word) or None if word.isascii() and word.isdigit() and len(word) <= 20 else None
