"""
A client of LMTP servers, which reports what became of each recipient. The public names, nothing else.
"""

from lmtp_twisted.client.addressing import make_envelope
from lmtp_twisted.client.client import LMTPClient, deliver
from lmtp_twisted.client.outgoing import OutgoingMessage
from lmtp_twisted.client.sasl import External, Password, Token
from lmtp_twisted.client.settings import ClientSettings, Security, Timeouts
from lmtp_twisted.client.tls import ClientTLS

__all__ = [
    "ClientSettings",
    "ClientTLS",
    "External",
    "LMTPClient",
    "OutgoingMessage",
    "Password",
    "Security",
    "Timeouts",
    "Token",
    "deliver",
    "make_envelope",
]
