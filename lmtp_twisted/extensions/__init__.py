"""
Extensions that have a life of their own, one file each: STARTTLS and the PROXY protocol now; AUTH, XCLIENT and XFORWARD
have their place here. An extension of LMTP adds a row to :mod:`lmtp_twisted.sequence`, a handler, and its line of the
reply to LHLO.
"""
