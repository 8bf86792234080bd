"""
The command line of a program, as an operator writes it: words as a shell reads them, but no shell. A word may be a
placeholder, such as ``{recipient}``, as a whole: what takes its place is one argument, whatever is in it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Mapping

import attrs

from lmtp_twisted.backends.pipe.values import PLACEHOLDERS

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_LIKE_OPTIONS = re.compile(r",\w+=[^\s'\"]*\Z")


@attrs.frozen
class Command:
    """
    :ivar path: of the file to run, absolute.
    :ivar words: its name as it was given, and the arguments, with placeholders.
    """

    path: str
    words: tuple[str, ...]

    @classmethod
    def parse(cls, line: str, beside: str | None = None) -> Command:
        """
        :param line: such as ``/usr/local/bin/deliver --to {recipient}``. A program without a slash is looked for in
            ``PATH``.
        :param beside: below which any other is; by default the current directory of now.
        :raises ValueError: where it cannot be run.
        """
        if "\0" in line:
            raise ValueError("a command cannot hold NUL")
        if match := _LIKE_OPTIONS.search(line):
            raise ValueError(f"{match[0]!r} are not its options (in quotes they would be part of the command)")
        try:
            words = shlex.split(line)
        except ValueError as error:
            raise ValueError(f"{line!r}: {str(error).lower()}")
        if not words or not words[0]:
            raise ValueError("it needs a command, as in pipe:/usr/local/bin/deliver {recipient}")
        for word in words[1:]:
            _check(word)
        return cls(_find(words[0], beside), tuple(words))

    def arguments(self, values: Mapping[str, str]) -> list[bytes]:
        """
        :param values: for each placeholder.
        :returns: the words, in UTF-8.
        """
        name, *words = self.words
        filled = (values[match[1]] if (match := _PLACEHOLDER.fullmatch(word)) else word for word in words)
        # As they came from the command line, whose octets need not be UTF-8.
        return [os.fsencode(name), *(word.encode("utf-8", "surrogateescape") for word in filled)]


def _check(word: str) -> None:
    for match in _PLACEHOLDER.finditer(word):
        if match[1] not in PLACEHOLDERS:
            raise ValueError(f"{match[0]} is unknown, the placeholders are {', '.join(sorted(PLACEHOLDERS))}")
        if match[0] != word:
            raise ValueError(f"{match[0]} in {word!r} has to be an argument of its own")


def _find(name: str, beside: str | None) -> str:
    if _PLACEHOLDER.search(name):
        raise ValueError(f"the program cannot be a placeholder: {name!r}")
    if "/" not in name:
        found = shutil.which(name)
        if found is None:
            raise ValueError(f"there is no program {name!r} in PATH")
        return os.path.abspath(found)
    path = os.path.abspath(os.path.join(beside or "", name))
    if not os.path.exists(path):
        raise ValueError(f"there is no program {path}")
    if not (os.path.isfile(path) and os.access(path, os.X_OK)):
        raise ValueError(f"{path} cannot be executed")
    return path
