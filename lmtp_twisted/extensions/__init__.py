"""
Extensions that have a life of their own, one file each: STARTTLS, AUTH, XCLIENT, XFORWARD. An extension adds a row to
:mod:`lmtp_twisted.sequence`, a handler, and its line of the reply to LHLO. None is implemented in this version.
"""
