"""
A judge of LMTP servers, from outside: ``python -m lmtp_twisted.conformance HOST:PORT``.

It knows nothing of the server's side of this package and shares no code with it: what both took from one place, both
could have wrong. It uses sockets that block, and neither Twisted nor a reactor.
"""
