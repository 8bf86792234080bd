"""LMTP (RFC 2033) for Twisted: a server that answers for each recipient. The public names, nothing else."""

from lmtp_twisted.callables import RecipientDelivery
from lmtp_twisted.envelope import Envelope, Outcome, Recipient, Sender
from lmtp_twisted.errors import DeliveryError, PermanentFailure, TemporaryFailure
from lmtp_twisted.factory import LMTPFactory
from lmtp_twisted.protocol import LMTPProtocol
from lmtp_twisted.session import SessionInfo, TLSInfo
from lmtp_twisted.settings import Settings
from lmtp_twisted.spool import Spool
from lmtp_twisted.wire.addresses import Address
from lmtp_twisted.wire.content import BareNewlines
from lmtp_twisted.wire.replies import Reply

__all__ = [
    "Address",
    "BareNewlines",
    "DeliveryError",
    "Envelope",
    "LMTPFactory",
    "LMTPProtocol",
    "Outcome",
    "PermanentFailure",
    "Recipient",
    "RecipientDelivery",
    "Reply",
    "Sender",
    "SessionInfo",
    "Settings",
    "Spool",
    "TLSInfo",
    "TemporaryFailure",
]
