"""Which file or directory a system call names: by a descriptor, by a path, or by a path from a descriptor."""

from __future__ import annotations

import os
import posixpath

import attrs
from recorded_calls import Call
from worst_disk import Directory, Node


class Unknown(Exception):
    """A call of which the model cannot tell what it does."""


@attrs.define(eq=False)
class Descriptor:
    """An open file or directory; ``node`` is ``None`` where it is none of ours."""

    node: Node | None
    offset: int = 0
    appends: bool = False


class Names:
    """
    What names stand for in one process.

    :param top: the one directory that is looked at, with all below.
    :param path: its path, and the current directory of the process.
    :ivar descriptors: those that are open, but for sockets and the like.
    """

    def __init__(self, top: Directory, path: str) -> None:
        self._top = top
        self._path = path
        self.descriptors: dict[int, Descriptor] = {}

    def descriptor(self, argument: str | bytes) -> Descriptor | None:
        assert isinstance(argument, str)
        return self.descriptors.get(int(argument))

    def is_elsewhere(self, argument: str | bytes) -> bool:
        descriptor = self.descriptor(argument)
        return descriptor is None or descriptor.node is None

    def concerns_us(self, call: Call) -> bool:
        """Whether it names a descriptor or a path of ours."""
        for argument in call.arguments:
            if isinstance(argument, bytes):
                if not os.fsdecode(argument).startswith("/") or self.inside(os.fsdecode(argument)) is not None:
                    return True
            elif argument.isdecimal() and not self.is_elsewhere(argument):
                return True
        return False

    def inside(self, path: str) -> str | None:
        """A path relative to ours, if it leads there."""
        path = posixpath.normpath(path)
        return path[len(self._path) + 1 :] if path == self._path or path.startswith(f"{self._path}/") else None

    def place(self, start: str | bytes, path: str | bytes) -> tuple[Directory, str] | None:
        """
        The directory that holds what a path stands for, and its name there, which is empty for the directory itself;
        ``None`` where that is not ours.
        """
        assert isinstance(path, bytes)
        text = os.fsdecode(path)
        directory = self._top
        if text.startswith("/"):
            inside = self.inside(text)
            if inside is None:
                return None
            text = inside
        elif start != "AT_FDCWD":
            descriptor = self.descriptor(start)
            if descriptor is None or descriptor.node is None:
                return None
            if not isinstance(descriptor.node, Directory):
                raise Unknown(f"{text!r} in a file")
            directory = descriptor.node
        *parents, name = text.split("/")
        for parent in parents:
            node = directory.now.get(parent)
            if not isinstance(node, Directory):
                raise Unknown(f"{parent!r} of {text!r}")
            directory = node
        if ".." in (name, *parents):
            raise Unknown(text)
        return directory, "" if name == "." else name
