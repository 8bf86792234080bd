"""
A server whose delivery reads slowly what comes, and answers with how much that was and by how many octets the peak of
the process's memory has grown meanwhile. It prints its port.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from twisted.internet import reactor as the_reactor
from twisted.internet.task import deferLater
from zope.interface import implementer

from lmtp_twisted import LMTPFactory, RecipientDelivery, Settings
from lmtp_twisted.interfaces import ILMTPDeliveryFactory

reactor: Any = the_reactor


def memory(name: str) -> int:
    """``VmRSS``, or ``VmHWM`` for its peak, in octets."""
    found = re.search(rf"{name}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


@implementer(ILMTPDeliveryFactory)
class SlowReader(RecipientDelivery):
    """Takes five milliseconds for each chunk."""

    streaming = True

    def getDelivery(self, session: Any) -> Any:
        return self

    async def deliverTo(self, message: Any, recipient: Any) -> str:
        Path("/proc/self/clear_refs").write_text("5")
        before, octets = memory("VmRSS"), 0
        async for chunk in message.chunks():
            octets += len(chunk)
            await deferLater(reactor, 0.005)
        return f"{octets} {memory('VmHWM') - before}"


if __name__ == "__main__":
    settings = Settings(hostname="mx.example.org", size_limit=200_000_000)
    port = reactor.listenTCP(0, LMTPFactory(backend=SlowReader(), settings=settings), interface="127.0.0.1")
    print(port.getHost().port, flush=True)
    reactor.run()
