"""
The process of a worker: it is told by its parent what to serve, and on which ports.

What the parent has tried may fail here all the same, and our standard error may lead nowhere: so whatever goes wrong is
told to the parent.
"""

from __future__ import annotations

import importlib
import signal
import socket
import sys
import traceback
from contextlib import suppress
from typing import Any

from lmtp_twisted.daemon.workers.channel import encoded, read_first
from lmtp_twisted.daemon.workers.worker import CHANNEL


def main() -> None:
    """The program that :mod:`lmtp_twisted.daemon.workers.worker` starts."""
    # An interrupt from the keyboard goes to all processes of a terminal at once, and to stop is for the parent to say.
    # Not ignored: that would be inherited by programs that we start.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, lambda *_: None)
    channel = socket.socket(fileno=CHANNEL)
    channel.set_inheritable(False)
    try:
        orders, descriptors, early = read_first(channel)
    except (EOFError, OSError):
        sys.exit(1)
    try:
        _run(channel, orders, descriptors, early)
    except SystemExit as end:
        if not isinstance(end.code, str):
            raise
        _fail(channel, end.code)
        sys.exit(1)
    except BaseException as error:
        _fail(channel, "".join(traceback.format_exception_only(error)))
        raise


def _run(channel: socket.socket, orders: dict[str, Any], descriptors: list[int], early: list[int]) -> None:
    importlib.import_module(orders["reactor"]).install()
    # Not earlier: it imports the reactor.
    from lmtp_twisted.daemon.workers.employment import run

    run(channel, orders, descriptors, early)


def _fail(channel: socket.socket, why: str) -> None:
    message = encoded({"failed": why.strip()[:4000], "descriptors": 0})
    # Where it has a reactor, it does not block.
    with suppress(OSError):
        channel.sendall(len(message).to_bytes(4, "big") + message)
