"""The socket by which systemd hears of its services, as sd_notify(3) has it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from running_twistd import PATIENCE


class Told:
    """
    What a service says.

    :param address: a path; or, with an @ before it, a name that is no file's.
    """

    def __init__(self, address: Path | str) -> None:
        self.address = str(address)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + self.address[1:] if self.address.startswith("@") else self.address)

    def __enter__(self) -> Told:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    @property
    def environment(self) -> dict[str, str]:
        """For the service."""
        return {"NOTIFY_SOCKET": self.address}

    def next(self, seconds: float = PATIENCE) -> dict[str, str]:
        """The next message."""
        self._socket.settimeout(seconds)
        text = self._socket.recv(65536).decode()
        return dict(line.split("=", 1) for line in text.split("\n"))

    def is_silent(self, seconds: float) -> bool:
        """Whether nothing is said for so long."""
        try:
            self.next(seconds)
        except TimeoutError:
            return True
        return False

    def until(self, is_wanted: Callable[[dict[str, str]], bool]) -> dict[str, str]:
        """The next message that is wanted; others are skipped."""
        while not is_wanted(message := self.next()):
            pass
        return message
