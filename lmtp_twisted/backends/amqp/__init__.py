"""
``amqp:`` publishes each message to RabbitMQ, once for each recipient, and answers when the broker has confirmed it.

``broker`` reads the URL; ``cluster`` keeps one ``connection`` to one of its nodes; ``backend`` gives it each
``publication``, with what ``routing_key`` and ``properties`` make of envelope and session. What goes wrong is a reply
of ``refusals``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmtp_twisted.backends.context import BackendContext

if TYPE_CHECKING:
    from lmtp_twisted.backends.amqp.backend import AMQPBackend


def from_description(context: BackendContext, argument: str, **options: Any) -> AMQPBackend:
    """
    ``amqp:URL``

    :raises ValueError: also where the extra ``amqp`` is not installed.
    """
    try:
        import pika  # noqa: F401
    except ModuleNotFoundError as error:
        raise ValueError(f"it needs pika: pip install 'lmtp-twisted[amqp]' ({error})")
    # Not earlier: it needs pika, and pika's adapter imports the reactor.
    from lmtp_twisted.backends.amqp.backend import from_description

    return from_description(context, argument, **options)
