"""One message that waits to be filed: made and answered in the reactor thread, filed by another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from lmtp_twisted.backends.maildir.maildirsize import Limits
from lmtp_twisted.backends.maildir.refusals import refusal_of
from lmtp_twisted.interfaces import IReceivedMessage

#: A mailbox: the names of the directories that lead to it from the root.
Names = tuple[str, ...]

_NO_LIMITS: Mapping[Names, Limits] = {}


class Job:
    """
    A message and its mailboxes, each once whatever the spelling of its recipients.

    :param message: the message.
    :param recipients: for each of its recipients the mailbox, or the refusal of a name that none can have.
    :param limits: of those mailboxes that have some.

    :ivar mailboxes: the distinct mailboxes.
    :ivar filed: those that have the message, and will have it after a loss of power.
    :ivar errors: for others, why not.
    :ivar is_cancelled: nobody waits any more: file nothing. Set in the reactor thread, looked at before linking.
    :ivar done: fires with the outcomes, one for each recipient.
    """

    __slots__ = ("_recipients", "done", "errors", "filed", "is_cancelled", "limits", "mailboxes", "message")

    def __init__(
        self,
        message: IReceivedMessage,
        recipients: Sequence[Names | Exception],
        limits: Mapping[Names, Limits] = _NO_LIMITS,
    ) -> None:
        self.message = message
        self.limits = limits
        self._recipients: Sequence[Names | Exception] = recipients
        self.mailboxes = tuple(dict.fromkeys(names for names in recipients if isinstance(names, tuple)))
        self.filed: set[Names] = set()
        self.errors: dict[Names, BaseException] = {}
        self.is_cancelled = False
        self.done: Deferred[list[Any]] = Deferred(self._cancel)

    def place(self, where: Callable[[Names], Names]) -> None:
        """
        Change mailboxes for others. Called in the thread that files it, before it does.

        :param where: gives for each the one that takes its place.
        """
        self._recipients = [names if isinstance(names, Exception) else where(names) for names in self._recipients]
        self.mailboxes = tuple(dict.fromkeys(names for names in self._recipients if isinstance(names, tuple)))

    def _cancel(self, _done: Deferred[list[Any]]) -> None:
        self.is_cancelled = True

    @property
    def weight(self) -> int:
        """Octets that it holds in memory."""
        size: int = self.message.size if self.message.inMemory else 0
        return size

    def outcomes(self) -> list[Any]:
        """For each recipient ``None``, or the exception that says why its mailbox does not have the message."""
        return [self._outcome(names) for names in self._recipients]

    def _outcome(self, names: Names | Exception) -> BaseException | None:
        if isinstance(names, Exception):
            return names
        if names in self.filed:
            return None
        return self.errors.get(names) or refusal_of(RuntimeError())
