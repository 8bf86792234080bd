"""
What one process counts.

``snapshot()`` gives ``{sample: {labels: number}}``: the name of a sample as Prometheus has it, and for each of its
label values, joined by ``"\\x1f"`` in the order of the catalogue, a number. All numbers can be added to those of
another process. Of a histogram there is a sample for each bucket, not cumulative, and the sum::

    {"lmtp_sessions_open": {"": 2},
     "lmtp_sessions_total": {"": 17},
     "lmtp_replies_total": {"2xx\\x1fmaildir": 40, "4xx\\x1fmaildir": 1},
     "lmtp_delivery_seconds_bucket": {"maildir\\x1f0.005": 38, "maildir\\x1f+Inf": 3},
     "lmtp_delivery_seconds_sum": {"maildir": 1.25}}
"""
