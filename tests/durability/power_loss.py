"""What clients were promised against what a loss of power would leave, at every system call in turn."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import attrs
from recorded_calls import Call, Event
from sent_messages import POSITIVE, Message
from system_calls import Process
from worst_disk import Directory, File, Node


@attrs.frozen
class Loss:
    """
    :ivar what: what would be lost.
    :ivar after: the call behind which power fails.
    """

    what: str
    after: Call

    def __str__(self) -> str:
        return f"power fails behind {self.after}: {self.what}"


@attrs.frozen
class Sync:
    """
    A sync that was made.

    :ivar call: the call.
    :ivar what: what it is about: ``a file``, or the path of a directory.
    :ivar is_behind: whether its thread had just made a syncfs of the same.
    :ivar work: the changes that it is there for, by their time: those that its own thread made.
    """

    call: Call
    what: str
    is_behind: bool
    work: frozenset[int]

    def __str__(self) -> str:
        return f"line {self.call.number}: {self.call.name} of {self.what}{' behind a syncfs' if self.is_behind else ''}"


class Replay:
    """
    A record, played against the worst file system. Power fails behind every event.

    :param path: the directory of the server.
    :param mail: the root of the mailboxes, as a path from there.
    :param promises: what the id of each positive reply stands for: the message, and the mailbox that has it.
    :ivar syncs: those that were made.
    :ivar stops: how often power has failed.
    """

    def __init__(self, path: str, mail: str, promises: Mapping[str, tuple[Message, str]]) -> None:
        self.syncs: list[Sync] = []
        self.stops = 0
        self._when = 0
        self._mail = mail
        self._promises = promises
        self._sent: dict[str, set[Message]] = {}
        for message, mailbox in promises.values():
            self._sent.setdefault(mailbox, set()).add(message)
        self._due: set[str] = set()
        self.top = Directory("")
        self.path = path
        self._whole: dict[Node, Message | None] = {}

    def play(self, events: Iterable[Event], spared: Mapping[Call, Collection[int]] | None = None) -> Loss | None:
        """
        Another process, on the same file system.

        :param events: what it did.
        :param spared: for some syncs the changes that they do not make certain here, though they said they had.
        :returns: the first loss there would be, if there would be any.
        """
        process = Process(self.top, self.path, self._when, self._answered)
        last: dict[int, Call] = {}
        for event in events:
            call = event.call
            self._when += 1
            node = process.node_of(call) if event.is_end else None
            changed = process.see(event, spared.get(call, ()) if spared else ())
            if event.is_end:
                if node is not None:
                    self._note(process, call, node, last.get(call.thread))
                last[call.thread] = call
            if not changed:
                continue
            self.stops += 1
            lost = self._lost()
            if lost:
                return Loss(lost, call)
        return None

    @property
    def kept(self) -> int:
        """How many of the promises were made to a client so far."""
        return len(self._due)

    def _note(self, process: Process, call: Call, node: Node, before: Call | None) -> None:
        is_behind = before is not None and before.name == "syncfs" and before.arguments == call.arguments
        what = node.path if isinstance(node, Directory) else "a file"
        self.syncs.append(Sync(call, what, is_behind, process.work[call]))

    def _answered(self, octets: bytes) -> bool:
        numbers = {number.decode() for _, number in POSITIVE.findall(octets)} & self._promises.keys()
        self._due |= numbers
        return bool(numbers)

    def _lost(self) -> str | None:
        certain: dict[str, set[Message]] = {}
        for mailbox, sent in self._sent.items():
            is_certain, new = self._new_of(mailbox)
            certain[mailbox] = set()
            for name, nodes in (new.after_loss() if new else {}).items():
                messages = {self._message_in(node) for node in nodes if node is not None}
                if not messages <= sent:
                    return f"{mailbox}/new/{name} may be there and not whole"
                if is_certain and len(nodes) == 1:
                    certain[mailbox] |= {message for message in messages if message is not None}
        for number in self._due:
            message, mailbox = self._promises[number]
            if message not in certain[mailbox]:
                return f"{message.token} may not be in {mailbox}/new, and {number} was answered with 250"
        return None

    def _new_of(self, mailbox: str) -> tuple[bool, Directory | None]:
        """The mailbox's ``new``, and whether it is certain that it is there."""
        directory, is_certain = self.top, True
        for name in f"{self._mail}/{mailbox}/new".split("/"):
            nodes: set[Node | None] = directory.after_loss().get(name, {None})
            found = next((node for node in nodes if isinstance(node, Directory)), None)
            if found is None:
                return False, None
            is_certain = is_certain and len(nodes) == 1
            directory = found
        return is_certain, directory

    def _message_in(self, node: Node) -> Message | None:
        """The message that a file is sure to hold whole."""
        if not isinstance(node, File) or node.pending:
            self._whole.pop(node, None)
            return None
        if node not in self._whole:
            octets = bytes(node.certain)
            everything = {message for message, _ in self._promises.values()}
            self._whole[node] = next((message for message in everything if message.is_whole(octets)), None)
        return self._whole[node]
