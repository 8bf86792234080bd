"""A scenario: a dialogue with a name, the section of the RFC that it stands on, and what it needs."""

from __future__ import annotations

import enum

import attrs

from lmtp_twisted.conformance.replies import Pattern


class Level(enum.IntEnum):
    """How binding a scenario is; a run at one level contains those before it."""

    #: A server that does otherwise does not speak LMTP.
    MUST = 0
    #: Recommended by the RFCs, or the code that they name for the occasion.
    SHOULD = 1
    #: What no RFC demands: extensions that are not standards, exact codes, and good manners towards hostile clients.
    BEYOND = 2

    def __str__(self) -> str:
        return self.name.lower() if self is Level.BEYOND else self.name


@attrs.frozen
class Send:
    """
    Octets from the client; such steps that follow each other go into one segment.

    :ivar text: with placeholders and escapes.
    :ivar times: how often: a number, or an expression of one.
    :ivar line: where it stands in its file.
    """

    text: str
    times: str
    line: int


@attrs.frozen
class Expect:
    """
    What has to come: a reply, the end of the connection where there is no pattern, or nothing for a moment.

    :ivar is_end: where the reply fits, the scenario is over; where it does not, it is kept for the next step.
    :ivar then_closed: and the connection has to be closed behind it.
    :ivar is_absence: where the reply fits, what the scenario is about cannot be seen with this server.
    """

    pattern: Pattern | None
    times: str
    line: int
    is_end: bool = False
    then_closed: bool = False
    is_absence: bool = False
    is_silence: bool = False


@attrs.frozen
class Act:
    """Something else than octets: a TLS handshake, the end of what the client sends, a border between segments."""

    name: str
    line: int


Step = Send | Expect | Act

#: What an :class:`Act` can be.
ACTS = frozenset({"handshake", "handshake or end", "cut", "close writing"})

#: Where a scenario can begin that is not a dialogue of its own: see :mod:`lmtp_twisted.conformance.session`.
STARTS = ("connection", "greeting", "lhlo", "session")


#: Options of the user's that a scenario can need: see :mod:`lmtp_twisted.conformance.needs`.
OPTIONS = frozenset(
    {
        *(
            "auth",
            "auth-required",
            "authenticated",
            "client-certificate",
            "greeting-delay",
            "idle",
            "proxy",
            "rcptmax",
            "recipients",
        ),
        *("size", "tls", "token", "unknown", "untrusted"),
    }
)


@attrs.frozen
class Need:
    """
    What must be there, or the scenario is absent.

    :ivar name: a capability in upper case, or an option in lower case.
    :ivar value: a word that the capability must have, or the number that an option is about.
    :ivar is_unwanted: it must not be there.
    """

    name: str
    value: str | None = None
    is_unwanted: bool = False

    def __str__(self) -> str:
        return f"{'!' if self.is_unwanted else ''}{self.name}{f'={self.value}' if self.value else ''}"


@attrs.frozen
class Scenario:
    """
    :ivar name: by which it is cited, such as ``data/lf-dot-lf-is-content``.
    :ivar reference: what it stands on, such as ``RFC 5321 §4.1.1.4``.
    :ivar start: one of :data:`STARTS`, where the first step begins.
    :ivar opening: steps before its own, those of the beginning that it names.
    :ivar steps: its own.
    :ivar can_be_split: its octets mean the same in any segments.
    """

    name: str
    reference: str
    level: Level
    start: str
    opening: tuple[Step, ...]
    steps: tuple[Step, ...]
    needs: tuple[Need, ...] = ()
    can_be_split: bool = True
