"""Who is at fault: by place, pattern and number. There is no chance in it: the same mail fares alike each time."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from lmtp_twisted.envelope import Recipient
from lmtp_twisted.patterns import compile_pattern, text_of


class Place(enum.Enum):
    """What is answered wrong."""

    #: The MAIL command.
    MAIL = "mail"
    #: A RCPT command.
    RCPT = "rcpt"
    #: The content: a final reply.
    DOT = "dot"


class Unit(enum.Enum):
    """What is counted after the dot."""

    RECIPIENTS = "recipients"
    #: One that is chosen is so for all its recipients that match.
    MESSAGES = "messages"


class Selection:
    """
    :param to: a pattern of recipients as routes have it, see :mod:`lmtp_twisted.patterns`; ``None`` for all.
    :param every: of those that match, every n-th: of three the third, the sixth and so on.
    :param times: after so many the fault is over; 0 for never.
    :param unit: what is counted.
    :raises ValueError: where the pattern is none.
    """

    def __init__(self, to: str | None = None, every: int = 1, times: int = 0, unit: Unit = Unit.RECIPIENTS) -> None:
        if every < 1 or times < 0:
            raise ValueError("every is at least 1, and times at least 0")
        self._matches = None if to is None else compile_pattern(to)
        self._every = every
        self._times = times
        self._unit = unit
        self._met = 0
        self._chosen = 0

    def next(self) -> bool:
        """One more is there that might be chosen: is it?"""
        self._met += 1
        is_chosen = self._met % self._every == 0 and not (self._times and self._chosen >= self._times)
        self._chosen += is_chosen
        return is_chosen

    def matches(self, recipient: Recipient) -> bool:
        """Whether the recipient is of those that count."""
        return self._matches is None or bool(self._matches(text_of(recipient.address)))

    def of(self, recipients: Sequence[Recipient]) -> list[int]:
        """
        A message is there.

        :param recipients: its recipients.
        :returns: the places of those that are chosen.
        """
        matching = [place for place, recipient in enumerate(recipients) if self.matches(recipient)]
        if self._unit is Unit.MESSAGES:
            return matching if matching and self.next() else []
        return [place for place in matching if self.next()]
