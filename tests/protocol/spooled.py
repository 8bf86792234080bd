"""Sessions whose contents go to files early, for the tests of the spool."""

from __future__ import annotations

from typing import Any

from dialogue import Client, codes, with_recipients

from lmtp_twisted.testing import FakePool, FakeReactor, fake_spool

HEADER = b"Received: from a\r\n\tby b\r\nSubject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\nTo: c@x\r\n\r\n"


def a_content(size: int) -> bytes:
    """A content of that size in which no two lines are the same."""
    lines = b"".join(b"%010d\r\n" % number for number in range(size // 12 + 1))
    content = (HEADER + lines)[: size - 2] + b"\r\n"
    assert len(content) == size
    return content


def spooling(*recipients: str, backend: Any = None, pool: FakePool | None = None, **limits: Any) -> Client:
    """A client in a transaction, of a server whose spool has these limits."""
    reactor = FakeReactor()
    settings = {name: limits.pop(name) for name in ("size_limit", "max_received") if name in limits}
    spool = fake_spool(reactor, pool, **limits)
    return with_recipients(backend, *recipients, reactor=reactor, spool=spool, **settings)


def send(client: Client, content: bytes, segment: int = 16384) -> list[str]:
    """Send a content in segments, as TCP would."""
    assert codes(client.say("DATA")) == ["354"]
    data, replies = content + b".\r\n", []
    for start in range(0, len(data), segment):
        replies += client.send(data[start : start + segment])
    return replies


def message_of(client: Client) -> Any:
    """The last message that was delivered."""
    return client.factory.backend.messages[-1]


class FailingPool(FakePool):
    """Whatever it is given fails, from some time on."""

    def __init__(self, error: Exception, after: int = 0) -> None:
        super().__init__()
        self._error = error
        self._after = after

    def callInThreadWithCallback(self, done: Any, function: Any, *arguments: Any, **keywords: Any) -> None:
        """Fail, or do it."""
        if self._after:
            self._after -= 1
            super().callInThreadWithCallback(done, function, *arguments, **keywords)
        else:
            super().callInThreadWithCallback(done, self._fail)

    def _fail(self) -> None:
        raise self._error
