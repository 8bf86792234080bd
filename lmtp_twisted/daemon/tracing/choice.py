"""Which sessions are traced: what ``--trace-for`` says."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from twisted.internet.interfaces import IAddress

from lmtp_twisted.envelope import parse_recipient
from lmtp_twisted.errors import CommandError
from lmtp_twisted.patterns import Matcher, compile_pattern, text_of
from lmtp_twisted.trust import Trust

#: What is traced where nobody says it.
DEFAULT = ("failure",)

_FORMS = "peer=NETWORK, recipient=PATTERN, failure, all"


@attrs.frozen
class Choice:
    """
    A session is chosen where one of these holds.

    :ivar peers: its peer is one of them, or became one by XCLIENT.
    :ivar recipients: it names such a recipient, accepted or not.
    :ivar failure: something is refused in it, or it breaks off.
    :ivar all: always.
    """

    peers: Trust = Trust()
    recipients: tuple[Matcher, ...] = ()
    failure: bool = False
    all: bool = False

    @classmethod
    def of(cls, texts: Sequence[str]) -> Choice:
        """
        :param texts: such as ``peer=192.0.2.0/24``, ``peer=unix``, ``recipient=*@example.org``, ``failure``, ``all``.
        :raises ValueError: for what is none of these, in one line.
        """
        values: dict[str, list[str]] = {"peer": [], "recipient": []}
        words = set()
        for text in texts:
            name, equals, value = text.partition("=")
            if equals and name in values:
                values[name].append(value)
            elif text in ("failure", "all"):
                words.add(text)
            else:
                raise ValueError(f"{text!r} is none of {_FORMS}")
        recipients = tuple(compile_pattern(pattern) for pattern in values["recipient"])
        return cls(Trust.of(values["peer"]), recipients, "failure" in words, "all" in words)

    @property
    def is_for_any_peer(self) -> bool:
        """Whether a session may be chosen whoever its peer is."""
        return self.all or self.failure or bool(self.recipients)

    def covers(self, peer: IAddress) -> bool:
        """Whether its sessions are chosen for the peer."""
        return self.peers.covers(peer)

    def names(self, argument: bytes) -> bool:
        """
        :param argument: of a RCPT command.
        :returns: whether its sessions are chosen for the recipient.
        """
        if not self.recipients:
            return False
        try:
            text = text_of(parse_recipient(argument).address)
        except CommandError:
            return False
        return any(matches(text) for matches in self.recipients)
