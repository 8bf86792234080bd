"""
Extensions that have a life of their own, one file each. An extension of LMTP adds a row to
:mod:`lmtp_twisted.sequence`, a handler, and its line of the reply to LHLO.
"""
