"""What the client is told when a message cannot be published. All but what no later try would change is temporary."""

from __future__ import annotations

from lmtp_twisted.errors import PermanentFailure, TemporaryFailure


def unreachable() -> TemporaryFailure:
    """None of the nodes can be reached, or lets us in."""
    return TemporaryFailure("The message queue cannot be reached", enhanced="4.4.1")


def lost() -> TemporaryFailure:
    """The connection was lost before the confirm. The message may be in the queue all the same."""
    return TemporaryFailure("The connection to the message queue was lost", enhanced="4.4.2")


def late() -> TemporaryFailure:
    """No confirm in time. The message may be in the queue all the same."""
    return TemporaryFailure("The message queue did not confirm in time", enhanced="4.4.7")


def unroutable() -> TemporaryFailure:
    """No queue is bound for the routing key. The operator can bind one."""
    return TemporaryFailure("No queue takes mail for this recipient", enhanced="4.4.4")


def refused() -> TemporaryFailure:
    """The broker said no (``basic.nack``): the queue is full, most of the time."""
    return TemporaryFailure("The message queue takes no more mail", enhanced="4.3.0")


def blocked() -> TemporaryFailure:
    """The broker is short of memory or disk (``connection.blocked``)."""
    return TemporaryFailure("The message queue is short of resources", enhanced="4.3.1")


def busy() -> TemporaryFailure:
    """Too much is on its way already."""
    return TemporaryFailure("Too busy, try again later", enhanced="4.3.2")


def broken() -> TemporaryFailure:
    """It cannot be read from its file, or not be written as AMQP. The log says why."""
    return TemporaryFailure("The message cannot be published", enhanced="4.3.0")


def too_large() -> PermanentFailure:
    """Larger than what is published."""
    return PermanentFailure("Message larger than the message queue takes", code=552, enhanced="5.3.4")


def no_such_name() -> PermanentFailure:
    """No routing key can have the name."""
    return PermanentFailure("No such recipient name here", code=553, enhanced="5.1.3")
