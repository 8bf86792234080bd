"""
``maildir:`` stores each message in the recipients' Maildirs, safe on disk before it is answered.

The way of a message: :mod:`.backend` asks :mod:`.naming` for the mailbox of each recipient and gives a :mod:`.job` to
a lane (:mod:`.lanes`); a thread of the pool takes what waits there and files it together (:mod:`.commit`), through the
open directories of :mod:`.directories` and with the line ends of :mod:`.lines`; what went wrong becomes a reply in
:mod:`.refusals`.
"""

from lmtp_twisted.backends.maildir.backend import MaildirBackend, from_description
from lmtp_twisted.backends.maildir.lines import Newlines
from lmtp_twisted.backends.maildir.naming import Case

__all__ = ["Case", "MaildirBackend", "Newlines", "from_description"]
