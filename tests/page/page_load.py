"""Mail for a server whose page is looked at: so much a second and no more."""

from __future__ import annotations

import random
from contextlib import suppress
from threading import Event, Thread

from running_twistd import Client


class Load:
    """
    Sends messages with some recipients each, of which some are refused by name, until it is told to end.

    :param port: of the server.
    :param pause: seconds between two messages.
    :ivar sent: how many messages have got their replies.
    """

    def __init__(self, port: int, pause: float = 0.02, seed: int = 1) -> None:
        self.sent = 0
        self._port = port
        self._pause = pause
        self._random = random.Random(seed)
        self._over = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """All that was sent has its replies."""
        self._over.set()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        # A server that is restarted in the meantime ends the session.
        with suppress(OSError, AssertionError):
            self._send()

    def _send(self) -> None:
        with Client(self._port) as client:
            while not self._over.wait(self._random.uniform(0, 2 * self._pause)):
                names = self._random.choices(["ann", "ben", "eve", "later", "never"], [6, 6, 6, 1, 1], k=3)
                recipients = [f"{name}{number}@{number}.example.org" for number, name in enumerate(names)]
                client.deliver(*recipients, content=f"Subject: x\r\n\r\n{'x' * self._random.randrange(4000)}\r\n")
                self.sent += 1
