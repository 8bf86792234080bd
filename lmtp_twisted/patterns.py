"""
Patterns of recipients, as routes have them.

A pattern is matched against the whole address in lower case and in NFC, with ``*`` for any characters, ``?`` for one
and ``[…]`` for a set. One without ``@`` is a domain, and one that begins with it is all of a domain. A recipient
without a domain, such as ``Postmaster``, is ``postmaster@`` here.

A pattern between slashes is a regular expression, searched for in the address. Addresses come from the wire, and
Python's own matcher can be kept busy for hours by one: so RE2 does it, whose time grows no faster than the address.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from fnmatch import translate
from typing import Any

from lmtp_twisted.wire.addresses import Address

#: Octets that an expression may take when it is compiled: what needs more is a slip of the pen.
_MOST_MEMORY = 1 << 20

Matcher = Callable[[str], object]


def text_of(address: Address) -> str:
    """An address as patterns see it."""
    return _folded(f"{address.local}@{address.domain}")


def _folded(text: str) -> str:
    # Its case first: what is composed may come apart in lower case.
    return unicodedata.normalize("NFC", text.lower())


def compile_pattern(pattern: str) -> Matcher:
    """
    :param pattern: such as ``user@example.org``, ``@example.org``, ``*.example.org``, ``user+*@example.org`` or
        ``/^[0-9]+@/``.
    :returns: a function of what :func:`text_of` gives.
    :raises ValueError: where it is no pattern, or is a regular expression and RE2 is not installed.
    """
    if not pattern or any(character.isspace() for character in pattern):
        raise ValueError(f"not a pattern of recipients: {pattern!r}")
    if pattern.startswith("/"):
        return _compile_expression(pattern)
    if "@" not in pattern:
        pattern = f"*@{pattern}"
    elif pattern.startswith("@"):
        pattern = f"*{pattern}"
    return re.compile(translate(_folded(pattern))).match


def _compile_expression(pattern: str) -> Matcher:
    if len(pattern) < 3 or not pattern.endswith("/"):
        raise ValueError(f"not a regular expression between slashes: {pattern!r}")
    try:
        import re2
    except ImportError:
        raise ValueError(f"{pattern} is a regular expression and needs google-re2: pip install 'lmtp-twisted[re2]'")
    options: Any = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    options.max_mem = _MOST_MEMORY
    try:
        matcher: Matcher = re2.compile(unicodedata.normalize("NFC", pattern[1:-1]), options).search
    except re2.error as error:
        reason = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else error
        raise ValueError(f"not a regular expression of RE2: {pattern} ({reason})")
    return matcher
