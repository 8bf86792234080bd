"""What a directory has said is remembered for a time; that it could not tell is not."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from lmtp_twisted.awaiting import FAILURES, deferred_of
from lmtp_twisted.envelope import DirectoryEntry
from lmtp_twisted.interfaces import IRecipientDirectory
from lmtp_twisted.recipients import directory_not_available
from lmtp_twisted.wire.addresses import Address

_log = Logger(namespace="lmtp_twisted")

#: Seconds for which it is remembered at the most that a recipient does not exist: it may have been made since.
MOST_UNKNOWN = 10.0
#: Recipients that are remembered; those that were not asked for the longest time go first.
MOST_REMEMBERED = 10_000


@implementer(IRecipientDirectory)
class CachedDirectory:
    """
    A directory that is asked once at a time about a recipient, and not again for a while.

    :param directory: the :class:`~lmtp_twisted.interfaces.IRecipientDirectory` that is asked.
    :param reactor: an :class:`~twisted.internet.interfaces.IReactorTime`.
    :param max_age: seconds for which an answer holds; 0 to ask each time.
    :param timeout: seconds after which an answer is not waited for any longer.
    """

    def __init__(self, directory: Any, reactor: Any, max_age: float = 60.0, timeout: float = 10.0) -> None:
        self._directory = directory
        self._reactor = reactor
        self._max_age = max_age
        self._max_age_unknown = min(max_age, MOST_UNKNOWN)
        self._timeout = timeout
        # The entry and until when it holds.
        self._known: OrderedDict[Address, tuple[DirectoryEntry | None, float]] = OrderedDict()
        # Those who wait for the same answer.
        self._asking: dict[Address, list[Deferred[Any]]] = {}

    def entryOf(self, address: Address) -> Any:
        """See :class:`~lmtp_twisted.interfaces.IRecipientDirectory`."""
        known = self._known.get(address)
        if known is not None and self._reactor.seconds() < known[1]:
            self._known.move_to_end(address)
            return known[0]
        answer: Deferred[Any] = Deferred()
        waiting = self._asking.get(address)
        if waiting is not None:
            waiting.append(answer)
            return answer
        self._asking[address] = [answer]
        try:
            entry = self._directory.entryOf(address)
            asked = deferred_of(entry)
        except FAILURES:
            self._answered(Failure(), address)
        else:
            if asked is None:
                self._answered(entry, address)
            else:
                asked.addTimeout(self._timeout, self._reactor, self._too_late).addBoth(self._answered, address)
        return answer

    def _too_late(self, result: Any, seconds: float) -> Any:
        _log.error("the directory has not answered in {seconds} s", seconds=seconds)
        raise directory_not_available()

    def _answered(self, entry: Any, address: Address) -> None:
        if entry is None or isinstance(entry, DirectoryEntry):
            age = self._max_age_unknown if entry is None else self._max_age
            if age:
                self._known[address] = entry, self._reactor.seconds() + age
                self._known.move_to_end(address)
                if len(self._known) > MOST_REMEMBERED:
                    self._known.popitem(last=False)
        for answer in self._asking.pop(address):
            if not answer.called:
                answer.callback(entry)
