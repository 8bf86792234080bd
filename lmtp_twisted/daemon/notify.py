"""
What systemd is told of the life of the server (sd_notify(3)): that it is ready, reloads, stops, and is not stuck.

A line of text to a socket that systemd names in the environment. Nothing is sent where it names none.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, MutableMapping
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from lmtp_twisted.daemon.lines import one_line

_log = Logger(namespace="lmtp_twisted")


class Notifier:
    """
    Connects at once: later the path may be out of reach. What it was told by the environment is taken out there, since
    it is not for programs that we start.

    :param reactor: the clock.
    :param environment: of the process.
    """

    def __init__(self, reactor: Any, environment: MutableMapping[str, str] = os.environ) -> None:
        self._reactor = reactor
        self._watching: LoopingCall | None = None
        self._period = 0.0
        self._watched_process = environment.pop("WATCHDOG_PID", "")
        try:
            # Twice in the time that systemd waits, as it asks for.
            self._period = int(environment.pop("WATCHDOG_USEC", "0")) / 2_000_000
        except ValueError:
            _log.warn("WATCHDOG_USEC is not a number: systemd's watchdog is not heeded")
        self._socket: socket.socket | None = None
        address = environment.pop("NOTIFY_SOCKET", "")
        if not address:
            return
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        # It is a courtesy, and not to be waited for.
        self._socket.setblocking(False)
        try:
            # An @ stands for the name of a socket without a file.
            self._socket.connect("\0" + address[1:] if address.startswith("@") else address)
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        _log.warn("systemd cannot be told how we are: {error}", error=error.strerror)
        self.close()

    def _say(self, *lines: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.send("\n".join(lines).encode("utf-8", "replace"))
        except BlockingIOError:
            # There will be another.
            pass
        except OSError as error:
            self._fail(error)

    def ready(self, status: str) -> None:
        """
        The server serves, for the first time or after it was reloaded.

        :param status: what ``systemctl status`` shows.
        """
        self._say("READY=1", _status(status))

    def reloading(self) -> None:
        """It reads its configuration anew. :meth:`ready` follows."""
        self._say("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, status: str) -> None:
        """
        It comes to its end.

        :param status: as for :meth:`ready`.
        """
        self._say("STOPPING=1", _status(status))

    def watch(self, status: Callable[[], str]) -> None:
        """
        Say from now on that the reactor runs, if systemd wants to hear it.

        :param status: is asked each time.
        """
        if self._socket is None or not self._period or self._watched_process not in ("", str(os.getpid())):
            return
        self._watching = LoopingCall(lambda: self._say("WATCHDOG=1", _status(status())))
        self._watching.clock = self._reactor
        self._watching.start(self._period).addErrback(
            lambda failure: _log.failure("systemd is not told any more that the server is well", failure)
        )

    def close(self) -> None:
        """Say nothing more."""
        if self._watching is not None and self._watching.running:
            self._watching.stop()
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _status(text: str) -> str:
    return f"STATUS={one_line(text)}"
