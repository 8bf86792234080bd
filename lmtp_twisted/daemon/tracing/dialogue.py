"""
What is said in one session, as it is traced::

    -- 2026-11-23T16:00:00.123+0000, session f3k9z2q1a0x7c4, peer 192.0.2.1, chosen for a failure
       0.001 S: 220 mx.example.org LMTP ready
       0.002 C: LHLO client.example

As long as the session is not chosen, its dialogue is kept in memory: its beginning and what came last.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import attrs

from lmtp_twisted.daemon.lines import date, one_line
from lmtp_twisted.daemon.tracing.choice import Choice
from lmtp_twisted.daemon.tracing.files import TraceFiles
from lmtp_twisted.daemon.tracing.shown import Commands, hidden, text_of_line
from lmtp_twisted.session import SessionInfo

#: Octets of the beginning of a dialogue that are kept, and of what came last.
BEGINNING = 16 * 1024
LATEST = 48 * 1024
#: Octets that the dialogues of all sessions take in memory at the most.
MOST_IN_MEMORY = 16 * 1024 * 1024

# What a line takes in memory besides its characters.
_LINE = 100
# Goodbyes for silence, a stop of the server and the like: with these sessions end every day.
_GOODBYE = b"421"


@attrs.define(eq=False)
class Tracer:
    """
    What all dialogues share.

    :ivar choice: which are wanted.
    :ivar files: where they go.
    :ivar clock: an :class:`~twisted.internet.interfaces.IReactorTime`.
    :ivar most_content: octets of a message's content that are shown.
    :ivar in_memory: octets of all dialogues that are kept in memory now.
    """

    choice: Choice
    files: TraceFiles
    clock: Any
    most_content: int
    in_memory: int = 0


class Dialogue:
    """
    :param tracer: what it shares with the others.
    :param session: whose it is.

    :ivar has_quit: whether the client has said goodbye.
    """

    def __init__(self, tracer: Tracer, session: SessionInfo) -> None:
        self._tracer = tracer
        self._session = session
        self._peer = session.peer
        self._began = tracer.clock.seconds()
        self._is_chosen = False
        self._beginning: list[str] = []
        self._latest: deque[str] = deque()
        self._sizes = [0, 0]
        self._left_out = 0
        self._commands = Commands()
        self._content = bytearray()
        self._content_size = 0
        self._room_for_content = tracer.most_content
        self.has_quit = False
        if tracer.choice.all:
            self._choose("one of all")
        elif tracer.choice.covers(session.peer):
            self._choose("its peer")

    # What is said

    def command(self, line: bytes) -> None:
        """A line of the client, without its LF."""
        verb, argument, text = self._commands.shown(line)
        self._say(f"C: {text}")
        if verb == b"RCPT":
            if self._tracer.choice.names(argument):
                self._choose("a recipient")
        elif verb == b"MAIL":
            self._room_for_content = self._tracer.most_content
        elif verb == b"QUIT":
            self.has_quit = True

    def secret(self, line: bytes) -> None:
        """A line of the client that is an answer to a challenge."""
        octets = line.removesuffix(b"\r")
        self._say(f"C: {hidden(len(octets))}")

    def content(self, data: bytes) -> None:
        """Octets of content, as they came."""
        self._content_size += len(data)
        if self._room_for_content:
            shown = data[: self._room_for_content]
            self._room_for_content -= len(shown)
            self._content += shown

    def content_ended(self) -> None:
        """The end mark, or the end of a chunk."""
        shown, size = bytes(self._content), self._content_size
        self._content.clear()
        self._content_size = 0
        for line in shown.splitlines():
            self._say(f"C: {text_of_line(line)}")
        if size > len(shown):
            self._say(f"C: {hidden(size - len(shown), 'more of content')}")

    def replies(self, data: bytes) -> None:
        """Replies that leave now."""
        if self._session.peer is not self._peer:
            # XCLIENT names another one.
            self._peer = self._session.peer
            self.note(f"the client is {self._session.peer_name}")
            if self._tracer.choice.covers(self._peer):
                self._choose("its peer")
        for line in data.removesuffix(b"\r\n").split(b"\r\n"):
            # A challenge may be one for which the answer can be guessed.
            text = f"334 {hidden(len(line) - 4)}" if line.startswith(b"334 ") else text_of_line(line)
            self._say(f"S: {text}")
            if self._tracer.choice.failure and line[:1] in b"45" and not line.startswith(_GOODBYE):
                self._choose("a failure")

    def note(self, text: str) -> None:
        """Something that happened."""
        self._say(f"-- {one_line(text)}")

    def end(self, *, is_broken_off: bool) -> None:
        """The session is over."""
        if is_broken_off and self._tracer.choice.failure:
            self._choose("a failure")
        self._forget()

    # Where it goes

    def _say(self, text: str) -> None:
        line = f"{self._tracer.clock.seconds() - self._began:8.3f} {text}\n"
        if self._is_chosen:
            self._tracer.files.write(self._session.id, line)
        else:
            self._keep(line)

    def _keep(self, line: str) -> None:
        tracer, size = self._tracer, len(line) + _LINE
        is_full = tracer.in_memory + size > MOST_IN_MEMORY
        if not (self._latest or self._left_out or is_full) and self._sizes[0] + size <= BEGINNING:
            self._beginning.append(line)
            self._sizes[0] += size
            tracer.in_memory += size
            return
        self._latest.append(line)
        self._sizes[1] += size
        tracer.in_memory += size
        while self._latest and (self._sizes[1] > LATEST or tracer.in_memory > MOST_IN_MEMORY):
            size = len(self._latest.popleft()) + _LINE
            self._sizes[1] -= size
            tracer.in_memory -= size
            self._left_out += 1

    def _choose(self, why: str) -> None:
        """From now on all of it is written, and what was kept before it."""
        if self._is_chosen:
            return
        self._is_chosen = True
        session = self._session
        head = f"-- {date(self._began)}, session {session.id}, peer {one_line(session.peer_name)}, chosen for {why}\n"
        gap = f"-- {self._left_out} lines were not kept\n" if self._left_out else ""
        self._tracer.files.write(session.id, "".join([head, *self._beginning, gap, *self._latest]))
        self._forget()

    def _forget(self) -> None:
        self._tracer.in_memory -= sum(self._sizes)
        self._sizes = [0, 0]
        self._beginning.clear()
        self._latest.clear()
