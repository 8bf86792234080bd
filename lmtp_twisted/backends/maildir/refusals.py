"""What a client is told of a failure of the file system: a reply without paths. The log has the rest."""

from __future__ import annotations

import errno

from lmtp_twisted.errors import DeliveryError, PermanentFailure, TemporaryFailure

_BY_ERRNO = {
    errno.ENOSPC: (452, "4.3.1", "No room to store the message"),
    errno.EDQUOT: (452, "4.2.2", "Mailbox full"),
    errno.EMFILE: (451, "4.3.2", "Too busy, try again later"),
    errno.ENFILE: (451, "4.3.2", "Too busy, try again later"),
}
_OTHER = (451, "4.3.0", "Mailbox not available, try again later")


def no_such_mailbox() -> PermanentFailure:
    """The mailbox does not exist, and is not to be made."""
    return PermanentFailure("No such mailbox", code=550, enhanced="5.1.1")


def mailbox_full(*, bounce: bool) -> DeliveryError:
    """
    The mailbox has no room for the message (RFC 3463 §3.3).

    :param bounce: whether the message goes back to its sender, instead of being tried again.
    """
    if bounce:
        return PermanentFailure("Mailbox full", code=552, enhanced="5.2.2")
    return TemporaryFailure("Mailbox full", code=452, enhanced="4.2.2")


def entry_makes_no_sense() -> TemporaryFailure:
    """What the directory of recipients says of a mailbox is for the operator to mend."""
    return TemporaryFailure("Mailbox not available, try again later", enhanced="4.3.5")


def no_such_name() -> PermanentFailure:
    """No mailbox can have this name, now or ever."""
    return PermanentFailure("No mailbox can have this name", code=553, enhanced="5.1.3")


def refusal_of(error: BaseException) -> DeliveryError:
    """
    :param error: anything.
    :returns: what to answer. What is no :exc:`OSError` is ours to mend, so it is temporary.
    """
    if isinstance(error, DeliveryError):
        return error
    number = error.errno if isinstance(error, OSError) else None
    code, enhanced, text = _BY_ERRNO.get(number or 0, _OTHER)
    return TemporaryFailure(text, code=code, enhanced=enhanced)
