"""What scripted deliveries are told here."""

from __future__ import annotations

from typing import Any


class ByMailbox(dict[str, Any]):
    """
    A script by the local parts of addresses: in the tests with Postfix the domain holds the number of a port, which is
    not known yet when the script is written.
    """

    def get(self, address: str, default: Any = None) -> Any:
        """What is said of an address."""
        return super().get(address.rpartition("@")[0], default)
