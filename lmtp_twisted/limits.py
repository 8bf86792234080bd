"""The limits of a session: which there are, and what the client is told where it reaches one."""

from __future__ import annotations

import enum

from lmtp_twisted.wire import replies
from lmtp_twisted.wire.replies import Reply


class Limit(enum.Enum):
    """
    A limit that a client has reached, as :class:`~lmtp_twisted.interfaces.ISessionObserver` hears of it. What each is
    stands with its setting in :class:`~lmtp_twisted.settings.Settings`.

    :ivar reply: what the client is told; ``None`` where that depends, or nothing can be told any more.
    """

    #: Sessions at a time (``max_sessions``).
    SESSIONS = "sessions", replies.TOO_MANY_SESSIONS
    #: Sessions of one peer at a time (``max_sessions_per_peer``).
    SESSIONS_OF_PEER = "sessions of peer", replies.TOO_MANY_SESSIONS_OF_PEER
    #: Users and groups at the other end of a Unix socket (``allowed_uids``, ``allowed_gids``).
    PEER_CREDENTIALS = "peer credentials", replies.PEER_NOT_ALLOWED
    #: Text before the greeting (``greeting_delay``).
    EARLY_TALKER = "early talker", replies.EARLY_TALKER
    #: A request of HTTP.
    HTTP = "http", replies.NOT_HTTP
    #: Commands of a session (``max_commands``).
    COMMANDS = "commands", replies.TOO_MANY_COMMANDS
    #: Unrecognised or malformed commands in a row (``max_bad_commands``).
    BAD_COMMANDS = "bad commands", replies.TOO_MANY_ERRORS
    #: Commands without AUTH where it is required (``max_unauthenticated_commands``).
    UNAUTHENTICATED_COMMANDS = "unauthenticated commands", replies.TOO_MANY_UNAUTHENTICATED
    #: AUTH that failed (``max_auth_failures``).
    AUTH_FAILURES = "auth failures", replies.TOO_MANY_AUTH_FAILURES
    #: Octets of a command line (RFC 5321 §4.5.3.1.4); the session goes on.
    LINE_LENGTH = "line length", None
    #: Recipients of a message (``max_recipients``), or of all that are under way; the session goes on.
    RECIPIENTS = "recipients", replies.TOO_MANY_RECIPIENTS
    #: Octets of a message (``size_limit``); the session goes on, unless far too much is sent.
    MESSAGE_SIZE = "message size", replies.TOO_LARGE
    #: ``Received:`` lines of a message (``max_received``); the session goes on.
    RECEIVED_LINES = "received lines", replies.MAIL_LOOP
    #: Seconds of silence (``idle_timeout``).
    IDLE = "idle", replies.IDLE
    #: Seconds of a session (``session_timeout``).
    SESSION_TIME = "session time", replies.SESSION_TOO_LONG
    #: Seconds that the client left our replies unread (``write_timeout``).
    UNREAD_REPLIES = "unread replies", None

    reply: Reply | None

    def __new__(cls, name: str, reply: Reply | None) -> Limit:
        """The name is the value, the reply goes with it."""
        limit = object.__new__(cls)
        limit._value_ = name
        limit.reply = reply
        return limit
