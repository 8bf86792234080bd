"""
The exceptions with which code says no: the ground floor, which imports nothing.

An exception here carries what a reply needs (code, enhanced status code, text); how that is written on the wire is
the business of :mod:`lmtp_twisted.wire.replies`.
"""

from __future__ import annotations

import re
from typing import TypeGuard

_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}\Z", re.ASCII)


def is_enhanced(value: object) -> TypeGuard[str]:
    """Whether this is an enhanced status code such as ``"5.1.1"`` (RFC 3463 §2)."""
    return isinstance(value, str) and _ENHANCED.match(value) is not None


class LMTPError(Exception):
    """
    Something that is answered with a negative reply.

    :ivar code: the reply code, three digits, or ``None`` for the default of the place where it is raised.
    :ivar enhanced: the enhanced status code (RFC 3463) such as ``"5.1.1"``, or ``None`` for the default.
    :ivar text: words for the client; control and non-ASCII characters are replaced before they reach the wire.
    """

    # Defaults for subclasses that do not call this constructor.
    code: int | None = None
    enhanced: str | None = None
    text: str = ""

    def __init__(self, code: int | None = None, enhanced: str | None = None, text: str = "") -> None:
        if code is not None and not isinstance(code, int):
            raise TypeError(f"a reply code is a number: {code!r}")
        if enhanced is not None and not is_enhanced(enhanced):
            raise ValueError(f"not an enhanced status code (RFC 3463): {enhanced!r}")
        super().__init__(code, enhanced, text)
        self.code = code
        self.enhanced = enhanced
        self.text = str(text)

    def __str__(self) -> str:
        return " ".join(str(part) for part in (self.code, self.enhanced, self.text) if part)


class CommandError(LMTPError):
    """A command that the grammar does not take: raised by :mod:`lmtp_twisted.wire`, answered by the protocol."""


class DeliveryError(LMTPError):
    """
    A delivery's refusal of a sender, a recipient or a message, raised from any method of an
    :class:`~lmtp_twisted.interfaces.ILMTPDelivery` or put among its outcomes.

    A code outside 400 to 599, or 421 (which would close the session with replies still owed), is a programming
    error: it is answered with 451 and logged.
    """


class TemporaryFailure(DeliveryError):
    """
    Try again later. The client keeps the message in its queue.

    :param text: words for the client.
    :param code: 400 to 499, but not 421; ``None`` is 451.
    :param enhanced: class 4; ``None`` is the default of the place where it is raised.
    :raises ValueError: where ``code`` or ``enhanced`` is of another class.
    """

    def __init__(self, text: str = "", *, code: int | None = None, enhanced: str | None = None) -> None:
        _check_class(4, code, enhanced)
        super().__init__(code or 451, enhanced, text)


class PermanentFailure(DeliveryError):
    """
    Do not try again. The client returns the message to its sender.

    :param text: words for the client.
    :param code: 500 to 599; ``None`` is the default of the place where it is raised: 550 for a sender or a recipient,
        554 for a message.
    :param enhanced: class 5; ``None`` is the default of the place: 5.7.1 for a sender, 5.1.1 for a recipient.
    :raises ValueError: where ``code`` or ``enhanced`` is of another class.
    """

    def __init__(self, text: str = "", *, code: int | None = None, enhanced: str | None = None) -> None:
        _check_class(5, code, enhanced)
        super().__init__(code, enhanced, text)


class ContentLost(DeliveryError):
    """
    The content of a message that is streamed will never be complete: the server has refused it, or the client has taken
    it back or is gone. What :attr:`~lmtp_twisted.interfaces.IReceivedMessage.completed` fails with and ``chunks``
    raises. Let it through, and commit nothing: whatever the outcome is, the client is told why it was lost, if it is
    still there.
    """


class NotStored(Exception):
    """
    What was asked of a message that is streamed cannot be had: its content is not kept, or has not come yet. An error
    of the application's.
    """


def _check_class(digit: int, code: int | None, enhanced: str | None) -> None:
    if code is not None and (code // 100 != digit or code == 421):
        raise ValueError(f"not a code of class {digit} that a delivery can give: {code!r}")
    if enhanced is not None and not enhanced.startswith(f"{digit}."):
        raise ValueError(f"not an enhanced status code of class {digit}: {enhanced!r}")


class ProxyHeaderError(Exception):
    """A header of the PROXY protocol that is none. It is not answered: the connection is closed."""
