"""
LMTP on the wire as values and pure functions: bytes in, values out.

Nothing here imports Twisted, does I/O or looks at a clock.
"""
