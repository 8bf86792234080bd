"""
``pipe:COMMAND ARGUMENT…`` gives each message to a program, once for each recipient, and makes the recipient's reply of
how it ended.

Names are data: :mod:`~lmtp_twisted.backends.pipe.values` makes all that a program is told, and there is no shell. A
program runs in a thread and a session of its own (:mod:`~lmtp_twisted.backends.pipe.program`), so many at a time
(:mod:`~lmtp_twisted.backends.pipe.backend`).
"""

from lmtp_twisted.backends.pipe.backend import PipeBackend, from_description
from lmtp_twisted.backends.pipe.content import Form

__all__ = ["Form", "PipeBackend", "from_description"]
