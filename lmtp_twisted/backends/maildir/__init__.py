"""
``maildir:`` stores each message in the recipients' Maildirs, safe on disk before it is answered.

The way of a message: ``backend`` asks ``naming`` for the mailbox of each recipient, or the folder of it that its
``subaddress`` names, and gives a ``job`` to one of its ``lanes``; a thread of the pool takes what waits there and files
it together (``commit``, ``filing``), through the open ``directories`` and ``folders`` and with the line ends of
``lines``, and waits for the ``disk``; what went wrong becomes a reply in ``refusals``. A ``quota`` is
kept in ``maildirsize`` (on disk: ``sizefile``), from what ``counting`` finds, and asked for each message.
"""

from lmtp_twisted.backends.maildir.backend import MaildirBackend, from_description
from lmtp_twisted.backends.maildir.disk import Fsync
from lmtp_twisted.backends.maildir.lines import Newlines
from lmtp_twisted.backends.maildir.maildirsize import Limits
from lmtp_twisted.backends.maildir.naming import Case
from lmtp_twisted.backends.maildir.quota import OverQuota
from lmtp_twisted.backends.maildir.subaddress import Detail

__all__ = ["Case", "Detail", "Fsync", "Limits", "MaildirBackend", "Newlines", "OverQuota", "from_description"]
