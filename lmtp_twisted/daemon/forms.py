"""
The forms that lines of the log can have: text, and JSON; either with its priority before each line, for the journal of
systemd (sd-daemon(3)).

What a program says in words is an *event*: a text, and perhaps a traceback. What became of mail and sessions is a
*record*: fields. A *body* is a record without what all lines of a moment have in common::

    2026-11-23T16:00:00.123+0000 info [lmtp] f3k9z2q1a0x7c4 limit reached, peer=192.0.2.1 limit=idle

    {"time":"2026-11-23T16:00:00.123+00:00","level":"info","system":"lmtp","event":"limit reached",...}

In text each value is one word, but for the last of the line, which may hold anything. So no value can look like
another field, whoever wrote it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Protocol

from lmtp_twisted.daemon.lines import date, indented, one_line, quoted, word
from lmtp_twisted.wire.addresses import Address

# Twisted logs every traceback as critical, and to the operator of this server it is an error like others.
_PRIORITIES = {"debug": "<7>", "info": "<6>", "warn": "<4>", "error": "<3>", "critical": "<3>"}
# What fields are called in text, where that is something else: what stands before and behind the value.
_IN_TEXT = {"sender": ("from=<", ">"), "recipient": ("to=<", ">"), "message_id": ("message-id=", "")}

#: Names with values. Values that are empty are left out, but for a sender: the null reverse-path is one.
Fields = Mapping[str, str]


class Form(Protocol):
    """How lines are written. Texts and values are given as they are: escaping them is its part."""

    def event(self, seconds: float, level: str, system: str, text: str, traceback: str | None = None) -> str:
        """
        :param seconds: when, since the epoch.
        :param level: ``debug``, ``info``, ``warn``, ``error`` or ``critical``.
        :param system: which part of the program.
        :param text: what it says.
        :param traceback: of the failure, where it is one.
        :returns: a line without its line end; with a traceback perhaps several.
        """

    def records(self, seconds: float, level: str, bodies: Sequence[str]) -> str:
        """
        :returns: a line for each of the bodies, without the last line end.
        """

    def body(self, event: str, session: str, fields: Fields) -> str:
        """
        The body of a record.

        :param event: what happened, in a few words.
        :param session: the session's id.
        :param fields: what else.
        """

    # The parts of a delivery's body, one behind the other, with the reply id behind the first. There may be tens of
    # thousands a second, and each part is the same for many.

    #: How it begins.
    delivery: str

    def origin(self, session: str, peer: str, queue: str, message_id: str, sender: Address | None) -> str:
        """The part of a message."""

    def target(self, local: str, domain: str, backend: str) -> str:
        """The part of a recipient: the two parts of its address, and the label of its backend."""

    def result(self, size: int, seconds: float, reply: str) -> str:
        """The part of recipients that were answered together; the reply is printable ASCII."""


class TextForm:
    """
    :param with_priority: each line, those of a traceback too, begins with its priority, and has no time: the journal
        has its own.
    """

    def __init__(self, *, with_priority: bool = False) -> None:
        self._with_priority = with_priority

    def _head(self, seconds: float, level: str) -> str:
        return f"{_PRIORITIES[level]}{level}" if self._with_priority else f"{date(seconds)} {level}"

    def event(self, seconds: float, level: str, system: str, text: str, traceback: str | None = None) -> str:
        line = f"{self._head(seconds, level)} [{one_line(system)}] {one_line(text)}"
        if traceback is None:
            return line
        return f"\n{_PRIORITIES[level] * self._with_priority}".join([line, *indented(traceback)])

    def records(self, seconds: float, level: str, bodies: Sequence[str]) -> str:
        head = f"{self._head(seconds, level)} [lmtp] "
        return head + f"\n{head}".join(bodies)

    def body(self, event: str, session: str, fields: Fields) -> str:
        said = [(name, value) for name, value in fields.items() if value or name == "sender"]
        if not said:
            return f"{session} {event}"
        name, value = said.pop()
        words = [*(_pair(name, word(value)) for name, value in said), _pair(name, one_line(value))]
        return f"{session} {event}, {' '.join(words)}"

    delivery = ""

    def origin(self, session: str, peer: str, queue: str, message_id: str, sender: Address | None) -> str:
        queue = queue and f" queue={word(queue)}"
        message_id = message_id and f" message-id={word(message_id)}"
        spelled = "" if sender is None else _word_of(sender.local, sender.domain)
        return f" peer={_word_once(peer)}{queue}{message_id} from=<{spelled}>"

    @staticmethod
    @lru_cache(maxsize=4096)
    def target(local: str, domain: str, backend: str) -> str:
        return f" to=<{_word_of(local, domain)}>{backend and f' backend={word(backend)}'}"

    def result(self, size: int, seconds: float, reply: str) -> str:
        return f" size={size} seconds={seconds:.3f} reply={reply}"


def _pair(name: str, value: str) -> str:
    before, behind = _IN_TEXT.get(name, (f"{name}=", ""))
    return f"{before}{value}{behind}"


class JSONForm:
    """
    One object a line.

    :param with_priority: each line begins with its priority, which the journal takes off.
    """

    def __init__(self, *, with_priority: bool = False) -> None:
        self._with_priority = with_priority

    def _head(self, seconds: float, level: str, system: str) -> str:
        priority = _PRIORITIES[level] if self._with_priority else ""
        return f'{priority}{{"time":"{date(seconds, ":")}","level":"{level}","system":{quoted(system)},'

    def event(self, seconds: float, level: str, system: str, text: str, traceback: str | None = None) -> str:
        rest = "" if traceback is None else f',"traceback":{quoted(traceback)}'
        return f'{self._head(seconds, level, system)}"text":{quoted(text)}{rest}}}'

    def records(self, seconds: float, level: str, bodies: Sequence[str]) -> str:
        head = self._head(seconds, level, "lmtp")
        return head + f"}}\n{head}".join(bodies) + "}"

    def body(self, event: str, session: str, fields: Fields) -> str:
        rest = "".join(
            f",{quoted(name)}:{quoted(value)}" for name, value in fields.items() if value or name == "sender"
        )
        return f'"event":{quoted(event)},"session":"{session}"{rest}'

    delivery = '"event":"delivery","id":"'

    def origin(self, session: str, peer: str, queue: str, message_id: str, sender: Address | None) -> str:
        queue = queue and f',"queue":{quoted(queue)}'
        message_id = message_id and f',"message_id":{quoted(message_id)}'
        spelled = '""' if sender is None else _quoted_of(sender.local, sender.domain)
        return f'","session":"{session}","peer":{_quoted_once(peer)}{queue}{message_id},"sender":{spelled}'

    @staticmethod
    @lru_cache(maxsize=4096)
    def target(local: str, domain: str, backend: str) -> str:
        label = backend and f',"backend":{quoted(backend)}'
        return f',"recipient":{_quoted_of(local, domain)}{label}'

    def result(self, size: int, seconds: float, reply: str) -> str:
        return f',"size":{size},"seconds":{seconds:.3f},"code":{reply[:3]},"reply":{quoted(reply)}'


# The same addresses come again and again, and hashing two strings costs less than hashing an Address.
@lru_cache(maxsize=4096)
def _word_of(local: str, domain: str) -> str:
    return word(str(Address(local, domain)))


@lru_cache(maxsize=4096)
def _quoted_of(local: str, domain: str) -> str:
    return quoted(str(Address(local, domain)))


_word_once, _quoted_once = lru_cache(maxsize=1024)(word), lru_cache(maxsize=1024)(quoted)

TEXT: Form = TextForm()
