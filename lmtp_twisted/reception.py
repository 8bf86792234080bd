"""
One content on its way in: what the decoder gives goes through the limits and the newline policy to where it is stored,
or to those who read it.
"""

from __future__ import annotations

import errno
import math
import re

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from lmtp_twisted.settings import Settings
from lmtp_twisted.spool import Content
from lmtp_twisted.streaming import Stream
from lmtp_twisted.wire.content import BareNewlines, NewlineFilter
from lmtp_twisted.wire.replies import (
    BARE_NEWLINE_CONTENT,
    INTERNAL_ERROR,
    MAIL_LOOP,
    SPOOL_FULL,
    TOO_LARGE,
    Reply,
)

_log = Logger(namespace="lmtp_twisted")

_RECEIVED = re.compile(rb"^received[ \t]*:", re.IGNORECASE | re.MULTILINE)


class Reception:
    """
    :param settings: the limits and the policy.
    :param content: where it goes: it is stored, or streamed to a delivery.
    :param is_binary: BODY=BINARYMIME: bare CR and LF are what they are (RFC 3030 §3).

    :ivar content: the same.
    :ivar failure: the reply to every recipient, once the content is refused. From then on it is thrown away as it
        comes.
    """

    __slots__ = ("_came", "_filter", "_limit", "_settings", "content", "failure")

    def __init__(self, settings: Settings, content: Content | Stream, is_binary: bool) -> None:
        self._settings = settings
        self._limit = settings.size_limit or math.inf
        self._filter = None if is_binary or settings.bare_newlines is BareNewlines.KEEP else NewlineFilter()
        # Octets as they were sent: the limit is about these, not about what is made of them (RFC 1870 §5).
        self._came = 0
        self.content = content
        self.failure: Reply | None = None

    def take(self, data: bytes) -> Deferred[None] | None:
        """
        :param data: the next octets of the content.
        :returns: ``None``, or a Deferred that fires when there is room for more.
        """
        self._came += len(data)
        if self._came > self._limit:
            self.fail(TOO_LARGE)
        if self._filter is not None:
            data = self._filter.feed(data)
        if self.failure is None and self.content.append(data):
            return self._written(self.content.make_room())
        return None

    def has_room_for(self, length: int) -> bool:
        """Whether the content and so many octets more are within the size limit (RFC 1870 §6)."""
        return self._came + length <= self._limit

    @property
    def is_drained(self) -> bool:
        """Whether so much has been thrown away that the client will not stop."""
        return self._came > self._limit * (1 + self._settings.drain_factor)

    def fail(self, reply: Reply) -> None:
        """Refuse the content; the first refusal stands."""
        if self.failure is None:
            self.failure = reply
            self.content.discard(reply)

    def finish(self) -> Deferred[None] | None:
        """
        The content is complete: judge it as a whole.

        :returns: ``None``, or a Deferred that fires when it is stored.
        """
        if self._filter is not None:
            rest = self._filter.finish()
            if rest and self.failure is None:
                self.content.append(rest)
            if self._filter.found and self._settings.bare_newlines is BareNewlines.REJECT:
                self.fail(BARE_NEWLINE_CONTENT)
        if self.failure is not None:
            return None
        pending = self.content.finish()
        most = self._settings.max_received
        least = most * len("Received:\n")
        if not self.content.head_is_shorter_than(least) and len(_RECEIVED.findall(self.content.head)) > most:
            self.fail(MAIL_LOOP)
        return None if pending is None else self._written(pending)

    def _written(self, pending: Deferred[None]) -> Deferred[None]:
        return pending.addErrback(self._not_written)

    def _not_written(self, failure: Failure) -> None:
        # The exception itself stays out of the log: whoever kept it would keep the file that did not fit.
        error = failure.value
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            _log.error("no room in the spool directory: {error}", error=str(error))
            self.fail(SPOOL_FULL)
        else:
            failure.cleanFailure()
            _log.failure("the spool file could not be written", failure)
            self.fail(INTERNAL_ERROR)
