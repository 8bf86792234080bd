"""
The worst file system that POSIX and the manuals of Linux allow: what it may hold after a loss of power.

Each file and each directory has what programs see now, and what is certain to be there afterwards. In between are the
changes that no sync has covered: of these any may be on disk, and any may not, in whatever order they were made.

- Data is certain once an fsync(2) of the file, or a syncfs(2), has returned that began after the write had ended.
- An entry of a directory is certain once the same is true of the *directory*. An fsync of a file says nothing about its
  names, one of a directory nothing about what lies in it. A rename is two changes, of two directories.
- A sync that is under way has not done anything yet.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import attrs


@attrs.define(eq=False)
class File:
    """
    :ivar now: the octets as programs see them.
    :ivar certain: those that a loss of power leaves.
    :ivar pending: changes that are neither lost nor certain: when one was made, where, and what; ``None`` cuts it off.
    :ivar changed: when it was changed at all.
    """

    now: bytearray = attrs.field(factory=bytearray)
    certain: bytearray = attrs.field(factory=bytearray)
    pending: list[tuple[int, int, bytes | None]] = attrs.field(factory=list)
    changed: set[int] = attrs.field(factory=set)

    def change(self, when: int, offset: int, data: bytes | None) -> None:
        """Write, or cut off at the offset."""
        self.changed.add(when)
        self.pending.append((when, offset, data))
        _apply(self.now, offset, data)

    def sync(self, since: int, spared: Collection[int] = ()) -> None:
        """
        :param since: what had been done by then is certain,
        :param spared: but for what was done at these times.
        """
        done = [change for change in self.pending if change[0] <= since and change[0] not in spared]
        for _, offset, data in done:
            _apply(self.certain, offset, data)
        self.pending = [change for change in self.pending if change not in done]


def _apply(octets: bytearray, offset: int, data: bytes | None) -> None:
    if len(octets) < offset:
        octets.extend(bytes(offset - len(octets)))
    if data is None:
        del octets[offset:]
    else:
        octets[offset : offset + len(data)] = data


@attrs.define(eq=False)
class Directory:
    """
    :ivar path: its first one, for reports.
    :ivar now: the entries as programs see them.
    :ivar certain: those of which a loss of power leaves exactly this, if nothing is pending.
    :ivar pending: when a change was made, the name, and what it stands for since: ``None`` where it was removed.
    :ivar changed: when it was changed at all.
    """

    path: str
    now: dict[str, Node] = attrs.field(factory=dict)
    certain: dict[str, Node] = attrs.field(factory=dict)
    pending: list[tuple[int, str, Node | None]] = attrs.field(factory=list)
    changed: set[int] = attrs.field(factory=set)

    def change(self, when: int, name: str, node: Node | None) -> None:
        """Let a name stand for something, or for nothing."""
        self.changed.add(when)
        self.pending.append((when, name, node))
        _enter(self.now, name, node)

    def sync(self, since: int, spared: Collection[int] = ()) -> None:
        """
        :param since: what had been done by then is certain,
        :param spared: but for what was done at these times.
        """
        done = [change for change in self.pending if change[0] <= since and change[0] not in spared]
        for _, name, node in done:
            _enter(self.certain, name, node)
        self.pending = [change for change in self.pending if change not in done]

    def after_loss(self) -> dict[str, set[Node | None]]:
        """For each name what it may stand for after a loss of power; ``None`` is nothing."""
        found: dict[str, set[Node | None]] = {name: {node} for name, node in self.certain.items()}
        for _, name, node in self.pending:
            found.setdefault(name, {None}).add(node)
        return found


def _enter(entries: dict[str, Node], name: str, node: Node | None) -> None:
    if node is None:
        entries.pop(name, None)
    else:
        entries[name] = node


Node = File | Directory


def below(node: Node, seen: set[int] | None = None) -> Iterator[Node]:
    """All that can be reached from here, now or after a loss of power, each once."""
    seen = set() if seen is None else seen
    if id(node) in seen:
        return
    seen.add(id(node))
    yield node
    if isinstance(node, Directory):
        pending = [other for _, _, other in node.pending if other is not None]
        for other in [*node.now.values(), *node.certain.values(), *pending]:
            yield from below(other, seen)
