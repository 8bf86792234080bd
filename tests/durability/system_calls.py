"""What each recorded system call does to the :mod:`worst_disk`. What is not known here is an error."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Collection
from typing import cast

from named_nodes import Descriptor, Names, Unknown
from recorded_calls import Call, Event
from worst_disk import Directory, File, Node, below


class Process:
    """
    A process and the part of the file system that is looked at.

    :param top: the one directory that is looked at, with all below: empty and on disk when the process starts.
    :param path: its path, and the current directory of the process.
    :param when: how many events came before it starts.
    :param sent: called when something begins to be sent, since from then on a client may have it; returns whether that
        matters.
    :ivar when: counts the events.
    :ivar work: for each sync the changes that its thread has made, by their time, and asks it first to make certain.
    """

    def __init__(self, top: Directory, path: str, when: int, sent: Callable[[bytes], bool]) -> None:
        self.top = top
        self.when = when
        self.work: dict[Call, frozenset[int]] = {}
        self._sent = sent
        self._names = Names(top, path)
        self._begun: dict[Call, tuple[int, Node | None]] = {}
        self._changes_by: dict[int, set[int]] = {}

    def see(self, event: Event, spared: Collection[int] = ()) -> bool:
        """
        :param spared: changes that it does not make certain if it is a sync, by their time.
        :returns: whether it may have changed what there is after a loss of power, or what clients know.
        :raises Unknown: where it cannot be told.
        """
        self.when += 1
        call = event.call
        if not event.is_end:
            return self._begin(call)
        if call.result is None:
            self._begun.pop(call, None)
            return False
        if call in self._begun:
            return self._sync(call, spared)
        name = call.name.removesuffix("at") if call.name in _AT else call.name
        handler = getattr(self, f"_{name}", None)
        if handler is None:
            if name in _OF_OTHERS or not self._names.concerns_us(call):
                return False
            raise Unknown(str(call))
        has_changed = bool(handler(call))
        if has_changed:
            self._changes_by.setdefault(call.thread, set()).add(self.when)
        return has_changed

    def node_of(self, call: Call) -> Node | None:
        """The node that a sync is about, while the sync is under way."""
        return self._begun[call][1] if call in self._begun else None

    def _begin(self, call: Call) -> bool:
        if call.name in _SYNCS:
            descriptor = self._names.descriptor(call.arguments[0])
            node = descriptor.node if descriptor else None
            self._begun[call] = self.when, node
            # What it has to do it does for the first time: a later sync of the same thread has other work.
            changes = self._changes_by.get(call.thread, set())
            changed = set().union(*(node.changed for node in self._nodes_of(call)))
            self.work[call] = frozenset(changes & changed)
            changes -= changed
        elif call.name == "close":
            # From its beginning on the number may be given to another.
            self._names.descriptors.pop(int(cast(str, call.arguments[0])), None)
        elif call.name in ("sendto", "write") and self._names.is_elsewhere(call.arguments[0]):
            return self._sent(cast(bytes, call.arguments[1]))
        return False

    # Files

    def _open(self, call: Call) -> bool:
        """open(2), openat(2)"""
        start, path, flags, *_ = call.arguments if call.name == "openat" else ("AT_FDCWD", *call.arguments)
        options = cast(str, flags).split("|")
        assert call.result is not None
        place = self._names.place(start, path)
        if "O_TMPFILE" in options or place is None:
            # One without a name is ours as soon as it gets one.
            self._names.descriptors[call.result] = Descriptor(File() if "O_TMPFILE" in options else None)
            return False
        directory, name = place
        node = directory.now.get(name) if name else directory
        if node is None:
            if "O_CREAT" not in options:
                raise Unknown(str(call))
            node = File()
            directory.change(self.when, name, node)
        elif "O_TRUNC" in options:
            cast(File, node).change(self.when, 0, None)
        self._names.descriptors[call.result] = Descriptor(node, appends="O_APPEND" in options)
        return True

    def _write(self, call: Call) -> bool:
        descriptor = self._names.descriptor(call.arguments[0])
        if descriptor is None or descriptor.node is None:
            return False
        node = cast(File, descriptor.node)
        assert call.result is not None
        if descriptor.appends:
            descriptor.offset = len(node.now)
        node.change(self.when, descriptor.offset, cast(bytes, call.arguments[1])[: call.result])
        descriptor.offset += call.result
        return True

    def _ftruncate(self, call: Call) -> bool:
        descriptor = self._names.descriptor(call.arguments[0])
        if descriptor is None or descriptor.node is None:
            return False
        cast(File, descriptor.node).change(self.when, int(cast(str, call.arguments[1])), None)
        return True

    # Names

    def _chdir(self, call: Call) -> bool:
        """chdir(2) to where it is"""
        if self._names.inside(os.fsdecode(cast(bytes, call.arguments[0]))) != "":
            raise Unknown(str(call))
        return False

    def _mkdir(self, call: Call) -> bool:
        """mkdir(2), mkdirat(2)"""
        place = self._names.place(*(call.arguments[:2] if call.name == "mkdirat" else ("AT_FDCWD", call.arguments[0])))
        if place is None:
            return False
        directory, name = place
        directory.change(self.when, name, Directory(f"{directory.path}/{name}".lstrip("/")))
        return True

    def _link(self, call: Call) -> bool:
        """linkat(2); also of a file without a name, by its descriptor or by ``/proc/self/fd``"""
        if call.name == "link":
            raise Unknown(str(call))
        start, old, new_start, new, flags = call.arguments
        text = os.fsdecode(cast(bytes, old))
        if "AT_EMPTY_PATH" in flags or text.startswith("/proc/self/fd/"):  # type: ignore[operator]
            opened = self._names.descriptor(start if not text else posixpath.basename(text))
            node = opened.node if opened else None
        else:
            place = self._names.place(start, old)
            node = place[0].now[place[1]] if place else None
        target = self._names.place(new_start, new)
        if target is None and node is None:
            return False
        if target is None or node is None:
            raise Unknown(str(call))
        target[0].change(self.when, target[1], node)
        return True

    def _rename(self, call: Call) -> bool:
        """rename(2), renameat(2): the new name may be there and the old one not, both, or neither"""
        if call.name == "rename":
            call_from, call_to = ("AT_FDCWD", call.arguments[0]), ("AT_FDCWD", call.arguments[1])
        else:
            call_from, call_to = (call.arguments[0], call.arguments[1]), (call.arguments[2], call.arguments[3])
        source, target = self._names.place(*call_from), self._names.place(*call_to)
        if source is None and target is None:
            return False
        if source is None or target is None:
            raise Unknown(str(call))
        target[0].change(self.when, target[1], source[0].now[source[1]])
        source[0].change(self.when, source[1], None)
        return True

    def _unlink(self, call: Call) -> bool:
        """unlink(2), unlinkat(2), of a directory too"""
        place = self._names.place(*(call.arguments[:2] if call.name == "unlinkat" else ("AT_FDCWD", call.arguments[0])))
        if place is None:
            return False
        place[0].change(self.when, place[1], None)
        return True

    _rmdir = _unlink

    # Syncs: from now on, and for what had been done when they began

    def _sync(self, call: Call, spared: Collection[int]) -> bool:
        nodes = self._nodes_of(call)
        since, _ = self._begun.pop(call)
        for node in nodes:
            node.sync(since, spared)
        return bool(nodes)

    def _nodes_of(self, call: Call) -> list[Node]:
        """
        Of fsync(2) what is open; so of fdatasync(2), which brings a file's new size to disk too. Of syncfs(2) all of
        the one file system that there is.
        """
        node = self.node_of(call)
        if node is None:
            return []
        return [node, *below(self.top)] if call.name == "syncfs" else [node]


_SYNCS = frozenset({"fsync", "fdatasync", "syncfs"})
_AT = frozenset({"openat", "mkdirat", "linkat", "renameat", "unlinkat"})
#: They send, or change the process alone: what of these matters is seen at their beginning.
_OF_OTHERS = frozenset({"sendto", "close"})
