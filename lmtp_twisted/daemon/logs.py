"""
The log of the daemon: an observer of Twisted's log that costs little.

Twisted's own takes 20 µs an event and writes in the reactor, and a small message takes hardly more than that. Here an
event below the level is dropped before anything is formatted, and a line goes to a
:class:`~lmtp_twisted.daemon.writer.LineWriter`. Even so an event costs 2 to 4 µs before it gets here, so the line of
each delivery does not come as an event: :mod:`lmtp_twisted.daemon.journal` hands it to :meth:`Log.say`. Observers that
an application adds to Twisted's log do not see it; a :class:`~lmtp_twisted.interfaces.ISessionObserver` sees more.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, formatEvent
from zope.interface import implementer

from lmtp_twisted.daemon.forms import TEXT, Form
from lmtp_twisted.daemon.writer import LineWriter

_log = Logger(namespace="lmtp_twisted")

_RANKS: dict[Any, int] = {level: rank for rank, level in enumerate(LogLevel.iterconstants())}
_INFO = _RANKS[LogLevel.info]
_WARN = _RANKS[LogLevel.warn]
# What Twisted's old log says at each start, whoever starts it: where a factory listens, by the name of its class, which
# is in a line of ours with the whole place; and that its cache of plugins cannot be written, where the modules are
# another user's. It does without.
_NOISE = re.compile(r"Door(?: \(TLS\))? starting on |Unable to write to plugin cache ")


class Log:
    """
    What the parts of the daemon say about mail and sessions, where ``twistd`` was told to log in its own way.

    :param level: the least that is logged: ``debug``, ``info``, ``warn`` or ``error``.
    :ivar can_reopen: whether there is a file that :meth:`reopen` opens anew.
    :ivar form: of its lines.
    """

    can_reopen = False
    form: Form = TEXT

    def __init__(self, level: str) -> None:
        self.level = level

    @property
    def level(self) -> str:
        """The least that is logged."""
        return self._level

    @level.setter
    def level(self, level: str) -> None:
        self._level = level
        self._least = _RANKS[LogLevel.lookupByName(level)]

    def has(self, level: str) -> bool:
        """Whether lines of this level are logged at all."""
        return _RANKS[LogLevel.lookupByName(level)] >= self._least

    def say(self, level: str, *bodies: str, seconds: float | None = None) -> None:
        """
        A record for each body. The caller has asked :meth:`has` whether anybody wants them.

        :param level: ``debug`` or ``info``.
        :param bodies: in the :attr:`form` of this log.
        :param seconds: when it was, since the epoch; now by default.
        """
        for body in bodies:
            _log.emit(LogLevel.lookupByName(level), "{text}", text=body)

    def promise(self, say: Callable[[], None]) -> None:
        """
        :param say: says what the caller has to say; called soon, in any thread, and before anything else is logged.
        """
        say()

    def start(self) -> None:
        """The process is a daemon now, and its reactor is about to run."""

    def stop(self) -> None:
        """The reactor is about to stop."""

    def reopen(self) -> None:
        """The file of the log was renamed."""


@implementer(ILogObserver)
class WrittenLog(Log):
    """
    The log that we write ourselves; as an observer, it takes the events of Twisted's log.

    :param level: as for :class:`Log`.
    :param writer: where the lines go.
    """

    def __init__(self, level: str, writer: LineWriter) -> None:
        super().__init__(level)
        self._writer = writer
        self.can_reopen = writer.has_file
        self.form = writer.form

    def say(self, level: str, *bodies: str, seconds: float | None = None) -> None:
        self._writer.write(self.form.records(time.time() if seconds is None else seconds, level, bodies))

    def promise(self, say: Callable[[], None]) -> None:
        self._writer.promise(say)

    def start(self) -> None:
        self._writer.start()

    def stop(self) -> None:
        self._writer.stop()

    def reopen(self) -> None:
        self._writer.reopen()

    def __call__(self, event: LogEvent) -> None:
        level = event.get("log_level")
        rank = _RANKS.get(level, _INFO)
        if rank >= self._least and not _is_noise(event):
            self._writer.redeem()
            self._writer.write(event_line(event, self.form), urgent=rank >= _WARN)


def _is_noise(event: LogEvent) -> bool:
    return event.get("log_namespace") == "log_legacy" and _NOISE.match(str(event.get("log_text"))) is not None


def event_line(event: LogEvent, form: Form) -> str:
    """
    :param event: of Twisted's log, its old interface included.
    :param form: of the line.
    :returns: a line without its line end; with a traceback perhaps several.
    """
    failure = event.get("log_failure") or event.get("failure")
    if failure is not None and "log_text" in event:
        # An event of twisted.python.log: its text holds the traceback.
        text = str(event.get("why") or "Unhandled error")
    else:
        text = formatEvent(event)
    level = event.get("log_level")
    return form.event(
        event.get("log_time") or time.time(),
        "info" if level is None else level.name,
        _system(event),
        text,
        None if failure is None else _traceback(failure),
    )


def _system(event: LogEvent) -> str:
    namespace = event.get("log_namespace")
    if namespace is None or namespace == "log_legacy":
        return str(event.get("log_system") or "-")
    return "lmtp" if namespace == "lmtp_twisted" else str(namespace)


def _traceback(failure: Any) -> str:
    try:
        return str(failure.getTraceback())
    except Exception as error:
        return f"(no traceback: {type(error).__name__})"
