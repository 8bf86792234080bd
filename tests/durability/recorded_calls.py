"""
What strace(1) has recorded, as a sequence of beginnings and ends of system calls.

strace stops a thread at each call before it begins and after it has ended, and writes down what it sees in the order in
which it sees it. So a call takes effect somewhere between its two events, and one whose end comes before another's
beginning has come to pass before it. It writes a call in one line where nothing else happened in between.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import attrs

#: Every call that changes a file system or a table of descriptors, or sends. What is not here changes neither.
TRACED = """
    open openat openat2 creat close close_range dup dup2 dup3 chdir fchdir
    write pwrite64 writev pwritev pwritev2 sendto sendmsg sendmmsg sendfile splice copy_file_range
    truncate ftruncate fallocate mkdir mkdirat mknod mknodat rmdir link linkat symlink symlinkat unlink unlinkat
    rename renameat renameat2 fsync fdatasync sync syncfs sync_file_range msync io_uring_setup
""".split()  # noqa: SIM905  # a list of literals would be a page
#: How to run it: threads too, all of every string, in hexadecimal, and no call that this machine lacks. What is traced
#: is our child, and strace its own.
STRACE = ("strace", "-D", "-f", "-qq", "-xx", "-s", "16777216", "-e", f"trace=?{',?'.join(TRACED)}")

_LINE = re.compile(r"(?P<thread>\d+) +(?P<rest>.*)")
_BEGINNING = re.compile(r"(?P<name>\w+)\((?P<arguments>.*)")
_UNFINISHED = re.compile(r",? ?<unfinished \.\.\.>$")
_RESUMED = re.compile(r"<\.\.\. (?P<name>\w+) resumed>")
_RESULT = re.compile(r"\) += (?P<result>-?\d+|\?)(?: (?P<error>E[A-Z0-9]+))?[^)]*(?:\([^)]*\))*$")


@attrs.define(eq=False)
class Call:
    """
    :ivar number: of the line where it begins.
    :ivar thread: the id of the thread.
    :ivar name: as in section 2 of the manual.
    :ivar arguments: strings as octets, all else as strace writes it.
    :ivar result: what it returned; ``None`` where it failed, and where it never did.
    """

    number: int
    thread: int
    name: str
    arguments: list[str | bytes]
    result: int | None = None

    def __str__(self) -> str:
        shown = ", ".join(_shown(argument) for argument in self.arguments)
        return f"line {self.number}: {self.name}({shown})"


@attrs.frozen
class Event:
    """A call begins, or has ended."""

    call: Call
    is_end: bool


def _shown(argument: str | bytes) -> str:
    return argument if isinstance(argument, str) else repr(argument if len(argument) < 80 else argument[:77] + b"...")


def events_of(lines: Iterable[str]) -> list[Event]:
    """
    :param lines: of the record.
    :returns: what was seen, in order.
    :raises ValueError: where a line is none that strace writes.
    """
    events: list[Event] = []
    under_way: dict[int, Call] = {}
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line.rstrip("\n"))
        if match is None:
            raise ValueError(f"line {number} is not understood: {line[:200]!r}")
        thread, rest = int(match["thread"]), match["rest"]
        if rest.startswith(("+++ ", "--- ")):
            # The end of a thread, or a signal.
            continue
        if _RESUMED.match(rest):
            call = under_way.pop(thread)
        else:
            beginning = _BEGINNING.match(rest)
            if beginning is None or beginning["name"] not in TRACED:
                raise ValueError(f"line {number} is not understood: {line[:200]!r}")
            arguments = _UNFINISHED.sub("", beginning["arguments"])
            if arguments == beginning["arguments"]:
                arguments = _RESULT.sub("", arguments)
            call = Call(number, thread, beginning["name"], _split(arguments))
            events.append(Event(call, False))
            if _UNFINISHED.search(rest):
                under_way[thread] = call
                continue
        result = _RESULT.search(rest)
        if result is None:
            raise ValueError(f"line {number} has no result: {line[:200]!r}")
        if result["result"] == "?":
            # It was killed in the midst of it.
            continue
        call.result = int(result["result"]) if result["error"] is None else None
        events.append(Event(call, True))
    return events


def _split(arguments: str) -> list[str | bytes]:
    # In hexadecimal no string holds a comma or a quote.
    return [_octets(argument) if argument.startswith('"') else argument for argument in arguments.split(", ")]


def _octets(argument: str) -> bytes:
    if not argument.endswith('"'):
        raise ValueError("a string that was cut off")
    return bytes.fromhex(argument[1:-1].replace("\\x", ""))
