"""Awaitables of asyncio, with Twisted on asyncio's loop: in a process of its own, since a process has one reactor."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import asyncio, socket
from twisted.internet import asyncioreactor
asyncioreactor.install(asyncio.new_event_loop())
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from lmtp_twisted import LMTPFactory, PermanentFailure, Settings

async def later(value):
    await asyncio.sleep(0.01)
    if isinstance(value, Exception):
        raise value
    return value

async def through_a_deferred():
    return await Deferred.fromFuture(asyncio.ensure_future(later("through a Deferred")))

def deliver(message, recipient):
    if str(recipient) == "future@x":
        return asyncio.ensure_future(later("from a future"))
    if str(recipient) == "refused@x":
        return asyncio.ensure_future(later(PermanentFailure("from a future")))
    if str(recipient) == "never@x":
        return asyncio.get_event_loop().create_future()
    return through_a_deferred()

settings = Settings(hostname="mx.example", delivery_timeout=0.2)
port = reactor.listenTCP(0, LMTPFactory(deliver=deliver, settings=settings), interface="127.0.0.1")

def talk():
    with socket.create_connection(("127.0.0.1", port.getHost().port), timeout=20) as client:
        names = ("future@x", "refused@x", "never@x", "deferred@x")
        lines = ["LHLO c", "MAIL FROM:<a@x>", *(f"RCPT TO:<{name}>" for name in names), "DATA", "x", ".", "QUIT"]
        client.sendall("".join(f"{line}\\r\\n" for line in lines).encode())
        with client.makefile() as replies:
            print(replies.read(), end="")

deferToThread(talk).addBoth(lambda result: (result and result.printTraceback(), reactor.stop()))
reactor.run()
"""


def test_futures_of_asyncio_are_outcomes_where_twisted_runs_on_its_loop() -> None:
    """Given, raised, cancelled at the time-out, and awaited in a coroutine."""
    finished = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True
    )
    assert finished.stderr == ""
    *_, first, second, third, fourth, goodbye = finished.stdout.splitlines()
    assert first.startswith("250 2.0.0 <future@x> ")
    assert first.endswith(" from a future")
    assert second.startswith("554 5.3.0 <refused@x> ")
    assert third.startswith("451 4.4.7 <never@x> ")
    assert fourth.endswith(" through a Deferred")
    assert goodbye.startswith("221 ")
