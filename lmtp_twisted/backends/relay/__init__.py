"""
``lmtp:ENDPOINT[,ENDPOINT…]`` hands mail to other LMTP servers: to one, or to the one of several that a recipient
belongs to.

The way of a message: ``backend`` asks ``shards`` for the server of each recipient, ``content`` puts our ``Received:``
before the content and asks ``loops`` whether it was here before, and each server's client sends it.
"""

from lmtp_twisted.backends.relay.backend import RelayBackend
from lmtp_twisted.backends.relay.options import from_description

__all__ = ["RelayBackend", "from_description"]
