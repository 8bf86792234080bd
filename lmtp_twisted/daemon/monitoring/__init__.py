"""
What the server counts and remembers of itself, for those who look after it. It knows nothing of HTTP.

Each process that serves mail answers three questions, in values that JSON takes. Times are seconds since 1970, UTC.
Addresses and texts are what the client or an application said, as plain text: who shows them escapes them.

``figures``: see :mod:`~lmtp_twisted.daemon.monitoring.figures`.

``sessions``: who is connected now::

    {"total": 2,                      # of this process
     "sessions": [                    # the longest connected first, at most MOST_SESSIONS
        {"id": "f3k9z2q1a0x7c4", "peer": "192.0.2.1", "since": 1764012345.6, "lhlo": "mx.example",
         "tls": "TLSv1.3",            # null where there is none
         "user": null,                # who authenticated
         "messages": 3,               # MAIL commands that were accepted
         "doing": "waiting"}]}        # or "envelope", "content", "delivery", "closing"

``events``: what happened lately::

    {"failures": [                    # the latest first, at most MOST_FAILURES
        {"time": 1764012345.6, "at": "delivery",        # or "content", "rcpt", "mail"
         "id": "f3k9z2q1a0x7c4.1.1",  # as it stands in the reply; of "rcpt" and "mail" the session's id
         "peer": "192.0.2.1", "sender": "a@example.net",                # "" for <>
         "recipient": "b@example.org",                                  # null for "mail"
         "reply": "452 4.2.2 Mailbox full",
         "backend": "maildir"}],      # its label; "" where it was asked nothing, and for "content" and "mail"
     "slowest": [                     # of the last 15 minutes, the slowest first, at most MOST_SLOW
        {"time": …, "id": …, "peer": …, "sender": …, "recipient": …, "reply": …, "backend": …,
         "seconds": 1.25, "size": 4096}],
     "domains": [                     # of recipients, last 15 minutes, those with most first, at most MOST_DOMAINS
        {"domain": "example.org", "2xx": 10, "4xx": 0, "5xx": 1}],      # "" where an address has none
     "other": {"2xx": 0, "4xx": 0, "5xx": 0}}                           # all other domains together

:class:`~lmtp_twisted.daemon.monitoring.gathering.Gatherer` asks the processes and makes one answer of theirs, of the
same form; each of its sessions also has ``"worker"``, the key of its process.
"""
