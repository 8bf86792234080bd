"""
What all processes count, as one: asked for once a second, added, and kept for 15 minutes.

This is what ``/metrics`` gives and what the status page draws, so both say the same of the same second::

    gatherer = Gatherer(members, reactor)
    gatherer.start()            # a tick each second, at full seconds of the clock; gatherer.stop() ends it
    gatherer.latest             # the Tick of the last second: .time and .figures, the sum of all processes
    gatherer.ticked.append(f)   # f(tick) is called with each tick; gatherer.ticked.remove(f)
    gatherer.series()           # the last 900 ticks, in the form below
    gatherer.sessions()         # a Deferred of the answers to "sessions" as one
    gatherer.events()           # the same of "events"

``series()`` gives columns, one number for each tick, the oldest first; all as they were at that second (counters are
not differences: who draws a rate subtracts)::

    {"time": [1764012345, …],               # seconds since 1970
     "sessions": [12, …],                   # gauge: lmtp_sessions_open
     "members": [2, …],                     # gauge: processes that answered
     "sessions_total": […], "messages": […], "bytes": […],              # counters
     "2xx": […], "4xx": […], "5xx": […],    # counters: final replies by class, all backends together
     "refused": […],                        # counter: senders and recipients refused at MAIL and RCPT
     "delivery_seconds_sum": […],           # counter
     "delivery_seconds": [[0, 3, 9, …], …]} # counters: for each tick deliveries by bucket, not cumulative; the upper
                                            # ends are figures.BUCKETS, and one more for all above

Where nothing could be asked in a second, that second is missing.
"""
