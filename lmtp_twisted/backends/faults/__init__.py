"""``faults:`` goes wrong on purpose, by numbers that a test can count on: for those who test what sends mail."""

from lmtp_twisted.backends.faults.backend import Faults
from lmtp_twisted.backends.faults.description import from_description
from lmtp_twisted.backends.faults.kinds import Delay, Drop, Hang, Order, Refuse, Stagger
from lmtp_twisted.backends.faults.selection import Place, Unit

__all__ = ["Delay", "Drop", "Faults", "Hang", "Order", "Place", "Refuse", "Stagger", "Unit", "from_description"]
